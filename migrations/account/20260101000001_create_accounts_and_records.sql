-- What the account-service stands on: accounts with their projected balance,
-- and one record for every request to move money.

CREATE TABLE accounts (
    account_id  uuid PRIMARY KEY,
    owner_id    text NOT NULL,
    currency    text NOT NULL,
    status      text NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE')),
    -- The ledger's balance as far as results have told it; account_seq says
    -- how far, and a result is taken only if its number is higher.
    balance     numeric(22, 4) NOT NULL DEFAULT 0 CHECK (balance >= 0),
    account_seq bigint NOT NULL DEFAULT 0 CHECK (account_seq >= 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- A record is the idempotency record and the outbox in one. Settling it
-- changes only columns that no index holds, so that the update stays on its
-- page (HOT); for the same reason no index looks at status: the id is a
-- UUIDv7, and old PENDING records are found through the primary key.
CREATE TABLE transaction_records (
    id              uuid PRIMARY KEY,
    account_id      uuid NOT NULL REFERENCES accounts,
    idempotency_key text NOT NULL,
    request_hash    bytea NOT NULL,
    user_id         text NOT NULL,
    type            text NOT NULL CHECK (type IN ('DEPOSIT', 'WITHDRAWAL')),
    amount          numeric(22, 4) NOT NULL CHECK (amount > 0),
    currency        text NOT NULL,
    status          text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'SUCCESS', 'FAILED')),
    transaction_id  bigint,
    reason          text,
    balance_after   numeric(22, 4),
    -- How often the command was sent again, and when it may be sent next.
    redrives        integer NOT NULL DEFAULT 0,
    redrive_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT transaction_records_account_id_idempotency_key_key UNIQUE (account_id, idempotency_key),
    CONSTRAINT transaction_records_outcome_check CHECK (
        CASE status
            WHEN 'PENDING' THEN transaction_id IS NULL AND reason IS NULL AND balance_after IS NULL
            WHEN 'SUCCESS' THEN transaction_id IS NOT NULL AND reason IS NULL AND balance_after IS NOT NULL
            WHEN 'FAILED' THEN transaction_id IS NOT NULL AND reason IS NOT NULL AND balance_after IS NULL
        END
    )
) WITH (fillfactor = 80);

-- An account's records, newest first, page by page.
CREATE INDEX transaction_records_account_id_id_idx ON transaction_records (account_id, id DESC);
