-- What a collection refuses: with words, a state of its own, and nothing half-written.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set key 'decode(repeat(''c4'', 32), ''hex'')'

SELECT sealvec.create_index('', 2, index_key => :key);
SELECT sealvec.create_index('default', 2, index_key => :key);
SELECT sealvec.create_index(repeat('x', 256), 2, index_key => :key);
SELECT sealvec.create_index(NULL, 2, index_key => :key);
SELECT sealvec.create_index('cb', -1, index_key => :key);
SELECT sealvec.create_index('cb', 20000, index_key => :key);
SELECT sealvec.create_index('cb', 2, 'dot', index_key => :key);
SELECT sealvec.create_index('cb', 2, index_key => :key, storage_precision => 'tq4');
SELECT sealvec.create_index('cb', 2);
SELECT sealvec.create_index('cb', 2, index_key => :key, kms_name => 'local');
SELECT sealvec.create_index('cb', 2, kms_name => 'nowhere');
SELECT sealvec.create_index('cb', 2, index_key => '\x00');
SELECT sealvec.create_index('cb', 2, index_key => :key, metadata_schema => '{"a":{"pattern":true,"filterable":false}}');
SELECT sealvec.create_index('cb', 2, index_key => :key, bm25_k1 => 1.5);
SELECT sealvec.create_index('cb', 2, index_key => :key, metadata_schema => '{"a":{"full_text":true}}', bm25_b => 1.5);
SELECT count(*) FROM sealvec.list_indexes() name WHERE name = 'cb';

SELECT sealvec.create_index('cb', 0, index_key => :key) IS NOT NULL AS made;
SELECT sealvec.create_index('cb', 2, index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2]', index_key => :key);
SELECT sealvec.upsert('cb', '[]', :key);
SELECT sealvec.upsert('cb', '{"id":"a"}', :key);
SELECT sealvec.upsert('cb', '[{"id":1,"vector":[1]}]', :key);
SELECT sealvec.upsert('cb', '[{"vector":[1]}]', :key);
SELECT sealvec.upsert('cb', '[{"id":"a"}]', :key);
SELECT sealvec.upsert('cb', '[{"id":"a","vector":[1,"secret"]}]', :key);
SELECT sealvec.upsert('cb', '[{"id":"a","vector":[1,2]},{"id":"b","vector":[1]}]', :key);
SELECT sealvec.upsert('cb', '[{"id":"a","vector":[1,1e39]}]', :key);
SELECT sealvec.upsert('cb', '[{"id":"a","vector":[1,2],"metadata":[1]}]', :key);
SELECT sealvec.upsert('cb', '[{"id":"a","vector":[1,2],"metadata":{"secret":}}]', :key);
SELECT sealvec.upsert('cb', '{a,b}', '[[1,2]]', index_key => :key);
SELECT sealvec.upsert('cb', '{a}', '[[1,2],[3,4]]', index_key => :key);
SELECT sealvec.upsert('cb', '{a,NULL}', '[[1,2],[3,4]]', index_key => :key);
SELECT sealvec.upsert('cb', '{a}', '[[1,2]]', contents => '{x,y}', index_key => :key);
SELECT sealvec.upsert('cb', '{a}', '[[1,2]]', metadata => '{"[1]"}', index_key => :key);
SELECT sealvec.upsert('cb', '{a}', '[[1,2],[3]]', index_key => :key);
SELECT sealvec.upsert('cb', '{a}', '[1,NaN]', index_key => :key);
SELECT sealvec.upsert('cb', '{a}', ARRAY['NaN']::real[], index_key => :key);
SELECT sealvec.upsert('cb', '{a}', ARRAY['-Infinity']::float8[], index_key => :key);
-- Nothing of all this stayed, and no dimension was learnt from what was refused.
SELECT dimension FROM sealvec.index_info('cb');
SELECT sealvec.num_vectors('cb', :key);
BEGIN;
SELECT sealvec.upsert('cb', '[{"id":"a","vector":[1,2,3]}]', :key);
ROLLBACK;
SELECT dimension FROM sealvec.index_info('cb');
SELECT sealvec.upsert('cb', '[{"id":"a","vector":[1,2]}]', :key);
SELECT dimension FROM sealvec.index_info('cb');
SELECT sealvec.upsert('cb', '[{"id":"b","vector":[1,2]},{"id":"c","vector":[1,2,3]}]', :key);
SELECT sealvec.num_vectors('cb', :key);

