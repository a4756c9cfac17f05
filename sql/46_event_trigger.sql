-- The event trigger that refuses what would fail later, a column whose values would die with their session
-- and an expression that holds such a value, and what would store opened values: statistics, and functions
-- that claim to be IMMUTABLE. A convenience with hints, not a guard: session values fail closed without it,
-- and a function that reads a vector by itself is no business of ours.

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
            SELECT 6, 'partition key'
            FROM pg_partitioned_table
            WHERE partrelid = $1 AND sealvec.holds_session_value(partexprs, '@extschema@.sealvec'::regtype)
        UNION ALL
            SELECT 7, 'index expression or predicate'
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

-- Whether a value of the type may hold a sealvec: it is one, an array of, a domain over, or a row with one.
CREATE FUNCTION sealvec.type_holds_sealvec(type oid, in_rows boolean) RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN EXISTS (
        WITH RECURSIVE parts (oid) AS (
            SELECT $1
        UNION
            SELECT part.oid
            FROM parts
            JOIN pg_type t ON t.oid = parts.oid
            CROSS JOIN LATERAL (
                SELECT t.typbasetype UNION ALL SELECT t.typelem
            UNION ALL
                SELECT a.atttypid FROM pg_attribute a
                WHERE in_rows AND t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            ) part (oid)
            WHERE part.oid <> 0
        )
        SELECT FROM parts WHERE parts.oid = '@extschema@.sealvec'::regtype);
END
$$;

