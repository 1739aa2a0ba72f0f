-- The most seconds to next_attempt_at, from when it was set. A later one is of a clock that was
-- ahead. NULL: unknown.
ALTER TABLE webhook_deliveries ADD COLUMN delay double precision;
