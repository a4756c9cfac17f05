-- Lists that a session keeps as it opened them (sealvec.list_cache) answer as the index stands, whatever was done to it since.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT sealvec.create_key_ring('kept') IS NOT NULL AS made;
CREATE TABLE kept (id integer PRIMARY KEY, v sealvec(16, kept));
INSERT INTO kept SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 3000) i;
CREATE INDEX kept_v ON kept USING sealed_ivf (v) WITH (lists = 30);
CREATE UNLOGGED TABLE kept_unlogged (id integer PRIMARY KEY, v sealvec(16, kept));
CREATE TEMPORARY TABLE kept_temporary (id integer PRIMARY KEY, v sealvec(16, kept));

-- the same again and again: opened, opened and kept, kept
CREATE FUNCTION pg_temp.thrice(name text DEFAULT 'kept') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT DISTINCT pg_temp.agree(format('SELECT id FROM %I ORDER BY v <-> pg_temp.vec(5, 16) LIMIT 40', name))
    FROM generate_series(1, 3)
$$;
SHOW sealvec.list_cache;
SELECT pg_temp.thrice();

-- rows that come, go and change
INSERT INTO kept SELECT i, pg_temp.vec(i, 16) FROM generate_series(3001, 4000) i;
SELECT pg_temp.thrice();
SELECT sealvec.merge('kept_v') > 0 AS merged;
SELECT pg_temp.thrice();
DELETE FROM kept WHERE id % 3 = 0;
SELECT pg_temp.thrice();
VACUUM kept;
SELECT pg_temp.thrice();
UPDATE kept SET v = pg_temp.vec(-id, 16) WHERE id % 7 = 0;
SELECT pg_temp.thrice();
SELECT sealvec.merge('kept_v') > 0 AS merged;
SELECT pg_temp.thrice();

-- lists that are made anew, an index that is
SELECT sealvec.train('kept_v') > 0 AS trained;
SELECT pg_temp.thrice();
REINDEX INDEX kept_v;
SELECT pg_temp.thrice();
TRUNCATE kept;
INSERT INTO kept SELECT i, pg_temp.vec(i + 9, 16) FROM generate_series(1, 3000) i;
SELECT sealvec.merge('kept_v') >= 0 AS merged;
SELECT pg_temp.thrice();

-- what is rolled back
BEGIN;
INSERT INTO kept SELECT i, pg_temp.vec(i, 16) FROM generate_series(5001, 5200) i;
SELECT pg_temp.thrice();
ROLLBACK;
SELECT pg_temp.thrice();

-- a transaction's own index, which may go unlogged until it commits
BEGIN;
CREATE TABLE kept_young (id integer PRIMARY KEY, v sealvec(16, kept));
INSERT INTO kept_young SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 1000) i;
CREATE INDEX kept_young_v ON kept_young USING sealed_ivf (v) WITH (lists = 10);
SELECT pg_temp.thrice('kept_young');
INSERT INTO kept_young SELECT i, pg_temp.vec(i, 16) FROM generate_series(1001, 1500) i;
SELECT sealvec.merge('kept_young_v') > 0 AS merged;
SELECT pg_temp.thrice('kept_young');
COMMIT;
SELECT pg_temp.thrice('kept_young');
DELETE FROM kept_young WHERE id % 2 = 0;
SELECT sealvec.train('kept_young_v') > 0 AS trained;
SELECT pg_temp.thrice('kept_young');

-- pages without a position in the log are opened each time
INSERT INTO kept_unlogged SELECT * FROM kept_young;
INSERT INTO kept_temporary SELECT * FROM kept_young;
CREATE INDEX kept_unlogged_v ON kept_unlogged USING sealed_ivf (v) WITH (lists = 10);
CREATE INDEX kept_temporary_v ON kept_temporary USING sealed_ivf (v) WITH (lists = 10);
SELECT pg_temp.thrice('kept_unlogged');
SELECT pg_temp.thrice('kept_temporary');
DELETE FROM kept_unlogged WHERE id % 3 = 0;
INSERT INTO kept_unlogged SELECT i, pg_temp.vec(i, 16) FROM generate_series(2001, 2500) i;
SELECT sealvec.train('kept_unlogged_v') > 0 AS trained;
SELECT pg_temp.thrice('kept_unlogged');

-- little room, none, and much again
SET sealvec.list_cache = '16kB';
SELECT pg_temp.thrice();
SET sealvec.list_cache = 0;
SELECT pg_temp.thrice();
SET sealvec.list_cache = '1MB';
SELECT pg_temp.thrice();

-- what is kept serves nobody once the ring is closed
SELECT sealvec.lock('kept');
CREATE ROLE kept_other;
GRANT SELECT ON kept TO kept_other;
SET ROLE kept_other;
SET enable_seqscan = off;
SELECT id FROM kept ORDER BY v <-> '[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]' LIMIT 1;
RESET ROLE;
SELECT id FROM kept ORDER BY v <-> '[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]' LIMIT 1;
RESET enable_seqscan;
DROP TABLE kept, kept_unlogged, kept_temporary, kept_young;
DROP ROLE kept_other;
SELECT sealvec.drop_key_ring('kept');
