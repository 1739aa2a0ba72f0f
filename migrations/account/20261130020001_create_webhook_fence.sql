-- The fences of leases. They can't be guessed: a replica that has claimed an endpoint in a database
-- that was lost settles nothing in an older copy of it. With fences that count up, the copy gives
-- the same one again.
CREATE FUNCTION webhook_fence() RETURNS bigint LANGUAGE sql VOLATILE
    AS $$ SELECT (random() * 9007199254740992)::bigint $$;
