-- Who can write the catalog, or the files under it, becomes no user by it: new data keys go to public keys that the ring's own key vouches for.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on

CREATE ROLE v_a;
CREATE ROLE v_b;
CREATE ROLE v_c;
CREATE ROLE v_d;
\set kek 'decode(repeat(''c7'', 32), ''hex'')'
\set other_kek 'decode(repeat(''c8'', 32), ''hex'')'
\set point 'decode(''358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254'', ''hex'')'
\set mine 'decode(''7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13'', ''hex'')'
DO $$ BEGIN PERFORM sealvec.create_key_ring('v_ring', kek => decode(repeat('c7', 32), 'hex')); PERFORM sealvec.create_key_ring('v_local'); END $$;
SELECT count(*) FROM unnest('{v_a,v_b,v_c,v_d}'::text[]) role, LATERAL sealvec.grant_user('v_ring', role, '{read}', :point, kek => :kek);
SELECT user_token IS NOT NULL FROM sealvec.grant_user('v_local', 'v_a', '{read}', token => true);

-- Another public key in the place of his, and no voucher.
UPDATE sealvec.ring_user SET wrap = overlay(wrap PLACING :mine FROM 45) WHERE role = 'v_a';
CREATE TABLE v_forged AS SELECT * FROM sealvec.ring_user WHERE role = 'v_b';
UPDATE sealvec.ring_user SET voucher = NULL WHERE role = 'v_c';
SELECT left_behind, dek_version FROM sealvec.revoke_user('v_ring', 'v_b', rekey => true, kek => :kek);
SELECT role, dek_versions, substring(wrap FROM 45 FOR 32) = :mine AS is_forged FROM sealvec.ring_user WHERE role LIKE 'v\_%' ORDER BY role, dek_versions;

-- The row of who was revoked, put back.
INSERT INTO sealvec.ring_user SELECT * FROM v_forged;
INSERT INTO sealvec.ring_grant SELECT number, 'v_b', NULL, 1 FROM v_forged;
SELECT sealvec.rekey('v_ring', :kek);
SELECT role, dek_versions FROM sealvec.ring_user WHERE role LIKE 'v\_%' ORDER BY role, dek_versions;

-- Made users again by the owner, they are.
SELECT count(*) FROM unnest('{v_a,v_b,v_c}'::text[]) role, LATERAL sealvec.grant_user('v_ring', role, '{read}', :point, kek => :kek);
SELECT sealvec.rekey('v_ring', :kek);
SELECT role, dek_versions FROM sealvec.ring_user WHERE role LIKE 'v\_%' ORDER BY role, dek_versions;

-- Under another key the ring vouches for whom it vouched before, and for nobody else.
UPDATE sealvec.ring_user SET wrap = overlay(wrap PLACING :mine FROM 45) WHERE role = 'v_a';
SELECT sealvec.rotate_kek('v_ring', kek => :kek, new_kek => :other_kek);
SELECT sealvec.rekey('v_ring', :other_kek);
SELECT role, dek_versions FROM sealvec.ring_user WHERE role LIKE 'v\_%' ORDER BY role, dek_versions;

-- Also when an old data key goes from all copies.
SELECT count(*) FROM sealvec.grant_user('v_ring', 'v_a', '{read}', :point, kek => :other_kek);
SELECT sealvec.rotate_kek('v_ring', kek => :other_kek, kms => 'local');
UPDATE sealvec.ring_user SET voucher = decode(repeat('00', 32), 'hex') WHERE role = 'v_c';
CALL sealvec.retire_dek('v_ring', 1);
SELECT role, dek_versions FROM sealvec.ring_user WHERE role LIKE 'v\_%' ORDER BY role, dek_versions;

DROP TABLE v_forged;
SELECT sealvec.drop_key_ring('v_ring'), sealvec.drop_key_ring('v_local');
DROP ROLE v_a, v_b, v_c, v_d;
