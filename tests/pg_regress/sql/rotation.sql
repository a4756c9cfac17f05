-- A new version of a data key, rows sealed anew under it, and what still uses the old one.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset null '(null)'
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\i :helpers

DO $$ BEGIN PERFORM sealvec.create_key_ring('o_ring'); PERFORM sealvec.create_key_ring('o_other'); END $$;
CREATE TABLE o_docs (id int PRIMARY KEY, v sealvec(4, o_ring), note text);
CREATE TABLE o_truth AS SELECT id, pg_temp.vec(id, 4) AS v FROM generate_series(1, 3000) id;
INSERT INTO o_docs SELECT id, CASE WHEN id % 10 <> 0 THEN v END, 'note ' || id FROM o_truth;
CREATE INDEX o_docs_ivf ON o_docs USING sealed_ivf (v);
SELECT * FROM sealvec.dek_usage('o_ring');

-- New rows use the new version, old ones stay readable.
SELECT sealvec.rekey('o_ring');
INSERT INTO o_docs SELECT 10000 + id, v, NULL FROM o_truth WHERE id <= 5;
SELECT * FROM sealvec.dek_usage('o_ring');
CREATE FUNCTION pg_temp.wrong() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM o_docs d FULL JOIN o_truth t ON t.id = CASE WHEN d.id > 10000 THEN d.id - 10000 ELSE d.id END
    WHERE d.id IS NULL OR sealvec.open(d.v) IS DISTINCT FROM CASE WHEN d.id % 10 <> 0 OR d.id > 10000 THEN t.v END
$$;
SELECT pg_temp.wrong();

-- In batches; triggers, rules and row security are not asked, generated columns and constraints are kept.
CREATE FUNCTION o_never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
CREATE TRIGGER o_before BEFORE UPDATE ON o_docs FOR EACH ROW EXECUTE FUNCTION o_never();
CREATE TRIGGER o_after AFTER UPDATE ON o_docs FOR EACH STATEMENT EXECUTE FUNCTION o_never();
ALTER TABLE o_docs ADD COLUMN dims int GENERATED ALWAYS AS (sealvec.dims(v)) STORED, ADD CHECK (id > 0);
ALTER TABLE o_docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CALL sealvec.reseal('o_docs', 'v', 100);
SELECT * FROM sealvec.dek_usage('o_ring');
SELECT pg_temp.wrong();
SELECT count(*), count(v), count(dims), count(note) FROM o_docs;
CALL sealvec.reseal('o_docs');
SELECT count(*) FROM sealvec.reseal_progress;
