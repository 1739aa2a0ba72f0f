-- pause: the seconds from the last service to not_before. A later not_before is of a clock that was
-- ahead. NULL: a replica of an earlier release wrote not_before.
--
-- is_slow: the receiver has answered slowly, or a request has ended a lease, and no round was
-- settled since. Such an endpoint is claimed as failing ones are.
ALTER TABLE webhook_endpoints
    ADD COLUMN pause double precision,
    ADD COLUMN is_slow boolean NOT NULL DEFAULT false;
