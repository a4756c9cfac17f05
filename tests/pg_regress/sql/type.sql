-- Values survive every path into a column: what comes out of open() is what went in.
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('type_a'); PERFORM sealvec.create_key_ring('type_b'); END $$;
CREATE TABLE type_t (id int PRIMARY KEY, e sealvec(3, type_a));
SELECT atttypmod = sealvec_columns.ring_number << 14 | 3 AS typmod_holds_dims_and_ring
FROM pg_attribute, sealvec.columns AS sealvec_columns
WHERE attrelid = 'type_t'::regclass AND attname = 'e' AND "table" = 'type_t';
SELECT "table", "column", dims, ring FROM sealvec.columns WHERE "table" = 'type_t';

-- VALUES, one row and several
INSERT INTO type_t VALUES (1, '[1,2,3]');
INSERT INTO type_t VALUES (2, '{4,5,6}'), (3, ARRAY[7,8,9]::real[]), (4, NULL);
INSERT INTO type_t VALUES (5, ARRAY[0.1,0.2,0.3]), (6, ARRAY[10,11,12]), (7, ARRAY[13,14,15]::float8[]);
SELECT id, sealvec.open(e) FROM type_t ORDER BY id;

-- INSERT … SELECT: from values, from a column of the same ring, from text
TRUNCATE type_t;
INSERT INTO type_t SELECT i, ARRAY[i, i + 1, i + 2] FROM generate_series(1, 3) i;
INSERT INTO type_t SELECT id + 10, e FROM type_t;
INSERT INTO type_t SELECT 20, '[1,1,1]'::text::sealvec;
INSERT INTO type_t SELECT id + 20, e::text::sealvec(3, type_a) FROM type_t WHERE id = 1;
SELECT id, sealvec.open(e) FROM type_t ORDER BY id;

-- UPDATE, ON CONFLICT, MERGE, RETURNING, CTE
UPDATE type_t SET e = '[0,0,1]' WHERE id = 1 RETURNING sealvec.open(e);
INSERT INTO type_t VALUES (1, '[0,0,2]') ON CONFLICT (id) DO UPDATE SET e = excluded.e RETURNING sealvec.open(e);
MERGE INTO type_t USING (VALUES (1, '[0,0,3]'::sealvec), (99, '[0,0,4]')) AS s (id, e) ON type_t.id = s.id
    WHEN MATCHED THEN UPDATE SET e = s.e
    WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.e);
MERGE INTO type_t USING (VALUES (99)) AS s (id) ON type_t.id = s.id WHEN MATCHED THEN UPDATE SET e = '[0,0,5]';
WITH moved AS (DELETE FROM type_t WHERE id = 20 RETURNING e)
INSERT INTO type_t SELECT 30, e FROM moved RETURNING id, sealvec.open(e);
WITH q (v) AS MATERIALIZED (SELECT '[0,0,5]'::sealvec) SELECT id, e <-> v AS distance FROM type_t, q WHERE id IN (1, 99) ORDER BY 1;
SELECT id, sealvec.open(e) FROM type_t WHERE id IN (1, 30, 99) ORDER BY id;

-- COPY: elements as text, then what the column prints, as text, CSV and binary
CREATE TABLE type_copy (LIKE type_t);
COPY type_copy FROM stdin;
1	[1,2,3]
2	{4,5,6}
3	\N
\.
COPY type_copy FROM stdin (FORMAT csv);
4,"[7,8,9]"
\.
SELECT id, sealvec.open(e) FROM type_copy ORDER BY id;
CREATE PROCEDURE type_round_trip(format text) LANGUAGE plpgsql AS $$
DECLARE file text := current_setting('data_directory') || '/type_round_trip';
BEGIN
    EXECUTE format('COPY type_copy TO %L (FORMAT %s)', file, format);
    CREATE TEMP TABLE type_back (LIKE type_copy) ON COMMIT DROP;
    EXECUTE format('COPY type_back FROM %L (FORMAT %s)', file, format);
    RAISE NOTICE '%: % of % values came back', format,
        (SELECT count(*) FROM type_copy a JOIN type_back b USING (id)
         WHERE coalesce(sealvec.same(a.e, b.e), a.e IS NULL AND b.e IS NULL)), (SELECT count(*) FROM type_copy);
END $$;
CALL type_round_trip('text');
CALL type_round_trip('csv');
CALL type_round_trip('binary');

