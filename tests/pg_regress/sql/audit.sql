-- The audit: what is written down, where, and who may read it.
CREATE ROLE a_app;
CREATE ROLE a_other;
CREATE ROLE a_monitor;
GRANT pg_read_all_stats TO a_monitor;
\set kek 'decode(repeat(\'61\', 32), \'hex\')'
\set wrong 'decode(repeat(\'62\', 32), \'hex\')'
SELECT sealvec.audit_prune('0') >= 0 AS pruned;
SELECT operation, result, "session_user" = session_user AS by_me, role, client_addr, pid = pg_backend_pid() AS here,
    "time" BETWEEN now() - interval '1 minute' AND now() AS now FROM sealvec.audit_log;
DELETE FROM sealvec.audit_log;

-- What happens to a ring, on purpose: rows.
SELECT sealvec.create_key_ring('a_client', :kek) IS NOT NULL AS made;
SELECT sealvec.create_key_ring('a_local') IS NOT NULL AS made;
SELECT sealvec.unlock('a_client', :kek);
SELECT sealvec.unlock('a_local');
SELECT sealvec.grant_ring('a_local', 'a_app');
SELECT sealvec.revoke_ring('a_local', 'a_app');
SELECT sealvec.rekey('a_local');
SELECT sealvec.rotate_kek('a_client', :kek, :wrong);
SELECT sealvec.rotate_kek('a_client', :wrong, :kek);
SELECT sealvec.set_ring_owner('a_local', 'a_app');
SELECT sealvec.lock('a_client');
SELECT sealvec.lock('a_client', everywhere => true);
SELECT length(sealvec.export_ring('a_local')) > 0 AS exported;
CALL sealvec.retire_dek('a_local', 1);
CREATE TABLE a_rows (id integer, v sealvec(2, a_local));
INSERT INTO a_rows VALUES (1, '[1,2]');
CALL sealvec.reseal('a_rows');
DROP TABLE a_rows;
SELECT * FROM sealvec.shred('a_local', 'a_local');
SELECT sealvec.create_kms('a_kms', 'vault', '{"key": "k"}');
SELECT sealvec.alter_kms('a_kms', '{"key": "l"}');
SELECT sealvec.drop_kms('a_kms');
SELECT sealvec.create_index('a_index', 2, index_key => :kek) IS NOT NULL AS made;
SELECT count(*) FROM sealvec.create_user('a_index', '{read}', '\x00112233445566778899aabbccddeeff', index_key => :kek);
SELECT sealvec.delete_user('a_index', '\x00112233445566778899aabbccddeeff', index_key => :kek);
SELECT sealvec.delete_index('a_index', :kek);
SELECT sealvec.drop_key_ring('a_client');
SELECT operation, result, sqlstate, regexp_replace(ring, '[0-9a-f-]{36}', 'UUID') AS ring, kms, detail FROM sealvec.audit_log ORDER BY "time";

-- What fails has no row, since its transaction has none. A view shows it all the same.
DELETE FROM sealvec.audit_log;
SELECT sealvec.create_key_ring('a_client', :kek) IS NOT NULL AS made;
SELECT sealvec.create_key_ring('a_local') IS NOT NULL AS made;
SELECT clock_timestamp() AS begun \gset
SELECT sealvec.unlock('a_client', :wrong);
SELECT sealvec.unlock('0123456789abcdef which may be a key', :wrong);
SELECT sealvec.unlock(NULL);
SELECT sealvec.grant_ring('a_client', 'a_nobody');
SELECT sealvec.shred('a_client', 'yes');
SET ROLE a_other;
SELECT sealvec.unlock('a_local');
SELECT sealvec.rekey('a_local');
SELECT sealvec.create_kms('a_kms', 'vault');
RESET ROLE;
BEGIN READ ONLY;
SELECT sealvec.rekey('a_local');
ROLLBACK;
SELECT operation, result, role, sqlstate, ring, kms, detail, source FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";

