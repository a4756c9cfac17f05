-- An index outlives a transaction that did not: it is never sealed under a data key that was taken back.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/helpers.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT sealvec.create_key_ring('taken_back') IS NOT NULL AS made;
CREATE TABLE taken (id integer PRIMARY KEY, v sealvec(8, taken_back));
CREATE INDEX taken_v ON taken USING sealed_ivf (v);

-- the first rows of the index come under a key that then goes
BEGIN;
SELECT sealvec.rekey('taken_back');
INSERT INTO taken SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 200) i;
ROLLBACK;
INSERT INTO taken SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 200) i;
SELECT pg_temp.agree('SELECT id FROM taken ORDER BY v <-> pg_temp.vec(7, 8) LIMIT 20');
SELECT sealvec.rekey('taken_back');
INSERT INTO taken SELECT i, pg_temp.vec(i, 8) FROM generate_series(201, 400) i;
SELECT pg_temp.agree('SELECT id FROM taken ORDER BY v <-> pg_temp.vec(7, 8) LIMIT 20');
SELECT sealvec.verify_index('taken_v');

-- the same in a savepoint, and a key that stays
CREATE TABLE kept (id integer PRIMARY KEY, v sealvec(8, taken_back));
CREATE INDEX kept_v ON kept USING sealed_ivf (v);
BEGIN;
SAVEPOINT a;
SELECT sealvec.rekey('taken_back');
INSERT INTO kept SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 200) i;
ROLLBACK TO a;
SELECT sealvec.rekey('taken_back');
INSERT INTO kept SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 200) i;
COMMIT;
SELECT pg_temp.agree('SELECT id FROM kept ORDER BY v <-> pg_temp.vec(7, 8) LIMIT 20');
SELECT sealvec.verify_index('kept_v');

-- a ring, its table and its index in one transaction
BEGIN;
SELECT sealvec.create_key_ring('all_at_once') IS NOT NULL AS made;
CREATE TABLE at_once (id integer PRIMARY KEY, v sealvec(8, all_at_once));
CREATE INDEX at_once_v ON at_once USING sealed_ivf (v);
INSERT INTO at_once SELECT i, pg_temp.vec(i, 8) FROM generate_series(1, 200) i;
COMMIT;
SELECT pg_temp.agree('SELECT id FROM at_once ORDER BY v <-> pg_temp.vec(7, 8) LIMIT 20');

-- whoever does not own a table can neither read of its index nor make others wait for it
CREATE ROLE no_owner;
SET ROLE no_owner;
SELECT sealvec.verify_index('taken_v');
SELECT sealvec.merge('taken_pkey');
RESET ROLE;

DROP TABLE taken, kept, at_once;
SELECT sealvec.drop_key_ring('taken_back'), sealvec.drop_key_ring('all_at_once');
DROP ROLE no_owner;
