-- The ledger: one row for the balance of each account, one for the decided
-- outcome of each record.

CREATE TABLE accounts (
    account_id  uuid PRIMARY KEY,
    currency    text NOT NULL,
    balance     numeric(22, 4) NOT NULL DEFAULT 0 CHECK (balance >= 0),
    -- The number of applied transactions: the last one's account_seq.
    account_seq bigint NOT NULL DEFAULT 0 CHECK (account_seq >= 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

CREATE TABLE transactions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The last line of defence against applying a record twice.
    record_id     uuid NOT NULL,
    account_id    uuid NOT NULL REFERENCES accounts,
    type          text NOT NULL CHECK (type IN ('DEPOSIT', 'WITHDRAWAL')),
    amount        numeric(22, 4) NOT NULL CHECK (amount > 0),
    currency      text NOT NULL,
    status        text NOT NULL CHECK (status IN ('SUCCESS', 'FAILED')),
    reason        text,
    balance_after numeric(22, 4) CHECK (balance_after >= 0),
    account_seq   bigint CHECK (account_seq > 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT transactions_record_id_key UNIQUE (record_id),
    -- Refusals carry no number: NULLs do not collide.
    CONSTRAINT transactions_account_id_account_seq_key UNIQUE (account_id, account_seq),
    CONSTRAINT transactions_outcome_check CHECK (
        CASE status
            WHEN 'SUCCESS' THEN reason IS NULL AND balance_after IS NOT NULL AND account_seq IS NOT NULL
            WHEN 'FAILED' THEN reason IS NOT NULL AND balance_after IS NULL AND account_seq IS NULL
        END
    )
);
