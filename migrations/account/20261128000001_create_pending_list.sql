-- How the redrive finds PENDING records: by a list, and by a window of ids that moves with
-- the time. The record's own columns and indexes stay as they are, because an index that
-- changes when a record settles would end HOT updates.
--
-- Each PENDING record is listed, or its id is inside the window, or the redrive is about to
-- read its range (`left_*`). No clock is involved: an id outside the window is listed by the
-- trigger, whichever clock made it, and the redrive lists what is still PENDING when the
-- window has moved on.

-- A row is removed once its record is settled. So the table has as many rows as there are
-- PENDING records, or little more.
CREATE TABLE pending_records (
    record_id uuid PRIMARY KEY,
    -- By the database's clock: when the record was listed, or earlier if it is older.
    listed_at timestamptz NOT NULL DEFAULT now()
);
-- Services may not delete rows of other tables. `passbook migrate` repeats this grant.
DO $$ BEGIN
    IF to_regrole('account_service') IS NOT NULL THEN
        GRANT DELETE ON pending_records TO account_service;
    END IF;
END $$;

-- At first, all ids are inside. The first redrive moves the window, and reads the history
-- once for PENDING records of earlier releases.
CREATE TABLE redrive_window (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The ids inside: `floor` up to, but without, `ceiling`.
    floor        uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    ceiling      uuid NOT NULL DEFAULT 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    -- The previous window, as far as its ids were not read yet.
    left_floor   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    left_ceiling uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    moved_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT redrive_window_check CHECK (floor < ceiling AND left_floor <= left_ceiling)
);
INSERT INTO redrive_window DEFAULT VALUES;

-- The longest delay after this number of redrives: `first` seconds, twice as long after each
-- further one, up to ten minutes, and a quarter more for the jitter.
CREATE FUNCTION longest_redrive_delay(redrives integer, first double precision)
RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1.25 * least(600, first * 2 ^ least(greatest(redrives - 1, 0), 10)) * interval '1 second'
$$;

-- Reads the window after the rows are inserted, with a snapshot of its own (READ COMMITTED).
-- So a transaction that read an earlier window has an id lower than any that begins after
-- the window was moved. The redrive waits for the end of those before it reads their range.
--
-- While an earlier release runs alone, after a rollback, nothing moves the window or empties
-- the list. So the window is opened upwards after six hours. No id leaves it by that.
CREATE FUNCTION list_records_outside_window() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    inside redrive_window;
BEGIN
    SELECT * INTO inside FROM redrive_window;
    IF EXISTS (SELECT FROM inserted
               WHERE (id >= inside.floor AND id < inside.ceiling) IS NOT TRUE) THEN
        INSERT INTO pending_records (record_id)
        SELECT id FROM inserted
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

CREATE TRIGGER transaction_records_list_outside_window
    AFTER INSERT ON transaction_records REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION list_records_outside_window();
