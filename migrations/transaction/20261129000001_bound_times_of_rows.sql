-- The times of the ledger are those of its database. The service computes them in its
-- statements; any other time from its role is refused. The owner may still repair a database
-- by hand.
--
-- A time is that of the clock: from the beginning of its transaction to a minute later, which
-- is above the limit of any statement. It is later if the clock went back: then an account
-- keeps its own time. The conditions are some comparisons for each row, and read no clock. The
-- functions are called for refused rows only, and while the clock is behind an account.
CREATE FUNCTION refuse_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied: a time of % is not that of the clock', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE FUNCTION refuse_time_after_account() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    latest timestamptz;
BEGIN
    SELECT updated_at INTO latest FROM accounts WHERE account_id = NEW.account_id;
    IF NEW.created_at >= now() AND NEW.created_at <= latest THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'permission denied: the time of transaction % is not that of the clock', NEW.id
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER accounts_bound_times_of_insert
    AFTER INSERT ON accounts
    FOR EACH ROW WHEN (current_user = 'transaction_service'
        AND (NEW.created_at < now() OR NEW.created_at > now() + interval '1 minute'
            OR NEW.updated_at <> NEW.created_at))
    EXECUTE FUNCTION refuse_time();

CREATE TRIGGER accounts_bound_times_of_update
    AFTER UPDATE ON accounts
    FOR EACH ROW WHEN (current_user = 'transaction_service'
        AND (NEW.updated_at < OLD.updated_at OR NEW.updated_at < now()
            OR NEW.updated_at > greatest(OLD.updated_at, now() + interval '1 minute')))
    EXECUTE FUNCTION refuse_time();

CREATE TRIGGER transactions_bound_times
    AFTER INSERT ON transactions
    FOR EACH ROW WHEN (current_user = 'transaction_service'
        AND (NEW.created_at < now() OR NEW.created_at > now() + interval '1 minute'))
    EXECUTE FUNCTION refuse_time_after_account();
