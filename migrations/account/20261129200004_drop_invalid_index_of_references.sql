-- no-transaction
-- The next migration creates this index. An attempt that was interrupted leaves an
-- invalid index behind.
DROP INDEX CONCURRENTLY IF EXISTS accounts_reference_account_id_idx;
