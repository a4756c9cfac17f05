-- A KEK on its way to a function prints as a mask, whatever prints it.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT '\x00ff'::sealvec.kek;
SELECT decode(repeat('ab', 32), 'hex')::sealvec.kek;
PREPARE make(sealvec.kek) AS SELECT sealvec.create_key_ring('kek_type', kek => $1) IS NOT NULL AS made;
EXPLAIN (VERBOSE, COSTS OFF) EXECUTE make(decode(repeat('ab', 32), 'hex'));
EXECUTE make(decode(repeat('ab', 32), 'hex'));
SELECT sealvec.lock('kek_type');
SELECT sealvec.unlock('kek_type', decode(repeat('ab', 32), 'hex'));
CREATE TABLE keeps_a_kek (k sealvec.kek);
SELECT sealvec.drop_key_ring('kek_type');
