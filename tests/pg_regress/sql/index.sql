-- What the owner of a table may ask of an index, and nobody else.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT sealvec.create_key_ring('index') IS NOT NULL AS made;
CREATE ROLE index_owner;
CREATE ROLE index_reader;
SELECT sealvec.grant_ring('index', 'index_owner');
SELECT sealvec.grant_ring('index', 'index_reader');
GRANT CREATE ON SCHEMA public TO index_owner;
SET ROLE index_owner;
CREATE TABLE index_rows (id integer, v sealvec(16, index));
GRANT SELECT ON index_rows TO index_reader;
CREATE INDEX index_v ON index_rows USING sealed_ivf (v sealvec_cosine_ops) WITH (storage_precision = float16);

-- an empty one
SELECT * FROM sealvec.list_stats('index_v');
SELECT sealvec.merge('index_v'), sealvec.train('index_v'), sealvec.verify_index('index_v');
SELECT pg_temp.agree('SELECT id FROM index_rows ORDER BY v <=> pg_temp.vec(1, 16) LIMIT 10');

-- filled, it clusters by itself
INSERT INTO index_rows SELECT i, pg_temp.vec(i, 16) FROM generate_series(1, 9000) i;
SELECT distance, dims, storage_precision, dek_version, lists > 1 AS clustered, list_rows_max < 1000 AS split,
       rows_in_lists + rows_in_l0 + rows_in_tail AS rows, rows_in_tail < 128 AS tail, rows_dead
FROM sealvec.index_stats('index_v');
SELECT sum(rows) = (SELECT rows_in_lists + rows_in_l0 FROM sealvec.index_stats('index_v')) AS every_row,
       count(*) FILTER (WHERE is_l0) AS l0, bool_and(chunks > 0 AND pages > 0 OR is_l0) AS filled
FROM sealvec.list_stats('index_v');
SELECT sealvec.verify_index('index_v');
SELECT pg_temp.agree('SELECT id FROM index_rows ORDER BY v <=> pg_temp.vec(-1, 16) LIMIT 100');

-- merged and trained
SELECT sealvec.merge('index_v') BETWEEN 1 AND 127 AS merged;
SELECT rows_in_tail FROM sealvec.index_stats('index_v');
SELECT sealvec.train('index_v') > 1 AS trained;
SELECT rows_in_lists, rows_in_l0, rows_in_tail FROM sealvec.index_stats('index_v');
SELECT sealvec.verify_index('index_v');
SELECT pg_temp.agree('SELECT id FROM index_rows ORDER BY v <=> pg_temp.vec(-1, 16) LIMIT 100');

-- merging does not wait for the transaction's end to be seen, nor does it go with a rollback
BEGIN;
INSERT INTO index_rows SELECT i, pg_temp.vec(i, 16) FROM generate_series(9001, 9500) i;
SELECT sealvec.merge('index_v') >= 0 AS merged;
SELECT pg_temp.agree('SELECT id FROM index_rows ORDER BY v <=> pg_temp.vec(9100, 16) LIMIT 10');
ROLLBACK;
SELECT pg_temp.agree('SELECT id FROM index_rows ORDER BY v <=> pg_temp.vec(9100, 16) LIMIT 10');
SELECT sealvec.verify_index('index_v');

-- a cursor that is open while everything is rewritten around it
BEGIN;
DECLARE around CURSOR FOR SELECT id FROM index_rows ORDER BY v <=> pg_temp.vec(17, 16);
FETCH 5 FROM around;
SELECT sealvec.train('index_v') > 1 AS trained;
INSERT INTO index_rows SELECT i, pg_temp.vec(i, 16) FROM generate_series(9501, 10000) i;
SELECT sealvec.merge('index_v') >= 0 AS merged;
FETCH 5 FROM around;
MOVE FORWARD ALL FROM around;
COMMIT;

-- not for those who only read
SET ROLE index_reader;
SELECT sealvec.merge('index_v');
SELECT sealvec.train('index_v');
SELECT sealvec.verify_index('index_v');
SELECT * FROM sealvec.index_stats('index_v');
SELECT * FROM sealvec.list_stats('index_v');
SELECT pg_temp.agree('SELECT id FROM index_rows ORDER BY v <=> pg_temp.vec(17, 16) LIMIT 5');

-- nor without the right to open; what needs no key is still shown
RESET ROLE;
SELECT sealvec.revoke_ring('index', 'index_owner');
SET ROLE index_owner;
SELECT sealvec.merge('index_v');
SELECT sealvec.verify_index('index_v');
SELECT dims FROM sealvec.index_stats('index_v');
REINDEX INDEX index_v;
SELECT rows_in_tail FROM sealvec.index_stats('index_v');
RESET ROLE;
SELECT sealvec.grant_ring('index', 'index_owner');

-- something else
CREATE INDEX index_btree ON index_rows (id);
SELECT sealvec.merge('index_btree');
SELECT sealvec.verify_index('index_rows');
SELECT sealvec.index_stats(0);
SELECT sealvec.merge(NULL) IS NULL AS nothing;
BEGIN READ ONLY;
SELECT sealvec.merge('index_v');
ROLLBACK;

DROP TABLE index_rows;
REVOKE CREATE ON SCHEMA public FROM index_owner;
SELECT sealvec.revoke_ring('index', 'index_owner');
SELECT sealvec.revoke_ring('index', 'index_reader');
DROP ROLE index_owner;
DROP ROLE index_reader;
