-- Making, changing, exporting, importing and dropping key rings.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset null '(null)'

-- A ring's number is the top 17 bits of its UUID.
CREATE TEMP TABLE made AS
    SELECT sealvec.create_key_ring('r_notes') AS uuid
    UNION ALL SELECT sealvec.create_key_ring('r_vault', kek => decode(repeat('b1', 32), 'hex'))
    UNION ALL SELECT sealvec.create_key_ring('r_"odd" näme', provider => 'local');
SELECT name, provider, owner = current_user AS mine, dek_version, state, granted_to,
       uuid IN (SELECT uuid FROM made) AS returned,
       number = ('x' || left(replace(uuid::text, '-', ''), 8))::bit(32)::bit(17)::int AS numbered
FROM sealvec.key_rings WHERE name LIKE 'r\_%' ORDER BY name;

-- No name that is taken, or that a column could not carry.
SELECT sealvec.create_key_ring('r_notes');
SELECT sealvec.create_key_ring('');
SELECT sealvec.create_key_ring(NULL);
SELECT sealvec.create_key_ring('7');
SELECT sealvec.create_key_ring(E'r_line\nfeed');
SELECT sealvec.create_key_ring(repeat('r', 64));

-- Providers and keys that don't go together.
SELECT sealvec.create_key_ring('r_bad', provider => 'aws-kms');
SELECT sealvec.create_key_ring('r_bad', provider => 'client');
SELECT sealvec.create_key_ring('r_bad', kek => decode(repeat('b1', 32), 'hex'), provider => 'local');
SELECT sealvec.create_key_ring('r_bad', kek => decode(repeat('b1', 16), 'hex'));
SELECT count(*) FROM sealvec.key_rings WHERE name = 'r_bad';

-- Nothing of a failed or rolled-back creation stays.
BEGIN;
DO $$ BEGIN PERFORM sealvec.create_key_ring('r_gone'); END $$;
SELECT state FROM sealvec.key_rings WHERE name = 'r_gone';
ROLLBACK;
SELECT sealvec.unlock('r_gone');
BEGIN READ ONLY;
SELECT sealvec.create_key_ring('r_gone');
ROLLBACK;
BEGIN READ ONLY;
SELECT sealvec.drop_key_ring('r_notes');
ROLLBACK;

-- A new DEK closes the ring wherever it is open; so does a new KEK.
SELECT sealvec.rekey('r_notes');
SELECT sealvec.rekey('r_notes');
SELECT sealvec.unlock('r_vault', decode(repeat('b1', 32), 'hex'));
SELECT sealvec.rekey('r_vault');
SELECT sealvec.rekey('r_vault', decode(repeat('b2', 32), 'hex'));
SELECT state FROM sealvec.key_rings WHERE name = 'r_vault';
SELECT sealvec.rekey('r_vault', decode(repeat('b1', 32), 'hex'));
SELECT name, dek_version, state FROM sealvec.key_rings WHERE name IN ('r_notes', 'r_vault') ORDER BY name;
SELECT sealvec.rotate_kek('r_vault', decode(repeat('b1', 32), 'hex'), decode(repeat('b2', 32), 'hex'));
SELECT sealvec.unlock('r_vault', decode(repeat('b1', 32), 'hex'));
SELECT sealvec.unlock('r_vault', decode(repeat('b2', 32), 'hex'));
SELECT sealvec.rotate_kek('r_vault', decode(repeat('b1', 32), 'hex'), decode(repeat('b3', 32), 'hex'));
SELECT sealvec.rotate_kek('r_vault', decode(repeat('b2', 32), 'hex'));
SELECT sealvec.rotate_kek('r_vault', decode(repeat('b2', 32), 'hex'), decode(repeat('b3', 8), 'hex'));
SELECT sealvec.rotate_kek('r_vault', decode(repeat('b2', 32), 'hex'), kms => 'vault');
SELECT sealvec.rotate_kek('r_notes', decode(repeat('b2', 32), 'hex'));

-- A rotation changes every envelope, and neither UUID nor DEK version.
CREATE TEMP TABLE before AS SELECT * FROM sealvec.key_ring WHERE name = 'r_notes';
SELECT sealvec.rotate_kek('r_notes');
SELECT a.uuid = b.uuid AS uuid, a.dek_version = b.dek_version AS dek_version, a.record = b.record AS record
FROM sealvec.key_ring a JOIN before b USING (number);

-- From client to provider and back.
SELECT sealvec.rotate_kek('r_vault', decode(repeat('b2', 32), 'hex'), kms => 'local');
SELECT name, provider, dek_version, state FROM sealvec.key_rings WHERE name = 'r_vault';
SELECT sealvec.rotate_kek('r_vault', new_kek => decode(repeat('b4', 32), 'hex'));
SELECT name, provider, dek_version, state FROM sealvec.key_rings WHERE name = 'r_vault';

-- Export, drop, import: the same ring.
CREATE TEMP TABLE exported AS SELECT name, number, uuid, sealvec.export_ring(name::text) AS bytes
    FROM sealvec.key_ring WHERE name LIKE 'r\_%';
