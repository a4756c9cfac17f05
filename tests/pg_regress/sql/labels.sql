-- What the planner and ANALYZE are told about the type, and what that keeps them from storing.
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('labels'); END $$;
SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, p.provolatile AS volatile, p.proisstrict AS strict, p.proparallel AS parallel
FROM pg_proc p
WHERE p.oid IN (
    SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend, typmodin, typmodout, typanalyze]::oid[]) FROM pg_type WHERE oid = 'sealvec'::regtype
    UNION SELECT castfunc FROM pg_cast WHERE casttarget = 'sealvec'::regtype
    UNION SELECT oprcode::oid FROM pg_operator WHERE oprleft = 'sealvec'::regtype
    UNION SELECT oid FROM pg_proc WHERE pronamespace = 'sealvec'::regnamespace AND proname IN ('open', 'same', 'dims'))
ORDER BY proname, pg_get_function_identity_arguments(p.oid) COLLATE "C";
SELECT typlen, typbyval, typstorage, typalign, typcategory, typmodout FROM pg_type WHERE oid = 'sealvec'::regtype;
SELECT oprname, oprcom::regoperator AS commutator, oprcanhash, oprcanmerge, oprrest, oprjoin FROM pg_operator WHERE oprleft = 'sealvec'::regtype ORDER BY oprname;

CREATE TABLE labels (id int, e sealvec(3, labels), n real[]);
INSERT INTO labels SELECT i % 10, ARRAY[i % 10, 1, 2], ARRAY[1, 2, 3] FROM generate_series(1, 1000) i;

-- STABLE: nothing that would store a distance, an element or a session value can be built on these functions.
CREATE INDEX ON labels ((e <-> '[1,2,3]'));
CREATE INDEX ON labels (sealvec.open(e));
CREATE INDEX ON labels (id) WHERE e <-> '[1,2,3]' < 1;
ALTER TABLE labels ADD g float8 GENERATED ALWAYS AS (e <-> '[1,2,3]') STORED;
-- Postgres checks a generation expression before its cast to the column's type, so a sealed copy of a plain column can be had.
ALTER TABLE labels ADD g sealvec(3, labels) GENERATED ALWAYS AS (n) STORED;
SELECT sealvec.open(g) FROM labels LIMIT 1;

-- ANALYZE stores nothing of the column: no sample, no width, no count of distinct values.
ANALYZE labels;
SELECT attname FROM pg_stats WHERE tablename = 'labels' ORDER BY 1;
-- Of arrays, domains and rows it keeps at most the share of NULLs and the width.
CREATE DOMAIN labels_domain AS sealvec(3, labels);
CREATE TYPE labels_row AS (e sealvec(3, labels));
CREATE TABLE labels_nested AS SELECT ARRAY[e] AS a, e::labels_domain AS d, ROW(e)::labels_row AS r, ARRAY[ROW(e)::labels_row] AS ra FROM labels;
ANALYZE labels_nested;
SELECT attname, null_frac, most_common_vals IS NULL AND histogram_bounds IS NULL AND most_common_elems IS NULL AND correlation IS NULL AS nothing
FROM pg_stats WHERE tablename = 'labels_nested' ORDER BY 1;
DROP TABLE labels_nested;
DROP TYPE labels_row;
DROP DOMAIN labels_domain;

-- STABLE functions of constants are computed once a scan at most and fold in no plan.
EXPLAIN (COSTS OFF) SELECT id FROM labels WHERE e <-> ARRAY[1,2,3]::real[] < 1;
SELECT provolatile FROM pg_proc WHERE oid = 'sealvec.coerce(sealvec, integer, boolean)'::regprocedure;

-- RESTRICTED: the leader opens, workers never need a key.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT count(*) FROM labels WHERE id = 3;
EXPLAIN (COSTS OFF) SELECT id FROM labels WHERE e <-> ARRAY[1,2,3]::real[] < 1;
EXPLAIN (COSTS OFF) SELECT id, e <-> '[1,2,3]' FROM labels WHERE id = 3;
SELECT count(*) FROM labels WHERE e <-> '[1,1,2]' = 0;
DROP TABLE labels;
