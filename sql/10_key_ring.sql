-- Catalogs of key rings. They hold envelopes, never a key that is not wrapped, and go into dumps.
-- src/keys/catalog.rs addresses columns by number: upgrades may only append.

CREATE TABLE sealvec.key_ring (
    number      integer NOT NULL CHECK (number BETWEEN 1 AND 131071),
    uuid        uuid    NOT NULL,
    name        name    NOT NULL,
    owner       name    NOT NULL,           -- with owner_oid: a role counts only as long as both are its own
    provider    text    NOT NULL,
    dek_version integer NOT NULL,
    epoch       bigint  NOT NULL,           -- raised to close the ring in every session
    record      bytea   NOT NULL,           -- sealvec_core::keys::ring::RingRecord
    owner_oid   oid,                        -- null if there was no such role when the row was restored
    kms         text COLLATE "C",           -- the slot that reaches its KEK; null if the client holds it
    retiring    integer,                    -- a version of its data key that retire_dek is about to remove
    PRIMARY KEY (number),
    UNIQUE (name)
);
COMMENT ON TABLE sealvec.key_ring IS 'key rings of sealvec: one row each, keys only wrapped';

CREATE TABLE sealvec.ring_grant (
    number      integer NOT NULL,
    role        name    NOT NULL,
    role_oid    oid,
    permissions smallint CHECK (permissions BETWEEN 1 AND 3),  -- null: it opens the ring; else 1 read, 2 write, 3 both, and only with a key of its own
    PRIMARY KEY (number, role)
);
COMMENT ON TABLE sealvec.ring_grant IS 'roles that may open a key ring, or use one that a client opened, besides its owner';

-- Either half alone opens nothing: a row here is a copy of the ring's keys under a user's own, one in ring_grant the right
-- to use it. What of it repeats the record is for views.

CREATE TABLE sealvec.ring_user (
    number       integer   NOT NULL,
    role         name      NOT NULL,
    role_oid     oid,
    user_id      bytea     NOT NULL,
    permissions  smallint  NOT NULL CHECK (permissions BETWEEN 1 AND 3),
    dek_versions integer[] NOT NULL,
    record       bytea     NOT NULL,        -- sealvec_core::keys::user::UserRecord
    wrap         bytea,                     -- sealvec_core::keys::user_wrap::UserWrap; null for who has a token
    voucher      bytea,                     -- sealvec_core::keys::voucher::Voucher, for the wrap
    PRIMARY KEY (number, role)
);
COMMENT ON TABLE sealvec.ring_user IS 'users of key rings: copies of keys, wrapped under each user''s own';

REVOKE ALL ON sealvec.key_ring, sealvec.ring_grant, sealvec.ring_user FROM PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('sealvec.key_ring', '');
SELECT pg_catalog.pg_extension_config_dump('sealvec.ring_grant', 'WHERE pg_catalog.pg_get_userbyid(role_oid) = role');
SELECT pg_catalog.pg_extension_config_dump('sealvec.ring_user', 'WHERE pg_catalog.pg_get_userbyid(role_oid) = role');

-- A dump carries names, and OIDs that mean nothing elsewhere. Whoever restores it, or writes a name by hand, gives the
-- right to the role that has the name at that moment, as a GRANT in a dump does. A role that is dropped takes its
-- rights with it: another one of the same name has another OID.

CREATE FUNCTION sealvec.bind_role() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'key_ring' THEN
        NEW.owner_oid := (SELECT oid FROM pg_roles WHERE rolname = NEW.owner);
    ELSE
        NEW.role_oid := (SELECT oid FROM pg_roles WHERE rolname = NEW.role);
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION sealvec.bind_role() FROM PUBLIC;

CREATE TRIGGER key_ring_owner BEFORE INSERT OR UPDATE OF owner, owner_oid ON sealvec.key_ring
    FOR EACH ROW EXECUTE FUNCTION sealvec.bind_role();
CREATE TRIGGER ring_grant_role BEFORE INSERT OR UPDATE OF role, role_oid ON sealvec.ring_grant
    FOR EACH ROW EXECUTE FUNCTION sealvec.bind_role();
CREATE TRIGGER ring_user_role BEFORE INSERT OR UPDATE OF role, role_oid ON sealvec.ring_user
    FOR EACH ROW EXECUTE FUNCTION sealvec.bind_role();
