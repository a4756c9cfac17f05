-- Who may make, change and open a key ring.
\set VERBOSITY default
\set SHOW_CONTEXT never

CREATE ROLE g_owner;
CREATE ROLE g_app;
CREATE ROLE g_member IN ROLE g_app;
CREATE ROLE g_other;

-- Making rings is for those who were allowed to.
SET ROLE g_owner;
SELECT sealvec.create_key_ring('g_ring');
SELECT sealvec.import_ring('');
SELECT sealvec.init_root_key();
RESET ROLE;
GRANT EXECUTE ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) TO g_owner;
SET ROLE g_owner;
SELECT sealvec.create_key_ring('g_ring') IS NOT NULL AS made;
SELECT sealvec.create_key_ring('g_client', kek => decode(repeat('c1', 32), 'hex')) IS NOT NULL AS made;
SELECT name, owner, state, granted_to FROM sealvec.key_rings WHERE name LIKE 'g\_%' ORDER BY name;

-- The catalogs themselves are nobody's to read.
SELECT count(*) FROM sealvec.key_ring;
SELECT count(*) FROM sealvec.ring_grant;
INSERT INTO sealvec.ring_grant VALUES (1, 'g_other');

-- Its owner opens it; a role without a grant does not, and cannot help itself.
SELECT sealvec.unlock('g_ring');
SET ROLE g_other;
SELECT sealvec.unlock('g_ring');
SELECT sealvec.grant_ring('g_ring', 'g_other');
SELECT sealvec.revoke_ring('g_ring', 'g_owner');
SELECT sealvec.set_ring_owner('g_ring', 'g_other');
SELECT sealvec.rotate_kek('g_ring');
SELECT sealvec.rekey('g_ring');
SELECT sealvec.export_ring('g_ring');
SELECT sealvec.drop_key_ring('g_ring');
SELECT sealvec.lock('g_ring', everywhere => true);
SELECT name, state FROM sealvec.key_rings WHERE name LIKE 'g\_%' ORDER BY name;

-- A grant opens it, to members of the role as well; the grant gives no right to pass it on.
SET ROLE g_owner;
SELECT sealvec.grant_ring('g_ring', 'g_app');
SELECT sealvec.grant_ring('g_ring', 'g_app');
SELECT sealvec.grant_ring('g_ring', 'g_nobody');
SELECT sealvec.grant_ring('g_ring', NULL);
SELECT sealvec.grant_ring('g_client', 'g_app');
SET ROLE g_app;
SELECT sealvec.unlock('g_ring');
SELECT sealvec.grant_ring('g_ring', 'g_other');
SET ROLE g_member;
SELECT sealvec.unlock('g_ring');
SELECT name, state, granted_to FROM sealvec.key_rings WHERE name = 'g_ring';
RESET ROLE;
REVOKE g_app FROM g_member;
SET ROLE g_member;
SELECT sealvec.unlock('g_ring');
SELECT state FROM sealvec.key_rings WHERE name = 'g_ring';

-- A revoked role is out at once, also where the ring was open.
SET SESSION AUTHORIZATION g_app;
SELECT sealvec.unlock('g_ring');
SELECT state FROM sealvec.key_rings WHERE name = 'g_ring';
RESET SESSION AUTHORIZATION;
SELECT sealvec.revoke_ring('g_ring', 'g_app');
SELECT sealvec.revoke_ring('g_ring', 'g_app');
SET SESSION AUTHORIZATION g_app;
SELECT sealvec.unlock('g_ring');
SELECT state FROM sealvec.key_rings WHERE name = 'g_ring';
RESET SESSION AUTHORIZATION;

