-- The key of literals and parameters ends with the session: also where a pooler makes a new one of the same process.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE ROLE l_alice;
GRANT l_alice TO CURRENT_USER;

-- DISCARD ALL and RESET ALL end it; what was sealed before does not open, and says why.
SELECT '[1,2,3]'::sealvec::text AS literal \gset
SELECT sealvec.open(:'literal'::sealvec);
DISCARD ALL;
SELECT sealvec.open(:'literal'::sealvec);
SELECT '[1,2,3]'::sealvec::text AS literal \gset
RESET ALL;
\set VERBOSITY sqlstate
SELECT sealvec.open(:'literal'::sealvec);
\set VERBOSITY terse

-- So does another session user; on the way back it is a third one. SET ROLE does not end it.
SELECT '[1,2,3]'::sealvec::text AS literal \gset
SET ROLE l_alice;
SELECT sealvec.open(:'literal'::sealvec);
RESET ROLE;
SELECT sealvec.open(:'literal'::sealvec);
SET SESSION AUTHORIZATION l_alice;
SELECT sealvec.open(:'literal'::sealvec);
RESET SESSION AUTHORIZATION;
SELECT sealvec.open(:'literal'::sealvec);

-- Statements and functions with a literal in them go on: they are made anew from their text.
PREPARE near AS SELECT '[3,4]'::sealvec <-> '[0,0]';
CREATE FUNCTION l_far() RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RETURN '[6,8]'::sealvec <-> '[0,0]'; END $$;
EXECUTE near;
SELECT l_far();
RESET ALL;
EXECUTE near;
SELECT l_far();

-- A rollback changes nothing for values that live on; the session's first use may be rolled back as well.
SELECT '[1,2,3]'::sealvec::text AS literal \gset
BEGIN;
SELECT '[1,2,3]'::sealvec::text AS inside \gset
SAVEPOINT s;
SELECT 1/0;
ROLLBACK TO s;
SELECT sealvec.open(:'inside'::sealvec);
ROLLBACK;
SELECT sealvec.open(:'literal'::sealvec), sealvec.open(:'inside'::sealvec);
\c -
\set VERBOSITY terse
BEGIN;
SAVEPOINT s;
SELECT '[1,2,3]'::sealvec::text AS literal \gset
ROLLBACK TO s;
COMMIT;
DISCARD ALL;
SELECT sealvec.open(:'literal'::sealvec);
\c -
\set VERBOSITY terse
BEGIN;
SELECT '[1,2,3]'::sealvec::text AS literal \gset
ROLLBACK;
DISCARD ALL;
SELECT sealvec.open(:'literal'::sealvec);

DROP FUNCTION l_far();
DROP ROLE l_alice;
