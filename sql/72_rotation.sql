-- Rotation of data keys: what still uses a version, rows sealed anew, versions and rings taken away.

-- ---- where sealed things can lie: catalog look-ups for the functions below ---------------

-- Columns of tables and materialized views whose type is sealvec, or an array, a domain or a row with it; of those only
-- that belong to the table `below` or to its children, if it is not 0. `ring` is null where the type does not tell.
CREATE FUNCTION sealvec.sealed_columns(below oid, OUT relation oid, OUT relation_name text, OUT is_anothers boolean,
    OUT number integer, OUT column_name text, OUT lies_inside boolean, OUT ring integer) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
        WITH RECURSIVE sealed (type, inside, typmod) AS (
            SELECT '@extschema@.sealvec'::regtype::oid, false, -1
        UNION
            SELECT t.oid, s.inside OR t.typtype <> 'd',
                   CASE WHEN t.typtype = 'c' THEN -1 WHEN t.typtypmod <> -1 THEN t.typtypmod ELSE s.typmod END
            FROM sealed s
            JOIN pg_type t ON t.typtype = 'd' AND t.typbasetype = s.type OR t.typcategory = 'A' AND t.typelem = s.type
                OR t.typtype = 'c' AND EXISTS (
                    SELECT FROM pg_attribute a
                    WHERE a.attrelid = t.typrelid AND a.atttypid = s.type AND a.attnum > 0 AND NOT a.attisdropped)
        ), tree (relation) AS (
            SELECT below WHERE below <> 0
        UNION
            SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.relation
        ), found AS (
            SELECT a.attrelid, a.attnum, a.attname, bool_or(s.inside) AS inside,
                   max(CASE WHEN a.atttypmod <> -1 THEN a.atttypmod ELSE s.typmod END) AS typmod
            FROM sealed s
            JOIN pg_attribute a ON a.atttypid = s.type AND a.attnum > 0 AND NOT a.attisdropped
            GROUP BY 1, 2, 3
        )
        SELECT c.oid, format('%I.%I', n.nspname, c.relname), pg_is_other_temp_schema(n.oid), f.attnum::integer,
               f.attname::text, f.inside, CASE WHEN f.typmod <> -1 THEN f.typmod >> 14 END
        FROM found f
        JOIN pg_class c ON c.oid = f.attrelid AND c.relkind IN ('r', 'm')
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE below = 0 OR c.oid IN (SELECT t.relation FROM tree t)
        ORDER BY c.oid, f.attnum;
END
$$;

