-- A collection from its making to its end: items in, found, fetched, replaced, removed; ordinary SQL around it.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\set VERBOSITY default
\set SHOW_CONTEXT never
\set key 'decode(repeat(''a1'', 32), ''hex'')'

SELECT sealvec.create_index('col_notes', 3, index_key => :key)::text LIKE 'sealvec_data.%' AS made;
SELECT name, dimension, metric, storage_precision, kms_name FROM sealvec.collections WHERE name = 'col_notes';
SELECT sealvec.upsert('col_notes', $$[
    {"id": "a", "vector": [1, 0, 0], "contents": "first", "metadata": {"n": 1, "tags": ["x", "y"]}},
    {"id": "b", "vector": [0, 1, 0], "metadata": {"n": 2.0, "big": 12345678901234567890, "z": null, "a": 1}},
    {"id": "c", "vector": [0, 0, 1], "contents": "", "metadata": {}},
    {"id": "naïve \u2603", "vector": [1, 1, 1]}]$$, :key);
SELECT sealvec.num_vectors('col_notes', :key);
SELECT * FROM sealvec.list_ids('col_notes', :key) ORDER BY 1;

-- Nothing of them can be read from the table, nor from its catalog.
DO $$
DECLARE
    tab regclass := (SELECT "table" FROM sealvec.collections WHERE name = 'col_notes');
    found bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s t WHERE t::text LIKE ''%%first%%'' OR t::text LIKE ''%%666972737%%''', tab) INTO found;
    RAISE NOTICE '% rows show their contents', found;
END $$;

-- Rows tell what was asked for.
SELECT * FROM sealvec.query('col_notes', '[1,0.3,0.1]', top_k => 2, index_key => :key);
SELECT id, round(distance::numeric, 6) AS distance, metadata
FROM sealvec.query('col_notes', '[1,0.3,0.1]', top_k => 2, include => '{distance,metadata,vector}', index_key => :key);
-- Several vectors at a time, as JSON, arrays or float32.
SELECT query, rank, id FROM sealvec.query('col_notes', '[[0,0,1],[0,1,0]]', top_k => 1, index_key => :key);
SELECT query, rank, id FROM sealvec.query('col_notes', ARRAY[[0,0,1],[0,1,0]], top_k => 1, index_key => :key);
SELECT query, rank, id FROM sealvec.query('col_notes', ARRAY[0,1,0]::real[], top_k => 1, index_key => :key);
-- A filter asks the index for more until there are enough.
SELECT id FROM sealvec.query('col_notes', '[0,0,1]', top_k => 1, filters => '{"n": 1}', index_key => :key);
SELECT id FROM sealvec.query('col_notes', '[0.2,0,1]', filters => '{"$or": [{"tags": "y"}, {"n": {"$gte": 2}}]}', index_key => :key);
SELECT id FROM sealvec.query('col_notes', '[0,0,1]', filters => '{"n": {"$exists": false}}', index_key => :key);

-- By id: in the order asked for, twice if asked twice.
SELECT * FROM sealvec.get('col_notes', '{c,a,missing,a}', index_key => :key);
SELECT * FROM sealvec.get('col_notes', ARRAY['b'], include => '{metadata}', index_key => :key);
-- Without a vector.
SELECT rank, id FROM sealvec.query_metadata('col_notes', '{"n": {"$exists": true}}', order_by => '"n"', ascending => false, index_key => :key);
SELECT rank, id FROM sealvec.query_metadata('col_notes', order_by => '{"n": 1}', top_k => 1, index_key => :key);

-- Replaced whole, never merged; of one id in a call the last counts.
SELECT sealvec.upsert('col_notes', '[{"id":"a","vector":[9,9,9],"contents":"lost"},{"id":"a","vector":[2,0,0]}]', :key);
SELECT * FROM sealvec.get('col_notes', '{a}', index_key => :key);
SELECT sealvec.num_vectors('col_notes', :key);
SELECT sealvec.upsert('col_notes', ids => '{d,e}', vectors => '[[5,0,0],[0,5,0]]', contents => '{dee,NULL}',
    metadata => ARRAY['{"n": 4}', NULL]::text[], index_key => :key);
SELECT * FROM sealvec.get('col_notes', '{d,e}', index_key => :key);
SELECT sealvec.delete('col_notes', '{d,e,missing,d}', :key);
SELECT sealvec.num_vectors('col_notes', :key);

-- Ordinary SQL: joins, CTEs, transactions, savepoints, prepared statements.
CREATE TABLE col_owners (id text PRIMARY KEY, owner text);
INSERT INTO col_owners VALUES ('a', 'ann'), ('b', 'bob');
WITH near AS (SELECT * FROM sealvec.query('col_notes', '[0,1,0]', include => '{distance}', index_key => :key))
SELECT near.rank, owner FROM near JOIN col_owners USING (id) ORDER BY rank;
BEGIN;
SELECT sealvec.upsert('col_notes', '[{"id":"t","vector":[7,7,7]}]', :key);
SAVEPOINT s;
SELECT sealvec.delete('col_notes', '{a,b,c}', :key);
SELECT sealvec.num_vectors('col_notes', :key);
ROLLBACK TO s;
SELECT id FROM sealvec.query('col_notes', '[7,7,7]', top_k => 1, index_key => :key);
ROLLBACK;
SELECT * FROM sealvec.get('col_notes', '{t}', index_key => :key);
PREPARE near(sealvec.vectors, sealvec.kek) AS SELECT id FROM sealvec.query('col_notes', $1, top_k => 1, index_key => $2);
EXECUTE near('[0,0,1]', :key);
EXECUTE near(ARRAY[0,1,0]::float8[], :key);
-- Arguments in transit print as a mask.
SELECT '{"n":1}'::sealvec.payload, '[1,2]'::sealvec.vectors, sealvec.vectors(ARRAY[1,2]::real[]);

-- The other metrics, and what is told of a vector that is zero.
SELECT sealvec.create_index('col_squared', metric => 'squared_euclidean', index_key => :key, storage_precision => 'float16') IS NOT NULL AS made;
SELECT sealvec.upsert('col_squared', '[{"id":"a","vector":[1,2]}]', :key);
SELECT id, distance FROM sealvec.query('col_squared', '[4,6]', include => '{distance}', index_key => :key);
SELECT sealvec.create_index('col_cosine', 2, 'cosine', kms_name => 'local') IS NOT NULL AS made;
SELECT sealvec.upsert('col_cosine', '[{"id":"same","vector":[2,2]},{"id":"zero","vector":[0,0]},{"id":"opposite","vector":[-1,-1]}]');
SELECT id, round(distance::numeric, 6) AS distance FROM sealvec.query('col_cosine', '[1,1]', include => '{distance}');
SELECT id, round(distance::numeric, 6) AS distance FROM sealvec.query('col_cosine', '[1,1]', top_k => 2, include => '{distance}');
SELECT count(*), min(distance), max(distance) FROM sealvec.query('col_cosine', '[0,0]', include => '{distance}');

-- What it is, and its lists.
SELECT * FROM sealvec.describe_index('col_notes', :key);
SELECT * FROM sealvec.index_info('col_squared');
SELECT sealvec.train('col_notes', index_key => :key) >= 0 AS trained;
SELECT * FROM sealvec.training_status() WHERE index_name LIKE 'col%';
SELECT sealvec.create_index('col_big', 4, kms_name => 'local') IS NOT NULL AS made;
SELECT sealvec.upsert('col_big', array_agg(i::text), array_agg(v), metadata => array_agg(format('{"i": %s}', i)))
FROM (SELECT i, pg_temp.vec(i, 4) AS v FROM generate_series(1, 3000) i) rows;
SELECT sealvec.num_vectors('col_big');
SELECT sealvec.train('col_big', 12);
SELECT is_trained, n_lists FROM sealvec.describe_index('col_big');
-- A filter that matches one row finds it, however far it is, and top_k may be anything.
SELECT id FROM sealvec.query('col_big', '[0,0,0,0]', top_k => 3, filters => '{"i": 2718}');
SELECT count(*), count(DISTINCT id) FROM sealvec.query('col_big', '[0,0,0,0]', top_k => 10000);
SELECT count(*) FROM sealvec.query('col_big', '[0,0,0,0]', n_probes => 1, top_k => 2000);
-- Every list probed, it answers as a sequential scan would.
SELECT array_agg(id ORDER BY rank) = (
    SELECT array_agg(i::text) FROM (SELECT i FROM generate_series(1, 3000) i
        ORDER BY pg_temp.vec(i, 4)::sealvec <-> pg_temp.vec(77, 4)::sealvec LIMIT 20) exact) AS agrees
FROM sealvec.query('col_big', pg_temp.vec(77, 4), top_k => 20, n_probes => 1000);

-- Words rank by BM25, alone or with a vector.
SELECT sealvec.create_index('col_words', 2, kms_name => 'local', metadata_schema => '{"t":{"full_text":true},"g":{"filterable":true}}') IS NOT NULL AS made;
SELECT sealvec.upsert('col_words', '[{"id":"a","vector":[1,0],"metadata":{"t":"the quick brown fox","g":1}},
    {"id":"b","vector":[0,1],"metadata":{"t":"a fox and another fox","g":2}},{"id":"c","vector":[1,1],"metadata":{"t":"lazy dogs","g":1}}]');
SELECT id, round(score::numeric, 6) AS score FROM sealvec.query_metadata('col_words', text => 'foxes quickly');
SELECT id, round(score::numeric, 6) AS score FROM sealvec.query_metadata('col_words', '{"g": 2}', text => 'fox');
SELECT id, distance, round(score::numeric, 6) AS score FROM sealvec.query('col_words', '[1,0.9]', text => 'fox', include => '{distance}');
SELECT id FROM sealvec.query('col_words', '[1,1]', top_k => 1, text => 'fox', alpha => 1);
SELECT id FROM sealvec.query_metadata('col_words', text => 'fox', order_by => '"g"');
SELECT id FROM sealvec.query('col_words', '[1,1]', alpha => 0.5);
SELECT id FROM sealvec.query_metadata('col_words', text => 'fox', text_fields => '{secret}');
SELECT sealvec.delete_index('col_words');

-- It goes whole: table, keys, users.
SELECT sealvec.delete_index('col_notes', :key), sealvec.delete_index('col_squared', :key), sealvec.delete_index('col_cosine'), sealvec.delete_index('col_big');
SELECT count(*) FROM sealvec.list_indexes() name WHERE name LIKE 'col%';
SELECT count(*) FROM sealvec.key_rings WHERE name LIKE 'index %';
SELECT count(*) FROM pg_class WHERE relnamespace = 'sealvec_data'::regnamespace;
