-- The index access method, and the operator classes that say which distance an index is for.

CREATE FUNCTION sealvec.sealed_ivf_handler(internal) RETURNS index_am_handler
    AS 'MODULE_PATHNAME', 'sealed_ivf_handler_wrapper' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION sealvec.sealed_ivf_handler(internal) FROM PUBLIC;

CREATE ACCESS METHOD sealed_ivf TYPE INDEX HANDLER sealvec.sealed_ivf_handler;
COMMENT ON ACCESS METHOD sealed_ivf IS 'nearest neighbours of sealed vectors, from sealed lists';

-- Support function 1 of each class: the number of its distance in the index format.

CREATE FUNCTION sealvec.sealed_ivf_l2() RETURNS integer
    AS 'MODULE_PATHNAME', 'sealed_ivf_l2_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION sealvec.sealed_ivf_cosine() RETURNS integer
    AS 'MODULE_PATHNAME', 'sealed_ivf_cosine_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION sealvec.sealed_ivf_inner_product() RETURNS integer
    AS 'MODULE_PATHNAME', 'sealed_ivf_inner_product_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR CLASS @extschema@.sealvec_l2_ops
    DEFAULT FOR TYPE @extschema@.sealvec USING sealed_ivf AS
    OPERATOR 1 @extschema@.<-> (@extschema@.sealvec, @extschema@.sealvec) FOR ORDER BY pg_catalog.float_ops,
    FUNCTION 1 sealvec.sealed_ivf_l2();

CREATE OPERATOR CLASS @extschema@.sealvec_cosine_ops
    FOR TYPE @extschema@.sealvec USING sealed_ivf AS
    OPERATOR 1 @extschema@.<=> (@extschema@.sealvec, @extschema@.sealvec) FOR ORDER BY pg_catalog.float_ops,
    FUNCTION 1 sealvec.sealed_ivf_cosine();

CREATE OPERATOR CLASS @extschema@.sealvec_ip_ops
    FOR TYPE @extschema@.sealvec USING sealed_ivf AS
    OPERATOR 1 @extschema@.<#> (@extschema@.sealvec, @extschema@.sealvec) FOR ORDER BY pg_catalog.float_ops,
    FUNCTION 1 sealvec.sealed_ivf_inner_product();
