-- A new version of a data key, rows sealed anew under it, what still uses the old one, and its end.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset null '(null)'

-- What a version still seals, once nobody's older snapshot sees rows that are gone.
\set settle 'DO $$ BEGIN FOR i IN 1 .. 300 LOOP COMMIT; EXIT WHEN NOT EXISTS (SELECT FROM sealvec.dek_usage(''o_ring'') WHERE version = 1 AND kind = ''value''); PERFORM pg_sleep(0.1); END LOOP; END $$;'

DO $$ BEGIN PERFORM sealvec.create_key_ring('o_ring'); PERFORM sealvec.create_key_ring('o_other'); END $$;
CREATE TABLE o_docs (id int PRIMARY KEY, v sealvec(4, o_ring), note text);
CREATE TABLE o_truth AS SELECT id, pg_temp.vec(id, 4) AS v FROM generate_series(1, 3000) id;
INSERT INTO o_docs SELECT id, CASE WHEN id % 10 <> 0 THEN v END, 'note ' || id FROM o_truth;
CREATE INDEX o_docs_ivf ON o_docs USING sealed_ivf (v);
SELECT * FROM sealvec.dek_usage('o_ring');
SELECT v::text AS old_text FROM o_docs WHERE id = 1 \gset

-- New rows use the new version, old ones stay readable.
SELECT sealvec.rekey('o_ring');
INSERT INTO o_docs SELECT 10000 + id, v, NULL FROM o_truth WHERE id <= 5;
SELECT * FROM sealvec.dek_usage('o_ring');
CREATE FUNCTION pg_temp.wrong() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM o_docs d FULL JOIN o_truth t ON t.id = CASE WHEN d.id > 10000 THEN d.id - 10000 ELSE d.id END
    WHERE d.id IS NULL OR sealvec.open(d.v) IS DISTINCT FROM CASE WHEN d.id % 10 <> 0 OR d.id > 10000 THEN t.v END
$$;
SELECT pg_temp.wrong();

-- In batches. Triggers and row security are not asked; generated columns, constraints and indexes are kept.
CREATE FUNCTION o_never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
CREATE TRIGGER o_before BEFORE UPDATE ON o_docs FOR EACH ROW EXECUTE FUNCTION o_never();
CREATE TRIGGER o_after AFTER UPDATE ON o_docs FOR EACH STATEMENT EXECUTE FUNCTION o_never();
ALTER TABLE o_docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE ROLE o_role;
GRANT ALL ON o_docs TO o_role;
GRANT ALL ON SCHEMA public TO o_role;
ALTER TABLE o_docs OWNER TO o_role; -- forced row security now hides every row from its owner
CALL sealvec.reseal('o_docs', 'v', 100);
:settle
SELECT * FROM sealvec.dek_usage('o_ring');
SELECT pg_temp.wrong();
SELECT pg_temp.agree('SELECT id FROM o_docs WHERE v IS NOT NULL ORDER BY v <-> ''[0.1,0.2,0.3,0.4]'' LIMIT 50');
CALL sealvec.reseal('o_docs');
SELECT count(*) FROM sealvec.reseal_progress;

-- Whoever owns the table may, if the ring opens for him, and nobody else.
SET ROLE o_role;
CALL sealvec.reseal('o_docs');
SELECT * FROM sealvec.dek_usage('o_ring');
CALL sealvec.retire_dek('o_ring', 1);
SELECT * FROM sealvec.shred('o_ring', 'o_ring');
RESET ROLE;
CREATE ROLE o_stranger;
SELECT sealvec.grant_ring('o_ring', 'o_role');
SET ROLE o_stranger;
CALL sealvec.reseal('o_docs');
SET ROLE o_role;
CALL sealvec.reseal('o_docs');
RESET ROLE;

