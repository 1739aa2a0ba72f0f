-- no-transaction
-- The records of an account with a reference, newest first. Records without one are not in it.
CREATE INDEX CONCURRENTLY transaction_records_account_id_reference_id_idx
    ON transaction_records (account_id, reference, id DESC) WHERE reference IS NOT NULL;
