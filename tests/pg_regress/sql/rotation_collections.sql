-- Rotation under collections: ids are found by the same tokens, items and vectors move to the newest data key.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset null '(null)'
\set kek '''\\x6363636363636363636363636363636363636363636363636363636363636363'''
\set wrong '''\\x6464646464646464646464646464646464646464646464646464646464646464'''

DO $$ BEGIN
    PERFORM sealvec.create_index('oc_local', 3, 'cosine', kms_name => 'local');
    PERFORM sealvec.create_index('oc_own', 3, index_key => decode(repeat('63', 32), 'hex'));
END $$;
CREATE FUNCTION pg_temp.items(n int) RETURNS text LANGUAGE sql AS $$
    SELECT json_agg(json_build_object('id', 'id ' || i, 'vector', ARRAY[i, 1, -i], 'contents', 'contents ' || i, 'metadata', json_build_object('n', i)))::text
    FROM generate_series(1, n) i $$;
SELECT pg_temp.items(500) AS items_local, pg_temp.items(300) AS items_own \gset
\set ECHO none
SELECT sealvec.upsert('oc_local', :'items_local');
SELECT sealvec.upsert('oc_own', :'items_own', index_key => :kek);
SELECT token AS reader FROM sealvec.create_user('oc_own', '{read}', index_key => :kek) \gset
SELECT ring AS local_ring, "table" AS local_table FROM sealvec.collections WHERE name = 'oc_local' \gset
SELECT ring AS own_ring FROM sealvec.collections WHERE name = 'oc_own' \gset
\set ECHO all
-- Their rings and tables are named by random UUIDs.
CREATE FUNCTION pg_temp.usage(collection text) RETURNS TABLE (version int, kind text, "column" text, uses bigint) LANGUAGE sql AS $$
    SELECT u.version, u.kind, u."column", u.uses FROM sealvec.collections c, sealvec.dek_usage(c.ring::text) u WHERE c.name = collection $$;

SELECT * FROM pg_temp.usage('oc_local');
SELECT sealvec.rekey(:'local_ring') AS local \gset
SELECT sealvec.rekey(:'own_ring', :kek) AS own \gset
-- Old ids are found and replaced, not doubled.
SELECT sealvec.upsert('oc_local', '[{"id": "id 1", "vector": [1, 1, -1], "contents": "contents 1", "metadata": {"n": 1}}, {"id": "new", "vector": [0, 0, 0]}]');
SELECT sealvec.num_vectors('oc_local');
SELECT id, contents, metadata FROM sealvec.get('oc_local', '{id 1,id 2,new}');
SELECT version, kind, "column", uses FROM pg_temp.usage('oc_local') WHERE version = 2;

SET client_min_messages = warning; -- NOTICEs name the table
CALL sealvec.reseal_index('oc_local', 100);
CALL sealvec.reseal_index('oc_own');
CALL sealvec.reseal_index('oc_own', index_key => :wrong);
CALL sealvec.reseal_index('oc_own', 7, :kek);
CALL sealvec.reseal_index('oc_nothing');
CALL sealvec.reseal_index(NULL);
\set ECHO none
SELECT format('REINDEX INDEX CONCURRENTLY %s', indexrelid::regclass) FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE indrelid = :'local_table'::regclass AND amname = 'sealed_ivf' \gexec
DO $$ BEGIN FOR i IN 1 .. 300 LOOP COMMIT; EXIT WHEN NOT EXISTS (SELECT FROM sealvec.collections c, sealvec.dek_usage(c.ring::text) u WHERE u.version = 1 AND u.kind IN ('value', 'item') AND u.uses > 0); PERFORM pg_sleep(0.1); END LOOP; END $$;
CALL sealvec.retire_dek(:'local_ring', 1);
\set ECHO all
SELECT * FROM pg_temp.usage('oc_local');
SELECT count(*), count(*) FILTER (WHERE contents = 'contents ' || n AND (metadata ->> 'n')::int = n AND vector = ARRAY[n, 1, -n]::real[])
FROM sealvec.get('oc_local', (SELECT array_agg(('id ' || i)::sealvec.payload ORDER BY i) FROM generate_series(1, 500) i)) g, substr(g.id, 4) s, CAST(s AS int) n;
SELECT id FROM sealvec.query('oc_local', '[[3, 1, -3]]', top_k => 1);
SELECT id FROM sealvec.query_metadata('oc_local', '{"n": {"$gte": 499}}') ORDER BY 1;
SELECT sealvec.delete('oc_local', '{id 1,id 500}');
SELECT sealvec.num_vectors('oc_local');

-- A user who was made before the new key has a copy of the old one alone, and stands in its way.
SELECT version, kind, "column", uses FROM pg_temp.usage('oc_own');
\set ECHO none
\set VERBOSITY sqlstate
CALL sealvec.retire_dek(:'own_ring', 1, :kek);
SELECT count(*) FROM sealvec.get('oc_own', '{id 7}', user_token => :'reader');
SELECT sealvec.delete_user('oc_own', id, index_key => :kek) FROM sealvec.list_users('oc_own', index_key => :kek);
SELECT id, contents FROM sealvec.get('oc_own', '{id 7}', index_key => :kek);
SELECT sealvec.delete_index('oc_local'), sealvec.delete_index('oc_own', :kek);
