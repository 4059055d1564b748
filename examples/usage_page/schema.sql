-- What is sold. The days of the chart are those of this time zone: page.py names the same one.
SELECT credyt.create_asset('credits', timezone => 'Europe/Berlin');

-- What a customer may see of their grants: the columns without money, in the order in which they are spent.
CREATE FUNCTION grants_of(customer text)
RETURNS TABLE (id uuid, kind text, remaining numeric, held numeric, effective_at timestamptz, expires_at timestamptz, applies_to text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.id, g.kind, g.remaining, g.held, g.effective_at, g.expires_at, g.applies_to
    FROM credyt.grant_balances AS g
    WHERE g.customer = grants_of.customer AND g.asset = 'credits' AND g.remaining > 0
    ORDER BY g.priority, g.expires_at NULLS LAST, g.applies_to IS NULL,
             array_position('{promotional,included,purchased}', g.kind), g.effective_at, g.id
$$;
REVOKE EXECUTE ON FUNCTION grants_of(text) FROM PUBLIC;

-- The role that the page connects with: CREATE ROLE usage_page LOGIN; then these four calls, and nothing else.
GRANT USAGE ON SCHEMA credyt TO usage_page;
GRANT EXECUTE ON FUNCTION
    grants_of(text),
    credyt.balance(text, text, timestamptz),
    credyt.usage(text, timestamptz, timestamptz, text, text[], text),
    credyt.history(text, text, uuid, int)
TO usage_page;
