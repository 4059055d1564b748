-- One jsonb instead of arguments. Every function whose first argument is customer has one more form,
-- f(request jsonb), whose keys are the arguments' names. It is made here from the first form, with the
-- same result, rights and settings; its defaults are those of the first form, which the library reads.
-- To add one: declare f(customer text, ...) in its own file, and put its symbol into the list `customer` of
-- src/functions/mod.rs. What views call with a wallet's state is no function about a customer.
DO $$
DECLARE
    f record;
BEGIN
    FOR f IN
        SELECT p.proname AS name, pg_get_function_arguments(p.oid) AS arguments,
               split_part(pg_get_functiondef(p.oid), E'\nAS ', 1) AS declaration
        FROM pg_proc p
        WHERE p.pronamespace = 'credyt'::regnamespace AND p.proargnames[1] = 'customer'
          AND NOT 'credyt.wallet'::regtype = ANY (p.proargtypes) AND p.proname NOT IN ('subscription_at')
    LOOP
        EXECUTE replace(replace(f.declaration, '(' || f.arguments || ')', '(request jsonb)'), E'\n LANGUAGE sql', E'\n LANGUAGE c')
            || format(' AS ''MODULE_PATHNAME'', %L', 'credyt_' || f.name || '_request');
        EXECUTE format('COMMENT ON FUNCTION credyt.%I(request jsonb) IS %L', f.name,
            format('credyt.%s, its arguments as the keys of a JSON object; a key with null is left out.', f.name));
    END LOOP;
END $$;

-- What a cluster delegates to the node of the customer: all of these that write no table of the books, and read or
-- write nothing of another customer.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT p.oid FROM pg_proc p JOIN pg_proc r ON r.pronamespace = p.pronamespace AND r.proname = p.proname
        WHERE p.pronamespace = 'credyt'::regnamespace AND p.proargnames[1] = 'customer' AND r.proargnames[1] = 'request'
          AND p.proname NOT IN ('transfer', 'revoke_payment', 'erase_customer', 'set_price_list', 'verify')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SUPPORT credyt.keep_call_here', f);
    END LOOP;
END $$;
