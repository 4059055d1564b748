-- The catalog: everything is explained, dumped, owned by the extension, and closed to the public. No rows are good rows.
\pset footer off
-- Functions, relations, types and columns without a comment
SELECT oid::regprocedure AS function FROM pg_proc
WHERE pronamespace = 'credyt'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;
SELECT oid::regclass AS relation FROM pg_class
WHERE relnamespace = 'credyt'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'S') AND obj_description(oid, 'pg_class') IS NULL;
SELECT t.oid::regtype AS type FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typnamespace = 'credyt'::regnamespace AND t.typcategory <> 'A' AND coalesce(c.relkind, 'c') = 'c'
  AND obj_description(t.oid, 'pg_type') IS NULL;
SELECT a.attrelid::regclass AS relation, a.attname AS column FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'c') AND a.attnum > 0 AND NOT a.attisdropped
  AND col_description(a.attrelid, a.attnum) IS NULL;
SELECT obj_description('credyt'::regnamespace, 'pg_namespace') IS NOT NULL AS schema_explained;
-- Comments that are more than one line of 120 characters, or name an SQLSTATE: errors are in docs/reference.md
SELECT pg_describe_object(d.classoid, d.objoid, d.objsubid) AS object, length(d.description) FROM pg_description d
LEFT JOIN pg_class c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid
LEFT JOIN pg_proc p ON d.classoid = 'pg_proc'::regclass AND p.oid = d.objoid
LEFT JOIN pg_type t ON d.classoid = 'pg_type'::regclass AND t.oid = d.objoid
WHERE (coalesce(c.relnamespace, p.pronamespace, t.typnamespace) = 'credyt'::regnamespace
       OR d.classoid = 'pg_namespace'::regclass AND d.objoid = 'credyt'::regnamespace)
  AND (length(d.description) > 120 OR d.description ~ '\m(WC|22|23|42)[0-9A-Z]{3}\M|\n')
ORDER BY 1;

-- Tables that a dump would leave empty
SELECT c.oid::regclass AS table FROM pg_class c
WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind IN ('r', 'S', 'm')
  AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'credyt_pg' AND c.oid = ANY (e.extconfig));
-- Those of which it leaves something out
SELECT t.config::regclass AS table, t.condition FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS t (config, condition)
WHERE e.extname = 'credyt_pg' AND t.condition <> '';

-- Objects that the extension does not own
SELECT o.what, o.name FROM (
    SELECT 'pg_proc'::regclass AS class, oid, 'function' AS what, oid::regprocedure::text AS name FROM pg_proc WHERE pronamespace = 'credyt'::regnamespace
    UNION ALL
    SELECT 'pg_class', oid, 'relation', oid::regclass::text FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'S', 'c')
    UNION ALL
    SELECT 'pg_type', oid, 'type', oid::regtype::text FROM pg_type WHERE typnamespace = 'credyt'::regnamespace AND typrelid = 0 AND typcategory <> 'A'
    UNION ALL
    SELECT 'pg_namespace', 'credyt'::regnamespace::oid, 'schema', 'credyt'
    UNION ALL
    SELECT 'pg_cast', oid, 'cast', castsource::regtype || ' as ' || casttarget::regtype FROM pg_cast
    WHERE castsource = 'credyt.wallet'::regtype OR casttarget = 'credyt.wallet'::regtype
) o
WHERE NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                  WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'credyt_pg'
                    AND d.classid = o.class AND d.objid = o.oid)
  -- a composite type is owned through its relation
  AND NOT (o.what = 'relation' AND EXISTS (SELECT FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = c.reltype AND d.deptype = 'e'
                                           WHERE c.oid = o.oid AND c.relkind = 'c'));
-- What it owns outside of its schema
SELECT pg_describe_object(classid, objid, 0) AS object FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'credyt_pg'
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND pg_describe_object(classid, objid, 0) NOT LIKE '%credyt%';