-- The first function or operator in the expressions of an object that may open a vector, by what it takes; NULL if
-- there is none. Functions of this extension are labelled as they are, so Postgres keeps those that open a value
-- out of what it stores; it does not for statistics. A function of rows may be about another column: there only
-- statistics count it.
CREATE FUNCTION sealvec.opener_in(class oid, object oid, for_statistics boolean) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN (
        SELECT coalesce('function ' || p.oid::regprocedure, 'operator ' || o.oid::regoperator)
        FROM pg_depend d
        LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
        LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
        CROSS JOIN LATERAL unnest(coalesce(p.proargtypes::oid[], ARRAY[o.oprleft, o.oprright])) AS argument (oid)
        WHERE d.classid = $1 AND d.objid = $2
            AND (for_statistics OR NOT EXISTS (
                SELECT FROM pg_depend member
                WHERE member.classid = d.refclassid AND member.objid = d.refobjid AND member.deptype = 'e'
                    AND member.refclassid = 'pg_extension'::regclass
                    AND member.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sealvec')))
            AND (sealvec.type_holds_sealvec(argument.oid, for_statistics)
                -- anyelement and its like take what the columns are.
                OR (SELECT typtype FROM pg_type WHERE pg_type.oid = argument.oid) = 'p' AND EXISTS (
                    SELECT FROM pg_depend c
                    JOIN pg_attribute a ON a.attrelid = c.refobjid AND a.attnum = c.refobjsubid
                    WHERE c.classid = $1 AND c.objid = $2 AND c.refclassid = 'pg_class'::regclass
                        AND sealvec.type_holds_sealvec(a.atttypid, for_statistics)))
        ORDER BY 1
        LIMIT 1
    );
END
$$;

-- What a change of a relation changes: the columns, types, functions and operators that its row type is part of, its
-- children and typed tables as well.
CREATE FUNCTION sealvec.reached_from(relation oid) RETURNS TABLE (class oid, object oid, part integer)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN QUERY
        WITH RECURSIVE reached (class, object, part) AS (
            SELECT 'pg_class'::regclass::oid, $1, 0
        UNION
            SELECT next.* FROM reached r CROSS JOIN LATERAL (
                SELECT 'pg_type'::regclass::oid, c.reltype, 0 FROM pg_class c
                WHERE r.class = 'pg_class'::regclass AND c.oid = r.object AND c.reltype <> 0
            UNION ALL
                SELECT r.class, i.inhrelid, 0 FROM pg_inherits i
                WHERE r.class = 'pg_class'::regclass AND r.part = 0 AND i.inhparent = r.object
            UNION ALL
                SELECT d.classid, d.objid, d.objsubid FROM pg_depend d
                WHERE r.class = 'pg_type'::regclass AND d.refclassid = r.class AND d.refobjid = r.object
                    AND d.classid IN ('pg_type'::regclass, 'pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
            ) next
        )
        SELECT * FROM reached;
END
$$;

-- The name of statistics whose expressions may open a vector: these, if given, else the first of those that a sealed
-- column in the relation's row may have made so. NULL if there are none. Not what is another session's: it must stop
-- nobody else.
CREATE FUNCTION sealvec.statistics_of_opened(statistics oid, relation oid) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    IF $1 IS NULL AND NOT sealvec.type_holds_sealvec((SELECT reltype FROM pg_class WHERE pg_class.oid = $2), true) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT identity
        FROM pg_statistic_ext s
        JOIN pg_class c ON c.oid = s.stxrelid
        CROSS JOIN pg_identify_object('pg_statistic_ext'::regclass, s.oid, 0)
        WHERE s.stxexprs IS NOT NULL
            AND CASE WHEN $1 IS NOT NULL THEN s.oid = $1 ELSE s.oid IN (
                SELECT d.objid
                FROM sealvec.reached_from($2) r
                JOIN pg_depend d ON d.refclassid = r.class AND d.refobjid = r.object AND (r.part = 0 OR d.refobjsubid = r.part)
                WHERE d.classid = 'pg_statistic_ext'::regclass)
            END
            AND NOT pg_is_other_temp_schema(s.stxnamespace) AND NOT pg_is_other_temp_schema(c.relnamespace)
            AND (sealvec.opener_in('pg_statistic_ext'::regclass, s.oid, true) IS NOT NULL
                -- Whatever is done to a sealed column itself, to be sure.
                OR EXISTS (
                    SELECT FROM pg_depend d
                    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                    WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid AND d.refclassid = 'pg_class'::regclass
                        AND sealvec.type_holds_sealvec(a.atttypid, false)))
        ORDER BY identity
        LIMIT 1
    );
END
$$;

-- Keeps the key rings of a relation's columns from being dropped before the transaction ends: a type modifier that was
-- read does so, but that of a query planned in an earlier transaction, or of another table, was not. NULL, or the
-- number of a ring that is gone.
CREATE FUNCTION sealvec.hold_rings_of(relation oid) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
DECLARE
    ring integer;
    missing integer;
BEGIN
    FOR ring IN
        SELECT DISTINCT CASE WHEN a.atttypmod <> -1 THEN a.atttypmod ELSE t.typtypmod END >> 14
        FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
            AND CASE WHEN a.atttypmod <> -1 THEN a.atttypmod ELSE t.typtypmod END <> -1
            AND sealvec.type_holds_sealvec(a.atttypid, false)
        ORDER BY 1
    LOOP
        IF NOT sealvec.hold_ring(ring) THEN
            missing := coalesce(missing, ring);
        END IF;
    END LOOP;
    RETURN missing;
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
    opener text;
    opened_in text;
    ring integer;
    transport oid[] := ARRAY['sealvec.kek'::regtype, 'sealvec.kek[]'::regtype, 'sealvec.payload'::regtype,
        'sealvec.payload[]'::regtype, 'sealvec.vectors'::regtype, 'sealvec.vectors[]'::regtype];
BEGIN
    FOR command IN
        SELECT DISTINCT ON (c.classid, c.objid) c.classid, c.objid, c.object_type, c.object_identity, c.command_tag
        FROM pg_event_trigger_ddl_commands() c
        WHERE NOT c.in_extension AND c.objid IS NOT NULL
        ORDER BY c.classid, c.objid, c.objsubid
    LOOP
        relation := NULL;
        column_name := NULL;
        place := NULL;
        opener := NULL;
        CASE command.classid
            WHEN 'pg_class'::regclass THEN
                relation := command.objid;
                SELECT CASE relkind WHEN 'i' THEN 'index ' WHEN 'I' THEN 'index ' ELSE 'the partition key of ' END || relation::regclass
                INTO opened_in
                FROM pg_class
                WHERE oid = relation AND relkind IN ('i', 'I', 'p')
                    AND relam IS DISTINCT FROM (SELECT oid FROM pg_am WHERE amname = 'sealed_ivf');
                IF FOUND THEN
                    opener := sealvec.opener_in('pg_class'::regclass, relation, false);
                END IF;
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
                IF EXISTS (
                    SELECT FROM pg_type
                    WHERE oid = command.objid AND typtype = 'd' AND typbasetype = ANY (transport))
                THEN
                    RAISE EXCEPTION USING
                        ERRCODE = 'invalid_object_definition',
                        MESSAGE = format('domain %s is over a transport type of sealvec', command.object_identity),
                        DETAIL = 'Such a type only takes a key, a text or vectors to a function; it prints as a mask and could not be restored.',
                        HINT = 'Keep keys out of the database they open.';
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
                NULL;
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
            ring := sealvec.hold_rings_of(relation);
            -- A column may come before its ring, as in a dump, but not with values.
            IF ring IS NOT NULL AND command.command_tag IN ('CREATE TABLE AS', 'SELECT INTO', 'CREATE MATERIALIZED VIEW')
                AND (SELECT relispopulated FROM pg_class WHERE pg_class.oid = relation)
            THEN
                RAISE EXCEPTION USING
                    ERRCODE = 'undefined_object',
                    MESSAGE = format('key ring number %s does not exist in this database', ring),
                    DETAIL = format('%s was filled with vectors sealed under it, which could not be opened.', relation::regclass);
            END IF;
            IF EXISTS (
                SELECT FROM pg_attribute a
                WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
                    AND a.atttypid = ANY (transport))
            THEN
                RAISE EXCEPTION USING
                    ERRCODE = 'invalid_table_definition',
                    MESSAGE = format('%s has a column of a transport type of sealvec', relation::regclass),
                    DETAIL = 'Such a type only takes a key, a text or vectors to a function; it prints as a mask and could not be restored.',
                    HINT = 'Keep keys out of the database they open.';
            END IF;
            place := coalesce(place, sealvec.relation_expression_of_session(relation));

            -- A generated column is a default that is kept: ALTER TABLE reports the table only.
            IF opener IS NULL THEN
                SELECT sealvec.opener_in('pg_attrdef'::regclass, d.oid, false), format('column %I of %s', a.attname, relation::regclass)
                INTO opener, opened_in
                FROM pg_attribute a
                JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = relation AND a.attgenerated = 's' AND sealvec.opener_in('pg_attrdef'::regclass, d.oid, false) IS NOT NULL
                ORDER BY a.attnum
                LIMIT 1;
            END IF;
        END IF;
        IF opener IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'feature_not_supported',
                MESSAGE = format('%s would store what %s makes of a vector', opened_in, opener),
                DETAIL = 'What a vector opens to would lie on disk in clear. Functions that open one are STABLE, so that Postgres stores no result.',
                HINT = 'Mark the function STABLE if it opens a vector, and leave it out here.';
        END IF;
        IF relation IS NOT NULL OR command.classid = 'pg_statistic_ext'::regclass THEN
            opened_in := sealvec.statistics_of_opened(
                CASE command.classid WHEN 'pg_statistic_ext'::regclass THEN command.objid END, relation);
            IF opened_in IS NOT NULL THEN
                RAISE EXCEPTION USING
                    ERRCODE = 'feature_not_supported',
                    MESSAGE = format('statistics %s are over an expression of type sealvec', opened_in),
                    DETAIL = 'ANALYZE would store what the expression returns, in clear.',
                    HINT = 'Leave that expression out.';
            END IF;
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