-- Nothing may be written here, and an unlock is one.
SELECT clock_timestamp() AS begun \gset
BEGIN READ ONLY;
SELECT sealvec.unlock('a_client', :kek);
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SET default_transaction_read_only = on;
SELECT sealvec.unlock('a_client', :kek);
RESET default_transaction_read_only;
CREATE FUNCTION a_stable() RETURNS void LANGUAGE sql STABLE AS $$ SELECT sealvec.unlock('a_local') $$;
SELECT a_stable();
SELECT operation, result, ring, source FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";

-- What is rolled back was done for a while.
SELECT clock_timestamp() AS begun \gset
BEGIN;
SELECT sealvec.unlock('a_client', :kek);
SAVEPOINT one;
SELECT sealvec.unlock('a_local');
SAVEPOINT two;
SELECT sealvec.grant_ring('a_local', 'a_app');
RELEASE two;
ROLLBACK TO one;
SELECT sealvec.grant_ring('a_local', 'a_other');
COMMIT;
BEGIN;
SELECT sealvec.revoke_ring('a_local', 'a_other');
ROLLBACK;
SELECT operation, result, ring, detail, source FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";

SELECT clock_timestamp() AS begun \gset
CREATE TABLE a_values (id integer, v sealvec(2, a_local));
INSERT INTO a_values SELECT i, ARRAY[i, 1]::real[]::sealvec FROM generate_series(1, 100) i;
-- Opened by a statement: told when asked for, and never by a row.
SELECT sealvec.lock_all();
RESET ALL;
SELECT count(sealvec.open(v)) FROM a_values;
SELECT operation, result, ring FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";
SET sealvec.audit_openings = on;
SELECT sealvec.lock_all();
DISCARD ALL;
SET sealvec.audit_openings = on;
BEGIN;
SELECT count(sealvec.open(v)) FROM a_values;
SELECT count(sealvec.open(v)) FROM a_values WHERE id > 50;
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT operation, result, ring, detail, source FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";
SELECT clock_timestamp() AS begun \gset
GRANT SELECT ON a_values TO a_app;
SET ROLE a_app;
SELECT count(sealvec.open(v)) FROM a_values;
SELECT count(sealvec.open(v)) FROM a_values;
RESET ROLE;
-- Once, however often it is refused.
SELECT operation, result, role, sqlstate, ring, detail, source FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";

-- Who may read: superusers and who may see statistics. Nobody writes by hand but a superuser.
SET ROLE a_other;
SELECT * FROM sealvec.audit_log;
SELECT * FROM sealvec.audit;
SELECT * FROM sealvec.audit_memory();
SELECT sealvec.audit_prune();
RESET ROLE;
SET ROLE a_monitor;
SELECT count(*) > 0 AS reads FROM sealvec.audit WHERE source = 'memory';
SELECT count(*) > 0 AS reads FROM sealvec.audit_log;
DELETE FROM sealvec.audit_log;
SELECT sealvec.audit_prune();
RESET ROLE;
GRANT ALL ON sealvec.audit_log TO a_other;
GRANT EXECUTE ON FUNCTION sealvec.audit_prune(interval) TO a_other;
SET ROLE a_other;
INSERT INTO sealvec.audit_log ("time", "session_user", role, pid, operation, result) VALUES (now(), 'x', 'x', 1, 'unlock', 'ok');
UPDATE sealvec.audit_log SET detail = 'nothing to see';
DELETE FROM sealvec.audit_log;
TRUNCATE sealvec.audit_log;
SELECT sealvec.audit_prune('0');
RESET ROLE;
REVOKE ALL ON sealvec.audit_log FROM a_other;
REVOKE EXECUTE ON FUNCTION sealvec.audit_prune(interval) FROM a_other;
SET ROLE a_other;
SET sealvec.failed_unlock_delay_max = 0;
SET sealvec.audit_openings = off;
RESET ROLE;

