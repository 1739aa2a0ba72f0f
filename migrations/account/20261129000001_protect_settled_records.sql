-- A settled record never changes. The service's statements keep to that; any other statement
-- of its role is refused. The owner may still repair a database by hand.
--
-- The condition costs a comparison for each row that settles. The function is called for a
-- refused row only. An AFTER trigger takes no lock on the row, and the update stays HOT.
CREATE FUNCTION refuse_change_of_settled_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied: record % is settled', OLD.id
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER transaction_records_keep_settled
    AFTER UPDATE OF status, transaction_id, reason, balance_after ON transaction_records
    FOR EACH ROW WHEN (OLD.status <> 'PENDING' AND current_user = 'account_service')
    EXECUTE FUNCTION refuse_change_of_settled_record();
