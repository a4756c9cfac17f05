-- What one session does to rings that another has open. psql itself is the other one.
\set VERBOSITY terse
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\setenv PGDATABASE :DBNAME
DO $$ BEGIN PERFORM sealvec.create_key_ring('s_vault', kek => decode(repeat('e1', 32), 'hex')); END $$;
DO $$ BEGIN PERFORM sealvec.create_key_ring('s_notes'); END $$;
CREATE ROLE s_app;
SELECT sealvec.grant_ring('s_notes', 's_app');
CREATE TABLE s_docs (embedding sealvec(2, s_notes));
INSERT INTO s_docs VALUES ('[1,2]');
CREATE TABLE s_secrets (embedding sealvec(2, s_vault));
SELECT sealvec.unlock('s_vault', decode(repeat('e1', 32), 'hex'));
INSERT INTO s_secrets VALUES ('[3,4]');
GRANT SELECT ON s_docs, s_secrets TO s_app;

-- lock in the other session is its own affair.
\! psql -XqAt -c "SELECT sealvec.lock('s_vault')" -c "SELECT sealvec.lock_all()"
SELECT sealvec.open(embedding) FROM s_secrets;

-- A rolled-back lock everywhere is not heard; a committed one is.
\! psql -XqAt -c "BEGIN" -c "SELECT sealvec.lock('s_vault', everywhere => true)" -c "ROLLBACK"
SELECT sealvec.open(embedding) FROM s_secrets;
\! psql -XqAt -c "SELECT sealvec.lock('s_vault', everywhere => true)"
SELECT sealvec.open(embedding) FROM s_secrets;

-- In the middle of a transaction as well, at its next statement.
SELECT sealvec.unlock('s_vault', decode(repeat('e1', 32), 'hex'));
BEGIN;
SELECT sealvec.open(embedding) FROM s_secrets;
\! psql -XqAt -c "SELECT sealvec.lock('s_vault', everywhere => true)"
SELECT sealvec.open(embedding) FROM s_secrets;
ROLLBACK;

-- A new DEK or KEK closes it too.
SELECT sealvec.unlock('s_vault', decode(repeat('e1', 32), 'hex'));
\! psql -XqAt -c "SELECT sealvec.rekey('s_vault', decode(repeat('e1', 32), 'hex'))"
SELECT sealvec.open(embedding) FROM s_secrets;
SELECT sealvec.unlock('s_vault', decode(repeat('e1', 32), 'hex'));
SELECT sealvec.open(embedding) FROM s_secrets;
\! psql -XqAt -c "SELECT sealvec.rotate_kek('s_vault', decode(repeat('e1', 32), 'hex'), decode(repeat('e2', 32), 'hex'))"
SELECT sealvec.open(embedding) FROM s_secrets;
SELECT sealvec.unlock('s_vault', decode(repeat('e2', 32), 'hex'));
SELECT sealvec.open(embedding) FROM s_secrets;

-- What concerns other rings does not. (Not in one go: woken while somebody locks the catalog, an idle session closes its rings.)
\! psql -XqAt -c "DO 'BEGIN PERFORM sealvec.create_key_ring(''s_more''); END'" -c "SELECT sealvec.drop_key_ring('s_more')"
SELECT sealvec.open(embedding) FROM s_secrets;
\! psql -XqAt -c "VACUUM FULL ANALYZE sealvec.key_ring"
SELECT sealvec.open(embedding) FROM s_secrets;

-- A revoked role is out in the session where it had the ring open.
SET SESSION AUTHORIZATION s_app;
SELECT sealvec.open(embedding) FROM s_docs;
\! psql -XqAt -c "SELECT sealvec.revoke_ring('s_notes', 's_app')"
SELECT sealvec.open(embedding) FROM s_docs;
\! psql -XqAt -c "SELECT sealvec.grant_ring('s_notes', 's_app')"
SELECT sealvec.open(embedding) FROM s_docs;
RESET SESSION AUTHORIZATION;

-- So is a role that is no superuser any more, and a member that is none any more.
CREATE ROLE s_admin SUPERUSER;
SET SESSION AUTHORIZATION s_admin;
SELECT sealvec.open(embedding) FROM s_docs;
\! psql -XqAt -c "ALTER ROLE s_admin NOSUPERUSER" -c "GRANT SELECT ON s_docs TO s_admin"
SELECT sealvec.open(embedding) FROM s_docs;
\! psql -XqAt -c "GRANT s_app TO s_admin"
SELECT sealvec.open(embedding) FROM s_docs;
\! psql -XqAt -c "REVOKE s_app FROM s_admin"
SELECT sealvec.open(embedding) FROM s_docs;
RESET SESSION AUTHORIZATION;

-- Two at once: neither new DEK is lost, because the second waits for the first.
\! for i in 1 2 3 4 5 6; do psql -XqAt -c "SELECT sealvec.rekey('s_notes')" & done | sort; wait
SELECT dek_version FROM sealvec.key_rings WHERE name = 's_notes';
SELECT sealvec.open(embedding) FROM s_docs;

-- A ring that is open stays so from one transaction to the next: its provider is not asked again.
ALTER SYSTEM SET sealvec.local_root_key_file = '/nonexistent/root.key';
SELECT pg_reload_conf();
SELECT pg_sleep(0.5);
SELECT sealvec.open(embedding) FROM s_docs;
SELECT sealvec.open(embedding) FROM s_docs;
\! psql -XqAt -c "SELECT sealvec.open(embedding) FROM s_docs" 2>&1 | head -1
ALTER SYSTEM RESET sealvec.local_root_key_file;
SELECT pg_reload_conf();

DROP TABLE s_docs, s_secrets;
SELECT sealvec.drop_key_ring('s_vault'), sealvec.drop_key_ring('s_notes');
DROP ROLE s_app, s_admin;