-- Functions that PUBLIC may call: those of the type
SELECT p.oid::regprocedure AS function FROM pg_proc p
WHERE p.pronamespace = 'credyt'::regnamespace
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0)
ORDER BY p.proname;
-- Relations that PUBLIC may touch
SELECT c.oid::regclass AS relation FROM pg_class c, aclexplode(c.relacl) AS acl
WHERE c.relnamespace = 'credyt'::regnamespace AND acl.grantee = 0;
-- Functions that run with their owner's rights and take names from the caller's search_path
SELECT p.oid::regprocedure AS function FROM pg_proc p
WHERE p.pronamespace = 'credyt'::regnamespace AND p.prosecdef
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c = 'search_path=pg_catalog, pg_temp');
-- One signature per name besides the jsonb form, no floats, no enums, no OUT arguments but those of a table
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'credyt'::regnamespace AND p.proargnames[1] IS DISTINCT FROM 'request'
GROUP BY p.proname HAVING count(*) > 1;
-- Functions about a customer without a jsonb form of the same result, rights and settings; those that views call have none
SELECT p.oid::regprocedure AS function FROM pg_proc p
WHERE p.pronamespace = 'credyt'::regnamespace AND p.proargnames[1] = 'customer'
  AND NOT 'credyt.wallet'::regtype = ANY (p.proargtypes) AND p.proname NOT IN ('subscription_at')
  AND NOT EXISTS (
      SELECT FROM pg_proc j
      WHERE j.pronamespace = p.pronamespace AND j.proname = p.proname AND j.pronargs = 1 AND j.proargnames[1] = 'request'
        AND j.proargtypes[0] = 'jsonb'::regtype AND j.pronargdefaults = 0
        AND pg_get_function_result(j.oid) = pg_get_function_result(p.oid) AND j.provolatile = p.provolatile AND j.prosecdef = p.prosecdef
        AND j.proparallel = p.proparallel AND j.prorows = p.prorows
        AND j.proconfig IS NOT DISTINCT FROM p.proconfig AND j.proacl IS NOT DISTINCT FROM p.proacl);
SELECT DISTINCT p.oid::regprocedure AS function FROM pg_proc p, unnest(p.proargtypes) AS a JOIN pg_type t ON t.oid = a
WHERE p.pronamespace = 'credyt'::regnamespace AND (t.typname IN ('float4', 'float8') OR t.typtype = 'e' OR 'o' = ANY (p.proargmodes) OR 'b' = ANY (p.proargmodes));
-- Arguments whose name says a type and which have another: an error reads them for its DETAIL
SELECT p.oid::regprocedure AS function, a.name FROM pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) AS a (name, type)
WHERE p.pronamespace = 'credyt'::regnamespace
  AND (a.name IN ('customer', 'to_customer', 'asset', 'action', 'plan', 'scope') AND a.type <> 'text'::regtype
       OR a.name IN ('authorization_id', 'debit_id', 'grant_id', 'event_id') AND a.type <> 'uuid'::regtype);
-- Keys of a customer's rows that do not begin with the customer
SELECT i.indexrelid::regclass AS index FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute first ON first.attrelid = c.oid AND first.attnum = i.indkey[0]
WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r' AND i.indisunique AND first.attname <> 'customer'
  AND c.relname NOT IN ('assets', 'prices', 'clock', 'vendors', 'vendor_rates', 'exchange_rates', 'margin_days', 'periods', 'plans',
                        'expiry_notices');
-- Foreign keys, and rows that the installation brings along
SELECT conname FROM pg_constraint WHERE connamespace = 'credyt'::regnamespace AND contype = 'f';
DO $$
DECLARE
    relation regclass;
    rows bigint;
BEGIN
    FOR relation IN SELECT oid FROM pg_class WHERE relnamespace = 'credyt'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('SELECT count(*) FROM %s', relation) INTO rows;
        ASSERT rows = 0, format('%s has %s rows', relation, rows);
    END LOOP;
END $$;
