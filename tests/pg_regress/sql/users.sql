-- Users of a key ring: roles with a key of their own, to read, to write, or both.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on

CREATE ROLE u_owner;
CREATE ROLE u_reader;
CREATE ROLE u_writer;
CREATE ROLE u_both;
CREATE ROLE u_member IN ROLE u_reader;
CREATE ROLE u_stranger;
GRANT CREATE ON SCHEMA public TO u_owner, u_stranger;
DO $$ BEGIN PERFORM sealvec.create_key_ring('u_local'); PERFORM sealvec.create_key_ring('u_client', kek => decode(repeat('c7', 32), 'hex')); END $$;
SELECT sealvec.set_ring_owner('u_local', 'u_owner'), sealvec.set_ring_owner('u_client', 'u_owner');
\set kek 'decode(repeat(''c7'', 32), ''hex'')'
\set point 'decode(''358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254'', ''hex'')'
SET SESSION AUTHORIZATION u_owner;
CREATE TABLE u_docs (id int PRIMARY KEY, embedding sealvec(2, u_local));
INSERT INTO u_docs SELECT i, ARRAY[i, -i]::real[] FROM generate_series(1, 4) i;
CREATE INDEX u_docs_idx ON u_docs USING sealed_ivf (embedding);
GRANT ALL ON u_docs TO u_reader, u_writer, u_both, u_stranger;

-- Only the ring's owner makes users, of roles that are there, with a key of one kind, to do what there is to do.
SET SESSION AUTHORIZATION u_stranger;
SELECT sealvec.grant_user('u_local', 'u_stranger', '{read}', token => true);
SELECT sealvec.revoke_user('u_local', 'u_reader');
SELECT * FROM sealvec.ring_user;
INSERT INTO sealvec.ring_grant VALUES (1, 'u_stranger', NULL, 3);
SET SESSION AUTHORIZATION u_owner;
SELECT sealvec.grant_user('u_local', 'u_nobody', '{read}', token => true);
SELECT sealvec.grant_user('u_none', 'u_reader', '{read}', token => true);
SELECT sealvec.grant_user('u_local', 'u_reader', '{read}');
SELECT sealvec.grant_user('u_local', 'u_reader', '{read}', :point, token => true);
SELECT sealvec.grant_user('u_local', 'u_reader', '{}', token => true);
SELECT sealvec.grant_user('u_local', 'u_reader', '{read,admin}', token => true);
SELECT sealvec.grant_user('u_local', 'u_reader', NULL, token => true);
SELECT sealvec.grant_user('u_local', NULL, '{read}', token => true);
SELECT sealvec.grant_user('u_local', 'u_reader', '{read}', '\x00');
SELECT sealvec.grant_user('u_local', 'u_reader', '{read}', decode(repeat('00', 32), 'hex'));
SELECT sealvec.grant_user('u_client', 'u_reader', '{read}', :point);
SELECT sealvec.grant_user('u_client', 'u_reader', '{read}', :point, kek => decode(repeat('00', 32), 'hex'));
SELECT sealvec.grant_user('u_local', 'u_reader', '{read}', token => true, kek => :kek);

-- A token is shown once. What the catalogs tell of a user is no key.
SELECT user_token AS reader FROM sealvec.grant_user('u_local', 'u_reader', '{read}', token => true) \gset
SELECT user_token AS writer FROM sealvec.grant_user('u_local', 'u_writer', '{write}', token => true) \gset
SELECT user_token AS both FROM sealvec.grant_user('u_local', 'u_both', '{write,read,read}', token => true) \gset
SELECT length(:'reader'), length(user_id), user_token FROM sealvec.grant_user('u_client', 'u_reader', '{read}', :point, kek => :kek);
SELECT * FROM sealvec.ring_users ORDER BY ring, role;
SELECT name, granted_to FROM sealvec.key_rings WHERE name LIKE 'u\_%' ORDER BY name;

-- Without his key a user has nothing, though the ring opens for its owner by itself.
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 1;
SELECT sealvec.unlock('u_local');
SELECT state FROM sealvec.key_rings WHERE name = 'u_local';

