-- The idempotency keys under which accounts were opened. A key belongs to its caller. It is kept
-- as long as the account.
CREATE TABLE account_keys (
    caller          text NOT NULL,
    idempotency_key text NOT NULL,
    -- Of the request: another one under the same key is refused.
    request_hash    bytea NOT NULL,
    account_id      uuid NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, idempotency_key)
);
