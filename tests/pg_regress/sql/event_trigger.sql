-- The event trigger refuses what would die with the session, and nothing else.
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('ddl'); END $$;
SELECT evtname, evtevent, evtenabled FROM pg_event_trigger WHERE evtname LIKE 'sealvec%';
SELECT '[1,2,3]'::sealvec(3, ddl)::text AS sealed \gset
CREATE SCHEMA ddl;
SET search_path = ddl, public;

-- Columns without dimensions and ring
CREATE TABLE bad (id int, e sealvec);
CREATE TABLE bad (id int, e sealvec[]);
CREATE TEMP TABLE bad (e sealvec);
CREATE UNLOGGED TABLE bad (e sealvec);
CREATE TABLE bad AS SELECT '[1,2,3]'::sealvec AS e;
SELECT '[1,2,3]'::sealvec AS e INTO bad;
CREATE MATERIALIZED VIEW bad AS SELECT ARRAY[1,2,3]::real[]::sealvec AS e;
CREATE TYPE bad AS (id int, e sealvec);
CREATE DOMAIN bad AS sealvec;
CREATE DOMAIN bad AS sealvec[];
CREATE FOREIGN DATA WRAPPER ddl_fdw;
CREATE SERVER ddl_server FOREIGN DATA WRAPPER ddl_fdw;
CREATE FOREIGN TABLE bad (e sealvec) SERVER ddl_server;
CREATE TABLE bad (id int, e sealvec) PARTITION BY RANGE (id);
CREATE SCHEMA bad CREATE TABLE t (e sealvec);
CREATE TABLE good (id int, e sealvec(3, ddl), a sealvec(3, ddl)[]);
ALTER TABLE good ADD f sealvec;
ALTER TABLE good ALTER e TYPE sealvec;
CREATE TYPE good_type AS (id int, e sealvec(3, ddl));
ALTER TYPE good_type ADD ATTRIBUTE f sealvec;
CREATE FOREIGN TABLE good_foreign (e sealvec(3, ddl)) SERVER ddl_server;
ALTER FOREIGN TABLE good_foreign ADD f sealvec;
-- Nothing of all that is left.
SELECT relname, relkind FROM pg_class WHERE relnamespace = 'ddl'::regnamespace ORDER BY 1;

-- Stored expressions with a literal
ALTER TABLE good ALTER e SET DEFAULT '[1,2,3]';
ALTER TABLE good ALTER a SET DEFAULT '{"[1,2,3]"}';
CREATE TABLE bad (e sealvec(3, ddl) DEFAULT '[1,2,3]');
CREATE TABLE bad (e sealvec(3, ddl) CHECK (e <-> '[1,2,3]' < 1));
ALTER TABLE good ADD CONSTRAINT near CHECK (e <-> '[1,2,3]' < 1);
CREATE TABLE bad (p good_type, f sealvec(3, ddl)[] DEFAULT ARRAY[ARRAY[1,2,3]::real[]::sealvec, '[1,2,3]']);
CREATE DOMAIN bad AS sealvec(3, ddl) DEFAULT '[1,2,3]';
CREATE DOMAIN bad AS sealvec(3, ddl) CHECK (VALUE <-> '[1,2,3]' < 1);
CREATE DOMAIN good_domain AS sealvec(3, ddl);
ALTER DOMAIN good_domain SET DEFAULT '[1,2,3]';
ALTER DOMAIN good_domain ADD CONSTRAINT near CHECK (VALUE <-> '[1,2,3]' < 1);
CREATE VIEW bad AS SELECT id FROM good ORDER BY e <-> '[1,2,3]';
CREATE MATERIALIZED VIEW bad AS SELECT id FROM good ORDER BY e <-> '[1,2,3]';
CREATE FUNCTION bad() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM good WHERE e <-> '[1,2,3]' < 1; END;
CREATE PROCEDURE bad() BEGIN ATOMIC INSERT INTO good (e) VALUES ('[1,2,3]'); END;
CREATE FUNCTION bad(q sealvec DEFAULT '[1,2,3]') RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE POLICY bad ON good USING (e <-> '[1,2,3]' < 1);
CREATE POLICY bad ON good WITH CHECK (e <-> '[1,2,3]' < 1);
CREATE POLICY good_policy ON good USING (id > 0);
ALTER POLICY good_policy ON good USING (e <-> '[1,2,3]' < 1);
CREATE RULE bad AS ON INSERT TO good DO ALSO DELETE FROM good WHERE e <-> '[1,2,3]' < 1;
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER bad BEFORE INSERT ON good FOR EACH ROW WHEN (NEW.e <-> '[1,2,3]' < 1) EXECUTE FUNCTION noop();