SELECT * FROM sealvec.query('cb', '[1,2]', top_k => 0, index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2]', n_probes => -1, index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2,3]', index_key => :key);
SELECT * FROM sealvec.query('cb', '[]', index_key => :key);
SELECT * FROM sealvec.query('cb', '"secret"', index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2', index_key => :key);
SELECT * FROM sealvec.query('cb', NULL, index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2]', filters => '{"n":{"$gt":"secret"}}', index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2]', filters => '{"n":{"$secret":1}}', index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2]', filters => '{"n":{"$regex":"secret("}}', index_key => :key);
SELECT * FROM sealvec.query('cb', '[1,2]', filters => 'secret', index_key => :key);
SELECT * FROM sealvec.query_metadata('cb', top_k => -1, index_key => :key);
SELECT * FROM sealvec.query_metadata('cb', order_by => '{"a":1,"b":1}', index_key => :key);
SELECT * FROM sealvec.get('cb', NULL, index_key => :key);
SELECT * FROM sealvec.get('cb', '{NULL}', index_key => :key);
SELECT sealvec.train('cb', -1, :key);
SELECT sealvec.train('nothing_of_this_name');
SELECT sealvec.create_kms('elsewhere', 'gcp');
SELECT sealvec.create_kms('local');
SELECT sealvec.create_kms('prod-aws');
SELECT sealvec.create_index('cb_kms', 2, kms_name => 'prod-aws') IS NOT NULL AS made;
SELECT sealvec.drop_kms('prod-aws');
SELECT * FROM sealvec.kms_slots ORDER BY name;
CREATE TABLE cb_keeps (p sealvec.payload);
CREATE TABLE cb_keeps (v sealvec.vectors[]);
-- An item moved to another row does not open.
SELECT sealvec.upsert('cb', '[{"id":"m","vector":[1,2]}]', :key);
DO $$ BEGIN EXECUTE format('UPDATE %s t SET item = (SELECT item FROM %1$s o WHERE o.id_token <> t.id_token)', (SELECT "table" FROM sealvec.collections WHERE name = 'cb')); END $$;
\set VERBOSITY terse
SELECT * FROM sealvec.get('cb', '{m}', index_key => :key);
\set VERBOSITY default
SELECT sealvec.delete_index('cb', :key), sealvec.delete_index('cb_kms');
SELECT sealvec.drop_kms('prod-aws');

-- What is sent sets the memory aside, not what it says of itself.
SELECT sealvec.create_index('cb_large', 16000, index_key => :key) IS NOT NULL AS made;
SELECT sealvec.upsert('cb_large', ('[{"id":"a","vector":[' || repeat('0,', 15999) || '1]}' || repeat(',{"id":"a"}', 500000) || ']')::sealvec.payload, :key);
SELECT sealvec.query_metadata('cb_large', text => 'x', text_fields => '{NULL}', index_key => :key);
SELECT sealvec.delete_index('cb_large', :key);

-- A constant that is in transit can't be kept: a key would lie in the catalog, and a dump prints a mask.
SELECT sealvec.create_index('cb_view', 2, kms_name => 'local') IS NOT NULL AS made;
CREATE VIEW cb_keeps AS SELECT * FROM sealvec.query('cb_view', '[1,2]');
CREATE VIEW cb_keeps AS SELECT sealvec.num_vectors('cb_view', '\x00');
CREATE FUNCTION cb_keeps() RETURNS bigint BEGIN ATOMIC SELECT sealvec.delete('cb_view', '{a}'); END;
CREATE FUNCTION cb_asks(v sealvec.vectors) RETURNS SETOF text LANGUAGE sql AS $$ SELECT id FROM sealvec.query('cb_view', v) $$;
CREATE VIEW cb_counts AS SELECT sealvec.num_vectors('cb_view') AS items;
SELECT items FROM cb_counts;
SELECT sealvec.upsert('cb_view', '[{"id":"a\u0000b","vector":[1,2]}]');

-- While a key opens an index, nobody's trigger runs.
SELECT sealvec.create_index('cb_watched', 2, index_key => :key) IS NOT NULL AS made;
CREATE FUNCTION cb_watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'row %', TG_OP; RETURN NEW; END $$;
DO $$ DECLARE name text; tab regclass; BEGIN
    FOR name, tab IN SELECT c.name, c."table" FROM sealvec.collections c WHERE c.name IN ('cb_watched', 'cb_view') LOOP
        EXECUTE format('CREATE TRIGGER watch AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION cb_watch()', tab);
    END LOOP;
END $$;
SELECT sealvec.upsert('cb_watched', '[{"id":"a","vector":[1,2]}]', :key);
SELECT sealvec.num_vectors('cb_watched', :key);
SELECT sealvec.upsert('cb_view', '[{"id":"a","vector":[1,2]}]');
SELECT items FROM cb_counts;
-- Where one runs, it may store another token than the call's.
CREATE FUNCTION cb_renames() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id_token := sha256(NEW.id_token); RETURN NEW; END $$;
DO $$ BEGIN
    EXECUTE format('CREATE TRIGGER renames BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION cb_renames()',
                   (SELECT "table"::regclass FROM sealvec.collections WHERE name = 'cb_view'));
END $$;
SELECT sealvec.upsert('cb_view', '[{"id":"b","vector":[2,1]}]');
SELECT items FROM cb_counts;
DROP VIEW cb_counts;
SELECT sealvec.delete_index('cb_watched', :key), sealvec.delete_index('cb_view');
