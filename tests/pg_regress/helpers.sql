-- What several tests use; lives in pg_temp, so it goes with the session.

-- A vector that is the same on every machine, elements between -1 and 1.
CREATE FUNCTION pg_temp.vec(i integer, dims integer) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg((pg_catalog.hashint8(i::bigint * 100003 + j) / 2147483648.0)::real ORDER BY j)
    FROM generate_series(1, dims) j
$$;

-- The ids that a query returns, in order, with or without the index.
CREATE FUNCTION pg_temp.ids(query text, indexed boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan text;
    line text;
    result text;
BEGIN
    PERFORM set_config('enable_seqscan', CASE WHEN indexed THEN 'off' ELSE 'on' END, true),
            set_config('enable_sort', CASE WHEN indexed THEN 'off' ELSE 'on' END, true),
            set_config('enable_indexscan', CASE WHEN indexed THEN 'on' ELSE 'off' END, true),
            set_config('sealvec.probes', '1000000', true);
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
        plan := concat_ws(E'\n', plan, line);
    END LOOP;
    IF indexed <> (plan LIKE '%Index Scan using%Order By%') THEN
        RETURN 'another plan than expected: ' || plan;
    END IF;
    EXECUTE 'SELECT string_agg(id::text, '','') FROM (' || query || ') rows' INTO result;
    RETURN coalesce(result, '');
END
$$;

-- Whether index and sequential scan agree on a query, every list probed.
CREATE FUNCTION pg_temp.agree(query text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN by_index = by_heap THEN cardinality(string_to_array(by_index, ',')) || ' rows, the same'
                ELSE concat('index: ', by_index, E'\nheap:  ', by_heap) END
    FROM (SELECT pg_temp.ids(query, true) AS by_index, pg_temp.ids(query, false) AS by_heap) answers
$$;

-- A plan without what differs from run to run: a literal is sealed anew each time.
CREATE FUNCTION pg_temp.plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
        RETURN NEXT regexp_replace(line, 'sealvec1\.[[:alnum:]_-]+', 'sealed text');
    END LOOP;
END
$$;
