-- Every kind of index that Postgres makes can be a sealed one.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT sealvec.create_key_ring('kinds') IS NOT NULL AS made;

-- a plain one
CREATE TABLE kinds (id integer PRIMARY KEY, topic integer, v sealvec(8, kinds), w sealvec(8, kinds));
INSERT INTO kinds SELECT i, i % 5, pg_temp.vec(i, 8), CASE WHEN i % 3 = 0 THEN pg_temp.vec(-i, 8) END FROM generate_series(1, 600) i;
CREATE INDEX kinds_l2 ON kinds USING sealed_ivf (v);
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <-> pg_temp.vec(7, 8) LIMIT 20');

-- one for each distance
CREATE INDEX kinds_cosine ON kinds USING sealed_ivf (v sealvec_cosine_ops);
CREATE INDEX kinds_ip ON kinds USING sealed_ivf (v sealvec_ip_ops);
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <=> pg_temp.vec(7, 8) LIMIT 20');
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <#> pg_temp.vec(7, 8) LIMIT 20');

-- partial
CREATE INDEX kinds_partial ON kinds USING sealed_ivf (v) WHERE topic = 3;
DROP INDEX kinds_l2;
SELECT pg_temp.agree('SELECT id FROM kinds WHERE topic = 3 ORDER BY v <-> pg_temp.vec(7, 8) LIMIT 20');
DROP INDEX kinds_partial;

-- of an expression that keeps dimensions and ring
CREATE INDEX kinds_expression ON kinds USING sealed_ivf ((coalesce(w, v)));
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY coalesce(w, v) <-> pg_temp.vec(-9, 8) LIMIT 20');
DROP INDEX kinds_expression;

-- concurrently, and rebuilt
CREATE INDEX CONCURRENTLY kinds_concurrent ON kinds USING sealed_ivf (v);
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
REINDEX INDEX kinds_concurrent;
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
REINDEX INDEX CONCURRENTLY kinds_concurrent;
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'kinds'::regclass AND NOT indisvalid;

