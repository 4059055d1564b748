-- What is sold: chat, at what its tokens cost and half as much again. A credit is worth one cent.
SELECT credyt.create_asset('credits');
SELECT credyt.set_price('chat', '{"cost_plus": {"markup": "0.50", "credit_value": "0.01"}}');

-- Two models, cut out of the file that the genai-prices project keeps (MIT). Import the whole file: see docs/costs.md.
SELECT credyt.import_vendor_rates('[
  {"id": "openai", "name": "OpenAI", "api_pattern": "https://api\\.openai\\.com", "provider_match": {"contains": "openai"},
   "extractors": [{"api_flavor": "chat", "root": "usage", "model_path": "model", "mappings": [
     {"path": "prompt_tokens", "dest": "input_tokens", "required": true},
     {"path": ["prompt_tokens_details", "cached_tokens"], "dest": "cache_read_tokens", "required": false},
     {"path": "completion_tokens", "dest": "output_tokens", "required": true}]}],
   "models": [{"id": "gpt-5-mini", "match": {"starts_with": "gpt-5-mini"},
     "prices": {"input_mtok": 0.25, "cache_read_mtok": 0.025, "output_mtok": 2}}]},
  {"id": "anthropic", "name": "Anthropic", "api_pattern": "https://api\\.anthropic\\.com", "provider_match": {"contains": "anthropic"},
   "extractors": [{"api_flavor": "default", "root": "usage", "model_path": "model", "mappings": [
     {"path": "input_tokens", "dest": "input_tokens", "required": true},
     {"path": "cache_creation_input_tokens", "dest": "input_tokens", "required": false},
     {"path": "cache_read_input_tokens", "dest": "input_tokens", "required": false},
     {"path": "cache_creation_input_tokens", "dest": "cache_write_tokens", "required": false},
     {"path": "cache_read_input_tokens", "dest": "cache_read_tokens", "required": false},
     {"path": "output_tokens", "dest": "output_tokens", "required": true}]}],
   "models": [{"id": "claude-haiku-4-5", "match": {"starts_with": "claude-haiku-4-5"},
     "prices": {"input_mtok": 1, "cache_write_mtok": 1.25, "cache_read_mtok": 0.1, "output_mtok": 5}}]}]');

-- Who asked what. The hold and this row are made in one transaction.
CREATE TABLE chats (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer text NOT NULL,
    key text NOT NULL,
    model text NOT NULL,
    question text NOT NULL,
    answer text,
    credits numeric,
    UNIQUE (customer, key)
);

-- The role that the app connects with: CREATE ROLE chat LOGIN; then
SELECT credyt.allow('chat', 'spend');
GRANT SELECT, INSERT, UPDATE, DELETE ON chats TO chat;