-- Inside a SECURITY DEFINER function the definer's grant counts, outside it the caller's, in one session.
CREATE FUNCTION g_open() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ SELECT sealvec.unlock('g_ring'); SELECT state FROM sealvec.key_rings WHERE name = 'g_ring' $$;
ALTER FUNCTION g_open() OWNER TO g_owner;
SET SESSION AUTHORIZATION g_other;
SELECT g_open();
SELECT state FROM sealvec.key_rings WHERE name = 'g_ring';
SELECT sealvec.unlock('g_ring');
SELECT g_open();
RESET SESSION AUTHORIZATION;

-- And a caller who may open it lends that to no definer who may not.
ALTER FUNCTION g_open() OWNER TO g_other;
SELECT sealvec.unlock('g_ring');
SELECT g_open();
SELECT state FROM sealvec.key_rings WHERE name = 'g_ring';

-- A client-held ring opens for whoever has its key.
SET ROLE g_other;
SELECT sealvec.unlock('g_client', decode(repeat('c1', 32), 'hex'));
SELECT state FROM sealvec.key_rings WHERE name = 'g_client';
RESET ROLE;

-- Giving a ring away: by its owner only to a role he is a member of.
SET ROLE g_owner;
SELECT sealvec.set_ring_owner('g_ring', 'g_other');
RESET ROLE;
GRANT g_other TO g_owner;
SET SESSION AUTHORIZATION g_owner;
SELECT sealvec.set_ring_owner('g_ring', 'g_other');
RESET SESSION AUTHORIZATION;
REVOKE g_other FROM g_owner;
SET ROLE g_owner;
SELECT sealvec.unlock('g_ring');
SET ROLE g_other;
SELECT sealvec.unlock('g_ring');
RESET ROLE;

-- Rights are by role name and OID: a renamed role is out until it is granted again.
ALTER ROLE g_other RENAME TO g_renamed;
SET ROLE g_renamed;
SELECT sealvec.unlock('g_ring');
RESET ROLE;
SELECT owner FROM sealvec.key_rings WHERE name = 'g_ring';
SELECT sealvec.set_ring_owner('g_ring', 'g_renamed');
SET ROLE g_renamed;
SELECT sealvec.unlock('g_ring');
RESET ROLE;

-- Another role of the same name is another role: neither grant nor ownership comes back with it.
CREATE ROLE g_ghost;
GRANT EXECUTE ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) TO g_ghost;
SELECT sealvec.grant_ring('g_ring', 'g_ghost');
SET ROLE g_ghost;
DO $$ BEGIN PERFORM sealvec.create_key_ring('g_ghostly'); END $$;
SELECT sealvec.unlock('g_ring');
SELECT name, owner, granted_to FROM sealvec.key_rings WHERE name IN ('g_ring', 'g_ghostly') ORDER BY name;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) FROM g_ghost;
DROP ROLE g_ghost;
CREATE ROLE g_ghost;
SET ROLE g_ghost;
SELECT sealvec.unlock('g_ring');
SELECT sealvec.unlock('g_ghostly');
SELECT sealvec.export_ring('g_ghostly');
SELECT name, owner, state, granted_to FROM sealvec.key_rings WHERE name IN ('g_ring', 'g_ghostly') ORDER BY name;
RESET ROLE;

-- It can be granted anew, and a ring without an owner given to it by a superuser.
SELECT sealvec.grant_ring('g_ring', 'g_ghost');
SELECT sealvec.set_ring_owner('g_ghostly', 'g_ghost');
SET ROLE g_ghost;
SELECT sealvec.unlock('g_ring'), sealvec.unlock('g_ghostly');
RESET ROLE;

