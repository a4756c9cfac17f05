-- A role that may INSERT and not open pastes text in the shape of sealed values: its rows are left out, nobody else notices.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\set VERBOSITY default
CREATE ROLE f_owner;
CREATE ROLE f_other;
GRANT EXECUTE ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) TO f_owner;
GRANT CREATE ON SCHEMA public TO f_owner;
SET ROLE f_owner;
DO $$ BEGIN PERFORM sealvec.create_key_ring('f_notes'); END $$;
DO $$ BEGIN PERFORM sealvec.create_key_ring('f_other'); END $$;
CREATE TABLE f_docs (id integer, v sealvec(8, f_notes)) WITH (autovacuum_enabled = false);
CREATE TABLE f_others (v sealvec(8, f_other));
INSERT INTO f_others SELECT pg_temp.vec(1, 8);
CREATE INDEX f_docs_v ON f_docs USING sealed_ivf (v);
INSERT INTO f_docs SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 20) i;
GRANT SELECT, INSERT ON f_docs, f_others TO f_other;

-- A value whose tag fails, one that names a data key that the ring does not have, and one of another ring, which the column refuses.
CREATE FUNCTION pg_temp.forge(sealed text, place integer, bytes text) RETURNS sealvec LANGUAGE plpgsql AS $$
DECLARE
    body text := translate(substr(sealed, 10), '-_', '+/');
    value bytea := decode(rpad(body, (length(body) + 3) / 4 * 4, '='), 'base64');
BEGIN
    value := overlay(value PLACING decode(bytes, 'hex') FROM place);
    RETURN 'sealvec1.' || rtrim(translate(replace(encode(value, 'base64'), E'\n', ''), '+/', '-_'), '=');
END
$$;
SET ROLE f_other;
SELECT v::text AS honest FROM f_docs WHERE id = 1 \gset
SELECT v::text AS foreign FROM f_others \gset
INSERT INTO f_docs VALUES (101, pg_temp.forge(:'honest', 60, 'abcdef0102'));
INSERT INTO f_docs VALUES (102, pg_temp.forge(:'honest', 9, '63'));
INSERT INTO f_docs VALUES (103, :'foreign');

-- Scans leave it out and say so once, however many rows there are and however often a join starts over.
SET ROLE f_owner;
SELECT pg_temp.ids('SELECT id FROM f_docs ORDER BY v <-> pg_temp.vec(3, 8) LIMIT 3', true);
SET enable_seqscan = off;
SET enable_sort = off;
SELECT count(*) FROM (SELECT id FROM f_docs ORDER BY v <-> pg_temp.vec(1, 8)) rows;
SELECT count(*) FROM generate_series(1, 3) i, LATERAL (SELECT id FROM f_docs ORDER BY v <-> pg_temp.vec(i, 8) LIMIT 5) near;

-- verify_index names each, and goes on with the others.
SELECT sealvec.verify_index('f_docs_v');

-- The merge of a keyed insert goes past them, and so does one that was asked for; neither tries them again.
INSERT INTO f_docs SELECT i, pg_temp.vec(i, 8) FROM generate_series(21, 200) i;
SELECT rows_in_tail < 128 AS merged FROM sealvec.index_stats('f_docs_v');
INSERT INTO f_docs SELECT i, pg_temp.vec(i, 8) FROM generate_series(201, 400) i;
SELECT sealvec.merge('f_docs_v');
SELECT count(*) FROM (SELECT id FROM f_docs ORDER BY v <-> pg_temp.vec(1, 8)) rows;
SELECT sealvec.train('f_docs_v') AS lists;
SELECT sealvec.verify_index('f_docs_v');

-- No build fails on them.
REINDEX INDEX f_docs_v;
REINDEX INDEX CONCURRENTLY f_docs_v;
DROP INDEX f_docs_v;
CREATE INDEX f_docs_v ON f_docs USING sealed_ivf (v) WITH (storage_precision = float16);
SELECT sealvec.verify_index('f_docs_v');
DROP INDEX f_docs_v;
CREATE INDEX CONCURRENTLY f_docs_v ON f_docs USING sealed_ivf (v);
SELECT count(*) FROM (SELECT id FROM f_docs ORDER BY v <-> pg_temp.vec(1, 8)) rows;

-- Nor does an UPDATE of other columns, which brings every row anew.
UPDATE f_docs SET id = id;
SELECT sealvec.verify_index('f_docs_v');
SELECT count(*) FROM (SELECT id FROM f_docs ORDER BY v <-> pg_temp.vec(1, 8)) rows;

-- VACUUM merges past them as well, and forgets them when they are gone.
SET ROLE f_other;
INSERT INTO f_docs SELECT 500 + i, pg_temp.forge(:'honest', 60, 'abcdef0102') FROM generate_series(1, 200) i;
SET ROLE f_owner;
VACUUM f_docs;
SELECT rows_in_tail FROM sealvec.index_stats('f_docs_v');
DELETE FROM f_docs WHERE id IN (101, 102) OR id > 500;
VACUUM f_docs;
SELECT sealvec.verify_index('f_docs_v');
SELECT count(*) FROM (SELECT id FROM f_docs ORDER BY v <-> pg_temp.vec(1, 8)) rows;

-- A role that can open is told at once; a locked ring is an error, and never taken for a forgery.
SELECT v::text AS honest FROM f_docs WHERE id = 1 \gset
INSERT INTO f_docs VALUES (101, pg_temp.forge(:'honest', 60, 'abcdef0102'));
SELECT sealvec.lock('f_notes');
INSERT INTO f_docs SELECT 600, v FROM f_docs WHERE id = 1;
SELECT id FROM f_docs ORDER BY v <-> '[1,2,3,4,5,6,7,8]' LIMIT 1;
SELECT sealvec.merge('f_docs_v');
SELECT sealvec.verify_index('f_docs_v');
SELECT sealvec.unlock('f_notes');
SELECT sealvec.verify_index('f_docs_v');
RESET ROLE;
DROP TABLE f_docs, f_others;
