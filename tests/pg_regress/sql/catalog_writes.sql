-- Only a superuser writes the rows that are the right to open.
\set VERBOSITY default
\set SHOW_CONTEXT never

CREATE ROLE w_all IN ROLE pg_write_all_data;
SELECT sealvec.create_key_ring('w_ring') IS NOT NULL AS made;
CREATE TEMP TABLE taken AS SELECT sealvec.export_ring('w_ring') AS bytes;
GRANT SELECT ON taken TO w_all;
GRANT EXECUTE ON FUNCTION sealvec.import_ring(bytea, text) TO w_all;
SET ROLE w_all;
INSERT INTO sealvec.ring_grant VALUES (1, 'w_all');
UPDATE sealvec.key_ring SET owner = 'w_all';
DELETE FROM sealvec.key_ring;
-- A ring that the server itself can open is in every dump: importing it would be owning it.
SELECT sealvec.import_ring(bytes, 'w_mine') FROM taken;
RESET ROLE;
SELECT owner = current_user AS kept FROM sealvec.key_rings WHERE name = 'w_ring';
SELECT count(*) FROM sealvec.ring_grant WHERE role = 'w_all';

REVOKE ALL ON FUNCTION sealvec.import_ring(bytea, text) FROM w_all;
DROP TABLE taken;
SELECT sealvec.drop_key_ring('w_ring');
DROP ROLE w_all;
