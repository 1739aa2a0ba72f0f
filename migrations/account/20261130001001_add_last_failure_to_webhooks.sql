-- When an attempt failed last: the time of last_error. A column without a default rewrites no
-- table.
ALTER TABLE webhook_endpoints ADD COLUMN last_failed_at timestamptz;
