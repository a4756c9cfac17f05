-- The planner takes the index where it is the better way, with nothing set.
SELECT sealvec.create_key_ring('cost') IS NOT NULL AS made;
CREATE TABLE cost (id integer PRIMARY KEY, topic integer, tags text[], note text, v sealvec(96, cost));
INSERT INTO cost SELECT i, i % 1000, ARRAY['n' || i % 7, 'n' || i % 300], i % 100,
    ARRAY(SELECT (hashint8(i * 1009::bigint + j) / 2147483648.0)::real FROM generate_series(1, 96) j)
FROM generate_series(1, 10000) i;
CREATE INDEX cost_topic ON cost (topic);
CREATE INDEX cost_tags ON cost USING gin (tags);
CREATE INDEX cost_v ON cost USING sealed_ivf (v);
ANALYZE cost;
CREATE FUNCTION pg_temp.query() RETURNS sealvec LANGUAGE sql STABLE AS
    'SELECT ARRAY(SELECT sin(j)::real FROM generate_series(1, 96) j)::sealvec';

-- the nearest few
EXPLAIN (COSTS off) SELECT id FROM cost ORDER BY v <-> pg_temp.query() LIMIT 10;
-- a filter that half of the rows pass
EXPLAIN (COSTS off) SELECT id FROM cost WHERE topic < 500 ORDER BY v <-> pg_temp.query() LIMIT 10;
-- a filter that ten rows pass
EXPLAIN (COSTS off) SELECT id FROM cost WHERE topic = 5 ORDER BY v <-> pg_temp.query() LIMIT 10;
-- few enough that to open them all takes less than to look past the others: a hundred rows, then thirty with a tag
EXPLAIN (COSTS off) SELECT id FROM cost WHERE topic < 10 ORDER BY v <-> pg_temp.query() LIMIT 10;
EXPLAIN (COSTS off) SELECT id FROM cost WHERE tags @> ARRAY['n299'] ORDER BY v <-> pg_temp.query() LIMIT 10;
-- a tag that one row in seven has
EXPLAIN (COSTS off) SELECT id FROM cost WHERE tags @> ARRAY['n5'] ORDER BY v <-> pg_temp.query() LIMIT 1;
-- a hundred rows again, with no index to find them by
EXPLAIN (COSTS off) SELECT id FROM cost WHERE note = '7' ORDER BY v <-> pg_temp.query() LIMIT 10;
-- as many rows as pass
EXPLAIN (COSTS off) SELECT id FROM cost WHERE topic < 10 ORDER BY v <-> pg_temp.query() LIMIT 100;
-- one row by its key
EXPLAIN (COSTS off) SELECT id FROM cost WHERE id = 5 ORDER BY v <-> pg_temp.query() LIMIT 1;
-- every row
EXPLAIN (COSTS off) SELECT id FROM cost ORDER BY v <-> pg_temp.query();
-- no order, an order of another distance, farthest first
EXPLAIN (COSTS off) SELECT count(*) FROM cost WHERE v IS NOT NULL;
EXPLAIN (COSTS off) SELECT id FROM cost ORDER BY v <=> pg_temp.query() LIMIT 10;
EXPLAIN (COSTS off) SELECT id FROM cost ORDER BY v <-> pg_temp.query() DESC LIMIT 10;
-- never in a parallel worker, which has no keys
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS off) SELECT id FROM cost ORDER BY v <-> pg_temp.query() LIMIT 10;
DROP TABLE cost;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- short vectors, for which a sequential scan costs little; and some hundred rows since the statistics
CREATE TABLE grown (id integer PRIMARY KEY, v sealvec(3, cost)) WITH (autovacuum_enabled = off);
INSERT INTO grown SELECT i, ARRAY[sin(i), cos(2 * i), sin(i / 7.0)] FROM generate_series(1, 5000) i;
CREATE INDEX grown_v ON grown USING sealed_ivf (v);
ANALYZE grown;
CREATE FUNCTION pg_temp.plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE 'EXPLAIN (COSTS off) ' || query;
END
$$;
SELECT count(*) AS by_index FROM pg_temp.plan($$SELECT id FROM grown ORDER BY v <-> '[1,0,0]' LIMIT 10$$) line WHERE line ~ 'Index Scan using grown_v';
INSERT INTO grown SELECT i, ARRAY[sin(i), cos(2 * i), sin(i / 7.0)] FROM generate_series(5001, 5600) i;
SELECT count(*) AS by_index FROM pg_temp.plan($$SELECT id FROM grown ORDER BY v <-> '[1,0,0]' LIMIT 10$$) line WHERE line ~ 'Index Scan using grown_v';
DROP TABLE grown;
