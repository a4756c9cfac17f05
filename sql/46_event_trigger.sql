-- The event trigger that refuses what would fail later: a column whose values would die with their
-- session, an expression that holds such a value, and statistics over opened values. A convenience with
-- hints, not a guard: without it such values fail closed.

CREATE FUNCTION sealvec.holds_session_value(pg_node_tree, oid) RETURNS boolean
    AS 'MODULE_PATHNAME', 'sealvec_holds_session_value_wrapper' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

-- The first column of a relation that has no ring, and the first place in it that holds a session value; NULL
-- if there is none. In PL/pgSQL, which keeps their plans for the session; they run with the search_path
-- of check_ddl.
CREATE FUNCTION sealvec.column_without_ring(relation oid) RETURNS name
    LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN (
        SELECT a.attname
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypmod = -1
            AND a.atttypid IN ('@extschema@.sealvec'::regtype, '@extschema@.sealvec[]'::regtype)
            AND c.relkind IN ('r', 'p', 'm', 'f', 'c') -- what stores values; a view stores none
        ORDER BY a.attnum
        LIMIT 1
    );
END
$$;

CREATE FUNCTION sealvec.relation_expression_of_session(relation oid) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
AS $$
BEGIN
    RETURN (
        SELECT place FROM (
            SELECT 1, format('default of column %I', a.attname)
            FROM pg_attrdef d
            JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
            WHERE d.adrelid = $1 AND sealvec.holds_session_value(d.adbin, '@extschema@.sealvec'::regtype)
        UNION ALL
            SELECT 2, format('constraint %I', conname)
            FROM pg_constraint
            WHERE conrelid = $1 AND contype = 'c' AND sealvec.holds_session_value(conbin, '@extschema@.sealvec'::regtype)
        UNION ALL
            SELECT 3, CASE rulename WHEN '_RETURN' THEN 'query' ELSE format('rule %I', rulename) END
            FROM pg_rewrite
            WHERE ev_class = $1
                AND (sealvec.holds_session_value(ev_action, '@extschema@.sealvec'::regtype)
                    OR sealvec.holds_session_value(ev_qual, '@extschema@.sealvec'::regtype))
        UNION ALL
            SELECT 4, format('policy %I', polname)
            FROM pg_policy
            WHERE polrelid = $1
                AND (sealvec.holds_session_value(polqual, '@extschema@.sealvec'::regtype)
                    OR sealvec.holds_session_value(polwithcheck, '@extschema@.sealvec'::regtype))
        UNION ALL
            SELECT 5, format('condition of trigger %I', tgname)
            FROM pg_trigger
            WHERE tgrelid = $1 AND sealvec.holds_session_value(tgqual, '@extschema@.sealvec'::regtype)
        UNION ALL
            SELECT 6, 'index expression or predicate'
            FROM pg_index
            WHERE indexrelid = $1
                AND (sealvec.holds_session_value(indexprs, '@extschema@.sealvec'::regtype)
                    OR sealvec.holds_session_value(indpred, '@extschema@.sealvec'::regtype))
        ) AS places (rank, place)
        ORDER BY rank, place
        LIMIT 1
    );
END
$$;

CREATE FUNCTION sealvec.type_expression_of_session(type oid) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
AS $$
BEGIN
    RETURN (
        SELECT place FROM (
            SELECT 1, 'default'
            FROM pg_type
            WHERE oid = $1 AND sealvec.holds_session_value(typdefaultbin, '@extschema@.sealvec'::regtype)
        UNION ALL
            SELECT 2, format('constraint %I', conname)
            FROM pg_constraint
            WHERE contypid = $1 AND sealvec.holds_session_value(conbin, '@extschema@.sealvec'::regtype)
        ) AS places (rank, place)
        ORDER BY rank, place
        LIMIT 1
    );
END
$$;

-- SECURITY DEFINER, so that no one's DDL fails for want of rights on sealvec's functions.
CREATE FUNCTION sealvec.check_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    command record;
    relation oid;
    column_name name;
    place text;
