-- The event log: what happened to accounts and records, for consumers. It begins with this
-- migration: records that were settled before have no event.
--
-- `sequence` numbers the events of an account 1, 2, 3 … The row of the account has the last
-- number. A writer updates that row first, which locks it, and takes the `position` then: the
-- positions of an account ascend with its sequence, in the order of the commits.
--
-- A position is taken before the commit, so a later position may be committed earlier. Readers
-- stop where an earlier one may still appear: crates/account-service/src/events/horizon.rs. They
-- rely on this: a transaction has an id before it takes a position (it has updated the row of the
-- account), and the sequence gives its values in order (CACHE 1).
--
-- Constant defaults and NULL rewrite no table. No index has the new columns of the old tables:
-- their updates stay HOT.
CREATE TABLE events (
    position   bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    sequence   bigint NOT NULL CHECK (sequence > 0),
    -- By the database's clock, while the account's row was locked.
    created_at timestamptz NOT NULL,
    account_id uuid NOT NULL,
    -- Of a settled record, which never changes: what the event tells is read there.
    record_id  uuid,
    -- 1: account.created, 2: record.succeeded, 3: record.failed.
    type       smallint NOT NULL CHECK (type BETWEEN 1 AND 3)
);

-- The events of an account, from a position on. An owner's events are read account by account.
CREATE INDEX events_account_id_position_idx ON events (account_id, position);

-- The key of the ids of events. An id hides the position, which would tell how much others move.
-- Whoever may read this table may read the positions as well.
CREATE TABLE event_id_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key      bytea NOT NULL CHECK (octet_length(key) = 32)
);
INSERT INTO event_id_key (key)
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    || uuid_send(gen_random_uuid())));

-- True if the statement that settled the record has also written its event.
ALTER TABLE transaction_records ADD COLUMN announced boolean;

-- The number of the account's events.
ALTER TABLE accounts ADD COLUMN event_seq bigint NOT NULL DEFAULT 0;

-- Writes the event of a record that was settled without one: by the release before during an
-- upgrade, or by a person. It runs as its owner, because that release may not write the new
-- columns. The condition costs a comparison for each row that settles.
CREATE FUNCTION announce_record() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    WITH numbered AS (
        UPDATE public.accounts SET event_seq = event_seq + 1 WHERE account_id = NEW.account_id
        RETURNING account_id, event_seq
    )
    INSERT INTO public.events (account_id, sequence, type, record_id, created_at)
    SELECT account_id, event_seq, CASE NEW.status WHEN 'SUCCESS' THEN 2 ELSE 3 END, NEW.id,
        clock_timestamp()
    FROM numbered;
    RETURN NULL;
END
$$;

CREATE TRIGGER transaction_records_announce
    AFTER UPDATE OF status ON transaction_records
    FOR EACH ROW
    WHEN (OLD.status = 'PENDING' AND NEW.status <> 'PENDING' AND NEW.announced IS NOT TRUE)
    EXECUTE FUNCTION announce_record();

-- The same for an account that was opened without an event.
CREATE FUNCTION announce_account() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    WITH numbered AS (
        UPDATE public.accounts SET event_seq = event_seq + 1 WHERE account_id = NEW.account_id
        RETURNING account_id, event_seq
    )
    INSERT INTO public.events (account_id, sequence, type, created_at)
    SELECT account_id, event_seq, 1, clock_timestamp() FROM numbered;
    RETURN NULL;
END
$$;

CREATE TRIGGER accounts_announce
    AFTER INSERT ON accounts
    FOR EACH ROW WHEN (NEW.event_seq = 0)
    EXECUTE FUNCTION announce_account();
