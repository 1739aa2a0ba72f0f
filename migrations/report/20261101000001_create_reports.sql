-- Reports: a row is the request, its idempotency record, its outbox and its
-- state in one. The message on the job stream only wakes a worker.

CREATE TABLE reports (
    id               uuid PRIMARY KEY,
    -- The order of asking. Workers take the lowest that is due.
    position         bigint GENERATED ALWAYS AS IDENTITY,
    kind             text NOT NULL CHECK (kind IN ('statement', 'activity', 'reconciliation')),
    -- One lane for now. Reports of different lanes could run side by side.
    lane             text NOT NULL DEFAULT 'default',
    requested_by     text NOT NULL,
    -- Of a statement: its account, and the owner at the time of asking.
    account_id       uuid,
    account_owner    text,
    idempotency_key  text NOT NULL,
    request_hash     bytea NOT NULL,
    -- Set if the client asked for one open report of its kind, parameters and
    -- ledger position.
    unique_hash      bytea,
    parameters       jsonb NOT NULL,
    formats          text[] NOT NULL CHECK (cardinality(formats) > 0),
    state            text NOT NULL DEFAULT 'QUEUED'
                     CHECK (state IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    -- The number of the latest attempt. It fences earlier ones: every write of an
    -- attempt requires its own number.
    attempt          integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- Failed and lost attempts. A hand-over is none.
    failures         integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    not_before       timestamptz NOT NULL DEFAULT now(),
    -- The latest wake-up message for this row, and how many there were.
    sent_at          timestamptz,
    sends            integer NOT NULL DEFAULT 0,
    lease_until      timestamptz,
    worker           text,
    cancel_requested boolean NOT NULL DEFAULT false,
    step             text,
    done             bigint,
    total            bigint,
    -- From where the next attempt can continue, if the kind has such places.
    checkpoint       jsonb,
    error            text,
    retry_of         uuid REFERENCES reports,
    traceparent      text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    CONSTRAINT reports_requested_by_idempotency_key_key UNIQUE (requested_by, idempotency_key),
    CONSTRAINT reports_state_columns_check CHECK (
        CASE state
            WHEN 'QUEUED' THEN lease_until IS NULL AND worker IS NULL AND ended_at IS NULL
            WHEN 'RUNNING' THEN lease_until IS NOT NULL AND worker IS NOT NULL
                AND ended_at IS NULL AND attempt > 0
            ELSE lease_until IS NULL AND worker IS NULL AND ended_at IS NOT NULL
        END
    )
);
-- The open reports, in the order of asking.
CREATE INDEX reports_open_idx ON reports (lane, position) WHERE state IN ('QUEUED', 'RUNNING');
CREATE UNIQUE INDEX reports_unique_hash_key ON reports (unique_hash)
    WHERE unique_hash IS NOT NULL AND state IN ('QUEUED', 'RUNNING');
-- The lists of customers.
CREATE INDEX reports_requested_by_id_idx ON reports (requested_by, id DESC);
CREATE INDEX reports_account_owner_id_idx ON reports (account_owner, id DESC)
    WHERE account_owner IS NOT NULL;

-- The keys of requests that were answered with an open report of another request. A
-- repetition finds the same report, also after its end.
CREATE TABLE report_joins (
    requested_by    text NOT NULL,
    idempotency_key text NOT NULL,
    request_hash    bytea NOT NULL,
    report_id       uuid NOT NULL REFERENCES reports,
    PRIMARY KEY (requested_by, idempotency_key)
);

CREATE TABLE report_attempts (
    report_id  uuid NOT NULL REFERENCES reports,
    number     integer NOT NULL CHECK (number > 0),
    worker     text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    -- LOST: its lease ended, because the worker crashed or was cut off.
    outcome    text CHECK (outcome IN ('SUCCEEDED', 'FAILED', 'LOST', 'HANDED_OVER', 'CANCELLED')),
    error      text,
    PRIMARY KEY (report_id, number),
    CONSTRAINT report_attempts_end_check CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

-- The files of SUCCEEDED reports. A file without a row is never served.
CREATE TABLE report_artifacts (
    report_id  uuid NOT NULL REFERENCES reports,
    format     text NOT NULL,
    attempt    integer NOT NULL,
    path       text NOT NULL UNIQUE,
    size       bigint NOT NULL CHECK (size >= 0),
    sha256     bytea NOT NULL CHECK (length(sha256) = 32),
    signature  bytea,
    file_name  text NOT NULL,
    media_type text NOT NULL,
    expires_at timestamptz NOT NULL,
    -- When the expired file was deleted.
    deleted_at timestamptz,
    PRIMARY KEY (report_id, format)
);
CREATE INDEX report_artifacts_expires_at_idx ON report_artifacts (expires_at) WHERE deleted_at IS NULL;

-- An alert is repeated until it was taken.
CREATE TABLE report_alerts (
    report_id        uuid PRIMARY KEY REFERENCES reports,
    payload          jsonb NOT NULL,
    tries            integer NOT NULL DEFAULT 0,
    next_try_at      timestamptz NOT NULL DEFAULT now(),
    taken_at         timestamptz,
    dead_lettered_at timestamptz,
    last_error       text,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX report_alerts_open_idx ON report_alerts (next_try_at)
    WHERE taken_at IS NULL OR dead_lettered_at IS NULL;
