-- The reconciliation report checks the event log, as `passbook verify` does: the events of each
-- account are numbered 1, 2, 3 … as far as the row of the account says, and each announced record
-- has one event.
CREATE OR REPLACE VIEW reporting.accounts AS
SELECT account_id, owner_id, currency, status, balance, account_seq, created_at, updated_at,
    event_seq
FROM public.accounts;

CREATE OR REPLACE VIEW reporting.transaction_records AS
SELECT id, transaction_id, account_id, type, amount, currency, status, reason, balance_after,
    redrives, created_at, updated_at, announced
FROM public.transaction_records;

CREATE VIEW reporting.events AS
SELECT position, sequence, created_at, account_id, record_id, type
FROM public.events;
