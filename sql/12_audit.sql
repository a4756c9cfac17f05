-- The audit log: what was done with keys, and by whom. It holds no key.
-- src/audit/row.rs writes columns by position.

CREATE TABLE sealvec.audit_log (
    "time"           timestamptz NOT NULL,
    "session_user"   text        NOT NULL,   -- who logged in
    role             text        NOT NULL,   -- whose rights counted
    client_addr      text,                   -- null on a Unix socket
    client_port      integer,
    application_name text,
    pid              integer     NOT NULL,
    operation        text        NOT NULL,
    result           text        NOT NULL,   -- ok, failed; in memory also rolled back, prepared
    sqlstate         text,                   -- of a failure
    ring             text,
    kms              text,                   -- the key service
    detail           text
);
COMMENT ON TABLE sealvec.audit_log IS 'what was done with keys: rows that sealvec itself writes; the view sealvec.audit also shows what has no row';
CREATE INDEX audit_log_time ON sealvec.audit_log ("time");
-- It has no key, and one who publishes all tables must be able to prune it.
ALTER TABLE sealvec.audit_log REPLICA IDENTITY FULL;
REVOKE ALL ON sealvec.audit_log FROM PUBLIC;

-- No pg_extension_config_dump: the log tells what this server has seen. A dump that is restored elsewhere, or edited
-- on its way, tells nothing of the kind. docs/OPERATING.md says how to archive it.

-- As for the key-ring catalogs: only a superuser writes to it by hand. The extension writes below the level of triggers.

CREATE TRIGGER a_superuser_only BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION sealvec.superuser_only();
CREATE TRIGGER a_superuser_only_row BEFORE INSERT OR UPDATE OR DELETE ON sealvec.audit_log
    FOR EACH ROW EXECUTE FUNCTION sealvec.superuser_only();
ALTER TABLE sealvec.audit_log ENABLE ALWAYS TRIGGER a_superuser_only, ENABLE ALWAYS TRIGGER a_superuser_only_row;

CREATE FUNCTION sealvec.audit_memory(OUT "time" timestamptz, OUT "session_user" text, OUT role text, OUT client_addr text,
    OUT client_port integer, OUT application_name text, OUT pid integer, OUT operation text, OUT result text,
    OUT sqlstate text, OUT ring text, OUT kms text, OUT detail text) RETURNS SETOF record
    ROWS 50 AS 'MODULE_PATHNAME', 'sealvec_audit_memory_wrapper' LANGUAGE c VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION sealvec.audit_memory() IS 'events that have no row: failures, what was rolled back, what happened where nothing may be written; the newest, until the server restarts';
REVOKE ALL ON FUNCTION sealvec.audit_memory() FROM PUBLIC;

CREATE VIEW sealvec.audit AS
    SELECT l.*, 'table' AS source FROM sealvec.audit_log l
    UNION ALL
    SELECT m.*, 'memory' FROM sealvec.audit_memory() m;
COMMENT ON VIEW sealvec.audit IS 'what was done with keys, done and failed, for superusers and pg_read_all_stats';
REVOKE ALL ON sealvec.audit FROM PUBLIC;
GRANT SELECT ON sealvec.audit, sealvec.audit_log TO pg_read_all_stats;
GRANT EXECUTE ON FUNCTION sealvec.audit_memory() TO pg_read_all_stats;

CREATE FUNCTION sealvec.audit_prune(keep interval DEFAULT '90 days') RETURNS bigint
    AS 'MODULE_PATHNAME', 'sealvec_audit_prune_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.audit_prune(interval) IS 'delete rows of the audit log that are older; returns how many';
REVOKE ALL ON FUNCTION sealvec.audit_prune(interval) FROM PUBLIC;