-- Retired only when nothing needs it any more: here the index does.
CALL sealvec.retire_dek('o_ring', 1);
SELECT retiring FROM sealvec.key_rings WHERE name = 'o_ring';
REINDEX INDEX CONCURRENTLY o_docs_ivf;
SELECT * FROM sealvec.dek_usage('o_ring');
-- A constant in a default, a function and a rule; an array, a row, a domain; a temporary table.
\set ECHO none
SELECT format('ALTER TABLE o_docs ALTER v SET DEFAULT %L', :'old_text') \gexec
SELECT format('CREATE FUNCTION o_constant() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT %L::sealvec(4, o_ring)::text; END', :'old_text') \gexec
\set ECHO all
CREATE DOMAIN o_domain AS sealvec(4, o_ring);
CREATE TYPE o_pair AS (n int, v sealvec(4, o_ring));
CREATE TABLE o_shapes (id int, a sealvec(4, o_ring)[], p o_pair, d o_domain, ps o_pair[]);
INSERT INTO o_shapes SELECT 1, ARRAY[x, NULL, x]::sealvec(4, o_ring)[], ROW(7, x)::o_pair, x, ARRAY[ROW(1, x)::o_pair, ROW(2, NULL)::o_pair]
FROM (SELECT :'old_text'::sealvec(4, o_ring) AS x) x;
INSERT INTO o_shapes SELECT 2;
CREATE MATERIALIZED VIEW o_view AS SELECT d FROM o_shapes;
SELECT * FROM sealvec.dek_usage('o_ring') WHERE version = 1;
CALL sealvec.retire_dek('o_ring', 1);
ALTER TABLE o_docs ALTER v DROP DEFAULT;
DROP FUNCTION o_constant();
CALL sealvec.reseal('o_view');
CALL sealvec.reseal('o_shapes');
REFRESH MATERIALIZED VIEW o_view;
:settle
SELECT * FROM sealvec.dek_usage('o_ring') WHERE version = 1 OR object LIKE '%o\_shapes';
SELECT id, sealvec.open(a[1]) = (SELECT v FROM o_truth WHERE o_truth.id = 1) AS a1, a[2] IS NULL AS a2,
    sealvec.open(a[3]) = (SELECT v FROM o_truth WHERE o_truth.id = 1) AS a3, (p).n,
    sealvec.open((p).v) = (SELECT v FROM o_truth WHERE o_truth.id = 1) AS p, sealvec.open(d) = (SELECT v FROM o_truth WHERE o_truth.id = 1) AS d,
    sealvec.open((ps[1]).v) = (SELECT v FROM o_truth WHERE o_truth.id = 1) AS ps FROM o_shapes ORDER BY id;

-- Partitions, of which one has its columns elsewhere; values out of line.
CREATE TABLE o_parts (id int, v sealvec(1000, o_ring)) PARTITION BY RANGE (id);
CREATE TABLE o_parts_1 PARTITION OF o_parts FOR VALUES FROM (1) TO (10);
CREATE TABLE o_parts_2 (junk text, v sealvec(1000, o_ring), id int);
ALTER TABLE o_parts_2 DROP COLUMN junk;
ALTER TABLE o_parts ATTACH PARTITION o_parts_2 FOR VALUES FROM (10) TO (20);
INSERT INTO o_parts SELECT id, pg_temp.vec(id, 1000) FROM generate_series(1, 19) id;
SELECT sealvec.rekey('o_ring');
SELECT version, object, "column", uses FROM sealvec.dek_usage('o_ring') WHERE object LIKE '%parts%';
CALL sealvec.reseal('o_parts', 'v', 3);
SELECT count(*) FROM o_parts WHERE sealvec.open(v) IS DISTINCT FROM pg_temp.vec(id, 1000);
SELECT sum(uses) FILTER (WHERE version = 3) AS new FROM sealvec.dek_usage('o_ring') WHERE object LIKE '%parts%';
DROP TABLE o_parts;

