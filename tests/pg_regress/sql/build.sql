-- Building: every dimension, precision and state of the ring; rows that have no vector.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT sealvec.create_key_ring('build') IS NOT NULL AS made;

-- dimensions from 1 to the most, in one page and over several; built full, and filled after
CREATE FUNCTION pg_temp.dims(dims integer, rows integer, storage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE build_dims (id integer, v sealvec(%s, build))', dims);
    INSERT INTO build_dims SELECT i, pg_temp.vec(i, dims) FROM generate_series(1, rows) i;
    EXECUTE format('CREATE INDEX build_full ON build_dims USING sealed_ivf (v) WITH (storage_precision = %s)', storage);
    RETURN NEXT pg_temp.agree(format('SELECT id FROM build_dims ORDER BY v <-> pg_temp.vec(3, %s) LIMIT 10', dims));
    INSERT INTO build_dims SELECT i, pg_temp.vec(i, dims) FROM generate_series(rows + 1, rows + rows / 10 + 1) i;
    RETURN NEXT pg_temp.agree(format('SELECT id FROM build_dims ORDER BY v <-> pg_temp.vec(%s, %s) LIMIT 10', rows + 1, dims));
    DROP TABLE build_dims;
END
$$;
SELECT storage, d.dims, pg_temp.dims(d.dims, rows, storage) AS answer
FROM (VALUES ('float32'), ('float16')) AS s (storage),
     (VALUES (1, 700), (3, 700), (384, 300), (2000, 60), (4096, 40), (16000, 12)) AS d (dims, rows);

-- rows without a vector are not in it; a zero vector has no cosine
CREATE TABLE build_null (id integer, v sealvec(3, build));
INSERT INTO build_null SELECT i, CASE WHEN i % 4 = 0 THEN NULL WHEN i % 4 = 1 THEN ARRAY[0, 0, 0]::real[] ELSE pg_temp.vec(i, 3) END
FROM generate_series(1, 400) i;
CREATE INDEX build_null_l2 ON build_null USING sealed_ivf (v);
CREATE INDEX build_null_cosine ON build_null USING sealed_ivf (v sealvec_cosine_ops);
INSERT INTO build_null VALUES (401, NULL), (402, '[0,0,0]'), (403, '[1,1,1]');
SET enable_seqscan = off;
SET enable_sort = off;
SELECT count(*) FROM (SELECT id FROM build_null ORDER BY v <-> '[1,1,1]') rows;
SELECT count(*) FROM (SELECT id FROM build_null ORDER BY v <=> '[1,1,1]') rows;
SELECT relname, reltuples FROM pg_class WHERE relname LIKE 'build_null_%' ORDER BY 1;
RESET enable_seqscan;
RESET enable_sort;
DROP TABLE build_null;

-- the same vector many times
CREATE TABLE build_same (id integer, v sealvec(3, build));
INSERT INTO build_same SELECT i, '[1,2,3]' FROM generate_series(1, 2000) i;
CREATE INDEX ON build_same USING sealed_ivf (v);
SET enable_seqscan = off;
SELECT count(*) FROM (SELECT id FROM build_same ORDER BY v <-> '[1,1,1]') rows;
RESET enable_seqscan;
DROP TABLE build_same;

-- a ring that only the client can open: built, filled and vacuumed locked, then unlocked and merged
SELECT sealvec.create_key_ring('build_client', kek => decode(repeat('22', 32), 'hex')) IS NOT NULL AS made;
SELECT sealvec.unlock('build_client', decode(repeat('22', 32), 'hex'));
CREATE TABLE build_client (id integer, v sealvec(8, build_client));
INSERT INTO build_client SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 1500) i;
CREATE TABLE build_copy (LIKE build_client);
SELECT sealvec.lock('build_client');
CREATE INDEX build_client_v ON build_client USING sealed_ivf (v);
CREATE INDEX build_copy_v ON build_copy USING sealed_ivf (v sealvec_cosine_ops) WITH (storage_precision = float16);
INSERT INTO build_copy SELECT id, v FROM build_client;
DELETE FROM build_copy WHERE id % 10 = 0;
VACUUM build_copy;
SELECT sealvec.merge('build_client_v');
SELECT sealvec.train('build_client_v');
SELECT sealvec.verify_index('build_client_v');
SELECT sealvec.unlock('build_client', decode(repeat('22', 32), 'hex'));
SELECT pg_temp.agree('SELECT id FROM build_client ORDER BY v <-> pg_temp.vec(5, 8) LIMIT 10');
SELECT pg_temp.agree('SELECT id FROM build_copy ORDER BY v <=> pg_temp.vec(5, 8) LIMIT 10');
SELECT sealvec.merge('build_client_v'), sealvec.merge('build_copy_v');
SELECT sealvec.merge('build_client_v'), sealvec.merge('build_copy_v');
SELECT pg_temp.agree('SELECT id FROM build_client ORDER BY v <-> pg_temp.vec(5, 8) LIMIT 10');
SELECT pg_temp.agree('SELECT id FROM build_copy ORDER BY v <=> pg_temp.vec(5, 8) LIMIT 10');
SELECT sealvec.train('build_client_v') > 0 AS trained;
SELECT pg_temp.agree('SELECT id FROM build_client ORDER BY v <-> pg_temp.vec(5, 8) LIMIT 10');
SELECT sealvec.verify_index('build_client_v');
DROP TABLE build_client, build_copy;

-- values of another ring do not get in
CREATE TABLE build_other (id integer, v sealvec(8, build));
CREATE INDEX ON build_other USING sealed_ivf (v);
INSERT INTO build_other VALUES (1, '[1,2,3]');
INSERT INTO build_other VALUES (1, '[1,2,3,4,5,6,7,8]');
DROP TABLE build_other;

-- little memory makes a smaller sample, never an error
SET maintenance_work_mem = '1MB';
CREATE TABLE build_small (id integer, v sealvec(64, build));
INSERT INTO build_small SELECT i, pg_temp.vec(i, 64) FROM generate_series(1, 6000) i;
CREATE INDEX ON build_small USING sealed_ivf (v);
SELECT pg_temp.agree('SELECT id FROM build_small ORDER BY v <-> pg_temp.vec(5, 64) LIMIT 10');
RESET maintenance_work_mem;
SET max_parallel_maintenance_workers = 0;
REINDEX TABLE build_small;
SELECT pg_temp.agree('SELECT id FROM build_small ORDER BY v <-> pg_temp.vec(5, 64) LIMIT 10');
RESET max_parallel_maintenance_workers;

-- ended by a timeout, it leaves nothing behind
SET statement_timeout = '5ms';
CREATE INDEX build_ended ON build_small USING sealed_ivf (v);
RESET statement_timeout;
SELECT count(*) FROM pg_class WHERE relname = 'build_ended';
DROP TABLE build_small;
