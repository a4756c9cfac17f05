-- VACUUM never loses a row, never invents one, and needs no key.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT sealvec.create_key_ring('vacuum') IS NOT NULL AS made;
CREATE TABLE vacuum_rows (id integer PRIMARY KEY, v sealvec(16, vacuum)) WITH (autovacuum_enabled = off);
INSERT INTO vacuum_rows SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 4000) i;
CREATE INDEX vacuum_v ON vacuum_rows USING sealed_ivf (v);

-- a tenth deleted, then vacuumed
DELETE FROM vacuum_rows WHERE id % 10 = 3;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <-> pg_temp.vec(13, 16) LIMIT 50');
VACUUM vacuum_rows;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <-> pg_temp.vec(13, 16) LIMIT 50');
SELECT relname, reltuples FROM pg_class WHERE relname IN ('vacuum_rows', 'vacuum_v') ORDER BY 1;
SELECT sealvec.verify_index('vacuum_v');

-- the same places in the heap, other vectors
INSERT INTO vacuum_rows SELECT i, pg_temp.vec(-i, 16) FROM generate_series(1, 4000) i WHERE i % 10 = 3;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <-> pg_temp.vec(-13, 16) LIMIT 50');
UPDATE vacuum_rows SET v = pg_temp.vec(id + 100000, 16) WHERE id % 7 = 0;
VACUUM vacuum_rows;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <-> pg_temp.vec(100007, 16) LIMIT 50');
SELECT sealvec.verify_index('vacuum_v');

-- all gone, and back
DELETE FROM vacuum_rows;
VACUUM vacuum_rows;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <-> pg_temp.vec(1, 16) LIMIT 50');
SELECT lists, rows_in_lists + rows_in_l0 + rows_in_tail - rows_dead AS rows FROM sealvec.index_stats('vacuum_v');
INSERT INTO vacuum_rows SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 1000) i;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <-> pg_temp.vec(1, 16) LIMIT 50');
SELECT sealvec.verify_index('vacuum_v');

-- pages come back: rounds of delete and insert do not let the index grow without end
CREATE TEMP TABLE sizes (bytes bigint);
DO $$
BEGIN
    FOR round IN 1..3 LOOP
        UPDATE vacuum_rows SET v = pg_temp.vec(id + round * 10000, 16);
    END LOOP;
END
$$;
VACUUM vacuum_rows;
INSERT INTO sizes SELECT pg_relation_size('vacuum_v');
UPDATE vacuum_rows SET v = pg_temp.vec(id + 50000, 16);
VACUUM vacuum_rows;
UPDATE vacuum_rows SET v = pg_temp.vec(id + 60000, 16);
VACUUM vacuum_rows;
UPDATE vacuum_rows SET v = pg_temp.vec(id + 70000, 16);
VACUUM vacuum_rows;
SELECT pg_relation_size('vacuum_v') < 1.5 * bytes AS bounded FROM sizes;
SELECT sealvec.verify_index('vacuum_v');

-- in parallel with other indexes, and by options that leave the index alone
SET min_parallel_index_scan_size = 0;
CREATE INDEX vacuum_second ON vacuum_rows USING sealed_ivf (v sealvec_cosine_ops);
DELETE FROM vacuum_rows WHERE id % 3 = 0;
VACUUM (PARALLEL 2) vacuum_rows;
DELETE FROM vacuum_rows WHERE id % 3 = 1;
VACUUM (INDEX_CLEANUP off) vacuum_rows;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <-> pg_temp.vec(1, 16) LIMIT 50');
VACUUM (INDEX_CLEANUP on) vacuum_rows;
SELECT pg_temp.agree('SELECT id FROM vacuum_rows ORDER BY v <=> pg_temp.vec(1, 16) LIMIT 50');
ANALYZE vacuum_rows;
DROP TABLE vacuum_rows;

-- with nobody who could open the ring
SELECT sealvec.create_key_ring('vacuum_client', kek => decode(repeat('33', 32), 'hex')) IS NOT NULL AS made;
SELECT sealvec.unlock('vacuum_client', decode(repeat('33', 32), 'hex'));
CREATE TABLE vacuum_client (id integer, v sealvec(16, vacuum_client)) WITH (autovacuum_enabled = off);
INSERT INTO vacuum_client SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 3000) i;
CREATE INDEX vacuum_client_v ON vacuum_client USING sealed_ivf (v);
INSERT INTO vacuum_client SELECT i, pg_temp.vec(i, 16) FROM generate_series(3001, 3100) i;
DELETE FROM vacuum_client WHERE id % 2 = 0;
SELECT sealvec.lock_all();
VACUUM vacuum_client;
VACUUM vacuum_client;
SELECT sealvec.unlock('vacuum_client', decode(repeat('33', 32), 'hex'));
SELECT pg_temp.agree('SELECT id FROM vacuum_client ORDER BY v <-> pg_temp.vec(14, 16) LIMIT 50');
SELECT sealvec.verify_index('vacuum_client_v');
DROP TABLE vacuum_client;
