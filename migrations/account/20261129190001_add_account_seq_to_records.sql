-- The number of an applied movement on its account, as its result has it. Records that were
-- settled before have NULL: their number is in the ledger. No index has the column, so that an
-- update that settles a record stays HOT.
ALTER TABLE transaction_records ADD COLUMN account_seq bigint;

-- It belongs to what never changes once a record is settled.
CREATE OR REPLACE TRIGGER transaction_records_keep_settled
    AFTER UPDATE OF status, transaction_id, reason, balance_after, account_seq
    ON transaction_records
    FOR EACH ROW WHEN (OLD.status <> 'PENDING' AND current_user = 'account_service')
    EXECUTE FUNCTION refuse_change_of_settled_record();