SELECT sealvec.import_ring(bytes) FROM exported WHERE name = 'r_vault';
\set VERBOSITY terse
SELECT sealvec.import_ring(bytes, 'r_copy') FROM exported WHERE name = 'r_vault';
\set VERBOSITY default
SELECT sealvec.drop_key_ring(name::text) FROM exported;
SELECT count(*) FROM sealvec.key_rings WHERE name LIKE 'r\_%';
SELECT sealvec.drop_key_ring('r_vault');
SELECT name, sealvec.import_ring(bytes) = uuid AS same FROM exported WHERE name <> 'r_notes' ORDER BY name;
SELECT sealvec.import_ring(bytes, 'r_renamed') = uuid AS same FROM exported WHERE name = 'r_notes';
SELECT r.name, r.provider, r.dek_version, r.state, r.number = e.number AS same_number
FROM sealvec.key_rings r JOIN exported e USING (uuid) ORDER BY 1;
SELECT sealvec.unlock('r_vault', decode(repeat('b2', 32), 'hex'));
SELECT sealvec.unlock('r_vault', decode(repeat('b4', 32), 'hex'));
SELECT sealvec.unlock('r_renamed');

-- No export holds a key: the KEK shown above is not in it.
SELECT bool_or(position(decode(repeat('b4', 8), 'hex') IN bytes) > 0) AS holds_kek FROM exported;

-- Bytes that no export gives.
SELECT sealvec.drop_key_ring('r_vault');
SELECT sealvec.import_ring(NULL);
SELECT sealvec.import_ring('');
SELECT sealvec.import_ring('\x53565258');
SELECT sealvec.import_ring('\x00000000000000000000');
SELECT sealvec.import_ring(set_byte(bytes, 4, 2)) FROM exported WHERE name = 'r_vault';
SELECT sealvec.import_ring(substr(bytes, 1, length(bytes) - 1)) FROM exported WHERE name = 'r_vault';
SELECT sealvec.import_ring(bytes || '\x00') FROM exported WHERE name = 'r_vault';
SELECT sealvec.import_ring(set_byte(bytes, 5, 0)) FROM exported WHERE name = 'r_vault';
SELECT sealvec.import_ring(bytes, '9') FROM exported WHERE name = 'r_vault';

-- A record that was altered opens nothing: any byte of it, under the right key.
DO $$
DECLARE
    whole bytea := (SELECT bytes FROM exported WHERE name = 'r_vault');
    opened int := 0;
    refused int := 0;
BEGIN
    FOR at IN 0 .. length(whole) - 1 LOOP
        BEGIN
            PERFORM sealvec.import_ring(set_byte(whole, at, get_byte(whole, at) # 1), 'r_altered');
            PERFORM sealvec.unlock('r_altered', decode(repeat('b4', 32), 'hex'));
            opened := opened + 1;
            IF at BETWEEN 6 AND 12 THEN opened := opened - 1; END IF; -- its name, which binds nothing
            PERFORM sealvec.drop_key_ring('r_altered');
        EXCEPTION WHEN others THEN
            refused := refused + 1;
            IF sqlstate NOT IN ('22P03', '28P01', '0A000', '42602', 'XX001') THEN
                RAISE NOTICE 'byte %: % %', at, sqlstate, sqlerrm;
            END IF;
        END;
    END LOOP;
    RAISE NOTICE 'opened %, refused all others: %', opened, refused = length(whole) - 7;
END $$;

-- An edited row is noticed.
BEGIN;
UPDATE sealvec.key_ring SET record = (SELECT record FROM sealvec.key_ring WHERE name = 'r_"odd" näme') WHERE name = 'r_renamed';
SELECT sealvec.unlock('r_renamed');
ROLLBACK;
BEGIN;
UPDATE sealvec.key_ring SET record = '\x00' WHERE name = 'r_renamed';
SELECT sealvec.unlock('r_renamed');
ROLLBACK;
SELECT sealvec.unlock('r_renamed');

-- No data key can be cut off from it: an envelope has 131 bytes with its length, the code at the end 32.
DO $$ BEGIN PERFORM sealvec.create_key_ring('r_cut', kek => decode(repeat('b5', 32), 'hex')); END $$;
SELECT sealvec.rekey('r_cut', decode(repeat('b5', 32), 'hex'));
BEGIN;
UPDATE sealvec.key_ring SET dek_version = 1,
       record = set_byte(substr(record, 1, 56 + 2 * 131) || substr(record, 56 + 3 * 131 + 1), 6, 1)
WHERE name = 'r_cut' AND length(record) = 56 + 3 * 131 + 32;
SELECT sealvec.unlock('r_cut', decode(repeat('b6', 32), 'hex'));
ROLLBACK;
BEGIN;
UPDATE sealvec.key_ring SET dek_version = 1,
       record = set_byte(substr(record, 1, 56 + 2 * 131) || substr(record, 56 + 3 * 131 + 1), 6, 1)
WHERE name = 'r_cut' AND length(record) = 56 + 3 * 131 + 32;
SELECT sealvec.unlock('r_cut', decode(repeat('b5', 32), 'hex'));
ROLLBACK;
SELECT sealvec.unlock('r_cut', decode(repeat('b5', 32), 'hex'));

-- Both catalogs go into dumps.
SELECT array_agg(c.relname ORDER BY c.relname) FROM pg_extension e, unnest(e.extconfig) WITH ORDINALITY AS t(oid, n)
JOIN pg_class c ON c.oid = t.oid WHERE e.extname = 'sealvec' AND c.relname IN ('key_ring', 'ring_grant');

SELECT sealvec.drop_key_ring(name::text) FROM sealvec.key_rings WHERE name LIKE 'r\_%';