-- COPY binary also takes pgvector's layout: count, zero, big-endian floats.
CREATE PROCEDURE type_receive(field bytea) LANGUAGE plpgsql AS $$
DECLARE file text := current_setting('data_directory') || '/type_receive';
BEGIN
    EXECUTE format('COPY (SELECT 100, %L::bytea) TO %L (FORMAT binary)', field, file);
    EXECUTE format('COPY type_copy FROM %L (FORMAT binary)', file);
END $$;
CALL type_receive('\x00030000' || float4send(1.5) || float4send(-2) || float4send(3e38));
CALL type_receive(sealvec.type_send(ARRAY[4,5,6]::sealvec(3, type_a)));
CALL type_receive(sealvec.type_send('[7,8,9]'));
-- and an array of floats, which COPY does not cast
CALL type_receive(array_send('{10,11.5,-12}'::float4[]));
CALL type_receive(array_send('[5:7]={13,14.5,-3e38}'::float8[]));
SELECT sealvec.open(e) FROM type_copy WHERE id = 100 ORDER BY e <-> '[0,0,0]';
DELETE FROM type_copy WHERE id = 100;

-- arrays, domains, composites, and all three at once
CREATE DOMAIN type_domain AS sealvec(3, type_a) CHECK (sealvec.dims(VALUE) = 3);
CREATE TYPE type_pair AS (label text, e sealvec(3, type_a));
CREATE TABLE type_nested (id int, a sealvec(3, type_a)[], d type_domain, p type_pair, pd type_domain[]);
INSERT INTO type_nested VALUES
    (1, ARRAY['[1,2,3]', '[4,5,6]']::sealvec[], '[1,2,3]', ROW('x', '[4,5,6]'), ARRAY['[7,8,9]']::type_domain[]),
    (2, '{"[1,2,3]",NULL}', ARRAY[1,2,3]::real[]::sealvec, '(x,"[4,5,6]")', '{"[7,8,9]"}'),
    (3, ARRAY[ARRAY[1,2,3]::real[]::sealvec], NULL, NULL, NULL);
INSERT INTO type_nested SELECT id + 10, a, d, p, pd FROM type_nested;
SELECT id, (SELECT array_agg(sealvec.open(v)) FROM unnest(a) v WHERE v IS NOT NULL) AS a, sealvec.open(d) AS d,
    (p).label, sealvec.open((p).e) AS p, sealvec.open(pd[1]) AS pd
FROM type_nested ORDER BY id;
UPDATE type_nested SET a[1] = '[9,9,9]', p.e = '[8,8,8]' WHERE id = 1
    RETURNING sealvec.open(a[1]) AS a1, sealvec.open(a[2]) AS a2, sealvec.open((p).e) AS p;
-- Element by element the text is sealed, so it is valid input again.
SELECT id, sealvec.same(a[1], (a::text::sealvec(3, type_a)[])[1]), sealvec.same((p).e, (p::text::type_pair).e)
FROM type_nested WHERE id < 3 ORDER BY id;

-- PL/pgSQL: variables with and without ring, assignment, record, EXECUTE … USING, function results
CREATE FUNCTION type_plpgsql() RETURNS SETOF real[] LANGUAGE plpgsql AS $$
DECLARE
    kept sealvec(3, type_a) := '[1,2,3]';
    loose sealvec := '[4,5,6]';
    row type_t;
    found real[];
BEGIN
    RETURN NEXT sealvec.open(kept);
    kept := loose;
    RETURN NEXT sealvec.open(kept);
    kept := ARRAY[7,8,9]::real[];
    INSERT INTO type_t VALUES (40, kept), (41, loose);
    RETURN QUERY SELECT sealvec.open(e) FROM type_t WHERE id IN (40, 41) ORDER BY id;
    SELECT * INTO row FROM type_t WHERE id = 40;
    row.e := '[10,11,12]';
    RETURN NEXT sealvec.open(row.e);
    EXECUTE 'UPDATE type_t SET e = $1 WHERE id = 40' USING loose;
    EXECUTE 'SELECT sealvec.open(e) FROM type_t WHERE e <-> $1 = 0 AND id = 40' INTO found USING loose;
    RETURN NEXT found;
