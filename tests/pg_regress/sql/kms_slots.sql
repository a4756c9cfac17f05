-- Key services by name: what a slot may be, who may make one, and what keeps it. Nobody answers here: no key agent runs.
CREATE ROLE k_user;
SELECT * FROM sealvec.kms_slots WHERE name = 'local';

-- Made, altered, shown.
SELECT sealvec.create_kms('k_aws', 'aws-kms', '{"key_id": "alias/x", "region": "us-east-1"}');
SELECT sealvec.create_kms('k_hsm', 'pkcs11', '{"key": "sealvec", "token": "hsm-1", "credentials": "hsm"}');
SELECT sealvec.create_kms('k_local');
SELECT sealvec.create_kms('k_empty', 'vault');
SELECT sealvec.alter_kms('k_aws', '{"key_id": "alias/y"}');
SELECT name, provider, options FROM sealvec.kms_slots WHERE name LIKE 'k\_%' ORDER BY name;

-- What is no slot.
SELECT sealvec.create_kms('k_aws', 'aws-kms', '{}');
SELECT sealvec.create_kms('local');
SELECT sealvec.create_kms('client', 'local');
SELECT sealvec.create_kms('', 'local');
SELECT sealvec.create_kms(E'a\nb', 'local');
SELECT sealvec.create_kms(repeat('x', 256), 'local');
SELECT sealvec.create_kms('k_bad', 'gcp');
SELECT sealvec.create_kms('k_bad', 'client');
SELECT sealvec.create_kms('k_bad', 'aws-kms', '["s3cr3t"]');
SELECT sealvec.create_kms('k_bad', 'aws-kms', '{"key_id": 7}');
SELECT sealvec.create_kms('k_bad', 'aws-kms', '{"key_id": ""}');
SELECT sealvec.create_kms('k_bad', 'aws-kms', '{"key_id": "a\nb"}');
SELECT sealvec.create_kms('k_bad', 'aws-kms', '{"secret_access_key": "s3cr3t"}');
SELECT sealvec.create_kms('k_bad', 'vault', '{"key": "k", "token": "s3cr3t"}');
SELECT sealvec.create_kms('k_bad', 'pkcs11', '{"key": "k", "pin_file": "/etc/shadow"}');
SELECT sealvec.create_kms('k_bad', 'local', '{"key_id": "x"}');
SELECT sealvec.create_kms('k_bad', 'aws-kms', jsonb_build_object('key_id', repeat('x', 40000)));
SELECT sealvec.create_kms(NULL, 'local');
SELECT sealvec.create_kms('k_bad', NULL);
SELECT sealvec.create_kms('k_bad', 'local', NULL);
SELECT sealvec.alter_kms('k_none', '{}');
SELECT sealvec.alter_kms('local', '{"key_id": "x"}');
SELECT sealvec.alter_kms('k_aws', '{"keyid": "s3cr3t"}');
SELECT sealvec.alter_kms('k_aws', NULL);
SELECT sealvec.drop_kms('k_none');
SELECT sealvec.drop_kms(NULL);
SELECT name FROM sealvec.kms_slots WHERE name LIKE 'k\_bad%';

-- Who may.
SET ROLE k_user;
SELECT sealvec.create_kms('k_mine', 'local');
SELECT sealvec.alter_kms('k_aws', '{}');
SELECT sealvec.drop_kms('k_aws');
SELECT count(*) FROM sealvec.kms_slot;
SELECT name, provider, options FROM sealvec.kms_slots WHERE name = 'k_aws';
RESET ROLE;

-- Without an agent nothing is made, and nothing half-made is left.
SELECT sealvec.create_key_ring('k_ring', provider => 'k_aws');
SELECT sealvec.create_key_ring('k_ring', provider => 'k_none');
SELECT sealvec.create_key_ring('k_ring', provider => 'aws-kms');
SELECT sealvec.create_key_ring('k_ring', decode(repeat('61', 32), 'hex'), 'k_aws');
SELECT sealvec.create_index('k_index', 2, kms_name => 'k_aws');
SELECT count(*) FROM sealvec.key_rings WHERE name LIKE 'k\_%';
SHOW sealvec.kms_timeout;
\set VERBOSITY sqlstate
SET sealvec.kms_timeout = 0;
\set VERBOSITY default
SET sealvec.agent_socket = '/tmp/mine';

-- What uses a slot keeps it.
SELECT sealvec.create_key_ring('k_ring', provider => 'k_local') IS NOT NULL AS made;
SELECT name, provider, kms FROM sealvec.key_rings WHERE name = 'k_ring';
SELECT sealvec.drop_kms('k_local');
SELECT sealvec.rotate_kek('k_ring', kms => 'k_aws');
SELECT sealvec.rotate_kek('k_ring');
SELECT provider, kms, state FROM sealvec.key_rings WHERE name = 'k_ring';
SELECT sealvec.rotate_kek('k_ring', kms => 'local');
SELECT provider, kms, state FROM sealvec.key_rings WHERE name = 'k_ring';
SELECT sealvec.drop_kms('k_local');
SELECT sealvec.rotate_kek('k_ring', new_kek => decode(repeat('61', 32), 'hex'));
SELECT provider, kms, state FROM sealvec.key_rings WHERE name = 'k_ring';
SELECT sealvec.rotate_kek('k_ring', decode(repeat('61', 32), 'hex'), kms => 'local');
SELECT provider, kms, state FROM sealvec.key_rings WHERE name = 'k_ring';

-- A ring from elsewhere: its slot is of its provider.
SELECT sealvec.export_ring('k_ring') AS exported \gset
SELECT sealvec.drop_key_ring('k_ring');
SELECT sealvec.create_kms('k_local');
SELECT sealvec.import_ring(:'exported', kms => 'k_aws');
SELECT sealvec.import_ring(:'exported', kms => 'k_none');
SELECT sealvec.import_ring(:'exported', kms => 'k_local') IS NOT NULL AS imported;
SELECT provider, kms, state FROM sealvec.key_rings WHERE name = 'k_ring';
SELECT sealvec.drop_key_ring('k_ring');
SELECT sealvec.import_ring(:'exported') IS NOT NULL AS imported;
SELECT provider, kms, state FROM sealvec.key_rings WHERE name = 'k_ring';
SELECT sealvec.drop_key_ring('k_ring');
SELECT sealvec.create_key_ring('k_client', decode(repeat('61', 32), 'hex')) IS NOT NULL AS made;
SELECT sealvec.export_ring('k_client') AS exported \gset
SELECT sealvec.drop_key_ring('k_client');
SELECT sealvec.import_ring(:'exported', kms => 'k_local');

-- A rolled-back slot is none.
BEGIN;
SELECT sealvec.create_kms('k_gone');
SELECT sealvec.create_key_ring('k_gone_ring', provider => 'k_gone') IS NOT NULL AS made;
ROLLBACK;
SELECT sealvec.create_key_ring('k_gone_ring', provider => 'k_gone');

SELECT sealvec.drop_kms(name) FROM sealvec.kms_slots WHERE name LIKE 'k\_%';
SELECT count(*) FROM sealvec.kms_slots WHERE name LIKE 'k\_%';
DROP ROLE k_user;
