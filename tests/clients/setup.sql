-- What every program starts from: a table of its own, prices, rates, and two customers with credits.
CREATE EXTENSION credyt_pg;

CREATE TABLE jobs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    prompt      text NOT NULL
);

SELECT * FROM credyt.create_asset('credits');
SELECT * FROM credyt.set_price('image', '4');
SELECT * FROM credyt.set_price('chat', '{"meters": {
    "input_tokens":      {"per": 1000, "credits": "0.5"},
    "cache_read_tokens": {"per": 1000, "credits": "0.05"},
    "output_tokens":     {"per": 1000, "credits": "2"}}}');

-- A file of vendor rates, cut down to one model. An application imports the newest file of genai-prices.
SELECT * FROM credyt.import_vendor_rates('[{
    "id": "openai", "name": "OpenAI", "api_pattern": "https://api\\.openai\\.com",
    "extractors": [{"api_flavor": "chat", "root": "usage", "model_path": "model", "mappings": [
        {"path": "prompt_tokens", "dest": "input_tokens", "required": true},
        {"path": ["prompt_tokens_details", "cached_tokens"], "dest": "cache_read_tokens", "required": false},
        {"path": "completion_tokens", "dest": "output_tokens", "required": true}]}],
    "models": [{"id": "gpt-5", "match": {"starts_with": "gpt-5"},
        "prices": {"input_mtok": 1.25, "cache_read_mtok": 0.125, "output_mtok": 10}}]}]');

-- A user has an integer, a team a UUID. At 10 credits or less, the user's card is charged for 100.
SELECT * FROM credyt.grant_credits('17', 20, paid => 4);
SELECT * FROM credyt.set_topup('17', 10, 100);
SELECT * FROM credyt.grant_credits('6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11', 10, paid => 2);

-- The role that the application logs in with.
GRANT SELECT, INSERT ON jobs TO shop;
SELECT * FROM credyt.allow('shop', 'spend');
SELECT * FROM credyt.allow('shop', 'events');
SELECT * FROM credyt.allow('shop', 'report');