-- Sealed indexes that this session can read.
CREATE FUNCTION sealvec.sealed_indexes("all" boolean, OUT index oid, OUT index_name text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
        SELECT c.oid, format('%I.%I', n.nspname, c.relname)
        FROM pg_class c
        JOIN pg_am a ON a.oid = c.relam AND a.amname = 'sealed_ivf'
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'i' AND NOT pg_is_other_temp_schema(n.oid)
        ORDER BY c.oid;
END
$$;

CREATE FUNCTION sealvec.constant_versions(tree pg_node_tree, ring integer) RETURNS integer[]
    AS 'MODULE_PATHNAME', 'sealvec_constant_versions_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;

-- Sealed constants in stored expressions: a default stores the same value again and again.
CREATE FUNCTION sealvec.sealed_constants(ring integer, OUT place text, OUT version integer, OUT uses bigint) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
        WITH expressions (place, tree) AS (
            SELECT format('default of %s.%I', d.adrelid::regclass, a.attname), d.adbin
            FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        UNION ALL
            SELECT format('constraint %I of %s', conname, CASE WHEN conrelid <> 0 THEN conrelid::regclass::text ELSE contypid::regtype::text END), conbin
            FROM pg_constraint WHERE conbin IS NOT NULL
        UNION ALL
            SELECT format('rule %I of %s', r.rulename, r.ev_class::regclass), t.tree
            FROM pg_rewrite r CROSS JOIN LATERAL (VALUES (r.ev_action), (r.ev_qual)) t (tree)
            WHERE r.oid >= 16384
        UNION ALL
            SELECT format('policy %I of %s', p.polname, p.polrelid::regclass), t.tree
            FROM pg_policy p CROSS JOIN LATERAL (VALUES (p.polqual), (p.polwithcheck)) t (tree)
        UNION ALL
            SELECT format('trigger %I of %s', tgname, tgrelid::regclass), tgqual FROM pg_trigger WHERE tgqual IS NOT NULL
        UNION ALL
            SELECT format('default of type %s', oid::regtype), typdefaultbin FROM pg_type WHERE typdefaultbin IS NOT NULL
        UNION ALL
            SELECT format('index %s', i.indexrelid::regclass), t.tree
            FROM pg_index i CROSS JOIN LATERAL (VALUES (i.indexprs), (i.indpred)) t (tree)
        UNION ALL
            SELECT format('function %s', p.oid::regprocedure), t.tree
            FROM pg_proc p CROSS JOIN LATERAL (VALUES (p.prosqlbody), (p.proargdefaults)) t (tree)
            WHERE p.oid >= 16384
        )
        SELECT e.place, v.version, count(*)
        FROM expressions e CROSS JOIN LATERAL unnest(sealvec.constant_versions(e.tree, sealed_constants.ring)) v (version)
        GROUP BY 1, 2
        ORDER BY 1, 2;
END
$$;

-- ---- what still uses a version ----------------------------------------------------------

CREATE FUNCTION sealvec.dek_usage(ring text, OUT version integer, OUT kind text, OUT object text, OUT "column" text, OUT uses bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sealvec_dek_usage_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.dek_usage(text) IS 'what each version of the data key of a ring still seals; reads every table with a column of the ring, and needs no key';

-- ---- rows sealed anew -------------------------------------------------------------------

-- Unlogged: after a crash nobody is at it any more. src/rotation/progress.rs addresses columns by number.
CREATE UNLOGGED TABLE sealvec.reseal_job (
    pid             integer     NOT NULL,
    begun           timestamptz NOT NULL,       -- when the statement did
    "table"         oid         NOT NULL,
    relation        oid         NOT NULL,
    pass            integer     NOT NULL,
    relations       bigint      NOT NULL,
    relations_done  bigint      NOT NULL,
    blocks          bigint      NOT NULL,
    blocks_done     bigint      NOT NULL,
    rows_resealed   bigint      NOT NULL,
    rows_held       bigint      NOT NULL,
    rows_unopened   bigint      NOT NULL
);
REVOKE ALL ON sealvec.reseal_job FROM PUBLIC;

CREATE VIEW sealvec.reseal_progress AS
    SELECT j.pid, j.begun, j."table"::pg_catalog.regclass AS "table", j.relation::pg_catalog.regclass AS relation, j.pass,
           j.relations, j.relations_done, j.blocks, j.blocks_done, j.rows_resealed, j.rows_held, j.rows_unopened
    FROM sealvec.reseal_job j
    JOIN pg_catalog.pg_stat_get_activity(NULL) a ON a.pid = j.pid AND a.query_start = j.begun AND a.state = 'active';
COMMENT ON VIEW sealvec.reseal_progress IS 'reseal() and reseal_index() under way, for who may see the statements of their sessions';
GRANT SELECT ON sealvec.reseal_progress TO PUBLIC;

CREATE FUNCTION sealvec.reseal_begin("table" regclass, "column" name, batch integer) RETURNS integer
    AS 'MODULE_PATHNAME', 'sealvec_reseal_begin_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION sealvec.reseal_step(job integer) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_reseal_step_wrapper' LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE;
CREATE FUNCTION sealvec.reseal_index_begin(name text, batch integer, index_key sealvec.kek) RETURNS integer
    AS 'MODULE_PATHNAME', 'sealvec_reseal_index_begin_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION sealvec.reseal_index_step(job integer, name text, index_key sealvec.kek) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_reseal_index_step_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;

-- The search path is the caller's, for what his table runs: there is no operator in here.

CREATE PROCEDURE sealvec.reseal("table" regclass, "column" name DEFAULT NULL, batch integer DEFAULT 1000)
    LANGUAGE plpgsql AS $$
DECLARE
    job integer := sealvec.reseal_begin("table", "column", batch);
BEGIN
    WHILE sealvec.reseal_step(job) LOOP
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE sealvec.reseal(regclass, name, integer) IS 'seal the rows of a table anew under the newest data key, batch by batch; commits each, and goes on where an earlier call ended';

CREATE PROCEDURE sealvec.reseal_index(name text, batch integer DEFAULT 1000, index_key sealvec.kek DEFAULT NULL)
    LANGUAGE plpgsql AS $$
DECLARE
    job integer := sealvec.reseal_index_begin(name, batch, index_key);
BEGIN
    WHILE sealvec.reseal_index_step(job, name, index_key) LOOP
        COMMIT;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE sealvec.reseal_index(text, integer, sealvec.kek) IS 'seal vectors and items of an encrypted collection anew under the newest data key, as reseal does';

-- ---- the end of a version, and of a ring ------------------------------------------------

CREATE FUNCTION sealvec.retire_mark(ring text, version integer, kek sealvec.kek) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_retire_mark_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION sealvec.retire_wait(ring text) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_retire_wait_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION sealvec.retire_finish(ring text, version integer, kek sealvec.kek) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_retire_finish_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION sealvec.retire_force(ring text, version integer, kek sealvec.kek) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_retire_force_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION sealvec.retire_refuse(ring text, version integer) RETURNS void
    AS 'MODULE_PATHNAME', 'sealvec_retire_refuse_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE;

CREATE PROCEDURE sealvec.retire_dek(ring text, version integer, kek sealvec.kek DEFAULT NULL, force boolean DEFAULT false)
    LANGUAGE plpgsql AS $$
BEGIN
    IF force THEN
        PERFORM sealvec.retire_force(ring, version, kek);
        RETURN;
    END IF;
    PERFORM sealvec.retire_mark(ring, version, kek);
    COMMIT;
    PERFORM sealvec.retire_wait(ring);
    COMMIT;
    IF sealvec.retire_finish(ring, version, kek) THEN
        RETURN;
    END IF;
    COMMIT;
    PERFORM sealvec.retire_refuse(ring, version);
END
$$;
COMMENT ON PROCEDURE sealvec.retire_dek(text, integer, sealvec.kek, boolean) IS 'remove a version of the data key of a ring that nothing uses any more; waits for older transactions. By force it waits for nobody, and what used the version is told and lost';

CREATE FUNCTION sealvec.shred(ring text, confirm text DEFAULT NULL, OUT kind text, OUT object text, OUT "column" text, OUT version integer, OUT uses bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'sealvec_shred_wrapper' LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION sealvec.shred(text, text) IS 'destroy the keys of a ring, so that what is sealed under it can never be read again; returns what that is';
