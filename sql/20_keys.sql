-- Functions on key rings. None is STRICT: a null argument is an error that names it, not a silent null.
-- Those that make, change or open a ring are PARALLEL UNSAFE: they write, or keep keys in this one backend.

-- Making rings. Not for PUBLIC: GRANT EXECUTE to those who may.

CREATE FUNCTION sealvec.init_root_key() RETURNS text
    AS 'MODULE_PATHNAME', 'sealvec_init_root_key_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.init_root_key() IS 'make the root key of the local key provider, once; returns its file';
REVOKE ALL ON FUNCTION sealvec.init_root_key() FROM PUBLIC;

CREATE FUNCTION sealvec.create_key_ring(name text, kek sealvec.kek DEFAULT NULL, provider text DEFAULT NULL) RETURNS uuid
    AS 'MODULE_PATHNAME', 'sealvec_create_key_ring_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) IS 'make a key ring: kept by a key service that sealvec.kms_slots names, or by the client that passes its 32-byte kek';
REVOKE ALL ON FUNCTION sealvec.create_key_ring(text, sealvec.kek, text) FROM PUBLIC;

CREATE FUNCTION sealvec.import_ring(export bytea, name text DEFAULT NULL, kms text DEFAULT NULL) RETURNS uuid
    AS 'MODULE_PATHNAME', 'sealvec_import_ring_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.import_ring(bytea, text, text) IS 'bring over a key ring that export_ring gave; it belongs to the caller';
REVOKE ALL ON FUNCTION sealvec.import_ring(bytea, text, text) FROM PUBLIC;

-- For the owner of a ring.

CREATE FUNCTION sealvec.export_ring(ring text) RETURNS bytea
    AS 'MODULE_PATHNAME', 'sealvec_export_ring_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.export_ring(text) IS 'a key ring as bytes, its keys wrapped, for import_ring in another database';

CREATE FUNCTION sealvec.drop_key_ring(name text, force boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_drop_key_ring_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.drop_key_ring(text, boolean) IS 'delete a key ring that no column uses; with force, also one whose columns'' values are lost with it';

CREATE FUNCTION sealvec.grant_ring(ring text, role text) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_grant_ring_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.grant_ring(text, text) IS 'let a role open a key ring; one whose key the client holds, let it be used by that role''s functions where a session has it open';

CREATE FUNCTION sealvec.revoke_ring(ring text, role text) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_revoke_ring_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.revoke_ring(text, text) IS 'take back grant_ring';

CREATE FUNCTION sealvec.grant_user(ring text, role text, permissions text[], public_key bytea DEFAULT NULL, token boolean DEFAULT false,
    kek sealvec.kek DEFAULT NULL, OUT user_id bytea, OUT user_token text) RETURNS SETOF record
    ROWS 1 AS 'MODULE_PATHNAME', 'sealvec_grant_user_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.grant_user(text, text, text[], bytea, boolean, sealvec.kek) IS 'let a role read, write or both with a key of its own: an X25519 public key whose secret half stays with its user, or a token that is shown once';

CREATE FUNCTION sealvec.revoke_user(ring text, role text, rekey boolean DEFAULT false, kek sealvec.kek DEFAULT NULL,
    OUT dek_version integer, OUT left_behind text[]) RETURNS SETOF record
    ROWS 1 AS 'MODULE_PATHNAME', 'sealvec_revoke_user_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.revoke_user(text, text, boolean, sealvec.kek) IS 'take back grant_user, in every session; with rekey, what is written from now on is sealed under a data key that the user never had';

CREATE FUNCTION sealvec.set_ring_owner(ring text, role text) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_set_ring_owner_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.set_ring_owner(text, text) IS 'give a key ring to another role';

CREATE FUNCTION sealvec.rotate_kek(ring text, kek sealvec.kek DEFAULT NULL, new_kek sealvec.kek DEFAULT NULL, kms text DEFAULT NULL, fresh boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_rotate_kek_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.rotate_kek(text, sealvec.kek, sealvec.kek, text, boolean) IS 'wrap the keys of a ring anew, or move them to another key service; no data is rewritten';

CREATE FUNCTION sealvec.rekey(ring text, kek sealvec.kek DEFAULT NULL) RETURNS integer
    AS 'MODULE_PATHNAME', 'sealvec_rekey_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.rekey(text, sealvec.kek) IS 'begin a new version of the data key of a ring: what is written from now on is sealed under it; returns the version';

-- For everybody; who may open what is checked inside.

CREATE FUNCTION sealvec.unlock(ring text, kek sealvec.kek DEFAULT NULL, user_key sealvec.kek DEFAULT NULL, user_token sealvec.payload DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_unlock_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.unlock(text, sealvec.kek, sealvec.kek, sealvec.payload) IS 'open a key ring in this session: with its key, by the right to open it, or as one of its users';

CREATE FUNCTION sealvec.my_wraps(ring text, OUT role text, OUT permissions text[], OUT dek_version integer, OUT wrap bytea) RETURNS SETOF record
    ROWS 1 AS 'MODULE_PATHNAME', 'sealvec_my_wraps_wrapper' LANGUAGE c STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION sealvec.my_wraps(text) IS 'what the session''s role opens with its secret key to show it to unlock(user_key => …)';

CREATE FUNCTION sealvec.lock(ring text, everywhere boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_lock_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.lock(text, boolean) IS 'close a key ring in this session; its owner can close it in all';

CREATE FUNCTION sealvec.lock_all() RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_lock_all_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.lock_all() IS 'close every key ring in this session';

CREATE FUNCTION sealvec.ring_is_open(number integer) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_ring_is_open_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION sealvec.ring_is_open(integer) IS 'whether the current user could use the key ring in this session right now';

-- For the event trigger.

CREATE FUNCTION sealvec.hold_ring(number integer) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_hold_ring_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.hold_ring(integer) IS 'keep a key ring from being dropped before this transaction ends; false if there is none';
REVOKE ALL ON FUNCTION sealvec.hold_ring(integer) FROM PUBLIC;
