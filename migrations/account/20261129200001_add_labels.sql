-- What a client calls its movements and accounts. No service reads a meaning into them. They are
-- part of the request: a retry with others is another request.
--
-- Columns without a value take a bit each, and a row has room for them. No update changes them:
-- settling a record and moving a balance stay HOT, indexes on `reference` included.
ALTER TABLE transaction_records
    ADD COLUMN reference text,
    ADD COLUMN description text,
    ADD COLUMN metadata jsonb;

ALTER TABLE accounts
    ADD COLUMN reference text,
    ADD COLUMN metadata jsonb;
