-- What the specs share. Every permutation begins with CALL start(): it is 1 November, and ann has
--   6 left of 10 promotional credits (4 were spent: ids.debit), which end on 20 November,
--   10 included ones of her plan, which renews on 1 December,
--   20 purchased ones (ids.bought),
-- of which 3 promotional ones are held (ids.hold): 36 settled, 33 available. bob has 30 purchased ones.
CREATE TABLE ids (hold uuid, debit uuid, bought uuid);

-- It empties the wallets of the permutation before as nobody may who is no superuser.
CREATE PROCEDURE start() LANGUAGE plpgsql SET session_replication_role = replica AS $$
DECLARE of_customers regclass;
BEGIN
    FOR of_customers IN
        SELECT a.attrelid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'credyt'::regnamespace AND c.relkind = 'r' AND a.attname = 'customer'
          AND c.relname <> 'prices'
    LOOP
        EXECUTE format('DELETE FROM %s', of_customers);
    END LOOP;
    DELETE FROM credyt.prices WHERE action <> 'image';
    DELETE FROM ids;
    INSERT INTO credyt.clock (now) VALUES ('2026-11-01 00:00+00') ON CONFLICT (one) DO UPDATE SET now = EXCLUDED.now;
    PERFORM credyt.create_asset('credits');
    IF NOT EXISTS (SELECT FROM credyt.plans) THEN
        PERFORM credyt.set_price('image', '1');
        PERFORM credyt.create_plan('monthly', 10);
    END IF;
    PERFORM credyt.grant_credits('ann', 10, 'promotional', expires_at => '2026-11-20 00:00+00');
    PERFORM credyt.debit_credits('ann', 'image', 4), credyt.authorize('ann', 'image', 3, ttl_seconds => 10000000);
    PERFORM credyt.subscribe('ann', 'monthly');
    INSERT INTO ids (bought) SELECT id FROM credyt.grant_credits('ann', 20, paid => 20);
    PERFORM credyt.grant_credits('bob', 30);
    -- Messages name these two, so there is nothing random in them.
    UPDATE ids SET hold = '01a19467-e800-7000-8000-000000000000', debit = '01a19467-e800-7000-8000-000080000000';
    UPDATE credyt.authorizations SET id = hold FROM ids WHERE customer = 'ann';
    UPDATE credyt.ledger SET id = debit FROM ids WHERE customer = 'ann' AND kind = 'debit';
END $$;

-- What has become of a customer, what has moved since the start, and how many invariants do not hold.
CREATE FUNCTION outcome(customer text DEFAULT 'ann', OUT settled numeric, OUT held numeric, OUT available numeric,
                        OUT moved text, OUT broken bigint)
LANGUAGE sql AS $$
    SELECT b.settled, b.held, b.available,
           (SELECT string_agg(l.kind || ' ' || trim_scale(l.credits), ', ' ORDER BY l.seq)
            FROM credyt.ledger l WHERE l.customer = outcome.customer
              AND l.seq > CASE l.customer WHEN 'ann' THEN 4 WHEN 'bob' THEN 1 ELSE 0 END),
           (SELECT count(*) FROM credyt.verify())
    FROM credyt.balance(outcome.customer) b
$$;