-- rewritten with its table
ALTER TABLE kinds ALTER topic TYPE bigint;
VACUUM FULL kinds;
TRUNCATE kinds;
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
INSERT INTO kinds SELECT i, i % 5, pg_temp.vec(i, 8) FROM generate_series(1, 300) i;
SELECT pg_temp.agree('SELECT id FROM kinds ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
DROP TABLE kinds;

-- of a domain, of what a function makes of one, of an attribute, of an element
CREATE DOMAIN kinds_domain AS sealvec(8, kinds);
CREATE DOMAIN kinds_domain_of_domain AS kinds_domain;
CREATE TYPE kinds_pair AS (label text, v sealvec(8, kinds));
CREATE FUNCTION kinds_kept(kinds_domain) RETURNS kinds_domain LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE kinds_typed (id integer, d kinds_domain, dd kinds_domain_of_domain, p kinds_pair, a sealvec(8, kinds)[]);
INSERT INTO kinds_typed SELECT i, v, v, ROW('x', v)::kinds_pair, ARRAY[v] FROM generate_series(1, 200) i, LATERAL (SELECT pg_temp.vec(i, 8)::sealvec) t (v);
CREATE INDEX ON kinds_typed USING sealed_ivf (d);
CREATE INDEX ON kinds_typed USING sealed_ivf (dd);
CREATE INDEX ON kinds_typed USING sealed_ivf (kinds_kept(d));
CREATE INDEX ON kinds_typed USING sealed_ivf (((p).v));
CREATE INDEX ON kinds_typed USING sealed_ivf ((a[1]));
INSERT INTO kinds_typed SELECT i, v, v, ROW('x', v)::kinds_pair, ARRAY[v] FROM generate_series(201, 400) i, LATERAL (SELECT pg_temp.vec(i, 8)::sealvec) t (v);
SELECT what, pg_temp.agree(format('SELECT id FROM kinds_typed ORDER BY %s <-> pg_temp.vec(8, 8) LIMIT 20', what))
FROM unnest(ARRAY['d', 'dd', 'kinds_kept(d)', '(p).v', 'a[1]']) what;
SELECT indexrelid::regclass AS index, sealvec.verify_index(indexrelid) FROM pg_index WHERE indrelid = 'kinds_typed'::regclass ORDER BY indexrelid;
-- A cast gives no dimensions to an expression that has none: sealing is not IMMUTABLE.
CREATE INDEX ON kinds_typed USING sealed_ivf ((d::sealvec(8, kinds)));
DROP TABLE kinds_typed;
DROP FUNCTION kinds_kept;
DROP TYPE kinds_pair, kinds_domain_of_domain;
DROP DOMAIN kinds_domain;

-- unlogged
CREATE UNLOGGED TABLE kinds_unlogged (id integer, v sealvec(8, kinds));
CREATE INDEX ON kinds_unlogged USING sealed_ivf (v) WITH (storage_precision = float16);
INSERT INTO kinds_unlogged SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 300) i;
SELECT pg_temp.agree('SELECT id FROM kinds_unlogged ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
ALTER TABLE kinds_unlogged SET LOGGED;
SELECT pg_temp.agree('SELECT id FROM kinds_unlogged ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
DROP TABLE kinds_unlogged;

-- temporary, in a transaction that empties it
BEGIN;
CREATE TEMP TABLE kinds_temp (id integer, v sealvec(8, kinds)) ON COMMIT DELETE ROWS;
CREATE INDEX ON kinds_temp USING sealed_ivf (v);
INSERT INTO kinds_temp SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 700) i;
SELECT pg_temp.agree('SELECT id FROM kinds_temp ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
COMMIT;
INSERT INTO kinds_temp VALUES (1, pg_temp.vec(1, 8));
SELECT count(*) FROM kinds_temp;
DROP TABLE kinds_temp;

-- partitioned: one index a partition, merged in order
CREATE TABLE kinds_parted (id integer, topic integer, v sealvec(8, kinds)) PARTITION BY LIST (topic);
CREATE TABLE kinds_parted_0 PARTITION OF kinds_parted FOR VALUES IN (0);
CREATE TABLE kinds_parted_1 PARTITION OF kinds_parted FOR VALUES IN (1);
CREATE INDEX kinds_parted_v ON kinds_parted USING sealed_ivf (v);
INSERT INTO kinds_parted SELECT i, i % 2, pg_temp.vec(i, 8) FROM generate_series(1, 400) i;
SELECT pg_temp.agree('SELECT id FROM kinds_parted ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
SELECT sealvec.merge('kinds_parted_v');
SELECT sealvec.merge('kinds_parted_0_v_idx') > 0 AS merged;
SELECT pg_temp.agree('SELECT id FROM kinds_parted ORDER BY v <-> pg_temp.vec(8, 8) LIMIT 20');
DROP TABLE kinds_parted;

-- What a sealed index is not.
CREATE TABLE kinds_not (id integer, v sealvec(8, kinds), n sealvec(8, kinds));
CREATE UNIQUE INDEX ON kinds_not USING sealed_ivf (v);
CREATE INDEX ON kinds_not USING sealed_ivf (v, n);
CREATE INDEX ON kinds_not USING sealed_ivf (v) INCLUDE (id);
CREATE INDEX ON kinds_not USING sealed_ivf (id);
CREATE INDEX ON kinds_not USING sealed_ivf (v DESC);
CREATE INDEX kinds_not_v ON kinds_not USING sealed_ivf (v);
CLUSTER kinds_not USING kinds_not_v;
-- An expression without dimensions and ring seals with nothing.
CREATE FUNCTION kinds_any(sealvec) RETURNS sealvec LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE INDEX ON kinds_not USING sealed_ivf (kinds_any(v));
DROP FUNCTION kinds_any(sealvec);
DROP TABLE kinds_not;

-- The operator classes are sound, and an unsound one is told so.
SELECT opcname, amvalidate(oid) FROM pg_opclass
WHERE opcmethod = (SELECT oid FROM pg_am WHERE amname = 'sealed_ivf') ORDER BY opcname;
CREATE OPERATOR CLASS kinds_bad_ops FOR TYPE sealvec USING sealed_ivf AS
    OPERATOR 1 <-> (sealvec, sealvec) FOR ORDER BY float_ops;
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'kinds_bad_ops';
DROP OPERATOR FAMILY kinds_bad_ops USING sealed_ivf;