-- A row's attribute has its ring already, so there the literal is sealed for good.
ALTER TABLE good ADD f good_type DEFAULT '(1,"[1,2,3]")';

-- With the sealed text of the ring they stand, and work.
ALTER TABLE good ALTER e SET DEFAULT :'sealed';
INSERT INTO good (id) VALUES (1) RETURNING sealvec.open(e);
ALTER TABLE good ADD CONSTRAINT near CHECK (e <-> :'sealed' < 1);
\set VERBOSITY terse
INSERT INTO good VALUES (2, '[5,5,5]');
\set VERBOSITY default
CREATE VIEW good_view AS SELECT id, e <-> :'sealed' AS distance FROM good;
SELECT * FROM good_view;
CREATE FUNCTION good_function() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM good WHERE e <-> :'sealed' < 1; END;
SELECT good_function();
-- A function whose body is text reads its literals anew in each session.
CREATE FUNCTION good_text_function() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT count(*) FROM ddl.good WHERE e <-> '[1,2,3]' < 1 $$;
SELECT good_text_function();

-- Statistics over what a value opens to
CREATE STATISTICS bad ON (sealvec.open(e)), id FROM good;
CREATE STATISTICS bad ON (e <-> :'sealed') FROM good;
CREATE STATISTICS bad ON (sealvec.dims(e)) FROM good;
CREATE STATISTICS good_statistics ON id, (id + 1) FROM good;
CREATE STATISTICS bad ON id, e FROM good;

