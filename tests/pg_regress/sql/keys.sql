-- A key ring is open only as long as it should be: what opens one, and everything that closes it.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set kek 'decode(repeat(''a1'', 32), ''hex'')'
\pset format unaligned
\pset tuples_only on

DO $$ BEGIN PERFORM sealvec.create_key_ring('k_vault', kek => decode(repeat('a1', 32), 'hex')); END $$;
DO $$ BEGIN PERFORM sealvec.create_key_ring('k_notes'); END $$;
CREATE ROLE k_alice;
CREATE VIEW k_state AS
    SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM sealvec.key_rings WHERE name LIKE 'k\_%';
GRANT SELECT ON k_state TO k_alice;

-- A client-held ring starts locked, one of the local provider is ready for its owner.
\c -
SELECT * FROM k_state;

-- Nothing but its key opens a client-held ring, and the refusal says only that.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT sealvec.unlock('k_vault', decode(repeat('a2', 32), 'hex'));
SELECT sealvec.unlock('k_vault', decode(repeat('a1', 31), 'hex'));
SELECT sealvec.unlock('k_vault', decode(repeat('a1', 33), 'hex'));
SELECT sealvec.unlock('k_vault', '');
SELECT sealvec.unlock('k_vault');
SELECT sealvec.unlock('k_vault', NULL);
SELECT sealvec.unlock('k_none', decode(repeat('a1', 32), 'hex'));
SELECT sealvec.unlock(NULL, decode(repeat('a1', 32), 'hex'));
SELECT sealvec.unlock(repeat('x', 64));
SELECT sealvec.unlock('k_notes', decode(repeat('a1', 32), 'hex'));
SELECT sealvec.lock('k_none');
SELECT * FROM k_state;

-- The codes of the same refusals.
\set VERBOSITY sqlstate
SELECT sealvec.unlock('k_vault', decode(repeat('a2', 32), 'hex'));
SELECT sealvec.unlock('k_vault', decode(repeat('a1', 31), 'hex'));
SELECT sealvec.unlock('k_vault');
SELECT sealvec.unlock('k_none', decode(repeat('a1', 32), 'hex'));
SELECT sealvec.unlock('k_notes', decode(repeat('a1', 32), 'hex'));
\set VERBOSITY terse

-- unlock opens it, lock closes it.
SELECT sealvec.unlock('k_vault', :kek);
SELECT * FROM k_state;
SELECT sealvec.lock('k_vault');
SELECT * FROM k_state;

-- A failed unlock leaves an open ring open.
SELECT sealvec.unlock('k_vault', :kek);
SELECT sealvec.unlock('k_vault', decode(repeat('a2', 32), 'hex'));
SELECT * FROM k_state;

-- A ring of a provider stays closed once locked, until it is unlocked.
SELECT sealvec.lock('k_notes');
SELECT * FROM k_state;
SELECT sealvec.unlock('k_notes');
SELECT * FROM k_state;

-- lock_all closes both; unlock opens one again.
SELECT sealvec.lock_all();
SELECT * FROM k_state;
SELECT sealvec.unlock('k_notes');
SELECT * FROM k_state;

-- DISCARD ALL and RESET ALL give the session back as new; RESET of one setting does not touch keys.
SELECT sealvec.unlock('k_vault', :kek);
RESET sealvec.key_ttl;
SELECT * FROM k_state;
RESET ALL;
SELECT * FROM k_state;
SELECT sealvec.unlock('k_vault', :kek), sealvec.lock('k_notes');
SELECT * FROM k_state;
DISCARD ALL;
SELECT * FROM k_state;

-- Also at the second time, and after a transaction was rolled back in between.
SELECT sealvec.unlock('k_vault', :kek);
BEGIN;
SELECT 1/0;
ROLLBACK;
SELECT * FROM k_state;
DISCARD ALL;
SELECT * FROM k_state;

-- A rollback past the unlock takes it back; a commit keeps it; so for savepoints.
BEGIN;
SELECT sealvec.unlock('k_vault', :kek);
SELECT * FROM k_state;
ROLLBACK;
SELECT * FROM k_state;
BEGIN;
SAVEPOINT s;
SELECT sealvec.unlock('k_vault', :kek);
ROLLBACK TO s;
SELECT * FROM k_state;
SAVEPOINT t;
SELECT sealvec.unlock('k_vault', :kek);
RELEASE t;
COMMIT;
SELECT * FROM k_state;

