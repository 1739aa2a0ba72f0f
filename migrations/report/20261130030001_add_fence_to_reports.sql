-- The fence of the latest claim. It can't be guessed: a worker whose claim was lost with a primary
-- writes nothing in an older copy of the database, which gives the number of its attempt again.
-- Replicas of the previous release leave it as it is.
ALTER TABLE reports ADD COLUMN fence bigint;
