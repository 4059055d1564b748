-- Something to look at: ada has spent a little, ben has 10,000 entries, cleo has nothing.
SELECT credyt.set_price('image', '4');
SELECT credyt.set_price('video.second', '2');
SELECT credyt.set_price('chat', '{"meters": {"output_tokens": {"per": 1000, "credits": "0.4"}}}');

SELECT credyt.grant_credits('ada', 20, 'promotional', applies_to => '{image}', expires_at => now() + interval '3 days');
SELECT credyt.grant_credits('ada', 100, 'included', paid => 10, expires_at => now() + interval '17 days');
SELECT credyt.debit_credits('ada', 'image', 2);

SELECT credyt.grant_credits('ben', 60000, paid => 4000);
SELECT credyt.grant_credits('ben', 500, 'promotional', expires_at => now() + interval '90 days');
SELECT count(*)
FROM credyt.debit_many((
    SELECT jsonb_agg(jsonb_build_object(
        'customer', 'ben',
        'action', (ARRAY['chat', 'chat', 'chat', 'image', 'video.second'])[1 + n % 5],
        'quantity', 1 + n % 3,
        'dimensions', jsonb_build_object('output_tokens', 100 + n * 7919 % 4000),
        'occurred_at', now() - n * n * interval '0.025 seconds') ORDER BY n DESC)
    FROM generate_series(1, 9998) AS n));