-- The end of a version: what it sealed is taken from nobody any more.
CALL sealvec.retire_dek('o_ring', 1);
CALL sealvec.retire_dek('o_ring', 1);
SELECT version, kind, uses FROM sealvec.dek_usage('o_ring') WHERE object LIKE '%o\_docs%' OR object IS NULL;
SELECT pg_temp.wrong();
INSERT INTO o_docs VALUES (20000, :'old_text');
SELECT :'old_text'::sealvec(4, o_ring) IS NOT NULL;
SELECT sealvec.open(:'old_text'::sealvec);
SELECT sealvec.verify_index('o_docs_ivf');
BEGIN;
CALL sealvec.retire_dek('o_ring', 2);
ROLLBACK;
CALL sealvec.retire_dek('o_ring', 3);
CALL sealvec.retire_dek('o_ring', 4);
CALL sealvec.retire_dek('o_ring', 0);
CALL sealvec.retire_dek('o_ring', NULL);
CALL sealvec.retire_dek(NULL, 1);
CALL sealvec.retire_dek('o_nothing', 1);
SELECT * FROM sealvec.dek_usage('o_nothing');
SELECT * FROM sealvec.dek_usage(NULL);

-- A ring that the client holds: open for rows, shown for what changes it.
\set kek '''\\x6161616161616161616161616161616161616161616161616161616161616161'''
\set wrong '''\\x6262626262626262626262626262626262626262626262626262626262626262'''
DO $$ BEGIN PERFORM sealvec.create_key_ring('o_vault', kek => decode(repeat('61', 32), 'hex')); END $$;
SELECT sealvec.unlock('o_vault', :kek);
CREATE TABLE o_secret (v sealvec(2, o_vault));
INSERT INTO o_secret VALUES ('[1,2]'), (NULL), ('[3,4]');
SELECT sealvec.rekey('o_vault');
SELECT sealvec.rekey('o_vault', :kek);
SELECT version, uses FROM sealvec.dek_usage('o_vault');
CALL sealvec.reseal('o_secret');
SELECT sealvec.unlock('o_vault', :kek);
CALL sealvec.reseal('o_secret');
SELECT sealvec.open(v) FROM o_secret;
CALL sealvec.retire_dek('o_vault', 1);
CALL sealvec.retire_dek('o_vault', 1, :wrong);
SELECT retiring FROM sealvec.key_rings WHERE name = 'o_vault';
DO $$ BEGIN FOR i IN 1 .. 300 LOOP COMMIT; EXIT WHEN NOT EXISTS (SELECT FROM sealvec.dek_usage('o_vault') WHERE version = 1 AND uses > 0); PERFORM pg_sleep(0.1); END LOOP; END $$;
CALL sealvec.retire_dek('o_vault', 1, :kek);
SELECT sealvec.unlock('o_vault', :kek);
SELECT sealvec.open(v) FROM o_secret;

-- What can't be resealed.
CREATE TABLE o_plain (id int);
CALL sealvec.reseal('o_plain');
CALL sealvec.reseal('o_docs', 'note');
CALL sealvec.reseal('o_docs', 'nothing');
CALL sealvec.reseal('o_docs', 'v', 0);
CALL sealvec.reseal('o_docs_ivf');
CALL sealvec.reseal(NULL);
CALL sealvec.reseal(0::regclass);
SELECT sealvec.retire_finish('o_ring', 2, NULL);
BEGIN;
CALL sealvec.reseal('o_docs');
ROLLBACK;
BEGIN READ ONLY;
CALL sealvec.reseal('o_docs');
ROLLBACK;
SELECT sealvec.reseal_step(1000);
-- A value that was never sealed stays, is told, and keeps the version.
CREATE TABLE o_forged (v sealvec(2, o_vault));
INSERT INTO o_forged VALUES ('[5,6]');
SELECT left(v::text, -1) || CASE right(v::text, 1) WHEN 'A' THEN 'B' ELSE 'A' END AS forged FROM o_forged \gset
INSERT INTO o_forged VALUES (:'forged');
SELECT sealvec.rekey('o_vault', :kek);
SELECT sealvec.unlock('o_vault', :kek);
CALL sealvec.reseal('o_forged');
SELECT version, uses FROM sealvec.dek_usage('o_vault') WHERE object = 'public.o_forged' AND version = 2;