-- The same when the session had keys open before, which is when a pooler's next client would find it open.
SELECT sealvec.lock('k_vault');
BEGIN;
SELECT sealvec.unlock('k_vault', :kek);
SELECT 1 / 0;
ROLLBACK;
SELECT * FROM k_state;
BEGIN;
SAVEPOINT s;
SAVEPOINT u;
SELECT sealvec.unlock('k_vault', :kek);
RELEASE u;
ROLLBACK TO s;
SELECT * FROM k_state;
SAVEPOINT t;
SELECT sealvec.unlock('k_vault', :kek);
RELEASE t;
SAVEPOINT v;
ROLLBACK TO v;
COMMIT;
SELECT * FROM k_state;
BEGIN;
ROLLBACK;
SELECT * FROM k_state;

-- The setting behind this is not the user's.
SHOW sealvec.keys_in_session;
SET SESSION AUTHORIZATION k_alice;
SET sealvec.keys_in_session = on;
RESET SESSION AUTHORIZATION;

-- SET ROLE and SET SESSION AUTHORIZATION close what others unlocked, also after the way back.
SELECT sealvec.unlock('k_vault', :kek);
SET ROLE k_alice;
SELECT * FROM k_state;
RESET ROLE;
SELECT * FROM k_state;
SELECT sealvec.unlock('k_vault', :kek);
SET SESSION AUTHORIZATION k_alice;
SELECT * FROM k_state;
SELECT sealvec.unlock('k_vault', :kek);
SELECT * FROM k_state;
RESET SESSION AUTHORIZATION;
SELECT * FROM k_state;

-- A SECURITY DEFINER function closes nothing; it has the ring only if its owner may (grants_client.sql).
SELECT sealvec.unlock('k_vault', :kek);
CREATE FUNCTION k_definer() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ SELECT state FROM sealvec.key_rings WHERE name = 'k_vault' $$;
ALTER FUNCTION k_definer() OWNER TO k_alice;
SELECT k_definer();
SELECT * FROM k_state;

-- Time: a ring closes when its time is up, whenever the setting shortens it.
SELECT pg_sleep(1.1);
SET sealvec.key_ttl = 1;
SELECT * FROM k_state;
SELECT sealvec.unlock('k_vault', :kek);
SELECT * FROM k_state;
SELECT pg_sleep(1.1);
SELECT * FROM k_state;
SET sealvec.key_ttl = 0;
SELECT sealvec.unlock('k_vault', :kek);
SELECT pg_sleep(1.1);
SELECT * FROM k_state;
\set VERBOSITY sqlstate
SET sealvec.key_ttl = -1;
\set VERBOSITY terse
RESET sealvec.key_ttl;

-- Things that touch the catalog but not the ring leave it open: ANALYZE, VACUUM, another ring.
SELECT sealvec.unlock('k_vault', :kek);
VACUUM ANALYZE sealvec.key_ring;
SELECT * FROM k_state;
DO $$ BEGIN PERFORM sealvec.create_key_ring('k_other'); END $$;
SELECT sealvec.drop_key_ring('k_other');
SELECT * FROM k_state;

-- Another session has its own: it sees the ring locked.
\c -
SELECT * FROM k_state;

-- lock(…, everywhere) closes it here too, and is its owner's to call.
SELECT sealvec.unlock('k_vault', :kek);
SELECT sealvec.lock('k_vault', everywhere => true);
SELECT * FROM k_state;
SET ROLE k_alice;
SELECT sealvec.unlock('k_vault', :kek);
SELECT sealvec.lock('k_vault', everywhere => true);
SELECT state FROM sealvec.key_rings WHERE name = 'k_vault';
SELECT sealvec.lock('k_vault');
SELECT state FROM sealvec.key_rings WHERE name = 'k_vault';
RESET ROLE;

-- An edit of the catalog by hand is noticed as well.
SELECT sealvec.unlock('k_vault', :kek);
SELECT * FROM k_state;
UPDATE sealvec.key_ring SET epoch = epoch + 1 WHERE name = 'k_vault';
SELECT * FROM k_state;

SELECT sealvec.drop_key_ring('k_vault'), sealvec.drop_key_ring('k_notes');
DROP FUNCTION k_definer();
DROP VIEW k_state;
DROP ROLE k_alice;
