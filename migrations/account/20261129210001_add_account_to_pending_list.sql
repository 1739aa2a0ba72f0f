-- The account of a listed record, so that the PENDING amounts of an account are read by an index.
-- Replicas of the release before list records without it: a reader finds those as well.
ALTER TABLE pending_records ADD COLUMN account_id uuid;
-- The trigger writes it with the rights of the service. `passbook migrate` repeats this grant.
DO $$ BEGIN
    IF to_regrole('account_service') IS NOT NULL THEN
        GRANT INSERT (account_id) ON pending_records TO account_service;
    END IF;
END $$;

-- As before, with the account.
CREATE OR REPLACE FUNCTION list_records_outside_window() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    inside redrive_window;
BEGIN
    SELECT * INTO inside FROM redrive_window;
    IF EXISTS (SELECT FROM inserted
               WHERE (id >= inside.floor AND id < inside.ceiling) IS NOT TRUE) THEN
        INSERT INTO pending_records (record_id, account_id)
        SELECT id, account_id FROM inserted
        WHERE (id >= inside.floor AND id < inside.ceiling) IS NOT TRUE AND status = 'PENDING'
        ON CONFLICT DO NOTHING;
        IF inside.moved_at < now() - interval '6 hours' THEN
            PERFORM FROM redrive_window
            WHERE ceiling < 'ffffffff-ffff-ffff-ffff-ffffffffffff' FOR UPDATE SKIP LOCKED;
            IF FOUND THEN
                UPDATE redrive_window SET ceiling = 'ffffffff-ffff-ffff-ffff-ffffffffffff';
            END IF;
        END IF;
    END IF;
    RETURN NULL;
END
$$;
