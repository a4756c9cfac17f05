-- Key rings at work: what a locked ring, a missing grant or a changed key means for values.
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE ROLE v_owner;
CREATE ROLE v_other;
GRANT EXECUTE ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) TO v_owner;
GRANT CREATE ON SCHEMA public TO v_owner;
SET ROLE v_owner;
DO $$ BEGIN PERFORM sealvec.create_key_ring('v_notes'); END $$;
DO $$ BEGIN PERFORM sealvec.create_key_ring('v_vault', kek => decode(repeat('d1', 32), 'hex')); END $$;
CREATE TABLE v_docs (id int PRIMARY KEY, embedding sealvec(3, v_notes));
INSERT INTO v_docs VALUES (1, '[1,2,3]'), (2, '[4,5,6]');
GRANT SELECT, INSERT ON v_docs TO v_other;
SELECT id, sealvec.open(embedding) FROM v_docs ORDER BY id;

-- A role that may read the table but not open the ring: sealed text, no floats, no distance, nothing new.
SET ROLE v_other;
SELECT id, length(embedding::text) > 20 AS sealed FROM v_docs ORDER BY id;
SELECT sealvec.open(embedding) FROM v_docs;
SELECT embedding <-> '[1,2,3]' FROM v_docs;
INSERT INTO v_docs VALUES (3, '[7,8,9]');

-- Nor does pasting what a dump would hold help, in a table of one's own or without one.
SELECT embedding::text AS pasted FROM v_docs WHERE id = 1 \gset
SELECT sealvec.open(:'pasted'::sealvec);
CREATE TEMP TABLE mine (embedding sealvec(3, v_notes));
INSERT INTO mine VALUES (:'pasted');
SELECT sealvec.open(embedding) FROM mine;
DROP TABLE mine;

-- The table's owner can let it through a function, for just what the function does.
SET ROLE v_owner;
CREATE FUNCTION v_nearest(real[]) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog
    AS $$ SELECT id FROM v_docs ORDER BY embedding <-> $1 LIMIT 1 $$;
SET SESSION AUTHORIZATION v_other;
SELECT v_nearest('{4,5,7}');
SELECT sealvec.open(:'pasted'::sealvec);
SELECT v_nearest('{1,2,4}');
RESET SESSION AUTHORIZATION;

-- With a grant all of it works, and without again none.
SELECT sealvec.grant_ring('v_notes', 'v_other');
SET SESSION AUTHORIZATION v_other;
SELECT sealvec.open(:'pasted'::sealvec);
RESET SESSION AUTHORIZATION;
SELECT sealvec.revoke_ring('v_notes', 'v_other');
SET SESSION AUTHORIZATION v_other;
SELECT sealvec.open(:'pasted'::sealvec);
RESET SESSION AUTHORIZATION;
SET ROLE v_owner;

-- A client-held ring: locked, it takes nothing in and gives nothing out; sealed values still move.
CREATE TABLE v_secrets (id int PRIMARY KEY, embedding sealvec(3, v_vault));
INSERT INTO v_secrets VALUES (1, '[1,2,3]');
SELECT sealvec.unlock('v_vault', decode(repeat('d1', 32), 'hex'));
INSERT INTO v_secrets VALUES (1, '[1,2,3]'), (2, '[1,2,5]');
SELECT sealvec.lock('v_vault');
SELECT sealvec.open(embedding) FROM v_secrets;
SELECT count(*) FROM v_secrets WHERE embedding <-> '[1,2,3]' < 1;
INSERT INTO v_secrets SELECT id + 10, embedding FROM v_secrets;
SELECT sealvec.unlock('v_vault', decode(repeat('d1', 32), 'hex'));
SELECT id, sealvec.open(embedding) FROM v_secrets ORDER BY id;

-- From one ring to another in one statement, both open.
CREATE TABLE v_moved (id int, embedding sealvec(3, v_notes));
INSERT INTO v_moved SELECT id, sealvec.open(embedding) FROM v_secrets;
SELECT id, sealvec.open(embedding) FROM v_moved ORDER BY id;

