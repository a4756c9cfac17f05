-- Transport types of arguments, beside sealvec.kek: what a client sends to a collection. Their output masks, so that no
-- parameter in a log and no EXPLAIN shows an id, a text, metadata or a vector. Never a column's type (46_event_trigger.sql).

CREATE TYPE sealvec.payload;

CREATE FUNCTION sealvec.payload_in(cstring) RETURNS sealvec.payload
    AS 'textin' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sealvec.payload_recv(internal) RETURNS sealvec.payload
    AS 'textrecv' LANGUAGE internal STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sealvec.payload_out(sealvec.payload) RETURNS cstring
    AS 'MODULE_PATHNAME', 'sealvec_kek_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sealvec.payload_send(sealvec.payload) RETURNS bytea
    AS 'MODULE_PATHNAME', 'sealvec_kek_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

CREATE TYPE sealvec.payload (
    INPUT = sealvec.payload_in,
    OUTPUT = sealvec.payload_out,
    RECEIVE = sealvec.payload_recv,
    SEND = sealvec.payload_send,
    INTERNALLENGTH = variable,
    STORAGE = plain
);
COMMENT ON TYPE sealvec.payload IS 'a text or JSON on its way to a function; prints as ***';

CREATE CAST (text AS sealvec.payload) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (varchar AS sealvec.payload) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (json AS sealvec.payload) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (jsonb AS sealvec.payload) WITH INOUT AS IMPLICIT;

-- One vector or many. Sealed under the session's key as soon as they are read, so that no Datum holds an element.

CREATE TYPE sealvec.vectors;

CREATE FUNCTION sealvec.vectors_in(cstring) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_in_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors_recv(internal) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_recv_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors_out(sealvec.vectors) RETURNS cstring
    AS 'MODULE_PATHNAME', 'sealvec_kek_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sealvec.vectors_send(sealvec.vectors) RETURNS bytea
    AS 'MODULE_PATHNAME', 'sealvec_kek_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

CREATE TYPE sealvec.vectors (
    INPUT = sealvec.vectors_in,
    OUTPUT = sealvec.vectors_out,
    RECEIVE = sealvec.vectors_recv,
    SEND = sealvec.vectors_send,
    INTERNALLENGTH = variable,
    STORAGE = plain
);
COMMENT ON TYPE sealvec.vectors IS 'vectors on their way to a function: JSON as text, float32 little-endian in rows as binary; prints as ***';

CREATE FUNCTION sealvec.vectors(real[]) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_of_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors(double precision[]) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_of_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors(smallint[]) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_of_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors(bigint[]) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_of_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors(integer[]) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_of_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors(numeric[]) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_of_array_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION sealvec.vectors(text) RETURNS sealvec.vectors
    AS 'MODULE_PATHNAME', 'sealvec_vectors_of_text_wrapper' LANGUAGE c STABLE STRICT PARALLEL RESTRICTED;

CREATE CAST (real[] AS sealvec.vectors) WITH FUNCTION sealvec.vectors(real[]) AS IMPLICIT;
CREATE CAST (double precision[] AS sealvec.vectors) WITH FUNCTION sealvec.vectors(double precision[]) AS IMPLICIT;
CREATE CAST (smallint[] AS sealvec.vectors) WITH FUNCTION sealvec.vectors(smallint[]) AS IMPLICIT;
CREATE CAST (bigint[] AS sealvec.vectors) WITH FUNCTION sealvec.vectors(bigint[]) AS IMPLICIT;
CREATE CAST (integer[] AS sealvec.vectors) WITH FUNCTION sealvec.vectors(integer[]) AS IMPLICIT;
CREATE CAST (numeric[] AS sealvec.vectors) WITH FUNCTION sealvec.vectors(numeric[]) AS IMPLICIT;
CREATE CAST (text AS sealvec.vectors) WITH FUNCTION sealvec.vectors(text) AS IMPLICIT;
