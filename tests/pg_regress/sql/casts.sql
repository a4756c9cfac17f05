-- Arrays become sealed vectors by themselves; nothing comes out but by open().
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('casts'); END $$;
SELECT CASE castsource WHEN 'sealvec'::regtype THEN 'sealvec' ELSE castsource::regtype::text END AS source,
    casttarget::regtype AS target, castfunc::regproc, castcontext AS context, castmethod AS method
FROM pg_cast WHERE 'sealvec'::regtype IN (castsource, casttarget) ORDER BY castsource::regtype::text COLLATE "C";

CREATE TABLE casts (id serial, e sealvec(3, casts));
INSERT INTO casts (e) VALUES (ARRAY[1,2,3]), (ARRAY[1.5,2.5,3.5]), (ARRAY[0.1,0.2,0.3]::real[]), (ARRAY[0.1,0.2,0.3]::float8[]),
    (ARRAY[16777217,2,3]), (ARRAY[1e-60,1e-46,-0.0]::numeric[]), (ARRAY[1e-60,1e-46,-0.0]::float8[]), ('{1,2,3}'::int[]),
    ('{1,-32768,32767}'::smallint[]), ('{1,-9223372036854775808,9007199254740993}'::bigint[]), ('{1,-2147483648,2147483647}'::int[]);
SELECT id, sealvec.open(e) FROM casts ORDER BY id;
-- Rounded as Postgres rounds to real: once, to nearest.
SELECT sealvec.open(ARRAY[n, n, n]::sealvec) = ARRAY[n, n, n]::real[] AS numeric_as_real,
    sealvec.open(ARRAY[n, n, n]::float8[]::sealvec) = ARRAY[n, n, n]::float8[]::real[] AS float8_as_real
FROM (VALUES (0.1::numeric), (1.00000005960464477539), (1.00000017881393432617), (3.4028234e38), (1.17549435e-38), (1e-45)) v (n);

SELECT sealvec.open(ARRAY[n, -n, 1]::bigint[]::sealvec) = ARRAY[n, -n, 1]::real[] AS bigint_as_real,
    sealvec.open(ARRAY[n % 2147483648, 2, 1]::int[]::sealvec) = ARRAY[n % 2147483648, 2, 1]::int[]::real[] AS integer_as_real
FROM unnest(ARRAY[16777217, 16777219, 33554435, 9223372036854775807, 4611686293305294849]) n;

-- In an expression, as a parameter, as an operand
SELECT id FROM casts WHERE e <-> ARRAY[1.5,2.5,3.5] = 0;
SELECT ARRAY[1,2,3]::real[] <-> e AS distance FROM casts WHERE id = 1;
SELECT sealvec.dims(ARRAY[1,2,3]::real[]);
SELECT ARRAY[1,2,3]::sealvec(4, casts);
SELECT sealvec.open(ARRAY[1,2,3]::sealvec(3, casts));
PREPARE casts_real (real[]) AS SELECT id, e <-> $1 AS distance FROM casts ORDER BY e <-> $1, id LIMIT 2;
EXECUTE casts_real ('{1,2,3}');
PREPARE casts_smallint (smallint[]) AS SELECT id, e <-> $1 AS distance FROM casts ORDER BY e <-> $1, id LIMIT 2;
EXECUTE casts_smallint ('{1,2,3}');
-- One place that casts the same array for each row, or another now and then: each row gets its own.
PREPARE casts_again (real[]) AS
    SELECT n, sealvec.open((CASE WHEN n % 4 = 0 THEN ARRAY[n, n, n]::real[] ELSE $1 END)::sealvec) AS opened FROM generate_series(1, 9) n;
EXECUTE casts_again ('{1,2,3}');
PREPARE casts_six (real[]) AS SELECT count(*) FROM generate_series(1, 5) n WHERE
    sealvec.same($1::sealvec, ARRAY[1, 2, 3]::real[]::sealvec) AND sealvec.same(ARRAY[n, 2, 3]::real[]::sealvec, ARRAY[n, 2, 3]::float8[]::sealvec)
    AND NOT sealvec.same($1::sealvec, ARRAY[n, n, n]::real[]::sealvec);
EXECUTE casts_six ('{1,2,3}');
-- What is stored is sealed anew each time, and two statements never show that they asked for the same.
CREATE TABLE casts_stored (e sealvec(3, casts));
PREPARE casts_store (real[]) AS INSERT INTO casts_stored SELECT $1 FROM generate_series(1, 20);
EXECUTE casts_store ('{1,2,3}');
SELECT count(DISTINCT e::text) AS sealed, count(*) FILTER (WHERE sealvec.open(e) = '{1,2,3}') AS opened FROM casts_stored;
DROP TABLE casts_stored;
PREPARE casts_text (real[]) AS SELECT $1::sealvec::text AS sealed FROM generate_series(1, 3) n OFFSET 2;
BEGIN;
EXECUTE casts_text ('{1,2,3}') \gset first_
EXECUTE casts_text ('{1,2,3}') \gset second_
SELECT :'first_sealed' = :'second_sealed' AS same;
COMMIT;
-- An array literal without a type is still text for the column, and of all the array types none is guessed.
SELECT id FROM casts WHERE e <-> '{1.5,2.5,3.5}' = 0;
SELECT sealvec.dims('{1.5,2.5,3.5}');

-- Arrays that start elsewhere than at 1 are vectors too; several dimensions and NULLs are not.
SELECT sealvec.open('[5:7]={1,2,3}'::real[]::sealvec);
SELECT '{{1,2},{3,4}}'::real[]::sealvec IS NULL;
SELECT ARRAY[1,NULL,3]::real[]::sealvec IS NULL;
SELECT '{}'::real[]::sealvec IS NULL;
SELECT '{1,NULL,3}'::smallint[]::sealvec IS NULL;
SELECT ARRAY['a']::text[]::sealvec IS NULL;
SELECT NULL::real[]::sealvec IS NULL;

-- Never the reverse.
SELECT e::real[] FROM casts LIMIT 1;
SELECT e::float8[] FROM casts LIMIT 1;
SELECT array_length(e, 1) FROM casts LIMIT 1;
SELECT e[1] FROM casts LIMIT 1;
SELECT e::text LIKE 'sealvec1.%' FROM casts LIMIT 1;
SELECT e::bytea FROM casts LIMIT 1;
SELECT e::jsonb FROM casts LIMIT 1;
SELECT to_jsonb(e)::text LIKE '"sealvec1.%"' FROM casts LIMIT 1;

-- pgvector's types are an extra; without pgvector there is nothing to enable.
SELECT sealvec.enable_pgvector_casts();
DEALLOCATE ALL;
DROP TABLE casts;
