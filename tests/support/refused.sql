-- For every file of tests/sql: what a call is refused with, without ids. $1 in the call is `id`.
CREATE FUNCTION refused(call text, id uuid DEFAULT NULL, OUT code text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
DECLARE
    any_id text := '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}';
BEGIN
    EXECUTE call USING id;
    code := '00000';
    message := 'was not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    message := regexp_replace(message, any_id, '<id>', 'g');
    detail := regexp_replace(detail, any_id, '<id>', 'g');
    hint := regexp_replace(hint, any_id, '<id>', 'g');
END $$;
