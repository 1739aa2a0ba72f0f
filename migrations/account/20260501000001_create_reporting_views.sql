-- Accounts and records as reports read them. These views are a contract, as those of the
-- ledger are: tables may change behind them, and a view may gain columns at its end. The
-- role report_reader may read the views, but not the tables.
CREATE SCHEMA IF NOT EXISTS reporting;

CREATE VIEW reporting.accounts AS
SELECT account_id, owner_id, currency, status, balance, account_seq, created_at, updated_at
FROM public.accounts;

CREATE VIEW reporting.transaction_records AS
SELECT id, transaction_id, account_id, type, amount, currency, status, reason, balance_after,
    redrives, created_at, updated_at
FROM public.transaction_records;
