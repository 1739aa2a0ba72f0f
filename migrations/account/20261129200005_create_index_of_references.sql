-- no-transaction
-- The accounts with a reference, of any owner, newest first.
CREATE INDEX CONCURRENTLY accounts_reference_account_id_idx
    ON accounts (reference, account_id DESC) WHERE reference IS NOT NULL;
