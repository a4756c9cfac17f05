-- A scan returns the right rows in the right order, whoever asks and however.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT sealvec.create_key_ring('scan') IS NOT NULL AS made;
CREATE TABLE scan (id integer PRIMARY KEY, topic integer, v sealvec(16, scan));
INSERT INTO scan SELECT i, i % 50, pg_temp.vec(i, 16) FROM generate_series(1, 3000) i;
CREATE INDEX scan_v ON scan USING sealed_ivf (v);
ANALYZE scan;

-- first rows, all rows
SELECT pg_temp.agree('SELECT id FROM scan ORDER BY v <-> pg_temp.vec(5, 16) LIMIT 1');
SELECT pg_temp.agree('SELECT id FROM scan ORDER BY v <-> pg_temp.vec(5, 16) LIMIT 100');
SELECT pg_temp.agree('SELECT id FROM scan ORDER BY v <-> pg_temp.vec(-5, 16)');

-- with nothing set, a scan widens by itself until a selective WHERE has its rows
SELECT pg_temp.agree('SELECT id FROM scan WHERE topic = 7 ORDER BY v <-> pg_temp.vec(-6, 16) LIMIT 30');
SET enable_seqscan = off;
SET enable_sort = off;
SELECT count(*) FROM (SELECT id FROM scan WHERE topic = 7 ORDER BY v <-> pg_temp.vec(-6, 16) LIMIT 100) rows;
SET sealvec.probes = 1;
SELECT count(*) FROM (SELECT id FROM scan WHERE topic = 7 ORDER BY v <-> pg_temp.vec(-6, 16) LIMIT 100) rows;
SELECT count(DISTINCT id), count(*) FROM (SELECT id FROM scan ORDER BY v <-> pg_temp.vec(-6, 16)) rows;
RESET sealvec.probes;

-- unless it is told to stop
SET sealvec.max_scan_tuples = 100;
SELECT count(*) < 60 AS stopped FROM (SELECT id FROM scan WHERE topic = 7 ORDER BY v <-> pg_temp.vec(-6, 16) LIMIT 100) rows;
RESET sealvec.max_scan_tuples;

-- the distance is the operator's, and ascends
SELECT bool_and(distance >= before) AS ascends, bool_and(distance = exact) AS same FROM (
    SELECT v <-> pg_temp.vec(9, 16) AS distance, sealvec.l2_distance(v, pg_temp.vec(9, 16)) AS exact,
           lag(v <-> pg_temp.vec(9, 16), 1, 0) OVER () AS before
    FROM (SELECT v FROM scan ORDER BY v <-> pg_temp.vec(9, 16) LIMIT 200) rows) distances;

-- the plan uses the index for constants, parameters and generic plans
SELECT pg_temp.plan($$SELECT id FROM scan ORDER BY v <-> '[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]' LIMIT 3$$);
SELECT pg_temp.plan($$SELECT id FROM scan ORDER BY v <-> ARRAY[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]::real[] LIMIT 3$$);
PREPARE near (sealvec) AS SELECT id FROM scan ORDER BY v <-> $1 LIMIT 3;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS off) EXECUTE near (pg_temp.vec(1, 16));
EXECUTE near (pg_temp.vec(1, 16));
EXECUTE near (pg_temp.vec(2, 16));
SET plan_cache_mode = force_custom_plan;
EXECUTE near (pg_temp.vec(1, 16));
RESET plan_cache_mode;
DEALLOCATE near;

-- a nested loop rescans
SELECT q.id, array_agg(near.id ORDER BY near.distance) AS nearest
FROM (VALUES (1), (2), (3)) AS q (id),
     LATERAL (SELECT scan.id, scan.v <-> pg_temp.vec(q.id, 16) AS distance FROM scan
              ORDER BY scan.v <-> pg_temp.vec(q.id, 16) LIMIT 3) AS near
GROUP BY q.id ORDER BY q.id;
SELECT bool_and(nearest = q) AS itself FROM generate_series(1, 500) q,
     LATERAL (SELECT id AS nearest FROM scan ORDER BY v <-> pg_temp.vec(q, 16) LIMIT 1) AS near;

-- cursors: forward, with rows changed meanwhile, held beyond the transaction, scrolled
BEGIN;
DECLARE ahead CURSOR FOR SELECT id FROM scan ORDER BY v <-> pg_temp.vec(11, 16);
FETCH 3 FROM ahead;
DELETE FROM scan WHERE id = 11;
INSERT INTO scan VALUES (3001, 1, pg_temp.vec(11, 16));
FETCH 3 FROM ahead;
MOVE FORWARD ALL FROM ahead;
CLOSE ahead;
ROLLBACK;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT id FROM scan ORDER BY v <-> pg_temp.vec(12, 16) LIMIT 5;
COMMIT;
FETCH ALL FROM held;
CLOSE held;
BEGIN;
DECLARE scrolled SCROLL CURSOR FOR SELECT id FROM scan ORDER BY v <-> pg_temp.vec(13, 16) LIMIT 4;
FETCH ALL FROM scrolled;
FETCH BACKWARD 2 FROM scrolled;
COMMIT;

