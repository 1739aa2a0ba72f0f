-- no-transaction
-- The next migration creates this index. An attempt that was interrupted leaves an
-- invalid index behind.
DROP INDEX CONCURRENTLY IF EXISTS webhook_endpoints_lane_idx;