-- Pruning is written down, and takes what is old alone.
SELECT sealvec.audit_prune(NULL);
SELECT sealvec.audit_prune();
UPDATE sealvec.audit_log SET "time" = "time" - interval '91 days' WHERE operation = 'create_ring';
SELECT sealvec.audit_prune();
SELECT detail FROM sealvec.audit_log WHERE operation = 'prune' ORDER BY "time";
SELECT count(*) FROM sealvec.audit_log WHERE operation = 'create_ring';

-- Names cannot forge.
SELECT clock_timestamp() AS begun \gset
SELECT sealvec.create_key_ring(E'a" result="ok" \\', :kek) IS NOT NULL AS made;
SELECT sealvec.create_key_ring(E'a\nb', :kek);
SELECT operation, result, sqlstate, ring, detail FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";
SELECT sealvec.drop_key_ring(E'a" result="ok" \\');

-- Indexes that an administrator adds are kept, whatever they are of.
CREATE INDEX a_lower ON sealvec.audit_log (lower(ring));
CREATE INDEX a_partial ON sealvec.audit_log (pid) WHERE operation = 'lock_everywhere';
SELECT clock_timestamp() AS begun \gset
SELECT sealvec.unlock('a_client', :kek);
SELECT sealvec.lock('a_client', everywhere => true);
SET enable_seqscan = off;
SELECT operation FROM sealvec.audit_log WHERE lower(ring) = 'a_client' AND "time" > :'begun' ORDER BY "time";
SELECT operation FROM sealvec.audit_log WHERE pid > 0 AND operation = 'lock_everywhere' AND "time" > :'begun';
RESET enable_seqscan;
DROP INDEX sealvec.a_lower, sealvec.a_partial;

-- A row that cannot be written ends the call, and is not lost.
CREATE FUNCTION a_refuses(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN IF current_setting('a.refuse', true) = 'on' THEN RAISE 'refused by %', current_user; END IF; RETURN $1; END $$;
CREATE INDEX a_refuses ON sealvec.audit_log (a_refuses(ring));
SELECT clock_timestamp() AS begun \gset
SET a.refuse = on;
SELECT sealvec.unlock('a_client', :kek);
RESET a.refuse;
SELECT sealvec.unlock('a_client', :kek);
SELECT operation, result, ring, source FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";
DROP INDEX sealvec.a_refuses;
DROP FUNCTION a_refuses(text);

-- Into a table that was made another one, nothing is written.
SELECT clock_timestamp() AS begun \gset
BEGIN;
CREATE UNIQUE INDEX a_unique ON sealvec.audit_log ("time", operation);
SELECT sealvec.unlock('a_client', :kek);
DROP INDEX sealvec.a_unique;
ALTER TABLE sealvec.audit_log ADD CONSTRAINT a_check CHECK (pid <> 0);
SELECT sealvec.unlock('a_client', :kek);
ROLLBACK;
BEGIN;
ALTER EXTENSION sealvec DROP VIEW sealvec.audit;
DROP VIEW sealvec.audit;
ALTER TABLE sealvec.audit_log ALTER COLUMN pid TYPE text USING pid::text;
SELECT sealvec.unlock('a_client', :kek);
ROLLBACK;
SELECT operation, result, ring, source FROM sealvec.audit WHERE "time" > :'begun' ORDER BY "time";

-- To plan a query is to export nothing.
SELECT clock_timestamp() AS begun \gset
CREATE TABLE a_exports (export bytea);
EXPLAIN (COSTS OFF) SELECT FROM a_exports WHERE export = sealvec.export_ring('a_local');
SELECT count(*) FROM sealvec.audit WHERE "time" > :'begun' AND operation = 'export_ring';
DROP TABLE a_exports;

-- A publication of all tables keeps nobody from pruning.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE PUBLICATION a_all FOR ALL TABLES;
SELECT sealvec.audit_prune('100 years');
ROLLBACK;

DROP TABLE a_values;
DROP FUNCTION a_stable();
SELECT sealvec.drop_key_ring('a_client');
SELECT sealvec.drop_key_ring('a_local');
DROP ROLE a_app, a_other, a_monitor;