-- A reader reads, by the index, too. He stores nothing that has to be sealed.
SELECT sealvec.unlock('u_local', user_token => :'reader');
SELECT state FROM sealvec.key_rings WHERE name = 'u_local';
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 1;
SELECT id FROM u_docs ORDER BY embedding <-> '[3,-3]' LIMIT 2;
SET enable_seqscan = off;
SELECT id FROM u_docs ORDER BY embedding <-> '[3,-3]' LIMIT 2;
INSERT INTO u_docs VALUES (5, '[5,-5]');
UPDATE u_docs SET embedding = '[5,-5]' WHERE id = 1;
\set VERBOSITY sqlstate
INSERT INTO u_docs SELECT 6, '{1,2}'::real[];
COPY u_docs FROM stdin;
7	[1,2]
\.
SELECT '[1,2]'::sealvec(2, u_local);
PREPARE u_insert(sealvec) AS INSERT INTO u_docs VALUES (8, $1);
EXECUTE u_insert('[1,2]');
DEALLOCATE u_insert;
SELECT sealvec.rekey('u_local');
SELECT sealvec.grant_user('u_local', 'u_reader', '{read,write}', token => true);
SELECT sealvec.export_ring('u_local');
\set VERBOSITY default
-- What is sealed already passes as it is, and needs no key.
BEGIN;
INSERT INTO u_docs SELECT 9, embedding FROM u_docs WHERE id = 1;
SELECT count(*) FROM u_docs;
ROLLBACK;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 1;
SELECT sealvec.unlock('u_local', user_token => :'reader');

-- A writer writes, into the index, too, and opens nothing.
SET SESSION AUTHORIZATION u_writer;
SELECT sealvec.unlock('u_local', user_token => :'writer');
INSERT INTO u_docs VALUES (5, '[5,-5]');
INSERT INTO u_docs SELECT i, ARRAY[i, -i]::real[] FROM generate_series(6, 200) i;
UPDATE u_docs SET embedding = '[0,0]' WHERE id = 1;
DELETE FROM u_docs WHERE id = 2;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5;
SELECT id FROM u_docs ORDER BY embedding <-> '[3,-3]' LIMIT 2;
\set VERBOSITY sqlstate
SET enable_indexscan = off;
SET enable_seqscan = on;
SELECT id FROM u_docs ORDER BY embedding <-> '[3,-3]' LIMIT 2;
SELECT id FROM u_docs WHERE embedding <-> '[3,-3]' < 1;
SELECT sealvec.same(embedding, embedding) FROM u_docs;
CREATE TEMP TABLE u_copy AS SELECT embedding FROM u_docs WHERE id = 5;
SELECT sealvec.open(embedding) FROM u_copy;
DROP TABLE u_copy;
RESET enable_indexscan;
RESET enable_seqscan;
\set VERBOSITY default

-- Who may both does both. What the writer stored is there.
SET SESSION AUTHORIZATION u_both;
SELECT sealvec.unlock('u_local', user_token => :'both');
INSERT INTO u_docs VALUES (2, '[2,-2]');
SELECT id, sealvec.open(embedding) FROM u_docs WHERE id < 6 ORDER BY id;
SET enable_seqscan = off;
SELECT id FROM u_docs ORDER BY embedding <-> '[5,-5]' LIMIT 1;
RESET enable_seqscan;

-- A key is for the role that it was made for, and its members: not for whoever else has it, nor for another ring.
SELECT sealvec.unlock('u_local', user_token => :'reader');
SET SESSION AUTHORIZATION u_stranger;
SELECT sealvec.unlock('u_local', user_token => :'reader');
SET SESSION AUTHORIZATION u_member;
SELECT sealvec.unlock('u_local', user_token => :'reader');
SELECT count(sealvec.open(embedding)) FROM u_docs WHERE id = 5;
SELECT sealvec.unlock('u_client', user_token => :'reader');
SELECT sealvec.unlock('u_local', user_token => 'cdbk_1_AAECAwQFBgcICQoLDA0OD4CBgoOEhYaHiImKi4yNjo-QkZKTlJWWl5iZmpucnZ6f_jy5s8nENrE');
SELECT sealvec.unlock('u_local', user_token => 'none');
SELECT sealvec.unlock('u_local', user_key => decode(repeat('01', 32), 'hex'));
SELECT sealvec.unlock('u_local', user_key => '\x01');
SELECT sealvec.unlock('u_local', :kek, user_token => :'reader');

-- The key goes with the user who showed it: SET ROLE, SET SESSION AUTHORIZATION, and what acts as somebody else.
SET SESSION AUTHORIZATION u_stranger;
CREATE FUNCTION u_theirs() RETURNS SETOF real[] LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog
    AS $$ SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5 $$;
