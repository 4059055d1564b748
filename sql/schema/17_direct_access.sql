-- Direct access to wallets: see the setting credyt.direct_access.

CREATE FUNCTION credyt.direct_access_counts()
RETURNS TABLE (operation text, reason text, calls bigint)
    AS 'MODULE_PATHNAME', 'credyt_direct_access_counts' LANGUAGE c VOLATILE;
COMMENT ON FUNCTION credyt.direct_access_counts() IS
    'How often this session locked and updated a wallet directly, and why it used SQL otherwise.';
