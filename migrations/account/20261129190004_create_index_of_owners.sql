-- no-transaction
-- The accounts of an owner, newest first, page by page. No update changes these columns, so
-- that updates of balances stay HOT.
CREATE INDEX CONCURRENTLY accounts_owner_id_account_id_idx ON accounts (owner_id, account_id DESC);
