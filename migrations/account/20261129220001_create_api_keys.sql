-- The keys of machines. A key is 256 random bits; only its hash is stored, so that a copy of the
-- database holds no key. A row is never deleted: records name their caller, by default the key.
CREATE TABLE api_keys (
    id              uuid PRIMARY KEY,
    -- SHA-256 of the key. It needs no salt, because keys are random.
    secret_hash     bytea NOT NULL UNIQUE CHECK (octet_length(secret_hash) = 32),
    -- The beginning of the key, to recognize it.
    prefix          text NOT NULL,
    name            text NOT NULL,
    -- The caller that requests with the key have.
    user_id         text NOT NULL,
    -- Names with a blank between them, as in a token.
    scopes          text NOT NULL,
    created_by      text NOT NULL,
    idempotency_key text,
    -- Of the request: another one under the same idempotency key is refused.
    request_hash    bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz,
    UNIQUE (created_by, idempotency_key)
);