-- Whoever waits for others does nothing besides. By force a version goes at once, and what needed it is told.
BEGIN;
SELECT sealvec.retire_wait('o_vault');
ROLLBACK;
SELECT sealvec.retire_wait('o_vault');
CALL sealvec.retire_dek('o_vault', 2, :kek);
CALL sealvec.retire_dek('o_vault', 3, :kek, force => true);
CALL sealvec.retire_dek('o_vault', 2, force => true);
CALL sealvec.retire_dek('o_vault', 2, :wrong, force => true);
SET ROLE o_stranger;
CALL sealvec.retire_dek('o_vault', 2, :kek, force => true);
RESET ROLE;
DROP TABLE o_secret;
CREATE TABLE o_secret (v sealvec(2, o_vault));
SELECT sealvec.unlock('o_vault', :kek);
INSERT INTO o_secret VALUES ('[1,2]'), ('[3,4]');
CALL sealvec.retire_dek('o_vault', 2, :kek, force => true);
SELECT sealvec.unlock('o_vault', :kek);
SELECT sealvec.open(v) FROM o_secret;
SELECT DISTINCT version, kind, object FROM sealvec.dek_usage('o_vault');

-- Shredded: nothing opens any more, in no session.
SELECT * FROM sealvec.shred('o_vault');
SELECT * FROM sealvec.shred('o_vault', 'o_ring');
DELETE FROM o_forged;
CREATE FUNCTION pg_temp.shred_rows() RETURNS SETOF text LANGUAGE sql AS $$ SELECT concat_ws(' ', kind, object, "column", version) FROM sealvec.shred('o_vault', confirm => 'o_vault') WHERE object <> 'public.o_forged' $$;
SELECT DISTINCT pg_temp.shred_rows();
\set VERBOSITY sqlstate
SELECT sealvec.open(v) FROM o_secret;
\set VERBOSITY default
SELECT count(*) FROM sealvec.key_rings WHERE name = 'o_vault';

-- Rows that row security hides from their own table's and ring's owner are counted, resealed and kept in use all the same.
SELECT sealvec.set_ring_owner('o_ring', 'o_role');
SET ROLE o_role;
CREATE TABLE o_hidden (id int, v sealvec(4, o_ring));
INSERT INTO o_hidden VALUES (1, '[1,2,3,4]'), (2, '[5,6,7,8]'), (3, NULL);
ALTER TABLE o_hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT sealvec.rekey('o_ring') AS newest;
SELECT count(*) FROM o_hidden;
SELECT version, uses FROM sealvec.dek_usage('o_ring') WHERE object = 'public.o_hidden';
\set VERBOSITY sqlstate
CALL sealvec.retire_dek('o_ring', 3);
\set VERBOSITY default
CALL sealvec.reseal('o_hidden');
SELECT version, uses FROM sealvec.dek_usage('o_ring') WHERE object = 'public.o_hidden' AND version = 4;
RESET ROLE;
SELECT id, sealvec.open(v) FROM o_hidden ORDER BY id;
DROP TABLE o_hidden;

DROP TABLE o_docs, o_truth, o_plain, o_forged, o_secret, o_shapes CASCADE;
DROP TYPE o_pair;
DROP DOMAIN o_domain;
DROP FUNCTION o_never();
REVOKE ALL ON SCHEMA public FROM o_role;
DROP ROLE o_role, o_stranger;
SELECT sealvec.drop_key_ring('o_ring'), sealvec.drop_key_ring('o_other');
