-- no-transaction
-- The accounts of an owner with a reference. Many owners may use the same one: an owner's list
-- does not read the others'.
CREATE INDEX CONCURRENTLY accounts_owner_id_reference_account_id_idx
    ON accounts (owner_id, reference, account_id DESC) WHERE reference IS NOT NULL;
