-- Catalogs of collections (the "encrypted indexes" of CyborgDB). A collection is a key ring, a table named by its UUID
-- in schema sealvec_data, and a sealed_ivf index; what is here is what may be known without a key.
-- src/collections/registry.rs addresses columns by number: upgrades may only append.

CREATE SCHEMA sealvec_data;
COMMENT ON SCHEMA sealvec_data IS 'tables of collections, each named by its UUID and owned by whoever made it';
GRANT USAGE ON SCHEMA sealvec_data TO PUBLIC;

CREATE TABLE sealvec.collection (
    name              text COLLATE "C" NOT NULL,
    uuid              uuid             NOT NULL,
    ring              integer          NOT NULL,
    dimension         integer,                    -- null until the first upsert
    metric            text             NOT NULL,
    storage_precision text             NOT NULL,
    embedding_model   text,
    kms_name          text,                       -- null: the client holds the key
    metadata_schema   text,                       -- JSON as it came
    bm25_k1           double precision,
    bm25_b            double precision,
    PRIMARY KEY (name)
);
COMMENT ON TABLE sealvec.collection IS 'collections: names and shapes, no key and no content';

CREATE TABLE sealvec.collection_user (
    ring    integer NOT NULL,
    user_id bytea   NOT NULL,
    record  bytea   NOT NULL,                     -- sealvec_core::keys::user::UserRecord
    PRIMARY KEY (ring, user_id)
);
COMMENT ON TABLE sealvec.collection_user IS 'users of collections: copies of keys, wrapped under each user''s own';

CREATE TABLE sealvec.kms_slot (
    name     text COLLATE "C" NOT NULL,
    provider text             NOT NULL,
    options  jsonb            NOT NULL DEFAULT '{}',  -- no secret: those stand in the key agent's configuration
    PRIMARY KEY (name)
);
COMMENT ON TABLE sealvec.kms_slot IS 'key services by the names that key rings and create_index(kms_name => …) know';

REVOKE ALL ON sealvec.collection, sealvec.collection_user, sealvec.kms_slot FROM PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('sealvec.collection', '');
SELECT pg_catalog.pg_extension_config_dump('sealvec.collection_user', '');
SELECT pg_catalog.pg_extension_config_dump('sealvec.kms_slot', '');

-- As for the key-ring catalogs: only a superuser writes to them by hand, restore included.

DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['collection', 'collection_user', 'kms_slot'] LOOP
        EXECUTE format('CREATE TRIGGER a_superuser_only BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON sealvec.%I
            FOR EACH STATEMENT EXECUTE FUNCTION sealvec.superuser_only()', target);
        EXECUTE format('CREATE TRIGGER a_superuser_only_row BEFORE INSERT OR UPDATE OR DELETE ON sealvec.%I
            FOR EACH ROW EXECUTE FUNCTION sealvec.superuser_only()', target);
        EXECUTE format('ALTER TABLE sealvec.%I ENABLE ALWAYS TRIGGER a_superuser_only, ENABLE ALWAYS TRIGGER a_superuser_only_row', target);
    END LOOP;
END
$$;

CREATE VIEW sealvec.kms_slots AS
    SELECT 'local' AS name, 'local' AS provider, '{}'::jsonb AS options WHERE NOT EXISTS (SELECT FROM sealvec.kms_slot WHERE name = 'local')
    UNION ALL SELECT name, provider, options FROM sealvec.kms_slot;
COMMENT ON VIEW sealvec.kms_slots IS 'key services by name; local is always there';
GRANT SELECT ON sealvec.kms_slots TO PUBLIC;

CREATE VIEW sealvec.collections WITH (security_barrier) AS
    SELECT c.name, t.oid::regclass AS "table", c.ring AS ring_number, r.name AS ring,
           c.dimension, c.metric, c.storage_precision, c.embedding_model, c.kms_name
    FROM sealvec.collection c
    JOIN pg_catalog.pg_namespace n ON n.nspname = 'sealvec_data'
    JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = c.uuid::text
    LEFT JOIN sealvec.key_ring r ON r.number = c.ring
    WHERE pg_catalog.has_table_privilege(t.oid, 'SELECT, INSERT, UPDATE, DELETE');
COMMENT ON VIEW sealvec.collections IS 'the collections that the current user has rights on, each with its table and key ring';
GRANT SELECT ON sealvec.collections TO PUBLIC;

-- Key services.

CREATE FUNCTION sealvec.create_kms(name text, provider text DEFAULT 'local', options jsonb DEFAULT '{}') RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_create_kms_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.create_kms(text, text, jsonb) IS 'name a key service for create_key_ring(provider => …) and create_index(kms_name => …)';
CREATE FUNCTION sealvec.alter_kms(name text, options jsonb) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_alter_kms_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.alter_kms(text, jsonb) IS 'give a key service other options, all of them';
CREATE FUNCTION sealvec.drop_kms(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_drop_kms_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.drop_kms(text) IS 'forget the name of a key service; refused while a key ring or an index uses it';
REVOKE ALL ON FUNCTION sealvec.create_kms(text, text, jsonb), sealvec.alter_kms(text, jsonb), sealvec.drop_kms(text) FROM PUBLIC;

-- Making, describing and removing a collection.

CREATE FUNCTION sealvec.create_index(name text, dimension integer DEFAULT NULL, metric text DEFAULT 'euclidean',
    index_key sealvec.kek DEFAULT NULL, kms_name text DEFAULT NULL, storage_precision text DEFAULT 'float32',
    embedding_model text DEFAULT NULL, metadata_schema json DEFAULT NULL,
    bm25_k1 double precision DEFAULT NULL, bm25_b double precision DEFAULT NULL) RETURNS regclass
    AS 'MODULE_PATHNAME', 'sealvec_create_index_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.create_index IS 'make an encrypted collection; returns its table';
REVOKE ALL ON FUNCTION sealvec.create_index FROM PUBLIC;

CREATE FUNCTION sealvec.delete_index(name text, index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL,
    user_token sealvec.payload DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_delete_index_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.delete_index IS 'remove a collection: table, index, keys and users';

CREATE FUNCTION sealvec.list_indexes() RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$ SELECT name FROM sealvec.collections ORDER BY name COLLATE "C" $$;
COMMENT ON FUNCTION sealvec.list_indexes IS 'names of the collections that the current user has rights on';

CREATE FUNCTION sealvec.index_info(name text,
    OUT index_name text, OUT dimension integer, OUT metric text, OUT storage_precision text, OUT embedding_model text,
    OUT kms_name text, OUT metadata_schema json, OUT bm25_k1 double precision, OUT bm25_b double precision) RETURNS SETOF record
    ROWS 1 AS 'MODULE_PATHNAME', 'sealvec_index_info_wrapper' LANGUAGE c STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION sealvec.index_info IS 'the shape of a collection; needs no key';

CREATE FUNCTION sealvec.describe_index(name text, index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL,
    user_token sealvec.payload DEFAULT NULL,
    OUT index_name text, OUT dimension integer, OUT metric text, OUT storage_precision text, OUT embedding_model text,
    OUT kms_name text, OUT metadata_schema json, OUT bm25_k1 double precision, OUT bm25_b double precision,
    OUT is_trained boolean, OUT n_lists integer) RETURNS SETOF record
    ROWS 1 AS 'MODULE_PATHNAME', 'sealvec_describe_index_wrapper' LANGUAGE c STABLE PARALLEL RESTRICTED COST 100;
COMMENT ON FUNCTION sealvec.describe_index IS 'the shape and state of a collection, for who can open it';

CREATE FUNCTION sealvec.train(name text, n_lists integer DEFAULT NULL, index_key sealvec.kek DEFAULT NULL,
    user_id bytea DEFAULT NULL, user_token sealvec.payload DEFAULT NULL) RETURNS integer
    AS 'MODULE_PATHNAME', 'sealvec_train_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.train(text, integer, sealvec.kek, bytea, sealvec.payload) IS 'make the lists of a collection, or of an index of that name, anew; returns how many';

CREATE FUNCTION sealvec.training_status(OUT index_name text, OUT is_training boolean, OUT is_trained boolean, OUT n_lists integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sealvec_training_status_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.training_status IS 'which collections are being trained, by anybody, and which have lists';

-- Items.

CREATE FUNCTION sealvec.upsert(name text, items sealvec.payload, index_key sealvec.kek DEFAULT NULL,
    user_id bytea DEFAULT NULL, user_token sealvec.payload DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sealvec_upsert_items_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.upsert(text, sealvec.payload, sealvec.kek, bytea, sealvec.payload) IS 'add or replace items: a JSON array of objects with id, vector, contents, metadata; returns how many came';

CREATE FUNCTION sealvec.upsert(name text, ids sealvec.payload[], vectors sealvec.vectors,
    contents sealvec.payload[] DEFAULT NULL, metadata sealvec.payload[] DEFAULT NULL,
    index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL, user_token sealvec.payload DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sealvec_upsert_rows_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.upsert(text, sealvec.payload[], sealvec.vectors, sealvec.payload[], sealvec.payload[], sealvec.kek, bytea, sealvec.payload) IS 'add or replace items given field by field; returns how many came';

CREATE FUNCTION sealvec.query(name text, vectors sealvec.vectors, top_k integer DEFAULT 100, n_probes integer DEFAULT NULL,
    filters sealvec.payload DEFAULT NULL, include text[] DEFAULT '{}',
    text sealvec.payload DEFAULT NULL, text_fields text[] DEFAULT NULL, text_field_weights double precision[] DEFAULT NULL,
    require_all_terms boolean DEFAULT NULL, alpha double precision DEFAULT NULL, rrf_k double precision DEFAULT NULL,
    window_mult integer DEFAULT NULL,
    index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL, user_token sealvec.payload DEFAULT NULL,
    OUT query integer, OUT rank integer, OUT id text, OUT distance double precision, OUT score double precision, OUT metadata json)
    RETURNS SETOF record
    ROWS 100 AS 'MODULE_PATHNAME', 'sealvec_query_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.query IS 'the nearest items to each vector, nearest first';

CREATE FUNCTION sealvec.query_metadata(name text, filters sealvec.payload DEFAULT NULL, top_k integer DEFAULT NULL,
    order_by sealvec.payload DEFAULT NULL, ascending boolean DEFAULT true,
    text sealvec.payload DEFAULT NULL, text_fields text[] DEFAULT NULL, text_field_weights double precision[] DEFAULT NULL,
    require_all_terms boolean DEFAULT NULL,
    index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL, user_token sealvec.payload DEFAULT NULL,
    OUT rank integer, OUT id text, OUT score double precision, OUT metadata json)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sealvec_query_metadata_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.query_metadata IS 'the items that a filter or a text search finds, without a vector';

CREATE FUNCTION sealvec.get(name text, ids sealvec.payload[], include text[] DEFAULT '{vector,contents,metadata}',
    index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL, user_token sealvec.payload DEFAULT NULL,
    OUT rank integer, OUT id text, OUT vector real[], OUT contents text, OUT metadata json)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sealvec_get_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION sealvec.get IS 'items by id, in the order asked for; what is not there is left out';

CREATE FUNCTION sealvec.delete(name text, ids sealvec.payload[], index_key sealvec.kek DEFAULT NULL,
    user_id bytea DEFAULT NULL, user_token sealvec.payload DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sealvec_delete_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION sealvec.delete IS 'remove items; returns how many were there';

CREATE FUNCTION sealvec.list_ids(name text, index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL,
    user_token sealvec.payload DEFAULT NULL) RETURNS SETOF text
    AS 'MODULE_PATHNAME', 'sealvec_list_ids_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.list_ids IS 'every id of a collection, in no order';

CREATE FUNCTION sealvec.num_vectors(name text, index_key sealvec.kek DEFAULT NULL, user_id bytea DEFAULT NULL,
    user_token sealvec.payload DEFAULT NULL) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sealvec_num_vectors_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.num_vectors IS 'how many items a collection holds';

-- Users.

CREATE FUNCTION sealvec.create_user(name text, permissions text[], user_id bytea DEFAULT NULL, user_key sealvec.kek DEFAULT NULL,
    index_key sealvec.kek DEFAULT NULL, OUT id bytea, OUT token text) RETURNS SETOF record ROWS 1
    AS 'MODULE_PATHNAME', 'sealvec_create_user_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.create_user IS 'give a user of his own key the keys of a collection, to read, to write or both; the token is shown once, and not over a network without TLS';

CREATE FUNCTION sealvec.list_users(name text, index_key sealvec.kek DEFAULT NULL, OUT id bytea, OUT permissions text[])
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sealvec_list_users_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.list_users IS 'users of a collection';

CREATE FUNCTION sealvec.delete_user(name text, user_id bytea, index_key sealvec.kek DEFAULT NULL) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_delete_user_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.delete_user IS 'take a user''s keys of a collection away; false if there is no such user';
