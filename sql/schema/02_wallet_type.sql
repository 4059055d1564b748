-- The packed wallet: what is needed to burn every open grant of one customer in one asset.

CREATE TYPE credyt.wallet;

CREATE FUNCTION credyt.wallet_in(cstring) RETURNS credyt.wallet
    AS 'MODULE_PATHNAME', 'credyt_wallet_in' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION credyt.wallet_out(credyt.wallet) RETURNS cstring
    AS 'MODULE_PATHNAME', 'credyt_wallet_out' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION credyt.wallet_recv(internal) RETURNS credyt.wallet
    AS 'MODULE_PATHNAME', 'credyt_wallet_recv' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION credyt.wallet_send(credyt.wallet) RETURNS bytea
    AS 'MODULE_PATHNAME', 'credyt_wallet_send' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;

-- External: packed bytes do not compress, so nothing tries; a wallet of more than about 40 grants
-- moves out of line.
CREATE TYPE credyt.wallet (
    INPUT = credyt.wallet_in,
    OUTPUT = credyt.wallet_out,
    RECEIVE = credyt.wallet_recv,
    SEND = credyt.wallet_send,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = external
);
COMMENT ON TYPE credyt.wallet IS
    'The packed state of one wallet; prints and reads as JSON, casts to jsonb, opens with credyt.grants(wallet).';
COMMENT ON FUNCTION credyt.wallet_in(cstring) IS 'Reads the JSON text of a wallet; refuses what is not a possible wallet.';
COMMENT ON FUNCTION credyt.wallet_out(credyt.wallet) IS 'Prints a wallet as JSON text.';
COMMENT ON FUNCTION credyt.wallet_recv(internal) IS 'Reads the packed bytes of a wallet; refuses damaged bytes.';
COMMENT ON FUNCTION credyt.wallet_send(credyt.wallet) IS 'The packed bytes of a wallet.';

CREATE FUNCTION credyt.pack(bytea) RETURNS credyt.wallet
    AS 'MODULE_PATHNAME', 'credyt_wallet_pack' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.pack(bytea) IS 'The wallet of these packed bytes; refuses damaged bytes.';

CREATE FUNCTION credyt.unpack(credyt.wallet) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'credyt_wallet_unpack' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.unpack(credyt.wallet) IS 'A wallet as jsonb: the same document as its text.';

CREATE CAST (bytea AS credyt.wallet) WITH FUNCTION credyt.pack(bytea);
CREATE CAST (credyt.wallet AS bytea) WITHOUT FUNCTION;
CREATE CAST (credyt.wallet AS jsonb) WITH FUNCTION credyt.unpack(credyt.wallet);
COMMENT ON CAST (bytea AS credyt.wallet) IS 'Reads packed bytes, checked.';
COMMENT ON CAST (credyt.wallet AS bytea) IS 'The packed bytes.';
COMMENT ON CAST (credyt.wallet AS jsonb) IS 'The wallet as a JSON document.';

-- What can be read off one state. Scalar and parallel safe: reports unpack millions of them.
CREATE FUNCTION credyt.changed_at(credyt.wallet) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'credyt_wallet_changed_at' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.changed_at(credyt.wallet) IS 'When the wallet last changed.';

CREATE FUNCTION credyt.seq(credyt.wallet) RETURNS bigint
    AS 'MODULE_PATHNAME', 'credyt_wallet_seq' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.seq(credyt.wallet) IS 'The number of the wallet''s last row.';

CREATE FUNCTION credyt.next_due(credyt.wallet) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'credyt_wallet_next_due' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.next_due(credyt.wallet) IS
    'When the wallet next changes without a call: a grant starts or ends, a hold ends, a plan renews.';

CREATE FUNCTION credyt.settled(state credyt.wallet, at timestamptz) RETURNS numeric
    AS 'MODULE_PATHNAME', 'credyt_wallet_settled' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.settled(credyt.wallet, timestamptz) IS
    'Credits: what remains in grants live at that moment or held, less what is owed.';

CREATE FUNCTION credyt.held(credyt.wallet) RETURNS numeric
    AS 'MODULE_PATHNAME', 'credyt_wallet_held' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.held(credyt.wallet) IS 'Credits held by open authorizations, overdraft included.';

CREATE FUNCTION credyt.available(state credyt.wallet, overdraft_limit numeric, at timestamptz) RETURNS numeric
    AS 'MODULE_PATHNAME', 'credyt_wallet_available' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.available(credyt.wallet, numeric, timestamptz) IS
    'Credits: unheld in grants live at that moment, and what the overdraft limit still allows.';

CREATE FUNCTION credyt.owed(credyt.wallet) RETURNS numeric
    AS 'MODULE_PATHNAME', 'credyt_wallet_owed' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.owed(credyt.wallet) IS 'Credits spent beyond the grants and not paid back.';

CREATE FUNCTION credyt.next_expiry(state credyt.wallet, at timestamptz) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'credyt_wallet_next_expiry' LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credyt.next_expiry(credyt.wallet, timestamptz) IS
    'When the first grant live at that moment ends. NULL: none does.';
