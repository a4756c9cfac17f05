-- What anyone may know: names and states, no envelope. A role that was dropped or renamed owns nothing and has no grant.

CREATE VIEW sealvec.key_rings AS
    SELECT r.name, r.number, r.uuid, r.provider,
           CASE WHEN pg_catalog.pg_get_userbyid(r.owner_oid) = r.owner THEN r.owner END AS owner, r.dek_version,
           CASE WHEN sealvec.ring_is_open(r.number) THEN 'open' ELSE 'locked' END AS state,
           ARRAY(SELECT g.role FROM sealvec.ring_grant g WHERE g.number = r.number AND g.permissions IS NULL
                 AND pg_catalog.pg_get_userbyid(g.role_oid) = g.role ORDER BY g.role) AS granted_to, r.kms, r.retiring
    FROM sealvec.key_ring r;
COMMENT ON VIEW sealvec.key_rings IS 'key rings, and whether each is open in this session';
GRANT SELECT ON sealvec.key_rings TO PUBLIC;

CREATE VIEW sealvec.ring_users AS
    SELECT r.name AS ring, u.role,
           pg_catalog.array_remove(ARRAY[CASE WHEN u.permissions & 1 <> 0 THEN 'read' END, CASE WHEN u.permissions & 2 <> 0 THEN 'write' END], NULL) AS permissions,
           CASE WHEN u.wrap IS NULL THEN 'token' ELSE 'public key' END AS kind, u.dek_versions,
           r.dek_version = ANY (u.dek_versions) AS is_current,
           EXISTS (SELECT FROM sealvec.ring_grant g WHERE g.number = u.number AND g.role = u.role AND g.permissions IS NOT NULL
                   AND pg_catalog.pg_get_userbyid(g.role_oid) = g.role) AS is_granted
    FROM sealvec.ring_user u
    JOIN sealvec.key_ring r ON r.number = u.number
    WHERE pg_catalog.pg_get_userbyid(u.role_oid) = u.role;
COMMENT ON VIEW sealvec.ring_users IS 'who has a key of his own for a key ring, to do what, and which data keys it opens';
GRANT SELECT ON sealvec.ring_users TO PUBLIC;

-- Columns, composite attributes and domains of type sealvec, arrays included. The type is looked up by name in
-- the extension's schema, because it is made after this view.

CREATE VIEW sealvec.columns AS
    WITH RECURSIVE sealed AS (
        SELECT t.oid, -1 AS typmod
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_type t ON t.typnamespace = e.extnamespace AND t.typname = 'sealvec'
        WHERE e.extname = 'sealvec'
      UNION
        SELECT t.oid, CASE WHEN t.typtype = 'd' AND t.typtypmod <> -1 THEN t.typtypmod ELSE s.typmod END
        FROM sealed s
        JOIN pg_catalog.pg_type t
          ON t.typtype = 'd' AND t.typbasetype = s.oid
          OR t.typcategory = 'A' AND t.typelem = s.oid
    ), used AS (
        SELECT n.nspname AS schema, c.relname AS "table", a.attname AS "column",
               CASE WHEN a.atttypmod <> -1 THEN a.atttypmod ELSE s.typmod END AS typmod
        FROM sealed s
        JOIN pg_catalog.pg_attribute a ON a.atttypid = s.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm', 'f', 'v', 'c')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      UNION ALL
        SELECT n.nspname, t.typname, NULL, s.typmod
        FROM sealed s
        JOIN pg_catalog.pg_type t ON t.oid = s.oid AND t.typtype = 'd'
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    )
    SELECT u.schema, u."table", u."column",
           CASE WHEN u.typmod <> -1 THEN u.typmod & 16383 END AS dims,
           r.name AS ring,
           CASE WHEN u.typmod <> -1 THEN u.typmod >> 14 END AS ring_number
    FROM used u
    LEFT JOIN sealvec.key_ring r ON u.typmod <> -1 AND r.number = u.typmod >> 14;
COMMENT ON VIEW sealvec.columns IS 'columns of type sealvec with dimensions and key ring; a domain has no column';
GRANT SELECT ON sealvec.columns TO PUBLIC;
