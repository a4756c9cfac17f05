-- Whose key opens a collection, for how long, and what a user without a permission is told.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set key 'decode(repeat(''b2'', 32), ''hex'')'
\set wrong 'decode(repeat(''b3'', 32), ''hex'')'
\set ann 'decode(repeat(''0a'', 16), ''hex'')'
\set ann_key 'decode(repeat(''4a'', 32), ''hex'')'

SELECT sealvec.create_index('ck_own', 2, index_key => :key) IS NOT NULL AS made;
SELECT sealvec.create_index('ck_kms', 2, kms_name => 'local') IS NOT NULL AS made;
SELECT sealvec.upsert('ck_own', '[{"id":"a","vector":[1,2],"metadata":{"n":1}}]', :key);
SELECT sealvec.upsert('ck_kms', '[{"id":"a","vector":[1,2]}]');

-- A key that was shown serves its own call: not the next, not another function, not the table, not SQL beside it.
SELECT sealvec.num_vectors('ck_own', :key);
SELECT sealvec.num_vectors('ck_own');
SELECT sealvec.num_vectors('ck_own', :wrong);
SELECT state FROM sealvec.key_rings r JOIN sealvec.collections c ON c.ring_number = r.number WHERE c.name = 'ck_own';
DO $$
DECLARE
    tab regclass := (SELECT "table" FROM sealvec.collections WHERE name = 'ck_own');
    opened real[];
BEGIN
    PERFORM sealvec.num_vectors('ck_own', decode(repeat('b2', 32), 'hex'));
    EXECUTE format('SELECT sealvec.open(embedding) FROM %s', tab) INTO opened;
    RAISE NOTICE 'opened %', opened;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RAISE NOTICE 'the table stays sealed';
END $$;
SELECT count(*) FROM sealvec.query('ck_own', '[1,2]', index_key => :key) a, sealvec.query('ck_own', '[1,2]', index_key => :key) b;
SELECT count(*) FROM sealvec.query('ck_own', '[1,2]', index_key => :key) a, sealvec.query('ck_own', '[1,2]') b;
-- Neither after an error inside a call, nor after a rollback.
SELECT * FROM sealvec.query('ck_own', '[1,2,3]', index_key => :key);
SELECT sealvec.num_vectors('ck_own');
BEGIN;
SELECT sealvec.num_vectors('ck_own', :key);
SAVEPOINT s;
SELECT sealvec.upsert('ck_own', '[{"id":"b","vector":[1]}]', :key);
ROLLBACK TO s;
SELECT sealvec.num_vectors('ck_own', :wrong);
ROLLBACK;
-- The session may open the ring for longer by its name; then a wrong key is still wrong.
SELECT sealvec.unlock(ring, :key) FROM sealvec.collections WHERE name = 'ck_own';
SELECT sealvec.num_vectors('ck_own'), sealvec.num_vectors('ck_own', :key);
SELECT sealvec.num_vectors('ck_own', :wrong);
SELECT sealvec.num_vectors('ck_own');
SELECT sealvec.lock(ring) FROM sealvec.collections WHERE name = 'ck_own';
SELECT sealvec.num_vectors('ck_own');
SELECT sealvec.num_vectors('ck_own', :key);
SELECT sealvec.num_vectors('ck_own');

-- A KMS-backed one takes no key.
SELECT sealvec.num_vectors('ck_kms');
SELECT sealvec.num_vectors('ck_kms', :key);
SELECT sealvec.delete_index('ck_kms', :key);
SELECT sealvec.delete_index('ck_own', :wrong);
SELECT sealvec.delete_index('ck_own');