BEGIN
    FOR command IN
        SELECT DISTINCT ON (c.classid, c.objid) c.classid, c.objid, c.object_type, c.object_identity
        FROM pg_event_trigger_ddl_commands() c
        WHERE NOT c.in_extension AND c.objid IS NOT NULL
        ORDER BY c.classid, c.objid, c.objsubid
    LOOP
        relation := NULL;
        column_name := NULL;
        place := NULL;
        CASE command.classid
            WHEN 'pg_class'::regclass THEN
                relation := command.objid;
            WHEN 'pg_type'::regclass THEN
                relation := (SELECT typrelid FROM pg_type WHERE oid = command.objid AND typtype = 'c');
                IF EXISTS (
                    SELECT FROM pg_type
                    WHERE oid = command.objid AND typtype = 'd' AND typtypmod = -1
                        AND typbasetype IN ('@extschema@.sealvec'::regtype, '@extschema@.sealvec[]'::regtype))
                THEN
                    RAISE EXCEPTION USING
                        ERRCODE = 'invalid_object_definition',
                        MESSAGE = format('domain %s is over type sealvec without dimensions and key ring', command.object_identity),
                        DETAIL = 'Its values would be sealed under a key that ends with the session.',
                        HINT = 'Write the number of dimensions and the key ring: sealvec(384, notes).';
                END IF;
                place := sealvec.type_expression_of_session(command.objid);
            WHEN 'pg_attrdef'::regclass THEN
                relation := (SELECT adrelid FROM pg_attrdef WHERE oid = command.objid);
            WHEN 'pg_rewrite'::regclass THEN
                relation := (SELECT ev_class FROM pg_rewrite WHERE oid = command.objid);
            WHEN 'pg_policy'::regclass THEN
                relation := (SELECT polrelid FROM pg_policy WHERE oid = command.objid);
            WHEN 'pg_trigger'::regclass THEN
                relation := (SELECT tgrelid FROM pg_trigger WHERE oid = command.objid);
            WHEN 'pg_constraint'::regclass THEN
                relation := (SELECT nullif(conrelid, 0) FROM pg_constraint WHERE oid = command.objid);
                place := sealvec.type_expression_of_session((SELECT contypid FROM pg_constraint WHERE oid = command.objid));
            WHEN 'pg_proc'::regclass THEN
                place := (
                    SELECT CASE WHEN sealvec.holds_session_value(prosqlbody, '@extschema@.sealvec'::regtype)
                        THEN 'body' ELSE 'default of a parameter' END
                    FROM pg_proc
                    WHERE oid = command.objid
                        AND (sealvec.holds_session_value(prosqlbody, '@extschema@.sealvec'::regtype)
                            OR sealvec.holds_session_value(proargdefaults, '@extschema@.sealvec'::regtype)));
            WHEN 'pg_statistic_ext'::regclass THEN
                -- ANALYZE stores samples of what an expression returns.
                IF EXISTS (
                    SELECT
                    FROM pg_statistic_ext s
                    JOIN pg_depend d ON d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid
                    WHERE s.oid = command.objid AND s.stxexprs IS NOT NULL AND (
                        EXISTS (
                            SELECT FROM pg_attribute a
                            WHERE d.refclassid = 'pg_class'::regclass AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                                AND a.atttypid IN ('@extschema@.sealvec'::regtype, '@extschema@.sealvec[]'::regtype))
                        OR EXISTS (
                            SELECT FROM pg_proc p
                            WHERE d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
                                AND '@extschema@.sealvec'::regtype = ANY (p.proargtypes::oid[]))
                        OR EXISTS (
                            SELECT FROM pg_operator o
                            WHERE d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
                                AND '@extschema@.sealvec'::regtype IN (o.oprleft, o.oprright))))
                THEN
                    RAISE EXCEPTION USING
                        ERRCODE = 'feature_not_supported',
                        MESSAGE = format('statistics %s are over an expression of type sealvec', command.object_identity),
                        DETAIL = 'ANALYZE would store what the expression returns, in clear.',
                        HINT = 'Leave that expression out.';
                END IF;
            ELSE
                CONTINUE;
        END CASE;

        IF relation IS NOT NULL THEN
            column_name := sealvec.column_without_ring(relation);
            IF column_name IS NOT NULL THEN
                RAISE EXCEPTION USING
                    ERRCODE = 'invalid_table_definition',
                    MESSAGE = format('column %I of %s has type sealvec without dimensions and key ring', column_name, relation::regclass),
                    DETAIL = 'Its values would be sealed under a key that ends with the session.',
                    HINT = format('Write the number of dimensions and the key ring: %I sealvec(384, notes). In a query, cast: expression::sealvec(384, notes).', column_name);
            END IF;
            IF EXISTS (
                SELECT FROM pg_attribute a
                WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
                    AND a.atttypid IN ('sealvec.kek'::regtype, 'sealvec.kek[]'::regtype))
            THEN
                RAISE EXCEPTION USING
                    ERRCODE = 'invalid_table_definition',
                    MESSAGE = format('%s has a column of type sealvec.kek', relation::regclass),
                    DETAIL = 'That type only takes a key to a function; it prints as a mask and could not be restored.',
                    HINT = 'Keep keys out of the database they open.';
            END IF;
            place := coalesce(place, sealvec.relation_expression_of_session(relation));
        END IF;
        IF place IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'invalid_object_definition',
                MESSAGE = format('%s of %s holds a vector that only this session can open', place,
                    CASE WHEN relation IS NULL THEN command.object_identity ELSE relation::regclass::text END),
                DETAIL = 'A vector written into a stored expression is sealed under a key that ends with the session.',
                HINT = 'Write it in its sealed text form, which SELECT ''[0.1,0.2]''::sealvec(dimensions, ring) prints.';
        END IF;
    END LOOP;
END
$$;

CREATE EVENT TRIGGER sealvec_check_ddl ON ddl_command_end
    WHEN TAG IN (
        'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
        'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA',
        'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE VIEW', 'ALTER VIEW',
        'CREATE TYPE', 'ALTER TYPE', 'CREATE DOMAIN', 'ALTER DOMAIN',
        'CREATE FUNCTION', 'CREATE PROCEDURE', 'CREATE RULE', 'CREATE TRIGGER',
        'CREATE POLICY', 'ALTER POLICY', 'CREATE INDEX', 'CREATE STATISTICS', 'CREATE SCHEMA')
    EXECUTE FUNCTION sealvec.check_ddl();

-- Also where session_replication_role = replica: restore and logical apply run so.
ALTER EVENT TRIGGER sealvec_check_ddl ENABLE ALWAYS;
