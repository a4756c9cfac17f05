-- The type sealvec(dims, ring).
--
-- Input is STABLE: it reads the ring's DEK, or seals under the session key. Postgres then keeps these
-- functions out of index expressions, predicates and generated columns. Output needs no key.

CREATE TYPE @extschema@.sealvec;

CREATE FUNCTION sealvec.type_in(cstring, oid, integer) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_in_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION sealvec.type_out(@extschema@.sealvec) RETURNS cstring
    AS 'MODULE_PATHNAME', 'sealvec_out_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION sealvec.type_recv(internal, oid, integer) RETURNS @extschema@.sealvec
    AS 'MODULE_PATHNAME', 'sealvec_recv_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE FUNCTION sealvec.type_send(@extschema@.sealvec) RETURNS bytea
    AS 'MODULE_PATHNAME', 'sealvec_send_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Reads the ring's name in the catalog.
CREATE FUNCTION sealvec.typmod_in(cstring[]) RETURNS integer
    AS 'MODULE_PATHNAME', 'sealvec_typmod_in_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

-- Prints the ring's number, so a dump restores in any order.
CREATE FUNCTION sealvec.typmod_out(integer) RETURNS cstring
    AS 'MODULE_PATHNAME', 'sealvec_typmod_out_wrapper' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Says no: ANALYZE keeps no statistics.
CREATE FUNCTION sealvec.type_analyze(internal) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_typanalyze_wrapper' LANGUAGE C STABLE STRICT PARALLEL SAFE;

-- Ciphertext does not compress; EXTERNAL also lets a slice be read from a TOASTed value.
CREATE TYPE @extschema@.sealvec (
    INPUT = sealvec.type_in,
    OUTPUT = sealvec.type_out,
    RECEIVE = sealvec.type_recv,
    SEND = sealvec.type_send,
    TYPMOD_IN = sealvec.typmod_in,
    TYPMOD_OUT = sealvec.typmod_out,
    ANALYZE = sealvec.type_analyze,
    INTERNALLENGTH = VARIABLE,
    STORAGE = external
);
COMMENT ON TYPE @extschema@.sealvec IS 'vector sealed by a key ring: sealvec(dimensions, ring)';
