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
-- Not while a setting prints the constants of statements, where no output function is asked.
SET debug_print_plan = on;
SELECT sealvec.unlock('kek_type', decode(repeat('ab', 32), 'hex'));
SET debug_print_plan = off;
\set VERBOSITY terse
SET debug_print_parse = on;
SELECT sealvec.create_key_ring('kek_type_2', kek => decode(repeat('ab', 32), 'hex'));
SELECT sealvec.create_key_ring('kek_type_2') IS NOT NULL AS made;
SET debug_print_parse = off;
SET debug_print_rewritten = on;
SELECT sealvec.rotate_kek('kek_type_2', new_kek => decode(repeat('ab', 32), 'hex'));
SELECT sealvec.rekey('kek_type', decode(repeat('ab', 32), 'hex'));
RESET debug_print_rewritten;
\set VERBOSITY default
SELECT sealvec.drop_key_ring('kek_type_2');
CREATE TABLE keeps_a_kek (k sealvec.kek);
SELECT sealvec.drop_key_ring('kek_type');