-- Users have keys of their own, to read, to write, or both.
SELECT encode(id, 'hex') AS id, length(token) FROM sealvec.create_user('ck_own', '{read}', :ann, :ann_key, :key);
SELECT * FROM sealvec.create_user('ck_own', '{read}', :ann, :ann_key, :key);
SELECT id AS bob, token AS bob_token FROM sealvec.create_user('ck_own', '{write}', index_key => :key) \gset
SELECT token AS eve_token FROM sealvec.create_user('ck_kms', '{read,write}') \gset
SELECT count(*), array_agg(permissions::text ORDER BY permissions) FROM sealvec.list_users('ck_own', :key);
-- by id and key
SELECT sealvec.num_vectors('ck_own', :ann_key, :ann);
SELECT id FROM sealvec.query('ck_own', '[1,2]', index_key => :ann_key, user_id => :ann);
SELECT id FROM sealvec.get('ck_own', '{a}', index_key => :ann_key, user_id => :ann);
SELECT sealvec.delete('ck_own', '{a}', :ann_key, :ann);
SELECT sealvec.upsert('ck_own', '[{"id":"c","vector":[1,2]}]', :ann_key, :ann);
SELECT sealvec.train('ck_own', index_key => :ann_key, user_id => :ann);
SELECT sealvec.delete_index('ck_own', :ann_key, :ann);
SELECT index_name FROM sealvec.describe_index('ck_own', :ann_key, :ann);
SELECT sealvec.num_vectors('ck_own', :wrong, :ann);
SELECT sealvec.num_vectors('ck_own', :key, :ann);
SELECT sealvec.num_vectors('ck_own', :ann_key);
SELECT sealvec.num_vectors('ck_own', :ann_key, '\x00');
SELECT sealvec.num_vectors('ck_own', user_id => :ann);
-- by token: who only writes can upsert, too
SELECT sealvec.upsert('ck_own', '[{"id":"c","vector":[3,4]}]', user_token => :'bob_token');
SELECT sealvec.delete('ck_own', '{c}', user_token => :'bob_token');
SELECT sealvec.num_vectors('ck_own', user_token => :'bob_token');
SELECT sealvec.num_vectors('ck_own', :key, user_token => :'bob_token');
SELECT sealvec.num_vectors('ck_own', user_token => 'cdbk_1_none');
SELECT sealvec.num_vectors('ck_own', user_token => :'eve_token');
SELECT sealvec.num_vectors('ck_kms', user_token => :'eve_token');
-- Calls by turns, each with its own right.
SELECT sealvec.num_vectors('ck_own', :key), sealvec.num_vectors('ck_own', :ann_key, :ann), sealvec.delete('ck_own', '{x}', user_token => :'bob_token');
-- Gone with the next call.
SELECT sealvec.delete_user('ck_own', :ann, :key), sealvec.delete_user('ck_own', :ann, :key);
SELECT sealvec.num_vectors('ck_own', :ann_key, :ann);
SELECT sealvec.create_user('ck_own', '{admin}', index_key => :key);
SELECT sealvec.create_user('ck_own', '{}', index_key => :key);
SELECT sealvec.create_user('ck_own', '{read}');
SELECT sealvec.create_user('ck_own', '{read}', index_key => :wrong);
SELECT sealvec.delete_user('ck_own', '\x00', :key);

-- A data key that came later is not shared with older users.
SELECT sealvec.rekey(ring, :key) FROM sealvec.collections WHERE name = 'ck_own';
SELECT sealvec.upsert('ck_own', '[{"id":"d","vector":[3,4]}]', user_token => :'bob_token');
SELECT sealvec.upsert('ck_own', '[{"id":"d","vector":[3,4]}]', :key);
SELECT id FROM sealvec.query('ck_own', '[3,4]', index_key => :key);
SELECT sealvec.rotate_kek(ring, :key, :wrong) FROM sealvec.collections WHERE name = 'ck_own';
SELECT sealvec.num_vectors('ck_own', :key);
SELECT sealvec.num_vectors('ck_own', :wrong);

-- Roles: rights on the table, and on a KMS-backed ring, are asked for as ever; a key alone is not enough.
CREATE ROLE ck_reader;
DO $$ BEGIN EXECUTE format('GRANT SELECT ON %s TO ck_reader', (SELECT "table" FROM sealvec.collections WHERE name = 'ck_own')); END $$;
SET ROLE ck_reader;
SELECT * FROM sealvec.list_indexes();
SELECT sealvec.num_vectors('ck_own', :wrong);
SELECT id FROM sealvec.query('ck_own', '[3,4]', top_k => 1, index_key => :wrong);
\set VERBOSITY sqlstate
SELECT sealvec.delete('ck_own', '{a}', :wrong);
\set VERBOSITY default
SELECT sealvec.num_vectors('ck_kms');
SELECT * FROM sealvec.index_info('ck_kms');
SELECT sealvec.delete_index('ck_own', :wrong);
SELECT sealvec.create_user('ck_own', '{read}', index_key => :wrong);
SELECT sealvec.create_index('ck_mine', 2, index_key => :key);
SELECT count(*) FROM sealvec.collection;
RESET ROLE;
-- Who may make indexes needs one right on the function and one on the schema, and owns what he makes.
GRANT EXECUTE ON FUNCTION sealvec.create_index TO ck_reader;
GRANT CREATE ON SCHEMA sealvec_data TO ck_reader;
SET ROLE ck_reader;
SELECT sealvec.create_index('ck_mine', 2, index_key => :key) IS NOT NULL AS made;
SELECT sealvec.upsert('ck_mine', '[{"id":"a","vector":[1,2]}]', :key);
SELECT sealvec.delete_index('ck_mine', :key);
RESET ROLE;
SELECT sealvec.delete_index('ck_own', :wrong), sealvec.delete_index('ck_kms');
SELECT count(*) FROM sealvec.collection_user;
REVOKE CREATE ON SCHEMA sealvec_data FROM ck_reader;
REVOKE EXECUTE ON FUNCTION sealvec.create_index FROM ck_reader;
DROP ROLE ck_reader;
