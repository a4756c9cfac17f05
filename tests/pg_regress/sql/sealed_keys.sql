-- Keys that come sealed to the server; what needs a client that seals is in tests/e2e (sealed_keys.rs, sealed_logs.rs).
\set VERBOSITY default
\set SHOW_CONTEXT never

-- The key to seal to: one for all sessions, for an hour.
SELECT length(key_id) AS id, length(public_key) AS key, expires > now() AND expires <= clock_timestamp() + '1 hour' AS within_the_hour,
       database = current_database() AS here, role = current_user AS me FROM sealvec.transport_key();
SELECT key_id, public_key FROM sealvec.transport_key() \gset
\c -
\set VERBOSITY default
SELECT key_id = :'key_id' AND public_key = :'public_key' AS same FROM sealvec.transport_key();
-- The role is the one that SET ROLE gave, also in a function that runs with another's rights.
CREATE ROLE s_alice;
CREATE FUNCTION s_role() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT role FROM sealvec.transport_key() $$;
SET ROLE s_alice;
SELECT role, s_role() FROM sealvec.transport_key();
RESET ROLE;

-- Sealed to a key that this server never had: a code of its own, which the next error has not.
SELECT '\x9e7365616c656401' || decode(repeat('00', 16 + 32 + 48), 'hex') AS stale \gset
SELECT sealvec.create_key_ring('s_ring', kek => :'stale');
\set VERBOSITY sqlstate
SELECT sealvec.create_key_ring('s_ring', kek => :'stale');
SELECT 1 / 0;
SELECT sealvec.create_index('s_index', 2, index_key => :'stale');
DO $$
BEGIN
    PERFORM sealvec.create_key_ring('s_ring', kek => '\x9e7365616c656401' || decode(repeat('00', 16 + 32 + 48), 'hex'));
EXCEPTION WHEN SQLSTATE 'SV001' THEN
    RAISE NOTICE 'seal again: %', SQLSTATE;
END
$$;
-- Sealed to its key, but by nobody: what it is bound to can't be told from what was altered.
SELECT '\x9e7365616c656401' || key_id || decode(repeat('09', 32 + 48), 'hex') AS forged FROM sealvec.transport_key() \gset
SELECT sealvec.create_key_ring('s_ring', kek => :'forged');
-- The point of low order, from which everybody could derive the same secret.
SELECT '\x9e7365616c656401' || key_id || decode(repeat('00', 32 + 48), 'hex') AS low FROM sealvec.transport_key() \gset
SELECT sealvec.create_key_ring('s_ring', kek => :'low');
-- Malformed, in both forms; of a version to come; plain ones of another length.
SELECT sealvec.create_key_ring('s_ring', kek => '\x9e7365616c656401');
SELECT sealvec.create_key_ring('s_ring', kek => 'sealed1.');
SELECT sealvec.create_key_ring('s_ring', kek => 'sealed1.AAAA====');
SELECT sealvec.create_key_ring('s_ring', kek => '\x9e7365616c656402' || decode(repeat('00', 96), 'hex'));
SELECT sealvec.create_key_ring('s_ring', kek => '\x00');
-- 32 bytes are a plain key, whatever they start with.
SELECT sealvec.create_key_ring('s_ring', kek => '\x9e7365616c656401' || decode(repeat('00', 24), 'hex')) IS NOT NULL AS made;

-- A plain key, while statements are logged.
\set VERBOSITY default
SET log_min_duration_statement = '1h';
SELECT sealvec.unlock('s_ring', '\x9e7365616c656401' || decode(repeat('00', 24), 'hex'));
SELECT sealvec.unlock('s_ring', :'stale');
SET sealvec.allow_plain_key = on;
SELECT sealvec.unlock('s_ring', '\x9e7365616c656401' || decode(repeat('00', 24), 'hex'));
RESET sealvec.allow_plain_key;
RESET log_min_duration_statement;
SET ROLE s_alice;
SET sealvec.allow_plain_key = on;
RESET ROLE;

SELECT sealvec.drop_key_ring('s_ring');
DROP FUNCTION s_role();
DROP ROLE s_alice;