-- … nor by way of a domain, a row, an array of them, or a function that takes anything
CREATE TYPE deep_type AS (p good_type, d good_domain[]);
CREATE TABLE nested (id int, e sealvec(3, ddl), d good_domain, p good_type, q deep_type, pa good_type[], da good_domain[], plain real[]);
CREATE FUNCTION of_value(sealvec) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT sealvec.open($1)';
CREATE FUNCTION of_domain(good_domain) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT sealvec.open($1)';
CREATE FUNCTION of_row(good_type) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT sealvec.open(($1).e)';
CREATE FUNCTION of_deep_row(deep_type) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT sealvec.open((($1).p).e)';
CREATE FUNCTION of_rows(good_type[]) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT sealvec.open(($1[1]).e)';
CREATE FUNCTION of_domains(good_domain[]) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT sealvec.open($1[1])';
CREATE FUNCTION of_anything(anyelement) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1::text';
\set VERBOSITY terse
CREATE STATISTICS bad ON (of_value(e)) FROM nested;
CREATE STATISTICS bad ON (of_value(d)) FROM nested;
CREATE STATISTICS bad ON (of_value((p).e)) FROM nested;
CREATE STATISTICS bad ON (of_domain(d)) FROM nested;
CREATE STATISTICS bad ON (of_row(p)) FROM nested;
CREATE STATISTICS bad ON (of_deep_row(q)) FROM nested;
CREATE STATISTICS bad ON (of_rows(pa)) FROM nested;
CREATE STATISTICS bad ON (of_domains(da)) FROM nested;
CREATE STATISTICS bad ON (of_anything(d)) FROM nested;
CREATE STATISTICS bad ON (of_anything(q)) FROM nested;
CREATE STATISTICS bad ON ((p).e <-> e) FROM nested;
-- Another attribute of the row is not about its vector.
CREATE STATISTICS good_attribute ON ((p).id) FROM nested;
-- A column or attribute that becomes sealed under statistics
CREATE STATISTICS good_so_far ON (of_anything(plain)) FROM nested;
ALTER TABLE nested ALTER plain TYPE sealvec(3, ddl);
CREATE TYPE growing AS (id int);
CREATE FUNCTION of_growing(growing) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE TABLE grown (g growing);
CREATE STATISTICS good_row ON (of_growing(g)) FROM grown;
ALTER TYPE growing ADD ATTRIBUTE e sealvec(3, ddl);
-- … also one of a table's row, of what inherits from the table, of a typed table, deep inside, or taken by an operator
CREATE TABLE growing_table (id int);
CREATE TABLE growing_child () INHERITS (growing_table);
CREATE TABLE growing_parts (id int) PARTITION BY RANGE (id);
CREATE TABLE growing_part PARTITION OF growing_parts DEFAULT;
CREATE TABLE growing_typed OF growing;
CREATE VIEW growing_view AS SELECT 1 AS id;
CREATE TYPE around AS (rows growing_table[]);
CREATE DOMAIN domain_around AS around;
CREATE FUNCTION of_table(growing_table) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION of_child(growing_child) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION of_part(growing_part) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION of_typed(growing_typed) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION of_view(growing_view) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE OPERATOR ## (RIGHTARG = growing_table, FUNCTION = of_table);
CREATE TABLE holder (t growing_table, c growing_child, p growing_part, y growing_typed, v growing_view, a domain_around, id int);
DROP STATISTICS good_row;
CREATE STATISTICS over_it ON (of_table(t)) FROM holder;
ALTER TABLE growing_table ADD e sealvec(3, ddl);
DROP STATISTICS over_it;
CREATE STATISTICS over_it ON (## t) FROM holder;
ALTER TABLE growing_table ADD e sealvec(3, ddl);
DROP STATISTICS over_it;
CREATE STATISTICS over_it ON (of_child(c)) FROM holder;
ALTER TABLE growing_table ADD e sealvec(3, ddl);
DROP STATISTICS over_it;
CREATE STATISTICS over_it ON (of_anything(a)) FROM holder;
ALTER TABLE growing_table ADD e sealvec(3, ddl);
DROP STATISTICS over_it;
CREATE STATISTICS over_it ON (of_table(ROW(id))) FROM holder;
ALTER TABLE growing_table ADD e sealvec(3, ddl);
DROP STATISTICS over_it;
CREATE STATISTICS over_it ON (of_part(p)) FROM holder;
ALTER TABLE growing_parts ADD e sealvec(3, ddl);
DROP STATISTICS over_it;
CREATE STATISTICS over_it ON (of_typed(y)) FROM holder;
ALTER TYPE growing ADD ATTRIBUTE e sealvec(3, ddl) CASCADE;
DROP STATISTICS over_it;
CREATE STATISTICS over_it ON (of_view(v)) FROM holder;
CREATE OR REPLACE VIEW growing_view AS SELECT 1 AS id, NULL::sealvec(3, ddl) AS e;
-- Others' statistics stop nobody: those that the command did not touch …
ALTER EVENT TRIGGER sealvec_check_ddl DISABLE;
CREATE OR REPLACE VIEW growing_view AS SELECT 1 AS id, NULL::sealvec(3, ddl) AS e;
ALTER EVENT TRIGGER sealvec_check_ddl ENABLE ALWAYS;
CREATE TYPE good_innocent AS (id int);
ALTER TYPE good_innocent ADD ATTRIBUTE e sealvec(3, ddl);
ALTER TYPE growing ADD ATTRIBUTE e sealvec(3, ddl) CASCADE;
ALTER TABLE growing_table ADD e sealvec(3, ddl);
DROP STATISTICS over_it;
-- … and those that another session has for itself.
CREATE TABLE growing_again (id int);
CREATE TEMP TABLE mine (g growing_again);
CREATE FUNCTION pg_temp.of_again(growing_again) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE STATISTICS pg_temp.of_mine ON (pg_temp.of_again(g)) FROM mine;
\setenv PGDATABASE :DBNAME
\! psql -Xq -c "ALTER TABLE ddl.growing_again ADD e sealvec(3, ddl)" -c "CREATE TYPE ddl.good_beside_mine AS (id int)" 2>&1
ALTER TABLE growing_again ADD f sealvec(3, ddl);
DROP TABLE mine;
\set VERBOSITY default

-- What else Postgres would store: it refuses functions that are not IMMUTABLE, and ours that open are not.
CREATE INDEX ON nested (sealvec.open(e));
CREATE INDEX ON nested (id) WHERE e <-> :'sealed' < 1;
ALTER TABLE nested ADD opened real[] GENERATED ALWAYS AS (sealvec.open(e)) STORED;
CREATE TABLE bad (id int, e sealvec(3, ddl)) PARTITION BY RANGE (sealvec.open(e));
-- A function that lies about it is refused here.
CREATE INDEX bad ON nested (of_value(e));
\set VERBOSITY terse
CREATE INDEX bad ON nested (of_domain(d));
CREATE INDEX bad ON nested (of_anything(da));
CREATE INDEX bad ON nested (id) WHERE of_value(e) IS NOT NULL;
ALTER TABLE nested ADD opened real[] GENERATED ALWAYS AS (of_value(e)) STORED;
CREATE TABLE bad (e sealvec(3, ddl), opened real[] GENERATED ALWAYS AS (of_value(e)) STORED);
CREATE TABLE bad (id int, e sealvec(3, ddl)) PARTITION BY RANGE (of_value(e));
-- A session's vector in a partition key, by a function that needs no key
CREATE TABLE bad (id int) PARTITION BY RANGE ((id + sealvec.dims('[1,2,3]')));
\set VERBOSITY default
CREATE INDEX good_dims ON nested (sealvec.dims(e));
CREATE INDEX good_row_id ON nested (((p).id));
CREATE INDEX good_sealed_expression ON nested USING sealed_ivf ((coalesce(e, (p).e)));
DROP TABLE nested, grown, holder;

-- A key is no value of a column, whatever the type is called.
CREATE DOMAIN bad AS sealvec.kek;
CREATE TABLE bad (k sealvec.kek);

-- Also where triggers are switched off, as restore and logical apply do
SET session_replication_role = replica;
CREATE TABLE bad (e sealvec);
RESET session_replication_role;

-- Someone without any right on sealvec can make tables as ever.
CREATE ROLE ddl_stranger;
GRANT CREATE, USAGE ON SCHEMA ddl TO ddl_stranger;
REVOKE USAGE ON SCHEMA sealvec FROM PUBLIC;
SET ROLE ddl_stranger;
CREATE TABLE stranger (id int PRIMARY KEY DEFAULT 1, t text CHECK (t <> ''));
CREATE INDEX ON stranger (t);
CREATE VIEW stranger_view AS SELECT * FROM stranger;
ALTER TABLE stranger ADD u uuid DEFAULT gen_random_uuid();
CREATE FUNCTION stranger_function() RETURNS int BEGIN ATOMIC SELECT 1; END;
DROP TABLE stranger CASCADE;
DROP FUNCTION stranger_function;
RESET ROLE;
GRANT USAGE ON SCHEMA sealvec TO PUBLIC;
REVOKE ALL ON SCHEMA ddl FROM ddl_stranger;
DROP ROLE ddl_stranger;

-- Bytes that look like vectors of a session are tried, but not without end.
SELECT '\x' || repeat('010201000000000000000000', 68) AS sixty_four, '\x' || repeat('010201000000000000000000', 69) AS one_more \gset
CREATE TABLE good_bytes (b bytea DEFAULT :'sixty_four');
CREATE TABLE bad (b bytea DEFAULT :'one_more');
CREATE TABLE bad (b bytea CHECK (b NOT IN (:'sixty_four', :'one_more')));

-- Braces and constants in somebody's text are no constants of ours.
CREATE VIEW braces AS SELECT '{CONST :consttype 600 :constvalue 4 [ 1 2 3 4 ]}'::text AS t, B'0101'::bit(4) AS b, ARRAY[513,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]::int[] AS a;
SELECT t FROM braces;

SET client_min_messages = warning;
DROP SCHEMA ddl CASCADE;
DROP FOREIGN DATA WRAPPER ddl_fdw CASCADE;
RESET client_min_messages;
RESET search_path;
