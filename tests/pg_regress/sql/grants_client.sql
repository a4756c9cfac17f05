-- A client-held ring that a session has open serves the role that opened it, its owner and those with a grant:
-- not whoever else's code runs in that session.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\set kek 'decode(repeat(''c7'', 32), ''hex'')'
CREATE ROLE c_owner;
CREATE ROLE c_app;
CREATE ROLE c_mallory;
GRANT CREATE ON SCHEMA public TO c_owner, c_mallory;
DO $$ BEGIN PERFORM sealvec.create_key_ring('c_vault', kek => decode(repeat('c7', 32), 'hex')); END $$;
SELECT sealvec.set_ring_owner('c_vault', 'c_owner');

SET SESSION AUTHORIZATION c_owner;
CREATE TABLE c_secrets (id int PRIMARY KEY, embedding sealvec(2, c_vault));
GRANT SELECT, INSERT ON c_secrets TO c_app, c_mallory;
CREATE FUNCTION c_of_owner() RETURNS SETOF real[] LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog
    AS $$ SELECT sealvec.open(embedding) FROM c_secrets ORDER BY id $$;
CREATE FUNCTION c_check() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN IF NEW.embedding <-> '[0,0]' > 9 THEN RAISE 'too far'; END IF; RETURN NEW; END $$;
CREATE TRIGGER c_check BEFORE INSERT ON c_secrets FOR EACH ROW EXECUTE FUNCTION c_check();
ALTER TABLE c_secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY c_near ON c_secrets TO c_app USING ((sealvec.open(embedding))[1] < 5) WITH CHECK (true);
CREATE POLICY c_all ON c_secrets TO c_mallory USING (true);
SET SESSION AUTHORIZATION c_mallory;
CREATE FUNCTION c_of_mallory() RETURNS SETOF real[] LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog
    AS $$ SELECT sealvec.open(embedding) FROM c_secrets ORDER BY id $$;
CREATE FUNCTION c_steal(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN PERFORM * FROM public.c_of_mallory(); RETURN $1; END $$;
CREATE TABLE c_bait (id int, embedding sealvec(2, c_vault));
CREATE MATERIALIZED VIEW c_loot AS SELECT id, sealvec.open(embedding) FROM c_secrets WITH NO DATA;

-- Who shows the key works with it: rows, the owner's trigger and row security, which run with the caller's rights.
SET SESSION AUTHORIZATION c_app;
SELECT sealvec.unlock('c_vault', :kek);
INSERT INTO c_secrets VALUES (1, '[1,2]'), (2, '[3,4]'), (3, '[6,6]');
INSERT INTO c_secrets VALUES (4, '[9,9]');
SELECT id, sealvec.open(embedding) FROM c_secrets ORDER BY id;
SELECT state FROM sealvec.key_rings WHERE name = 'c_vault';

-- The ring's owner may, in a function of his; another role's function may not.
SELECT c_of_owner();
SELECT c_of_mallory();
\set VERBOSITY sqlstate
SELECT c_of_mallory();
\set VERBOSITY terse
SELECT c_steal(1);

-- Until it has a grant, and no longer than that. A grant alone opens nothing.
SET SESSION AUTHORIZATION c_owner;
SELECT sealvec.grant_ring('c_vault', 'c_mallory');
SET SESSION AUTHORIZATION c_mallory;
SELECT sealvec.open(embedding) FROM c_secrets;
SET SESSION AUTHORIZATION c_app;
SELECT sealvec.unlock('c_vault', :kek);
SELECT count(*) FROM c_of_mallory();
\setenv PGDATABASE :DBNAME
\! psql -XqAt -c "SELECT sealvec.revoke_ring('c_vault', 'c_mallory')"
SELECT count(*) FROM c_of_mallory();
SELECT count(*) FROM c_of_owner();
SELECT count(*) FROM c_secrets;

-- A function that shows the key opens the ring for its owner, not for its caller.
SET SESSION AUTHORIZATION c_owner;
CREATE FUNCTION c_unlock() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_catalog
    AS $$ SELECT sealvec.unlock('c_vault', decode(repeat('c7', 32), 'hex')); SELECT count(sealvec.open(embedding)) FROM c_secrets $$;
SET SESSION AUTHORIZATION c_app;
SELECT c_unlock();
SELECT id FROM c_secrets;

-- What Postgres runs as the owner of a table gets nothing by the key of whoever gave the command.
RESET SESSION AUTHORIZATION;
SELECT sealvec.unlock('c_vault', :kek);
REFRESH MATERIALIZED VIEW c_loot;
INSERT INTO c_bait SELECT id, embedding FROM c_secrets;
CREATE INDEX ON c_bait (c_steal(id));
CREATE INDEX c_bait_idx ON c_bait USING sealed_ivf (embedding);
VACUUM c_bait;
SELECT count(*) FROM c_loot;

-- Maintenance of the ring owner's own table has the key.
CREATE INDEX c_secrets_idx ON c_secrets USING sealed_ivf (embedding);
VACUUM ANALYZE c_secrets;
SELECT sealvec.verify_index('c_secrets_idx');

DROP MATERIALIZED VIEW c_loot;
DROP TABLE c_secrets, c_bait;
DROP FUNCTION c_of_owner, c_of_mallory, c_steal, c_check, c_unlock;
SELECT sealvec.drop_key_ring('c_vault');
REVOKE ALL ON SCHEMA public FROM c_owner, c_mallory;
DROP ROLE c_owner, c_app, c_mallory;
