-- WITH (…) of an index: what is taken, what is refused.
SELECT sealvec.create_key_ring('options') IS NOT NULL AS made;
CREATE TABLE options (id integer, v sealvec(8, options));
INSERT INTO options SELECT i, ARRAY(SELECT (hashint8(i * 1009::bigint + j) / 2147483648.0)::real FROM generate_series(1, 8) j)
FROM generate_series(1, 2500) i;

CREATE INDEX options_default ON options USING sealed_ivf (v);
CREATE INDEX options_lists ON options USING sealed_ivf (v) WITH (lists = 7);
CREATE INDEX options_float16 ON options USING sealed_ivf (v) WITH (storage_precision = 'float16', lists = 0);
SELECT relname, reloptions FROM pg_class WHERE relname LIKE 'options\__%' ORDER BY relname;
SELECT storage_precision, lists FROM sealvec.index_stats('options_lists');
SELECT storage_precision, lists > 1 AS clustered FROM sealvec.index_stats('options_float16');

-- a change waits for REINDEX
ALTER INDEX options_lists SET (lists = 9);
SELECT lists FROM sealvec.index_stats('options_lists');
REINDEX INDEX options_lists;
SELECT lists FROM sealvec.index_stats('options_lists');
ALTER INDEX options_lists RESET (lists);

CREATE INDEX ON options USING sealed_ivf (v) WITH (lists = -1);
CREATE INDEX ON options USING sealed_ivf (v) WITH (lists = 65537);
CREATE INDEX ON options USING sealed_ivf (v) WITH (storage_precision = 'float8');
CREATE INDEX ON options USING sealed_ivf (v) WITH (probes = 3);
DROP TABLE options;