END $$;
SELECT * FROM type_plpgsql();
CREATE FUNCTION type_sql(sealvec) RETURNS sealvec LANGUAGE sql STABLE AS 'SELECT $1';
SELECT sealvec.open(type_sql('[1,2,3]'));
CREATE FUNCTION type_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.e := '[0.5,0.5,0.5]'; RETURN NEW; END $$;
CREATE TRIGGER type_trigger BEFORE UPDATE ON type_copy FOR EACH ROW EXECUTE FUNCTION type_trigger();
UPDATE type_copy SET id = id WHERE id = 1 RETURNING sealvec.open(e);

-- PREPARE and EXECUTE, custom and generic plans
PREPARE type_insert (int, sealvec) AS INSERT INTO type_t VALUES ($1, $2) RETURNING sealvec.open(e);
PREPARE type_literal AS INSERT INTO type_t VALUES (60, '[6,6,6]') RETURNING sealvec.open(e);
PREPARE type_nearest (sealvec) AS SELECT id, e <-> $1 AS distance FROM type_t ORDER BY e <-> $1 LIMIT 2;
SET plan_cache_mode = force_custom_plan;
EXECUTE type_insert (50, '[5,5,5]');
EXECUTE type_nearest ('[5,5,5]');
SET plan_cache_mode = force_generic_plan;
EXECUTE type_insert (51, ARRAY[5,5,6]);
EXECUTE type_literal;
EXECUTE type_nearest ('[5,5,5]');
EXECUTE type_nearest (ARRAY[5,5,6]::real[]);
RESET plan_cache_mode;

-- Subtransactions: a refused value leaves nothing behind, and what follows is sealed as ever.
BEGIN;
INSERT INTO type_t VALUES (70, '[7,0,0]');
SAVEPOINT s;
INSERT INTO type_t VALUES (71, '[7,1]');
ROLLBACK TO s;
INSERT INTO type_t VALUES (72, '[7,2,0]');
COMMIT;
SELECT id, sealvec.open(e) FROM type_t WHERE id BETWEEN 70 AND 79 ORDER BY id;

-- Views, partitions and temporary tables keep the typmod; ALTER COLUMN TYPE changes the ring by way of the elements.
CREATE VIEW type_view AS SELECT id, e FROM type_t;
INSERT INTO type_view VALUES (80, '[8,0,0]');
CREATE TABLE type_part (id int, e sealvec(3, type_a)) PARTITION BY RANGE (id);
CREATE TABLE type_part_1 PARTITION OF type_part FOR VALUES FROM (0) TO (10);
INSERT INTO type_part VALUES (1, '[1,2,3]');
CREATE TEMP TABLE type_temp AS SELECT id, e FROM type_t WHERE id = 80;
CREATE MATERIALIZED VIEW type_matview AS SELECT e FROM type_part;
SELECT (SELECT sealvec.open(e) FROM type_part), (SELECT sealvec.open(e) FROM type_temp), (SELECT sealvec.open(e) FROM type_matview);
ALTER TABLE type_copy ALTER e TYPE sealvec(3, type_b);
ALTER TABLE type_copy ALTER e TYPE sealvec(3, type_b) USING sealvec.open(e)::sealvec(3, type_b);
SELECT "table", ring FROM sealvec.columns WHERE "table" LIKE 'type\_copy';
SELECT id, sealvec.open(e) FROM type_copy ORDER BY id;

-- 16,000 dimensions, out of line; one dimension, with a short header
CREATE TABLE type_size (one sealvec(1, type_a), many sealvec(16000, type_a));
INSERT INTO type_size SELECT '[42]', array_agg(i) FROM generate_series(1, 16000) i;
INSERT INTO type_size SELECT * FROM type_size;
SELECT sealvec.open(one) AS one, sealvec.dims(many), (sealvec.open(many))[15999:16000], pg_column_size(many), one <-> '[40]' AS distance FROM type_size;

-- Sealing draws a nonce: equal elements never look equal.
SELECT count(DISTINCT e::text) FROM (SELECT ARRAY[1,2,3]::real[]::sealvec(3, type_a) AS e FROM generate_series(1, 100)) s;

DROP TABLE type_t, type_copy, type_nested, type_part, type_size, type_temp CASCADE;
DROP DOMAIN type_domain;
DROP TYPE type_pair CASCADE;
DROP FUNCTION type_sql, type_plpgsql, type_trigger;
DROP PROCEDURE type_round_trip, type_receive;
DEALLOCATE ALL;
