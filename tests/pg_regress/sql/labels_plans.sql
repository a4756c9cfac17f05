-- STABLE does not keep ORDER BY from the index: literals, casts, parameters in custom and generic plans, and what a query computes once.
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('plans'); END $$;
CREATE TABLE plans (id int PRIMARY KEY, e sealvec(3, plans));
INSERT INTO plans SELECT i, ARRAY[i, i % 7, i % 11] FROM generate_series(1, 2000) i;
CREATE INDEX ON plans USING sealed_ivf (e);
-- How the query reads the rows in order, without what differs from run to run and from Postgres to Postgres
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line ~ 'plans_e_idx|Order By|Sort|Seq Scan' THEN
            line := regexp_replace(line, 'sealvec1\.[A-Za-z0-9_-]+', 'sealvec1.', 'g');
            line := regexp_replace(line, '\(3,\d+\)', '(3,n)', 'g');
            RETURN NEXT trim(regexp_replace(line, '\$0|\(InitPlan 1\)\.col1', 'subquery', 'g'));
        END IF;
    END LOOP;
END $$;
SET enable_seqscan = off; -- the table is small
SELECT '[5,5,5]'::sealvec(3, plans)::text AS sealed \gset
SELECT plan($$SELECT id FROM plans ORDER BY e <-> '[5,5,5]' LIMIT 3$$);
SELECT plan($$SELECT id FROM plans ORDER BY '[5,5,5]' <-> e LIMIT 3$$);
SELECT plan($$SELECT id FROM plans ORDER BY e <-> ARRAY[5,5,5] LIMIT 3$$);
SELECT plan($$SELECT id FROM plans ORDER BY e <-> ARRAY[5,5,5]::sealvec(3, plans) LIMIT 3$$);
SELECT plan(format($$SELECT id FROM plans ORDER BY e <-> %L LIMIT 3$$, :'sealed'));
SELECT plan($$SELECT id FROM plans ORDER BY e <-> (SELECT e FROM plans WHERE id = 5) LIMIT 3$$);
SELECT plan($$SELECT a.id, b.id FROM (SELECT * FROM plans WHERE id < 3) a, LATERAL (SELECT id FROM plans p ORDER BY p.e <-> a.e LIMIT 2) b$$);
PREPARE by_value (sealvec) AS SELECT id FROM plans ORDER BY e <-> $1 LIMIT 3;
PREPARE by_array (real[]) AS SELECT id FROM plans ORDER BY e <-> $1 LIMIT 3;
PREPARE by_literal AS SELECT id FROM plans ORDER BY e <-> '[5,5,5]' LIMIT 3;
SET plan_cache_mode = force_custom_plan;
SELECT plan($$EXECUTE by_value ('[5,5,5]')$$);
SELECT plan($$EXECUTE by_array ('{5,5,5}')$$);
SELECT plan($$EXECUTE by_literal$$);
EXECUTE by_value ('[5,5,5]');
EXECUTE by_array ('{5,5,5}');
SET plan_cache_mode = force_generic_plan;
SELECT plan($$EXECUTE by_value ('[5,5,5]')$$);
SELECT plan($$EXECUTE by_array ('{5,5,5}')$$);
SELECT plan($$EXECUTE by_literal$$);
EXECUTE by_value ('[5,5,5]');
EXECUTE by_value ('[9,2,9]');
EXECUTE by_array ('{5,5,5}');
EXECUTE by_literal;
RESET plan_cache_mode;
-- In PL/pgSQL, first with the plan for the value, then with the generic one
CREATE FUNCTION nearest(q sealvec) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT id FROM plans ORDER BY e <-> q LIMIT 1);
END $$;
SELECT count(*) FROM generate_series(1, 20) i WHERE nearest(ARRAY[i, i % 7, i % 11]) = i;
-- An index on the distance itself, and a predicate on it, stay refused: their values would be stored in clear.
CREATE INDEX ON plans ((e <-> '[1,2,3]'));
DROP TABLE plans;
DROP FUNCTION plan;
DROP FUNCTION nearest;
DEALLOCATE ALL;
