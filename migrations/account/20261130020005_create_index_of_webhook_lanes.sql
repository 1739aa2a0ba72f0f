-- no-transaction
-- Failing and slow endpoints are claimed apart from others. Replaces webhook_endpoints_due_idx,
-- which replicas of an earlier release use.
CREATE INDEX CONCURRENTLY webhook_endpoints_lane_idx
    ON webhook_endpoints ((failures > 0 OR is_slow), due_at);
