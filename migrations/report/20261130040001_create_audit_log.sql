-- Who did what to which report: asked for it, retried it or cancelled it. The transaction that does
-- it writes the row. The table is that of the account database.
--
-- Rows are added only. The privileges of the service say so, and the trigger says it to the owner
-- of the table, too, who would have to drop it first.
CREATE TABLE audit_log (
    -- Version 7, by the clock of the replica: the order of the list.
    id         uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The caller.
    actor      text NOT NULL,
    -- NULL: a token. Reports take no API keys.
    api_key_id uuid,
    -- Such as 'report.cancelled'. Later releases add some.
    action     text NOT NULL,
    -- The path of the resource in the API.
    resource   text NOT NULL,
    -- What the action set, as strings. No secrets.
    details    jsonb NOT NULL
);

-- One for each filter: a page costs the same, however long the log is.
CREATE INDEX audit_log_actor_id_idx ON audit_log (actor, id);
CREATE INDEX audit_log_actor_action_id_idx ON audit_log (actor, action, id);
CREATE INDEX audit_log_action_id_idx ON audit_log (action, id);
CREATE INDEX audit_log_resource_id_idx ON audit_log (resource, id);

CREATE FUNCTION refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied: rows are only added to the audit log'
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_log_keep
    BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_log();
