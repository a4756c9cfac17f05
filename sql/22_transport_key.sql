-- What clients seal their keys to. Works on a standby too: it writes nothing but shared memory.

CREATE FUNCTION sealvec.transport_key(OUT key_id bytea, OUT public_key bytea, OUT expires timestamptz, OUT database text, OUT role text)
    RETURNS SETOF record
    ROWS 1 AS 'MODULE_PATHNAME', 'sealvec_transport_key_wrapper' LANGUAGE c VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION sealvec.transport_key() IS 'the server''s public key of the hour, to which clients seal keys, and the names that they bind them to';
