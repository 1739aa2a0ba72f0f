-- Webhooks: the event log is their queue. An endpoint has a cursor into the log. A delivery has a
-- row only while it has failed and waits for a retry, or was given up.
--
-- The tables are in this database so that cursors and log are lost together, as by a standby that
-- is promoted without the last commits: a cursor is never ahead of the log.

-- How far the log is announced to the endpoints. A new endpoint begins here, and reads this row
-- FOR SHARE: an announcement that runs is then over, and the next one sees the endpoint.
CREATE TABLE webhook_fanout (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL
);
-- Events from before this release are not delivered.
INSERT INTO webhook_fanout (position) SELECT coalesce(max(position), 0) FROM events;

CREATE TABLE webhook_endpoints (
    id                uuid PRIMARY KEY,
    -- The owner of the accounts whose events are delivered. NULL: all accounts.
    owner_id          text,
    url               text NOT NULL,
    description       text,
    -- As in the table of events. NULL: all types, also those of later releases.
    types             smallint[],
    created_by        text NOT NULL,
    idempotency_key   text,
    -- Of the request: another one under the same idempotency key is refused.
    request_hash      bytea NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    enabled           boolean NOT NULL DEFAULT true,
    -- request, gone (410), failing (for days)
    disabled_because  text CHECK (disabled_because IN ('request', 'gone', 'failing')),
    -- Events up to here are delivered, or have a row in webhook_deliveries.
    position          bigint NOT NULL,
    -- There are events for this endpoint up to here.
    announced         bigint NOT NULL,
    -- A higher fence ends a lease: what its holder settles afterwards is refused. Each change by
    -- a request takes a higher one, too.
    fence             bigint NOT NULL DEFAULT 0,
    lease_until       timestamptz NOT NULL DEFAULT '-infinity',
    -- New events wait until then. Also the time of the last service: endpoints take turns.
    not_before        timestamptz NOT NULL DEFAULT '-infinity',
    -- The earliest retry in webhook_deliveries.
    retry_at          timestamptz NOT NULL DEFAULT 'infinity',
    -- Failed attempts in a row.
    failures          integer NOT NULL DEFAULT 0,
    failing_since     timestamptz,
    last_error        text,
    last_delivered_at timestamptz,
    due_at            timestamptz NOT NULL GENERATED ALWAYS AS (
        CASE WHEN enabled
            THEN greatest(lease_until, least(retry_at,
                CASE WHEN announced > position THEN not_before ELSE 'infinity' END))
            ELSE 'infinity'
        END
    ) STORED,
    UNIQUE (created_by, idempotency_key)
);

-- Failing endpoints are claimed apart from others, so that they take no places of theirs.
CREATE INDEX webhook_endpoints_due_idx ON webhook_endpoints ((failures > 0), due_at);
CREATE INDEX webhook_endpoints_owner_idx ON webhook_endpoints (owner_id, id);

-- The keys that sign, sealed with a key of the service's settings. A copy of this table signs
-- nothing.
CREATE TABLE webhook_secrets (
    id          uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    -- 1: v1 (HMAC-SHA256), 2: v1a (Ed25519)
    algorithm   smallint NOT NULL CHECK (algorithm BETWEEN 1 AND 2),
    sealed      bytea NOT NULL,
    public_key  bytea CHECK ((public_key IS NOT NULL) = (algorithm = 2)),
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- NULL: the current one. An older one signs until then.
    expires_at  timestamptz
);
CREATE UNIQUE INDEX webhook_secrets_current_idx ON webhook_secrets (endpoint_id)
    WHERE expires_at IS NULL;
CREATE INDEX webhook_secrets_endpoint_idx ON webhook_secrets (endpoint_id);

-- Failed deliveries. Who changes rows of an endpoint has locked the row of the endpoint.
CREATE TABLE webhook_deliveries (
    endpoint_id     uuid NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    -- Of the event.
    position        bigint NOT NULL,
    attempts        integer NOT NULL,
    -- NULL: given up.
    next_attempt_at timestamptz,
    last_error      text NOT NULL,
    last_attempt_at timestamptz NOT NULL,
    PRIMARY KEY (endpoint_id, position)
);
CREATE INDEX webhook_deliveries_next_idx ON webhook_deliveries (endpoint_id, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