ALTER TABLE sealvec.key_ring ENABLE ALWAYS TRIGGER key_ring_owner;
ALTER TABLE sealvec.ring_grant ENABLE ALWAYS TRIGGER ring_grant_role;
ALTER TABLE sealvec.ring_user ENABLE ALWAYS TRIGGER ring_user_role;

-- A row in these tables is the right to open, and whoever runs code of his own in the same statement could use it before
-- a trigger at its end refuses it. So a statement that is not a superuser's is refused before it begins; logical
-- replication fires the triggers of rows alone.

CREATE FUNCTION sealvec.superuser_only() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper) THEN
        RAISE EXCEPTION 'must be superuser to write to the key-ring catalogs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
REVOKE ALL ON FUNCTION sealvec.superuser_only() FROM PUBLIC;

CREATE TRIGGER a_superuser_only BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.key_ring
    FOR EACH STATEMENT EXECUTE FUNCTION sealvec.superuser_only();
CREATE TRIGGER a_superuser_only BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.ring_grant
    FOR EACH STATEMENT EXECUTE FUNCTION sealvec.superuser_only();
CREATE TRIGGER a_superuser_only BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.ring_user
    FOR EACH STATEMENT EXECUTE FUNCTION sealvec.superuser_only();
CREATE TRIGGER a_superuser_only_row BEFORE INSERT OR UPDATE OR DELETE ON sealvec.key_ring
    FOR EACH ROW EXECUTE FUNCTION sealvec.superuser_only();
CREATE TRIGGER a_superuser_only_row BEFORE INSERT OR UPDATE OR DELETE ON sealvec.ring_grant
    FOR EACH ROW EXECUTE FUNCTION sealvec.superuser_only();
CREATE TRIGGER a_superuser_only_row BEFORE INSERT OR UPDATE OR DELETE ON sealvec.ring_user
    FOR EACH ROW EXECUTE FUNCTION sealvec.superuser_only();

-- And whoever writes to them by hand, a restore or a replica included, is heard in every session.

CREATE FUNCTION sealvec.key_ring_changed() RETURNS trigger
    AS 'MODULE_PATHNAME', 'sealvec_key_ring_changed_wrapper' LANGUAGE c;
REVOKE ALL ON FUNCTION sealvec.key_ring_changed() FROM PUBLIC;

CREATE TRIGGER key_ring_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.key_ring
    FOR EACH STATEMENT EXECUTE FUNCTION sealvec.key_ring_changed();
CREATE TRIGGER ring_grant_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.ring_grant
    FOR EACH STATEMENT EXECUTE FUNCTION sealvec.key_ring_changed();
CREATE TRIGGER ring_user_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.ring_user
    FOR EACH STATEMENT EXECUTE FUNCTION sealvec.key_ring_changed();
CREATE TRIGGER key_ring_row_changed AFTER INSERT OR UPDATE OR DELETE ON sealvec.key_ring
    FOR EACH ROW EXECUTE FUNCTION sealvec.key_ring_changed();
CREATE TRIGGER ring_grant_row_changed AFTER INSERT OR UPDATE OR DELETE ON sealvec.ring_grant
    FOR EACH ROW EXECUTE FUNCTION sealvec.key_ring_changed();
CREATE TRIGGER ring_user_row_changed AFTER INSERT OR UPDATE OR DELETE ON sealvec.ring_user
    FOR EACH ROW EXECUTE FUNCTION sealvec.key_ring_changed();

ALTER TABLE sealvec.key_ring
    ENABLE ALWAYS TRIGGER a_superuser_only, ENABLE ALWAYS TRIGGER a_superuser_only_row,
    ENABLE ALWAYS TRIGGER key_ring_changed, ENABLE ALWAYS TRIGGER key_ring_row_changed;
ALTER TABLE sealvec.ring_grant
    ENABLE ALWAYS TRIGGER a_superuser_only, ENABLE ALWAYS TRIGGER a_superuser_only_row,
    ENABLE ALWAYS TRIGGER ring_grant_changed, ENABLE ALWAYS TRIGGER ring_grant_row_changed;
ALTER TABLE sealvec.ring_user
    ENABLE ALWAYS TRIGGER a_superuser_only, ENABLE ALWAYS TRIGGER a_superuser_only_row,
    ENABLE ALWAYS TRIGGER ring_user_changed, ENABLE ALWAYS TRIGGER ring_user_row_changed;
