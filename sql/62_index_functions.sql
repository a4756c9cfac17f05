-- What the owner of a table may ask of its sealed index. Ownership is checked inside, and so is the ring.

CREATE FUNCTION sealvec.merge(index regclass) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sealed_ivf_merge_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.merge(regclass) IS 'sort the rows inserted since the last merge into lists; returns how many';

CREATE FUNCTION sealvec.train(index regclass) RETURNS integer
    AS 'MODULE_PATHNAME', 'sealed_ivf_train_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.train(regclass) IS 'make the lists anew from every row, beside readers and writers; returns how many';

CREATE FUNCTION sealvec.verify_index(index regclass) RETURNS bigint
    AS 'MODULE_PATHNAME', 'sealed_ivf_verify_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sealvec.verify_index(regclass) IS 'open everything in an index and compare it with its table; returns the rows compared, or an error';

CREATE FUNCTION sealvec.index_stats(index regclass,
    OUT distance text, OUT dims integer, OUT storage_precision text,
    OUT key_ring integer, OUT dek_version integer, OUT index_uuid uuid,
    OUT lists integer, OUT list_rows_min integer, OUT list_rows_max integer,
    OUT rows_in_lists bigint, OUT rows_in_l0 bigint, OUT rows_in_tail bigint, OUT rows_dead bigint,
    OUT pages bigint, OUT data_epoch bigint, OUT directory_epoch bigint)
    RETURNS SETOF record ROWS 1
    AS 'MODULE_PATHNAME', 'sealed_ivf_index_stats_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION sealvec.index_stats(regclass) IS 'what a sealed index holds; needs no key';

CREATE FUNCTION sealvec.list_stats(index regclass,
    OUT list bigint, OUT is_l0 boolean, OUT rows integer, OUT chunks integer, OUT pages integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sealed_ivf_list_stats_wrapper' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION sealvec.list_stats(regclass) IS 'each list of a sealed index; needs no key';
