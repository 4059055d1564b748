-- Everything that the catalog knows of the extension, a line for each fact, without oids: what an upgraded database and a fresh
-- one must have in common.
SET search_path = pg_catalog;
WITH
member AS (
    SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'credyt_pg'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
),
-- Tables, views, indexes and composite types; what Postgres makes for a member comes along.
relation AS (
    SELECT c.*, c.oid::regclass::text AS name FROM pg_class c WHERE c.relnamespace = 'credyt'::regnamespace
),
routine AS (
    SELECT p.*, p.oid::regprocedure::text AS name FROM pg_proc p WHERE p.pronamespace = 'credyt'::regnamespace
),
fact (what, name, says) AS (
    SELECT 'member', m.name, '' FROM member m
    UNION ALL
    SELECT 'extension', e.extname, concat_ws(' ', e.extversion, e.extowner::regrole, e.extnamespace::regnamespace, e.extrelocatable) FROM pg_extension e WHERE e.extname = 'credyt_pg'
    UNION ALL
    SELECT 'dumped', t.config::regclass::text, t.condition
    FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS t (config, condition) WHERE e.extname = 'credyt_pg'
    UNION ALL
    SELECT 'schema', n.nspname, n.nspowner::regrole::text FROM pg_namespace n WHERE n.nspname = 'credyt'
    UNION ALL
    SELECT 'function', p.name, concat_ws(' ', p.proowner::regrole, p.prosupport, CASE p.prokind WHEN 'a' THEN
        (SELECT concat_ws(' ', p.proparallel, a.aggtransfn, a.aggcombinefn, a.aggtranstype::regtype, a.agginitval) FROM pg_aggregate a WHERE a.aggfnoid = p.oid)
        ELSE pg_get_functiondef(p.oid) END) FROM routine p
    UNION ALL
    SELECT 'relation', c.name, concat_ws(' ', c.relkind, c.relowner::regrole, c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity,
        (SELECT a.amname FROM pg_am a WHERE a.oid = c.relam), array_to_string(c.reloptions, ','),
        (SELECT 'toast ' || array_to_string(t.reloptions, ',') FROM pg_class t WHERE t.oid = c.reltoastrelid)) FROM relation c
    UNION ALL
    SELECT 'view', c.name, pg_get_viewdef(c.oid) FROM relation c WHERE c.relkind = 'v'
    UNION ALL
    SELECT 'column', concat(c.name, '.', a.attname),
        concat_ws(' ', 'nth', row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef, a.attidentity,
            a.attgenerated, a.attstorage, a.attcompression, a.attcollation::regcollation, nullif(a.attstattarget, -1), 
            -- Debian's 15 was seen to stamp the columns of types, with another number in every database.
            (SELECT string_agg(o, ',') FROM unnest(a.attoptions) AS o WHERE o NOT LIKE 'pg\_attver=%'), pg_get_expr(d.adbin, d.adrelid))
    FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT 'constraint', concat(k.conrelid::regclass, '.', k.conname), concat_ws(' ', k.contype, k.convalidated, pg_get_constraintdef(k.oid))
    FROM pg_constraint k WHERE k.connamespace = 'credyt'::regnamespace
    UNION ALL
    SELECT 'index', i.indexrelid::regclass::text, concat_ws(' ', i.indisvalid, i.indisclustered, i.indisreplident, pg_get_indexdef(i.indexrelid))
    FROM pg_index i JOIN relation c ON c.oid = i.indrelid
    UNION ALL
    SELECT 'trigger', concat(c.name, '.', t.tgname), concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid))
    FROM pg_trigger t JOIN relation c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'rule', concat(c.name, '.', r.rulename), r.ev_enabled::text FROM pg_rewrite r JOIN relation c ON c.oid = r.ev_class
    UNION ALL
    SELECT 'statistics', s.stxname, pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s WHERE s.stxnamespace = 'credyt'::regnamespace
    UNION ALL
    SELECT 'policy', concat(c.name, '.', p.polname), p.polcmd::text FROM pg_policy p JOIN relation c ON c.oid = p.polrelid
    UNION ALL
    SELECT 'type', t.oid::regtype::text, concat_ws(' ', t.typowner::regrole, t.typtype, t.typcategory, t.typlen, t.typbyval, t.typalign, t.typstorage, t.typdelim, t.typnotnull, t.typdefault,
        t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze, t.typsubscript, t.typelem::regtype)
    FROM pg_type t WHERE t.typnamespace = 'credyt'::regnamespace
    UNION ALL
    SELECT 'cast', concat(k.castsource::regtype, ' as ', k.casttarget::regtype), concat_ws(' ', k.castfunc::regprocedure, k.castcontext, k.castmethod)
    FROM pg_cast k JOIN member m ON m.classid = 'pg_cast'::regclass AND m.objid = k.oid
    UNION ALL
    SELECT 'comment', concat(m.name, ' ' || a.attname), d.description
    FROM (SELECT classid, objid, name FROM member UNION SELECT 'pg_class'::regclass, c.oid, 'relation ' || c.name FROM relation c
          UNION SELECT 'pg_trigger'::regclass, t.oid, pg_describe_object('pg_trigger'::regclass, t.oid, 0) FROM pg_trigger t JOIN relation c ON c.oid = t.tgrelid) m
    JOIN pg_description d ON d.classoid = m.classid AND d.objoid = m.objid
    LEFT JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid AND a.attnum = d.objsubid AND d.objsubid > 0
    UNION ALL
    -- Rights, and those that a dump takes as brought along by the extension.
    SELECT r.what, r.name, concat_ws(' ', CASE e.grantee WHEN 0 THEN 'public' ELSE e.grantee::regrole::text END, e.privilege_type, e.is_grantable, 'by', e.grantor::regrole)
    FROM (
        SELECT 'right' AS what, 'function ' || p.name AS name, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl FROM routine p
        UNION ALL
        SELECT 'right', 'relation ' || c.name, coalesce(c.relacl, acldefault('r', c.relowner)) FROM relation c WHERE c.relkind IN ('r', 'v')
        UNION ALL
        SELECT 'right', concat('column ', c.name, '.', a.attname), a.attacl FROM relation c JOIN pg_attribute a ON a.attrelid = c.oid
        UNION ALL
        SELECT 'right', 'schema credyt', n.nspacl FROM pg_namespace n WHERE n.nspname = 'credyt'
        UNION ALL
        SELECT 'right', 'type ' || t.oid::regtype, coalesce(t.typacl, acldefault('T', t.typowner)) FROM pg_type t WHERE t.typnamespace = 'credyt'::regnamespace
        UNION ALL
        SELECT 'brought along', concat(pg_describe_object(i.classoid, i.objoid, i.objsubid), ' ', i.privtype), i.initprivs
        FROM pg_init_privs i
        WHERE (i.classoid = 'pg_proc'::regclass AND i.objoid IN (SELECT oid FROM routine))
           OR (i.classoid = 'pg_class'::regclass AND i.objoid IN (SELECT oid FROM relation))
           OR (i.classoid = 'pg_type'::regclass AND i.objoid IN (SELECT oid FROM pg_type WHERE typnamespace = 'credyt'::regnamespace))
           OR (i.classoid = 'pg_namespace'::regclass AND i.objoid = 'credyt'::regnamespace)
    ) r
    CROSS JOIN LATERAL aclexplode(r.acl) AS e
)
SELECT concat(f.what, ' ', f.name, ': ', f.says) FROM fact f ORDER BY f.what COLLATE "C", f.name COLLATE "C", f.says COLLATE "C"
