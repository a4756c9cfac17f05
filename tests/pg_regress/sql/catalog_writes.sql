-- Only a superuser writes the rows that are the right to open.
\set VERBOSITY default
\set SHOW_CONTEXT never

CREATE ROLE w_all IN ROLE pg_write_all_data;
SELECT sealvec.create_key_ring('w_ring') IS NOT NULL AS made;
CREATE TEMP TABLE taken AS SELECT sealvec.export_ring('w_ring') AS bytes;
GRANT SELECT ON taken TO w_all;
GRANT EXECUTE ON FUNCTION sealvec.import_ring(bytea, text, text) TO w_all;
SET ROLE w_all;
INSERT INTO sealvec.ring_grant VALUES (1, 'w_all');
INSERT INTO sealvec.ring_grant VALUES (1, 'w_all', NULL, 3);
INSERT INTO sealvec.ring_user VALUES (1, 'w_all', NULL, '', 3, '{1}', '');
DELETE FROM sealvec.ring_user;
UPDATE sealvec.key_ring SET owner = 'w_all';
DELETE FROM sealvec.key_ring;
-- A ring that the server itself can open is in every dump: importing it would be owning it.
SELECT sealvec.import_ring(bytes, 'w_mine') FROM taken;
RESET ROLE;
SELECT owner = current_user AS kept FROM sealvec.key_rings WHERE name = 'w_ring';
SELECT count(*) FROM sealvec.ring_grant WHERE role = 'w_all';


-- Nor is there a moment at which code in the same statement could use what it has written.
CREATE TABLE w_secret (v sealvec(3, w_ring));
INSERT INTO w_secret VALUES ('[0.125,0.25,0.75]');
GRANT SELECT ON w_secret TO w_all;
SELECT v::text AS sealed FROM w_secret \gset
CREATE FUNCTION w_leak() RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE leaked real[];
BEGIN
    SELECT sealvec.open(v) INTO leaked FROM w_secret;
    RAISE NOTICE 'leaked %', leaked;
    RETURN leaked;
END
$$;
SET ROLE w_all;
INSERT INTO sealvec.ring_grant (number, role) SELECT number, 'w_all' FROM sealvec.key_rings WHERE name = 'w_ring' RETURNING w_leak();
WITH written AS (INSERT INTO sealvec.ring_grant (number, role) SELECT number, 'w_all' FROM sealvec.key_rings WHERE name = 'w_ring' RETURNING w_leak())
SELECT * FROM written;
UPDATE sealvec.key_ring SET owner = 'w_all' RETURNING w_leak();
UPDATE sealvec.key_ring SET dek_version = 1 RETURNING w_leak();
DELETE FROM sealvec.key_ring RETURNING w_leak();
COPY sealvec.ring_grant (number, role) FROM stdin;
1	w_all
\.
SELECT sealvec.open(:'sealed'::sealvec);
RESET ROLE;
-- Logical replication fires the triggers of rows alone.
ALTER TABLE sealvec.ring_grant DISABLE TRIGGER a_superuser_only;
SET ROLE w_all;
INSERT INTO sealvec.ring_grant (number, role) SELECT number, 'w_all' FROM sealvec.key_rings WHERE name = 'w_ring' RETURNING w_leak();
RESET ROLE;
ALTER TABLE sealvec.ring_grant ENABLE ALWAYS TRIGGER a_superuser_only;

-- What was opened by a right that is undone is closed, whatever undid it.
CREATE FUNCTION w_undone() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'opened %', (SELECT sealvec.open(v) FROM w_secret);
    RAISE EXCEPTION 'undone';
END
$$;
SELECT '[1]'::sealvec IS NOT NULL AS armed;
BEGIN;
ALTER TABLE sealvec.ring_grant DISABLE TRIGGER USER;
SET LOCAL ROLE w_all;
SAVEPOINT before;
INSERT INTO sealvec.ring_grant SELECT number, 'w_all', 'w_all'::regrole FROM sealvec.key_rings WHERE name = 'w_ring' RETURNING w_undone();
ROLLBACK TO before;
SELECT sealvec.open(:'sealed'::sealvec);
ROLLBACK;
BEGIN;
SAVEPOINT before;
SELECT sealvec.grant_ring('w_ring', 'w_all');
SAVEPOINT inner_one;
SET LOCAL ROLE w_all;
SELECT sealvec.open(:'sealed'::sealvec);
RELEASE inner_one;
ROLLBACK TO before;
SET LOCAL ROLE w_all;
SELECT sealvec.open(:'sealed'::sealvec);
ROLLBACK;

-- Anybody can make a column under any ring; its owner need not heed it.
CREATE SCHEMA w_pin AUTHORIZATION w_all;
SET ROLE w_all;
CREATE TABLE w_pin.pin (a sealvec(3, w_ring), b sealvec(4, w_ring)[]);
RESET ROLE;
SELECT sealvec.drop_key_ring('w_ring');
DROP FUNCTION w_leak(), w_undone();
SELECT sealvec.create_key_ring('w_other') IS NOT NULL AS made;
SET ROLE w_all;
SELECT sealvec.drop_key_ring('w_other', force => true);
CREATE TABLE w_pin.other (v sealvec(3, w_other));
RESET ROLE;
SELECT sealvec.drop_key_ring('w_other', force => NULL);
SELECT sealvec.drop_key_ring('w_other', force => true);
\set VERBOSITY sqlstate
INSERT INTO w_pin.other VALUES ('[1,2,3]');
\set VERBOSITY default
CREATE DOMAIN w_pin.domain AS sealvec(5, w_ring);
SELECT sealvec.drop_key_ring('w_ring', force => true);
\set VERBOSITY sqlstate
SELECT sealvec.open(v) FROM w_secret;
\set VERBOSITY terse
DROP TABLE w_secret;
DROP SCHEMA w_pin CASCADE;
\set VERBOSITY default
SELECT sealvec.create_key_ring('w_ring') IS NOT NULL AS made;

REVOKE ALL ON FUNCTION sealvec.import_ring(bytea, text, text) FROM w_all;
DROP TABLE taken;
SELECT sealvec.drop_key_ring('w_ring');
DROP ROLE w_all;
