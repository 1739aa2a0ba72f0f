-- The chain of each account. The transactions of an account that are decided in one commit are a
-- link of its chain: they have its number and its hash, which covers them and the link before. The
-- row of the account has the last link. So a changed, deleted, inserted or reordered transaction
-- breaks the chain. `passbook verify` computes every hash itself: crates/ledger/src/chain.rs
-- describes the bytes.
--
-- Rows from before this migration have no link (chain_link is 0 for accounts, NULL for
-- transactions). A chain begins with the account's next decision. A constant default rewrites
-- no table.
ALTER TABLE accounts
    ADD COLUMN chain_link bigint NOT NULL DEFAULT 0,
    ADD COLUMN chain_hash bytea NOT NULL
        DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000';
ALTER TABLE transactions
    ADD COLUMN chain_link bigint,
    ADD COLUMN chain_hash bytea;

-- A field of variable length: its length and its bytes, or the length -1 for NULL.
CREATE FUNCTION chain_field(field text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN field IS NULL THEN int4send(-1)
        ELSE int4send(octet_length(convert_to(field, 'UTF8'))) || convert_to(field, 'UTF8') END;

-- A transaction in the contents of its link.
CREATE FUNCTION chain_entry(
    record_id uuid, type text, amount numeric, currency text, status text, reason text
) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN uuid_send(record_id) || chain_field(type)
        || chain_field(amount::numeric(22, 4)::text) || chain_field(currency)
        || chain_field(status) || chain_field(reason);

-- The hash of a link. account_seq and balance are those after its last applied transaction; 0 and
-- NULL if it has refusals only. at is the time of its transactions, contents the SHA-256 of their
-- entries: the applied ones in the order of account_seq, then the refusals by record id.
CREATE FUNCTION chain_hash(
    previous bytea, account_id uuid, link bigint, account_seq bigint, balance numeric,
    at timestamptz, contents bytea
) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256('\x01'::bytea || previous || uuid_send(account_id) || int8send(link)
        || int8send(account_seq) || timestamptz_send(at) || contents
        || convert_to(coalesce(balance::numeric(22, 4)::text, ''), 'UTF8'));

-- Adds a link for each transaction of a writer that knows no chains: the release before during an
-- upgrade, or a person. It runs as its owner, because that release may not write the new columns.
CREATE FUNCTION add_link() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE public.accounts AS a
    SET chain_link = a.chain_link + 1,
        chain_hash = public.chain_hash(
            a.chain_hash, a.account_id, a.chain_link + 1, coalesce(NEW.account_seq, 0),
            NEW.balance_after, NEW.created_at,
            sha256(public.chain_entry(NEW.record_id, NEW.type, NEW.amount, NEW.currency,
                                      NEW.status, NEW.reason)))
    WHERE a.account_id = NEW.account_id
    RETURNING a.chain_link, a.chain_hash INTO NEW.chain_link, NEW.chain_hash;
    RETURN NEW;
END
$$;

CREATE TRIGGER transactions_add_link
    BEFORE INSERT ON transactions
    FOR EACH ROW WHEN (NEW.chain_link IS NULL OR NEW.chain_hash IS NULL)
    EXECUTE FUNCTION add_link();

CREATE OR REPLACE VIEW reporting.accounts AS
SELECT account_id, currency, balance, account_seq, created_at, updated_at, chain_link, chain_hash
FROM public.accounts;

CREATE OR REPLACE VIEW reporting.transactions AS
SELECT id, record_id, account_id, type, amount, currency, status, reason, balance_after,
    account_seq, created_at,
    CASE WHEN record_id >= '016f5e66-e800-7000-8000-000000000000'
            AND get_byte(uuid_send(record_id), 6) >> 4 = 7
            AND requested.at <= created_at + interval '1 hour'
        THEN requested.at END AS requested_at,
    chain_link, chain_hash
FROM public.transactions, LATERAL (
    SELECT to_timestamp(
        ('x' || encode(substring(uuid_send(record_id) FROM 1 FOR 6), 'hex'))::bit(48)::bigint
            ::double precision / 1000) AS at
) AS requested;
