-- Expiry notices: how many days before their end grants are told of.

CREATE TABLE credyt.expiry_notices (
    asset        text PRIMARY KEY,
    days         int[] NOT NULL,
    kinds        text[] NOT NULL,
    set_at       timestamptz NOT NULL,
    searched_to  text
);
COMMENT ON TABLE credyt.expiry_notices IS 'How many days before their end grants are told of. Written by credyt.set_expiry_notice.';
COMMENT ON COLUMN credyt.expiry_notices.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.expiry_notices.days IS 'Days of 24 hours before the end of a grant.';
COMMENT ON COLUMN credyt.expiry_notices.kinds IS 'The kinds of grants that are told of.';
COMMENT ON COLUMN credyt.expiry_notices.set_at IS 'When it was set, by the server''s clock.';
COMMENT ON COLUMN credyt.expiry_notices.searched_to IS 'The customer up to whom maintain has searched for older grants; NULL: all have been.';
-- Backends remember it with the asset.
CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE OF days, kinds ON credyt.expiry_notices
    FOR EACH ROW EXECUTE FUNCTION credyt.announce_change('expiry_notices');
ALTER TABLE credyt.expiry_notices ENABLE ALWAYS TRIGGER announce;

CREATE TYPE credyt.expiry_notice AS (
    asset  text,
    days   int[],
    kinds  text[]
);
COMMENT ON TYPE credyt.expiry_notice IS 'How many days before their end grants are told of.';
COMMENT ON COLUMN credyt.expiry_notice.asset IS 'In which asset.';
COMMENT ON COLUMN credyt.expiry_notice.days IS 'Days of 24 hours before the end of a grant, the most first; NULL: no event is written.';
COMMENT ON COLUMN credyt.expiry_notice.kinds IS 'The kinds of grants that are told of.';

CREATE FUNCTION credyt.set_expiry_notice(
    days   int[],
    asset  text DEFAULT 'credits',
    kinds  text[] DEFAULT '{promotional,purchased}'
) RETURNS credyt.expiry_notice
    AS 'MODULE_PATHNAME', 'credyt_set_expiry_notice' LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off;
COMMENT ON FUNCTION credyt.set_expiry_notice(int[], text, text[]) IS
    'Sets how many days before their end grants of these kinds are told of, as grant.expiring. NULL removes it.';
