-- The cause of a failure that the customer may read, because it is in the request. Other causes name
-- parts of the system. A column without a default rewrites no table.
ALTER TABLE reports ADD COLUMN public_error text;
