-- For the planner, an account has a hundred records. The statistics show the average, and where
-- most accounts have one or two, a look-up by account and key would read all records of an
-- account instead of the unique index: all the millions of a busy one. The setting counts from
-- the next ANALYZE on, which takes a sample and blocks no statement.
ALTER TABLE transaction_records ALTER COLUMN account_id SET (n_distinct = -0.01);
ANALYZE transaction_records (account_id);
