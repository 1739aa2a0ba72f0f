-- The ledger as reports read it. These views are a contract: tables may change behind
-- them, and a view may gain columns at its end. The role report_reader may read the
-- views, but not the tables: a view reads with the rights of its owner.
CREATE SCHEMA IF NOT EXISTS reporting;

-- account_seq is the number of applied transactions.
CREATE VIEW reporting.accounts AS
SELECT account_id, currency, balance, account_seq, created_at, updated_at
FROM public.accounts;

-- requested_at is the time in the record's id, if the id is a UUIDv7 with a plausible
-- time: from 2020, which is the lowest id below, to an hour after the ledger's own time.
-- Clocks may differ a little, so it can be later than created_at. The expression costs
-- half a microsecond a row. PostgreSQL 18 has uuid_extract_timestamp().
CREATE VIEW reporting.transactions AS
SELECT id, record_id, account_id, type, amount, currency, status, reason, balance_after,
    account_seq, created_at,
    CASE WHEN record_id >= '016f5e66-e800-7000-8000-000000000000'
            AND get_byte(uuid_send(record_id), 6) >> 4 = 7
            AND requested.at <= created_at + interval '1 hour'
        THEN requested.at END AS requested_at
FROM public.transactions, LATERAL (
    SELECT to_timestamp(
        ('x' || encode(substring(uuid_send(record_id) FROM 1 FOR 6), 'hex'))::bit(48)::bigint
            ::double precision / 1000) AS at
) AS requested;

-- The transactions that write to the ledger now. Each locks the table before it reads
-- the clock, and until its commit is visible: a period is final once those have ended
-- that ran after its end.
CREATE VIEW reporting.writers AS
SELECT DISTINCT virtualtransaction AS virtual_transaction
FROM pg_locks
WHERE locktype = 'relation' AND relation = 'public.accounts'::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND granted AND mode IN ('RowShareLock', 'RowExclusiveLock');