CREATE FUNCTION u_unlock(token text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog
    AS $$ BEGIN PERFORM sealvec.unlock('u_local', user_token => token); END $$;
RESET SESSION AUTHORIZATION;
GRANT u_both TO u_reader;
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.unlock('u_local', user_token => :'reader');
SELECT u_theirs();
SELECT u_unlock(:'reader');
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5;
SET ROLE u_both;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5;
RESET ROLE;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5;
SELECT sealvec.unlock('u_local', user_token => :'reader');
SET SESSION AUTHORIZATION u_both;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5;
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5;
RESET SESSION AUTHORIZATION;
REVOKE u_both FROM u_reader;

-- Both are needed: the wrapped key, and the right to use it. Neither alone opens anything.
SET SESSION AUTHORIZATION u_owner;
SELECT sealvec.grant_ring('u_local', 'u_reader');
SELECT sealvec.revoke_ring('u_local', 'u_reader');
SELECT role, is_granted FROM sealvec.ring_users WHERE ring = 'u_local' ORDER BY role;
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.unlock('u_local', user_token => :'reader');
SET SESSION AUTHORIZATION u_owner;
SELECT sealvec.grant_ring('u_local', 'u_reader');
SELECT sealvec.grant_user('u_local', 'u_reader', '{read}', token => true);
SELECT sealvec.revoke_ring('u_local', 'u_reader');
RESET SESSION AUTHORIZATION;
INSERT INTO sealvec.ring_grant SELECT number, 'u_stranger', NULL, 3 FROM sealvec.key_ring WHERE name = 'u_local';
SET SESSION AUTHORIZATION u_stranger;
SELECT sealvec.unlock('u_local', user_token => :'reader');
SELECT sealvec.unlock('u_local');
RESET SESSION AUTHORIZATION;
SELECT sealvec.revoke_ring('u_local', 'u_stranger');
-- A grant for more than the key is for none of both.
INSERT INTO sealvec.ring_grant SELECT number, 'u_reader', NULL, 3 FROM sealvec.key_ring WHERE name = 'u_local';
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.unlock('u_local', user_token => :'reader');

-- A new key ends the old one. A wrap is its role's to see.
SET SESSION AUTHORIZATION u_owner;
SELECT user_token AS again FROM sealvec.grant_user('u_local', 'u_reader', '{read}', token => true) \gset
SELECT user_token FROM sealvec.grant_user('u_local', 'u_both', '{read,write}', :point);
SELECT role, permissions, kind FROM sealvec.ring_users WHERE ring = 'u_local' ORDER BY role;
SELECT * FROM sealvec.my_wraps('u_local');
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.unlock('u_local', user_token => :'reader');
SELECT sealvec.unlock('u_local', user_token => :'again');
SELECT role FROM sealvec.my_wraps('u_local');
SELECT role, permissions, dek_version, length(wrap) FROM sealvec.my_wraps('u_client');
SET SESSION AUTHORIZATION u_both;
SELECT role, permissions, dek_version, length(wrap) FROM sealvec.my_wraps('u_local');
SELECT sealvec.unlock('u_local', user_token => :'both');

-- Rolled back, nothing is open, and nobody is a user.
SET SESSION AUTHORIZATION u_reader;
BEGIN;
SELECT sealvec.unlock('u_local', user_token => :'again');
ROLLBACK;
SELECT state FROM sealvec.key_rings WHERE name = 'u_local';

-- A new data key: users with a public key have it, the others are told of.
SET SESSION AUTHORIZATION u_owner;
SELECT sealvec.rekey('u_local');
INSERT INTO u_docs VALUES (300, '[300,-300]');
SELECT role, kind, dek_versions, is_current FROM sealvec.ring_users WHERE ring = 'u_local' ORDER BY role;
SELECT object, version, uses FROM sealvec.dek_usage('u_local') WHERE kind = 'user' ORDER BY object;
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.unlock('u_local', user_token => :'again');
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 5;
SELECT sealvec.open(embedding) FROM u_docs WHERE id = 300;
SET SESSION AUTHORIZATION u_writer;
SELECT sealvec.unlock('u_local', user_token => :'writer');
INSERT INTO u_docs VALUES (301, '[301,-301]');
SET SESSION AUTHORIZATION u_both;
SELECT dek_version FROM sealvec.my_wraps('u_local');

-- Revoked, in a session that has the ring open, too; a slip in the name is no success.
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.unlock('u_local', user_token => :'again');
SELECT count(sealvec.open(embedding)) FROM u_docs WHERE id = 5;
\setenv PGDATABASE :DBNAME
\! psql -XqAt -c "SELECT sealvec.revoke_user('u_local', 'u_writer')"
SELECT count(sealvec.open(embedding)) FROM u_docs WHERE id = 5;
\! psql -XqAt -c "SELECT sealvec.revoke_user('u_local', 'u_reader')"
SELECT count(sealvec.open(embedding)) FROM u_docs WHERE id = 5;
SELECT sealvec.unlock('u_local', user_token => :'again');
SET SESSION AUTHORIZATION u_owner;
SELECT sealvec.revoke_user('u_local', 'u_raeder');
SELECT sealvec.revoke_user('u_local', 'u_reader');
SELECT sealvec.revoke_user('u_local', NULL);
SELECT user_token IS NOT NULL FROM sealvec.grant_user('u_local', 'u_reader', '{read}', token => true);
SELECT user_token AS third FROM sealvec.grant_user('u_local', 'u_stranger', '{read}', token => true) \gset
SELECT * FROM sealvec.revoke_user('u_local', 'u_stranger', rekey => true);
SELECT role, dek_versions, is_current FROM sealvec.ring_users WHERE ring = 'u_local' ORDER BY role;
SELECT * FROM sealvec.revoke_user('u_client', 'u_reader', rekey => true);
SELECT * FROM sealvec.revoke_user('u_client', 'u_reader', rekey => true, kek => :kek);
SELECT name, dek_version FROM sealvec.key_rings WHERE name LIKE 'u\_%' ORDER BY name;

-- A role that is dropped takes its key with it: another one of its name is another role, and a new data key is not for it.
RESET SESSION AUTHORIZATION;
CREATE ROLE u_ghost;
SELECT user_id IS NOT NULL FROM sealvec.grant_user('u_local', 'u_ghost', '{read}', :point);
DROP ROLE u_ghost;
CREATE ROLE u_ghost;
SELECT count(*) FROM sealvec.ring_users WHERE role = 'u_ghost';
SET ROLE u_ghost;
SELECT count(*) FROM sealvec.my_wraps('u_local');
RESET ROLE;
SELECT sealvec.rekey('u_local');
SELECT dek_versions[array_upper(dek_versions, 1)] FROM sealvec.ring_user WHERE role = 'u_ghost';
SELECT dek_version FROM sealvec.revoke_user('u_local', 'u_ghost');
DROP ROLE u_ghost;

-- Who acts for a user has his permissions at most: the ring's owner, too.
SET SESSION AUTHORIZATION u_owner;
CREATE FUNCTION u_of_owner(i int) RETURNS SETOF real[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog
    AS $$ BEGIN RETURN QUERY SELECT sealvec.open(embedding) FROM u_docs WHERE id = i; INSERT INTO u_docs VALUES (999, '[9,9]'); END $$;
SELECT user_token AS fourth FROM sealvec.grant_user('u_local', 'u_reader', '{read}', token => true) \gset
SET SESSION AUTHORIZATION u_reader;
SELECT sealvec.unlock('u_local', user_token => :'fourth');
SELECT u_of_owner(5);

-- Collections: what their functions do for whoever opened their key ring as its user.
RESET SESSION AUTHORIZATION;
SELECT sealvec.create_index('u_index', 2, kms_name => 'local') IS NOT NULL;
SELECT sealvec.upsert('u_index', '[{"id": "a", "vector": [1, 2], "contents": "text"}]');
SELECT ring AS ring, "table" AS items FROM sealvec.collections WHERE name = 'u_index' \gset
GRANT ALL ON :items TO u_reader, u_writer;
SELECT user_token AS reader FROM sealvec.grant_user(:'ring', 'u_reader', '{read}', token => true) \gset
SELECT user_token AS writer FROM sealvec.grant_user(:'ring', 'u_writer', '{write}', token => true) \gset
\set VERBOSITY terse
SET SESSION AUTHORIZATION u_reader;
\set VERBOSITY sqlstate
SELECT count(*) FROM sealvec.query('u_index', '[1,2]');
\set VERBOSITY terse
SELECT sealvec.unlock(:'ring', user_token => :'reader');
SELECT id, distance FROM sealvec.query('u_index', '[1,2]');
SELECT id, contents, vector FROM sealvec.get('u_index', '{a}');
SELECT sealvec.upsert('u_index', '[{"id": "b", "vector": [1, 2]}]');
SELECT sealvec.delete('u_index', '{a}');
SELECT sealvec.delete_index('u_index');
SELECT sealvec.create_user('u_index', '{read}');
SET SESSION AUTHORIZATION u_writer;
SELECT sealvec.unlock(:'ring', user_token => :'writer');
SELECT sealvec.upsert('u_index', '[{"id": "b", "vector": [3, 4]}]');
SELECT id FROM sealvec.query('u_index', '[1,2]');
SELECT id FROM sealvec.get('u_index', '{a}');
SELECT sealvec.delete('u_index', '{a}');
RESET SESSION AUTHORIZATION;
SELECT id, vector FROM sealvec.get('u_index', '{a,b}');
SELECT sealvec.delete_index('u_index');
\set VERBOSITY default

-- They go with their ring.
DROP TABLE u_docs;
DROP FUNCTION u_theirs, u_unlock, u_of_owner;
SELECT sealvec.drop_key_ring('u_local'), sealvec.drop_key_ring('u_client');
SELECT count(*) FROM sealvec.ring_user;
REVOKE ALL ON SCHEMA public FROM u_owner, u_stranger;
DROP ROLE u_owner, u_reader, u_writer, u_both, u_member, u_stranger;
