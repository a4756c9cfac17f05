-- Distances are pgvector's, and there is no equality.
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('operators_a'); PERFORM sealvec.create_key_ring('operators_b'); END $$;
CREATE TABLE operators (id int, a sealvec(3, operators_a), b sealvec(3, operators_b));
INSERT INTO operators VALUES (1, '[1,2,3]', '[4,5,6]'), (2, '[0,0,0]', '[1,0,0]'), (3, '[1,1,1]', '[-1,-1,-1]'), (4, '[3,4,0]', '[6,8,0]'), (5, NULL, '[1,1,1]');
-- Two columns, under two rings
SELECT id, round((a <-> b)::numeric, 6) AS l2, round((a <#> b)::numeric, 6) AS ip, round((a <=> b)::numeric, 6) AS cosine,
    (a <=> b) = 'NaN' AS no_angle
FROM operators ORDER BY id;
-- Column and literal, both ways round
SELECT id, round((a <-> '[1,2,3]')::numeric, 6) AS l2, ('[1,2,3]' <-> a) = (a <-> '[1,2,3]') AS commutes FROM operators ORDER BY a <-> '[1,2,3]';
SELECT id FROM operators ORDER BY a <=> '[1,1,1]', id;
SELECT id FROM operators ORDER BY a <#> '[1,1,1]', id;
SELECT '[1,2,3]'::sealvec <-> '[1,2,5]', '[1,2,3]' <-> '[1,2,5]'::sealvec;
-- The extremes of real, whose squares float32 can't hold; a zero vector has no angle.
SELECT '[3e38]'::sealvec <-> '[-3e38]' AS l2, '[3e38]'::sealvec <#> '[3e38]' AS ip, '[3e38,3e38]'::sealvec <=> '[-3e38,3e38]' AS cosine;
SELECT '[1e-30]'::sealvec <-> '[0]' AS l2, '[1e-30]'::sealvec <#> '[2e-30]' AS ip, '[1e-30,0]'::sealvec <=> '[1e-30,1e-30]' AS cosine,
    '[1e-44,0]'::sealvec <=> '[0,3e38]' AS denormal, '[0,0]'::sealvec <=> '[1e-30,1]' AS no_angle;
-- An index orders them as a sequential scan does.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
CREATE FUNCTION pg_temp.sized(i integer, size integer) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg((x * 10::float8 ^ size)::real ORDER BY o) FROM unnest(pg_temp.vec(i, 5)) WITH ORDINALITY v (x, o)
$$;
CREATE TABLE operators_sizes (id int, e sealvec(5, operators_a));
INSERT INTO operators_sizes SELECT 100 * size + i, pg_temp.sized(100 * size + i, 9 * size - 43) FROM generate_series(0, 9) size, generate_series(1, 20) i;
CREATE FUNCTION pg_temp.agree_indexed(ops text, operator text, kept text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE INDEX sized ON operators_sizes USING sealed_ivf (e %s) WITH (storage_precision = %L)', ops, kept);
    RETURN NEXT pg_temp.agree(format('SELECT id FROM operators_sizes ORDER BY e %s pg_temp.sized(1, -43)', operator));
    RETURN NEXT pg_temp.agree(format('SELECT id FROM operators_sizes WHERE id > 900 ORDER BY e %s pg_temp.sized(1, 38)', operator));
    DROP INDEX sized;
END
$$;
SELECT ops, kept, pg_temp.agree_indexed(ops, operator, kept)
FROM (VALUES ('sealvec_l2_ops', '<->'), ('sealvec_cosine_ops', '<=>'), ('sealvec_ip_ops', '<#>')) o (ops, operator),
    unnest(ARRAY['float32', 'float16']) kept;
DROP TABLE operators_sizes;
-- Rounding never leaves 0 to 2
SELECT bool_and(('[' || i || ',0.1]')::sealvec <=> ('[' || i || ',0.1]')::sealvec BETWEEN 0 AND 2) FROM generate_series(1, 100) i;
-- Many dimensions agree with a sum in double precision.
SELECT dims, abs(d - s) < 1e-4 * s AS right FROM (
    SELECT n AS dims, (SELECT array_agg(sin(i)::real) FROM generate_series(1, n) i)::sealvec <-> (SELECT array_agg(cos(i)::real) FROM generate_series(1, n) i) AS d,
        (SELECT sqrt(sum((sin(i)::real::float8 - cos(i)::real) ^ 2)) FROM generate_series(1, n) i) AS s
    FROM unnest(ARRAY[1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 65, 384, 1536, 16000]) n) t;
-- Lengths must agree.
SELECT '[1,2]'::sealvec <-> '[1,2,3]';
SELECT '[1,2]'::sealvec <=> '[1,2,3]';
SELECT '[1,2]'::sealvec <#> '[1,2,3]';
SELECT a <-> '[1]' FROM operators;
-- NULL in, NULL out
SELECT a <-> NULL IS NULL, a <=> NULL IS NULL, sealvec.open(NULL) IS NULL, sealvec.same(a, NULL) IS NULL FROM operators WHERE id = 1;

-- same(): the elements, whatever sealed them
SELECT sealvec.same('[1,2,3]', '[1,2,3]'), sealvec.same('[1,2,3]', '[1,2,4]'), sealvec.same('[1,2]', '[1,2,3]'), sealvec.same('[0]', '[-0]');
SELECT sealvec.same(x.a, y.a) FROM operators x, operators y WHERE x.id = 1 AND y.id = 1;

-- No =, no order, no hash: sealed bytes differ each time, so all these would lie.
SELECT a = a FROM operators;
SELECT a < a FROM operators;
SELECT DISTINCT a FROM operators;
SELECT a FROM operators UNION SELECT b FROM operators;
SELECT a FROM operators GROUP BY a;
SELECT id FROM operators ORDER BY a;
SELECT max(a) FROM operators;
CREATE INDEX ON operators (a);
CREATE INDEX ON operators USING hash (a);
ALTER TABLE operators ADD UNIQUE (a);
SELECT count(DISTINCT a) FROM operators;
SELECT a IN ('[1,2,3]') FROM operators;
SELECT ROW(a) = ROW(a) FROM operators;
SELECT ARRAY[a] = ARRAY[a] FROM operators;
-- UNION ALL is fine.
SELECT count(*) FROM (SELECT a FROM operators UNION ALL SELECT b FROM operators) u;
DROP TABLE operators;
