-- The transport type of KEK arguments: bytea whose output masks. Under log_statement or auto_explain the server
-- prints a bound parameter through its type's output; as bytea the KEK would stand in the log. A driver that leaves
-- the parameter's type open gets this one. Never a column's type (46_event_trigger.sql).

CREATE TYPE sealvec.kek;

CREATE FUNCTION sealvec.kek_in(cstring) RETURNS sealvec.kek
    AS 'byteain' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sealvec.kek_recv(internal) RETURNS sealvec.kek
    AS 'bytearecv' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sealvec.kek_out(sealvec.kek) RETURNS cstring
    AS 'MODULE_PATHNAME', 'sealvec_kek_out_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION sealvec.kek_send(sealvec.kek) RETURNS bytea
    AS 'MODULE_PATHNAME', 'sealvec_kek_send_wrapper' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

CREATE TYPE sealvec.kek (
    INPUT = sealvec.kek_in,
    OUTPUT = sealvec.kek_out,
    RECEIVE = sealvec.kek_recv,
    SEND = sealvec.kek_send,
    INTERNALLENGTH = variable,
    STORAGE = plain
);
COMMENT ON TYPE sealvec.kek IS 'a 32-byte KEK on its way to a function; prints as ***';

CREATE CAST (bytea AS sealvec.kek) WITHOUT FUNCTION AS IMPLICIT;
