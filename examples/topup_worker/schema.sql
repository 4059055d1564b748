-- Run once, after CREATE EXTENSION credyt_pg.
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('image', '1');

-- The role that the worker connects with: CREATE ROLE topper LOGIN; then
SELECT credyt.allow('topper', 'events');