-- rows of this transaction, of a rolled-back one, of a savepoint
BEGIN;
INSERT INTO scan VALUES (4001, 1, pg_temp.vec(4001, 16));
SAVEPOINT s;
INSERT INTO scan VALUES (4002, 1, pg_temp.vec(4002, 16));
ROLLBACK TO s;
SELECT id FROM scan ORDER BY v <-> pg_temp.vec(4001, 16) LIMIT 1;
SELECT id = 4002 AS found FROM scan ORDER BY v <-> pg_temp.vec(4002, 16) LIMIT 1;
ROLLBACK;
SELECT id = 4001 AS found FROM scan ORDER BY v <-> pg_temp.vec(4001, 16) LIMIT 1;

-- a query that is at no distance from anything: every row, in no order
SELECT pg_temp.plan('SELECT v <-> NULL::sealvec AS distance FROM scan ORDER BY v <-> NULL::sealvec');
SELECT count(*), count(distance) FROM (SELECT v <-> NULL::sealvec AS distance FROM scan ORDER BY v <-> NULL::sealvec) rows;
CREATE INDEX scan_cosine ON scan USING sealed_ivf (v sealvec_cosine_ops);
SELECT count(*), count(*) FILTER (WHERE distance = 'NaN') AS nan
FROM (SELECT v <=> '[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]' AS distance FROM scan ORDER BY v <=> '[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]') rows;
DROP INDEX scan_cosine;

-- float16: near the true distance in the index, exact in the answer
CREATE TABLE scan16 (id integer, v sealvec(16, scan));
INSERT INTO scan16 SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 2000) i;
CREATE INDEX ON scan16 USING sealed_ivf (v) WITH (storage_precision = 'float16');
SELECT pg_temp.agree('SELECT id FROM scan16 ORDER BY v <-> pg_temp.vec(-3, 16) LIMIT 200');
DROP TABLE scan16;
CREATE TABLE scan16 (id integer, v sealvec(16, scan));
CREATE INDEX ON scan16 USING sealed_ivf (v sealvec_ip_ops) WITH (storage_precision = 'float16');
CREATE INDEX ON scan16 USING sealed_ivf (v sealvec_cosine_ops) WITH (storage_precision = 'float16');
INSERT INTO scan16 SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 2000) i;
SELECT pg_temp.agree('SELECT id FROM scan16 ORDER BY v <#> pg_temp.vec(-3, 16) LIMIT 200');
SELECT pg_temp.agree('SELECT id FROM scan16 ORDER BY v <=> pg_temp.vec(-3, 16) LIMIT 200');
DROP TABLE scan16;

-- refused with a reason
SELECT id FROM scan ORDER BY v <-> '[1,2,3]' LIMIT 1;
SET sealvec.probes = -1;
SET sealvec.target_recall = 2;

-- a locked ring opens nothing, also in the middle of a cursor
SELECT sealvec.create_key_ring('scan_client', kek => decode(repeat('11', 32), 'hex')) IS NOT NULL AS made;
SELECT sealvec.unlock('scan_client', decode(repeat('11', 32), 'hex'));
CREATE TABLE scan_client (id integer, v sealvec(4, scan_client));
INSERT INTO scan_client SELECT i, pg_temp.vec(i, 4) FROM generate_series(1, 500) i;
CREATE INDEX ON scan_client USING sealed_ivf (v);
BEGIN;
DECLARE locked CURSOR FOR SELECT id FROM scan_client ORDER BY v <-> '[1,2,3,4]';
FETCH 1 FROM locked;
SELECT sealvec.lock('scan_client');
FETCH 1 FROM locked;
ROLLBACK;
SELECT id FROM scan_client ORDER BY v <-> '[1,2,3,4]' LIMIT 1;
SELECT sealvec.unlock('scan_client', decode(repeat('11', 32), 'hex'));
SELECT pg_temp.agree('SELECT id FROM scan_client ORDER BY v <-> ''[1,2,3,4]'' LIMIT 5');
DROP TABLE scan_client;

-- it is counted
SELECT pg_stat_force_next_flush();
SELECT idx_scan > 500 AS counted FROM pg_stat_user_indexes WHERE indexrelname = 'scan_v';
DROP TABLE scan;
