-- Casts into sealvec. There is none out of it: sealvec.open() is the only way to the elements.

-- Seals a session value for its column; a value of the column's ring passes without a key.
CREATE FUNCTION sealvec.coerce(@extschema@.sealvec, integer, boolean) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_coerce_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION sealvec.from_array(real[], integer, boolean) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_from_array_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION sealvec.from_array(double precision[], integer, boolean) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_from_array_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION sealvec.from_array(numeric[], integer, boolean) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_from_array_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

-- psycopg sends a list of small integers as smallint[].
CREATE FUNCTION sealvec.from_array(smallint[], integer, boolean) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_from_array_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION sealvec.from_array(integer[], integer, boolean) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_from_array_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION sealvec.from_array(bigint[], integer, boolean) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_from_array_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE CAST (@extschema@.sealvec AS @extschema@.sealvec)
    WITH FUNCTION sealvec.coerce(@extschema@.sealvec, integer, boolean) AS IMPLICIT;

CREATE CAST (real[] AS @extschema@.sealvec)
    WITH FUNCTION sealvec.from_array(real[], integer, boolean) AS IMPLICIT;

CREATE CAST (double precision[] AS @extschema@.sealvec)
    WITH FUNCTION sealvec.from_array(double precision[], integer, boolean) AS IMPLICIT;

CREATE CAST (numeric[] AS @extschema@.sealvec)
    WITH FUNCTION sealvec.from_array(numeric[], integer, boolean) AS IMPLICIT;

CREATE CAST (smallint[] AS @extschema@.sealvec)
    WITH FUNCTION sealvec.from_array(smallint[], integer, boolean) AS IMPLICIT;

CREATE CAST (integer[] AS @extschema@.sealvec)
    WITH FUNCTION sealvec.from_array(integer[], integer, boolean) AS IMPLICIT;

CREATE CAST (bigint[] AS @extschema@.sealvec)
    WITH FUNCTION sealvec.from_array(bigint[], integer, boolean) AS IMPLICIT;

-- pgvector's types, by way of real[], to which pgvector casts them itself. What this makes belongs to
-- whoever calls it and not to the extension: pg_dump carries it, and DROP EXTENSION vector CASCADE
-- drops it without taking sealvec along.
CREATE FUNCTION sealvec.enable_pgvector_casts() RETURNS text[]
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source record;
    made text[] := '{}';
BEGIN
    FOR source IN
        SELECT t.oid::regtype AS type, t.typname AS name
        FROM pg_type t
        JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid
            AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid
        WHERE e.extname = 'vector' AND t.typname IN ('vector', 'halfvec')
        ORDER BY t.typname DESC
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_cast
            WHERE castsource = source.type AND casttarget = '@extschema@.sealvec'::regtype);
        EXECUTE format(
            'CREATE FUNCTION sealvec.from_%I(%s, integer, boolean) RETURNS @extschema@.sealvec
             LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
             AS ''SELECT sealvec.from_array($1::real[], $2, $3)''', source.name, source.type);
        EXECUTE format(
            'CREATE CAST (%s AS @extschema@.sealvec)
             WITH FUNCTION sealvec.from_%I(%1$s, integer, boolean) AS IMPLICIT', source.type, source.name);
        made := made || source.type::text;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'undefined_object',
            MESSAGE = 'pgvector is not installed in this database',
            HINT = 'CREATE EXTENSION vector comes first. Casts from real[] work without it.';
    END IF;
    RETURN made;
END
$$;
REVOKE EXECUTE ON FUNCTION sealvec.enable_pgvector_casts() FROM PUBLIC;
COMMENT ON FUNCTION sealvec.enable_pgvector_casts() IS 'makes implicit casts from pgvector''s vector and halfvec to sealvec; returns the types';