-- What a dump holds means the roles that have the names where it is restored; one that is not there, nobody.
CREATE TEMP TABLE dumped AS SELECT * FROM sealvec.ring_grant WHERE role = 'g_ghost';
CREATE TEMP TABLE dumped_ring AS SELECT * FROM sealvec.key_ring WHERE name = 'g_ghostly';
SELECT sealvec.drop_key_ring('g_ghostly'), sealvec.revoke_ring('g_ring', 'g_ghost');
UPDATE dumped SET role_oid = 10;
UPDATE dumped_ring SET owner_oid = 10;
BEGIN;
INSERT INTO sealvec.key_ring SELECT * FROM dumped_ring;
INSERT INTO sealvec.ring_grant SELECT * FROM dumped;
SET LOCAL ROLE g_ghost;
SELECT sealvec.unlock('g_ring'), sealvec.unlock('g_ghostly');
ROLLBACK;
DROP ROLE g_ghost;
INSERT INTO sealvec.key_ring SELECT * FROM dumped_ring;
INSERT INTO sealvec.ring_grant SELECT * FROM dumped;
CREATE ROLE g_ghost;
SET ROLE g_ghost;
SELECT sealvec.unlock('g_ring');
SELECT sealvec.unlock('g_ghostly');
RESET ROLE;
SELECT sealvec.revoke_ring('g_ring', 'g_ghost'), sealvec.drop_key_ring('g_ghostly');
DROP TABLE dumped, dumped_ring;
DROP ROLE g_ghost;

-- A root key that is missing or that others can read opens nothing; the message names the file, never a byte of it.
\set VERBOSITY sqlstate
SELECT current_setting('sealvec.local_root_key_file') AS root_key \gset
SET sealvec.local_root_key_file = '/tmp/other.key';
DO $$ BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format('cat > /dev/null; cp "%1$s" "%1$s.open" && chmod 0644 "%1$s.open"', current_setting('sealvec.local_root_key_file'))); END $$;
ALTER SYSTEM SET sealvec.local_root_key_file = '/nonexistent/root.key';
SELECT pg_reload_conf(), pg_sleep(0.5) \g (tuples_only)
\c -
SELECT sealvec.unlock('g_ring');
SELECT state FROM sealvec.key_rings WHERE name = 'g_ring';
SELECT sealvec.create_key_ring('g_more');
SELECT sealvec.init_root_key();
SELECT sealvec.unlock('g_client', decode(repeat('c1', 32), 'hex'));
\set open_key :root_key '.open'
ALTER SYSTEM SET sealvec.local_root_key_file = :'open_key';
SELECT pg_reload_conf(), pg_sleep(0.5) \g (tuples_only)
\c -
SELECT sealvec.unlock('g_ring');
SELECT sealvec.init_root_key();
\set other_key :root_key '.other'
ALTER SYSTEM SET sealvec.local_root_key_file = :'other_key';
SELECT pg_reload_conf(), pg_sleep(0.5) \g (tuples_only)
\c -
DO $$ BEGIN PERFORM sealvec.init_root_key(); EXCEPTION WHEN others THEN RAISE NOTICE '%', sqlstate; END $$;
SELECT sealvec.unlock('g_ring');
DO $$ BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format('cat > /dev/null; rm "%s"', current_setting('sealvec.local_root_key_file'))); END $$;
SELECT current_setting('data_directory') || '/root.key' AS inside \gset
ALTER SYSTEM SET sealvec.local_root_key_file = :'inside';
SELECT pg_reload_conf(), pg_sleep(0.5) \g (tuples_only)
\c -
SELECT sealvec.init_root_key();
ALTER SYSTEM SET sealvec.local_root_key_file = 'relative.key';
SELECT pg_reload_conf(), pg_sleep(0.5) \g (tuples_only)
\c -
SELECT sealvec.init_root_key();
ALTER SYSTEM RESET sealvec.local_root_key_file;
SELECT pg_reload_conf(), pg_sleep(0.5) \g (tuples_only)
\c -
\set VERBOSITY default
DO $$ BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format('cat > /dev/null; rm "%s.open"', current_setting('sealvec.local_root_key_file'))); END $$;
SELECT sealvec.unlock('g_ring');

SELECT sealvec.drop_key_ring('g_ring'), sealvec.drop_key_ring('g_client');
DROP FUNCTION g_open();
REVOKE ALL ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) FROM g_owner;
DROP ROLE g_owner, g_app, g_member, g_renamed;
