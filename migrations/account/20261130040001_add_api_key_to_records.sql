-- The API key of the request, whichever user it acts for. NULL: a token, or a release before this
-- one. A column without a value takes a bit, and a row has room for it. No index has the column, so
-- the insert costs the same and the update that settles a record stays HOT.
ALTER TABLE transaction_records ADD COLUMN api_key_id uuid;
