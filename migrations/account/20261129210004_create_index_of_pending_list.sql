-- no-transaction
-- The listed records of an account. Few records are ever listed, and none is by the usual insert.
CREATE INDEX CONCURRENTLY pending_records_account_id_idx ON pending_records (account_id);