-- A new data key seals what comes next; what was sealed before opens as before.
SELECT sealvec.rekey('v_notes');
INSERT INTO v_docs VALUES (3, '[7,8,9]');
SELECT id, sealvec.open(embedding) FROM v_docs ORDER BY id;

-- A new KEK changes no value.
SELECT sealvec.rotate_kek('v_notes');
SELECT id, sealvec.open(embedding) FROM v_docs ORDER BY id;
SELECT sealvec.rotate_kek('v_vault', decode(repeat('d1', 32), 'hex'), decode(repeat('d2', 32), 'hex'));
SELECT sealvec.open(embedding) FROM v_secrets;
SELECT sealvec.unlock('v_vault', decode(repeat('d2', 32), 'hex'));
SELECT id, sealvec.open(embedding) FROM v_secrets ORDER BY id;

-- A ring that first opens inside a parallel query, where settings cannot change, opens all the same.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE TABLE v_big (id int, embedding sealvec(3, v_notes));
INSERT INTO v_big SELECT i, ARRAY[i, i, i]::real[] FROM generate_series(1, 300) i;
ANALYZE v_big;
EXPLAIN (COSTS OFF) SELECT sum(d) FROM (SELECT embedding <-> '[0,0,0]' AS d FROM v_big WHERE id % 3 = 0 OFFSET 0) s;
\c -
SET ROLE v_owner;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT round(sum(d)) FROM (SELECT embedding <-> '[0,0,0]' AS d FROM v_big WHERE id % 3 = 0 OFFSET 0) s;
SELECT round(sum(d)) FROM (SELECT embedding <-> '[0,0,0]' AS d FROM v_big WHERE id % 3 = 0 OFFSET 0) s;
BEGIN;
SELECT round(sum(d)) FROM (SELECT embedding <-> '[0,0,0]' AS d FROM v_big WHERE id % 3 = 0 OFFSET 0) s;
INSERT INTO v_big VALUES (0, '[1,1,1]');
COMMIT;
RESET ALL;
DROP TABLE v_big;

-- Where rings are used.
CREATE DOMAIN v_domain AS sealvec(5, v_vault);
CREATE DOMAIN v_domain2 AS v_domain;
CREATE TABLE v_kinds (a sealvec(2, v_notes)[], d v_domain, e v_domain2[]);
CREATE TYPE v_pair AS (x sealvec(7, v_notes), y int);
SELECT "table", "column", dims, ring FROM sealvec.columns WHERE "table" LIKE 'v\_%' ORDER BY 1, 2;

-- A ring in use is not dropped, and nor is one that only a domain uses.
SELECT sealvec.drop_key_ring('v_notes');
DROP TABLE v_secrets, v_kinds;
SELECT sealvec.drop_key_ring('v_vault');
DROP DOMAIN v_domain2, v_domain;
RESET ROLE;
CREATE TEMP TABLE exported AS SELECT sealvec.export_ring('v_notes') AS bytes;
SET ROLE v_owner;
DROP TYPE v_pair;

-- Values whose ring is gone say so; the ring brought back opens them again.
CREATE TEMP TABLE kept AS SELECT id, embedding::text AS sealed FROM v_docs;
DROP TABLE v_docs, v_moved CASCADE;
SELECT sealvec.drop_key_ring('v_notes');
\set VERBOSITY sqlstate
SELECT sealvec.open(sealed::sealvec) FROM kept;
CREATE TABLE v_docs (id int, embedding sealvec(3, v_notes));
RESET ROLE;
SELECT sealvec.import_ring(bytes, 'v_back') IS NOT NULL AS imported FROM exported;
SELECT id, sealvec.open(sealed::sealvec) FROM kept ORDER BY id;

SELECT sealvec.drop_key_ring('v_back'), sealvec.drop_key_ring('v_vault');
DROP TABLE kept, exported;
DROP FUNCTION IF EXISTS v_nearest(real[]);
REVOKE ALL ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) FROM v_owner;
REVOKE ALL ON SCHEMA public FROM v_owner;
DROP ROLE v_owner, v_other;
