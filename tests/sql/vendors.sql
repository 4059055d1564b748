-- Vendor rates: imported, set, and applied to usage.
INSERT INTO credyt.clock VALUES ('2026-07-01 12:00Z');

-- A file of the genai-prices project, made up.
SELECT '[{"id": "acme", "name": "Acme", "api_pattern": "acme", "provider_match": {"contains": "acme"},
  "extractors": [
    {"api_flavor": "chat", "root": "usage", "model_path": "model", "mappings": [
      {"path": "prompt_tokens", "dest": "input_tokens", "required": true},
      {"path": ["details", "cached_tokens"], "dest": "cache_read_tokens", "required": false},
      {"path": "completion_tokens", "dest": "output_tokens", "required": true}]},
    {"api_flavor": "messages", "root": "usage", "model_path": "model", "mappings": [
      {"path": "input", "dest": "input_tokens", "required": true},
      {"path": "cache_write", "dest": "input_tokens", "required": false},
      {"path": "cache_write", "dest": "cache_write_tokens", "required": false},
      {"path": "output", "dest": "output_tokens", "required": true}]}],
  "models": [
    {"id": "big", "match": {"starts_with": "big"}, "prices": {
      "input_mtok": {"base": 2, "tiers": [{"start": 200000, "price": 4}]}, "cache_read_mtok": 0, "output_mtok": 10}},
    {"id": "night", "match": {"equals": "night"}, "prices": [
      {"prices": {"input_mtok": 1, "output_mtok": 1}},
      {"constraint": {"start_time": "22:00:00Z", "end_time": "06:00:00Z"}, "prices": {"input_mtok": 0.5, "output_mtok": 0.5}}]},
    {"id": "new", "match": {"equals": "new"}, "prices": [
      {"prices": {"input_mtok": 8, "output_mtok": 8}},
      {"constraint": {"start_date": "2026-08-01"}, "prices": {"input_mtok": 6, "output_mtok": 6}}],
      "price_variants": [{"when": {"service_tier": "batch"}, "prices": {"input_mtok": 3}}]},
    {"id": "secret", "match": {"equals": "secret"}, "prices": {}}]},
 {"id": "reseller", "name": "Reseller", "api_pattern": "r", "fallback_model_providers": ["acme"], "models": []}]' AS file \gset

SELECT * FROM credyt.import_vendor_rates(:'file', dry_run => true);
SELECT * FROM credyt.import_vendor_rates(:'file');
SELECT * FROM credyt.import_vendor_rates(:'file');

-- One row a unit, and one for each tier, hour and variant.
SELECT unit, price, per, effective_at AT TIME ZONE 'UTC' AS effective_at, superseded_at AT TIME ZONE 'UTC' AS superseded_at, model
FROM credyt.vendor_rate_book ORDER BY vendor, model, unit, effective_at NULLS FIRST;

-- The whole answer, or its usage object; by any of the vendor's names; the model as the answer says.
SELECT * FROM credyt.vendor_cost('acme', 'big-2', '{"prompt_tokens": 1000, "completion_tokens": 100}');
SELECT vendor, model, cost, usage FROM credyt.vendor_cost('ACME-cloud', NULL,
    '{"id": 7, "model": "big-2", "usage": {"prompt_tokens": 1000, "details": {"cached_tokens": 900}, "completion_tokens": 100}}', 'chat');
-- Cached tokens cost nothing here: 0 is a price. Written ones have none of their own: they cost what input does.
SELECT components, usage FROM credyt.vendor_cost('acme', 'big', '{"input": 100, "cache_write": 900, "output": 0}', 'messages');
-- The tier is a cliff.
SELECT cost FROM credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 200000, "completion_tokens": 0}');
SELECT cost, components FROM credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 200001, "completion_tokens": 0}');
-- By the hour, by the date, by the request; as of the clock where nothing else is said.
SELECT t.at, c.cost
FROM (VALUES ('2026-07-01 05:59:59.999999Z'), ('2026-07-01 06:00Z'), ('2026-07-01 21:59:59Z'), ('2026-07-01 22:00Z'), (NULL)) t (at),
     credyt.vendor_cost('acme', 'night', '{"prompt_tokens": 1000000, "completion_tokens": 0}', at => t.at::timestamptz) c;
SELECT t.at, c.cost
FROM (VALUES ('2026-07-31 23:59:59Z'), ('2026-08-01 00:00Z'), (NULL)) t (at),
     credyt.vendor_cost('acme', 'new', '{"prompt_tokens": 1000000, "completion_tokens": 0}', at => t.at::timestamptz) c;
SELECT cost FROM credyt.vendor_cost('acme', 'new', '{"prompt_tokens": 1000000, "completion_tokens": 1000000}', context => '{"service_tier": "batch"}');
-- Another vendor's model.
SELECT vendor, model, cost, rate_version FROM credyt.vendor_cost('reseller', 'big', '{"input_tokens": 1000}');

-- What is not known has a reason and no cost.
SELECT vendor, model, cost, usage, reason FROM credyt.vendor_cost('nobody', 'x', '{"tokens": 3, "text": "?"}');
SELECT vendor, model, cost, usage, reason FROM credyt.vendor_cost('acme', 'tiny', '{"prompt_tokens": 5, "completion_tokens": 1}');
SELECT vendor, model, cost, usage, reason FROM credyt.vendor_cost('acme', 'secret', '{"prompt_tokens": 5, "completion_tokens": 1}');
SELECT vendor, model, cost, usage, reason FROM credyt.vendor_cost('acme', 'painter', '{"images": 2}');
SELECT vendor, model, cost, usage, reason FROM credyt.vendor_cost('acme', NULL, '{"prompt_tokens": 5, "completion_tokens": 1}');
SELECT vendor, model, cost, usage, reason FROM credyt.vendor_cost('acme', '', '{}');

-- Rates of one's own: before imported ones, the first of a model from the beginning.
SELECT vendor, model, version, source, currency, rates, effective_at FROM credyt.set_vendor_rate('gpu-cloud', 'a100', '{"gpu_second": "0.0011", "request": 0.01}');
SELECT cost, usage, components FROM credyt.vendor_cost('gpu-cloud', 'a100', '{"gpu_second": 12.5}', at => '2020-01-01Z');
SELECT cost, usage, reason FROM credyt.vendor_cost('gpu-cloud', 'a100', '{"gpu_second": 12.5, "gpu_minute": 3}');
SELECT version, effective_at AT TIME ZONE 'UTC' AS effective_at
FROM credyt.set_vendor_rate('gpu-cloud', 'a100', '{"gpu_second": {"price": 4, "per": 3600}, "currency": "EUR"}', '2026-06-01Z');
SELECT t.at, c.cost, c.currency, c.rate_version FROM (VALUES ('2026-05-31Z'), ('2026-06-01Z')) t (at),
    credyt.vendor_cost('gpu-cloud', 'a100', '{"gpu_second": 1}', at => t.at::timestamptz) c;
SELECT version, effective_at AT TIME ZONE 'UTC' AS effective_at
FROM credyt.set_vendor_rate('acme', 'big', '{"input_tokens": {"price": "1.5", "per": 1000000}, "output_tokens": "0.000008"}');
SELECT cost, rate_version FROM credyt.vendor_cost('acme', 'big-2', '{"prompt_tokens": 1000, "completion_tokens": 100}');
SELECT cost, rate_version FROM credyt.vendor_cost('acme', 'big-2', '{"prompt_tokens": 1000, "completion_tokens": 100}', at => '2026-06-30Z');
SELECT changed, unchanged FROM credyt.import_vendor_rates(:'file');
SELECT version FROM credyt.set_vendor_rate('acme', 'big', 'null');
SELECT cost, rate_version FROM credyt.vendor_cost('acme', 'big-2', '{"prompt_tokens": 1000, "completion_tokens": 100}');

-- Without api_flavor the reader that accounts for most of the counts is right, whatever the file's order.
SELECT '[{"id": "deep", "extractors": [
    {"api_flavor": "default", "root": "usage", "mappings": [
      {"path": "prompt_tokens", "dest": "input_tokens"}, {"path": "completion_tokens", "dest": "output_tokens"}]},
    {"api_flavor": "chat", "root": ["response", "usage"], "mappings": [
      {"path": "prompt_tokens", "dest": "input_tokens"},
      {"path": ["details", "cached_tokens"], "dest": "cache_read_tokens", "required": false},
      {"path": ["details", "thought_tokens"], "dest": "output_tokens", "required": false},
      {"path": "completion_tokens", "dest": "output_tokens"}]}],
  "models": [{"id": "r1", "match": {"equals": "r1"}, "prices": {"input_mtok": 2, "cache_read_mtok": 1, "output_mtok": 10},
    "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 1}}, {"when": {"service_tier": "priority"}, "prices": {"input_mtok": 4}},
                       {"when": {"speed": "fast"}, "prices": {"input_mtok": 6}}]}]}]' AS deep \gset
SELECT added, changed, unchanged FROM credyt.import_vendor_rates(:'deep');
SELECT f.flavor, c.cost, c.usage FROM (VALUES (NULL), ('default'), ('chat')) f (flavor),
    credyt.vendor_cost('deep', 'r1', '{"prompt_tokens": 1000, "completion_tokens": 50, "details": {"cached_tokens": 400, "thought_tokens": 70}}', f.flavor) c;
-- A root is followed where it is there.
SELECT cost FROM credyt.vendor_cost('deep', 'r1', '{"type": "done", "response": {"usage": {"prompt_tokens": 1000, "completion_tokens": 50, "details": {"thought_tokens": 70}}}}');

-- A tier that the answer or the context names selects its prices; one without a price has no cost, and the usual ones are no tier.
SELECT b.answer, b.context, c.cost, c.reason FROM (VALUES
    ('{}', '{}'), ('{"service_tier": "default"}', '{}'), ('{"service_tier": "batch"}', '{}'), ('{"service_tier": "Priority"}', '{}'), ('{}', '{"service_tier": "batch"}'),
    ('{}', '{"processing": "batch"}'), ('{"trafficType": "ON_DEMAND"}', '{}'), ('{"trafficType": "ON_DEMAND_PRIORITY"}', '{}'), ('{"speed": "fast"}', '{}'), ('{"speed": "standard"}', '{}'),
    ('{"inference_geo": "not_available"}', '{}'), ('{"inference_geo": "us"}', '{}'), ('{"service_tier": "flex"}', '{}'), ('{"service_tier": "flex"}', '{"service_tier": "auto"}'),
    ('{}', '{"service_tier": "turbo"}'), ('{}', '{"tenant": "t1"}')) b (answer, context),
    credyt.vendor_cost('deep', 'r1', '{"prompt_tokens": 1000000, "completion_tokens": 0}'::jsonb || b.answer::jsonb, context => b.context::jsonb) c;

-- No counts are no cost; nor are those of which a part is missing.
SELECT b.body, c.cost, c.usage, c.reason FROM (VALUES ('{}'), ('[]'), ('{"usage": null}'), ('{"output_tokens": 15}'), ('{"type": "message_delta", "usage": {"output_tokens": 15}}'),
    ('{"prompt_tokens": 5, "completion_tokens": null}'), ('{"prompt_tokens": 0, "completion_tokens": 0}'), ('4')) b (body), credyt.vendor_cost('deep', 'r1', b.body::jsonb) c;
-- A stream's events and chunks: later counts replace earlier ones, null is no count.
SELECT c.cost, c.usage, c.reason FROM (VALUES
    ('[{"type": "message_start", "message": {"model": "r1", "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1}}},
       {"type": "content_block_delta", "delta": {"text": "Hi"}}, {"type": "message_delta", "usage": {"output_tokens": 9}}, {"type": "message_delta", "usage": {"output_tokens": 15}}]'),
    ('[{"type": "message_start", "message": {"model": "r1", "usage": {"input_tokens": 25, "output_tokens": 1}}}, {"type": "content_block_delta", "delta": {"text": "Hi"}}]'),
    ('[{"model": "r1", "choices": [{"delta": {"content": "Hi"}}], "usage": null}, {"model": "r1", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 10}}, {"usage": null}]'),
    ('[{"type": "response.created", "response": {"model": "r1", "usage": null}}, {"type": "response.completed", "response": {"model": "r1", "usage": {"input_tokens": 1000, "output_tokens": 10}}}]')) b (body),
    credyt.vendor_cost('deep', NULL, b.body::jsonb) c;

-- The usual shapes are read where no file says how, for own rates and unknown vendors, too.
SELECT version FROM credyt.set_vendor_rate('mine', 'm', '{"input_tokens": "0.000001", "cache_read_tokens": "0.0000001", "output_tokens": "0.000002", "gpu_second": 1}');
SELECT c.cost, c.usage FROM (VALUES
    ('{"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 400}}'),
    ('{"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1120, "completion_tokens_details": {"reasoning_tokens": 70}}'),
    ('{"model": "m", "usage": {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 400}, "output_tokens": 50, "output_tokens_details": {"reasoning_tokens": 20}}}'),
    ('{"usage": {"input_tokens": 600, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 0, "output_tokens": 50, "service_tier": "standard"}}'),
    ('{"usageMetadata": {"promptTokenCount": 1000, "cachedContentTokenCount": 400, "candidatesTokenCount": 30, "thoughtsTokenCount": 20}}'),
    ('{"usage_metadata": {"prompt_token_count": 1000, "cached_content_token_count": 400, "candidates_token_count": 30, "thoughts_token_count": 20}}'),
    ('{"usage": {"inputTokens": 600, "cacheReadInputTokens": 400, "outputTokens": 50, "totalTokens": 1050}}'),
    ('{"input_tokens": 1000, "cache_read_tokens": 400, "output_tokens": 50}'), ('{"gpu_second": 0.5}')) b (body), credyt.vendor_cost('mine', 'm', b.body::jsonb) c;
SELECT model, usage, reason FROM credyt.vendor_cost('stranger', NULL, '{"model": "x-1", "usage": {"prompt_tokens": 10, "completion_tokens": 2}}');
-- What the vendor reports counts where no rate is known (OpenRouter).
SELECT model, cost, currency, usage, components, rate_version FROM credyt.vendor_cost('openrouter', NULL, '{"model": "some/model", "usage": {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.00014}}');
SELECT cost FROM credyt.vendor_cost('mine', 'm', '{"prompt_tokens": 10, "completion_tokens": 2, "cost": 7}');

-- LiteLLM's file: floats as printed, to 15 digits; what is not understood is named.
SELECT * FROM credyt.import_vendor_rates('{
    "sample_spec": {"litellm_provider": "one of many", "input_cost_per_token": 0.0},
    "lite/small": {"litellm_provider": "lite", "mode": "chat", "max_tokens": 8192, "supports_vision": true,
        "input_cost_per_token": 1.1999999999999999e-07, "output_cost_per_token": 4e-07, "cache_read_input_token_cost": 3e-08,
        "input_cost_per_token_above_128k_tokens": 2.4e-07, "input_cost_per_token_batches": 6e-08, "output_cost_per_token_flex": 3e-07,
        "output_cost_per_token_turbo": 9, "tiered_pricing": []},
    "clip": {"litellm_provider": "lite", "output_cost_per_second": 0.05, "input_cost_per_query": 0.001, "output_cost_per_image": 0.02},
    "free": {"litellm_provider": "lite", "mode": "chat"}}', 'litellm');
SELECT model, unit, price, per, source FROM credyt.vendor_rate_book WHERE vendor = 'lite' ORDER BY 1, 2;
SELECT model, cost, usage FROM credyt.vendor_cost('lite', 'small', '{"input_tokens": 1000, "cache_read_tokens": 400, "output_tokens": 10}');
SELECT cost FROM credyt.vendor_cost('lite', 'lite/small', '{"input_tokens": 1000, "output_tokens": 10}', context => '{"service_tier": "batch"}');
SELECT cost FROM credyt.vendor_cost('lite', 'clip', '{"output_seconds": 3.5, "queries": 2}');

-- Tiers of everything, places and speeds, hours, other names; what is not understood is not priced.
SELECT * FROM credyt.import_vendor_rates('{
    "tiered": {"litellm_provider": "lite", "input_cost_per_token": 9, "tiered_pricing": [
        {"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}, {"range": [32000.0, 64000.0], "input_cost_per_token": 3e-06, "output_cost_per_token": 4e-06}]},
    "placed": {"litellm_provider": "lite", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "output_cost_per_token_ultrafast": 5e-06,
        "provider_specific_entry": {"us": 1.1, "fast": 2.0}},
    "nightly": {"litellm_provider": "lite", "input_cost_per_token": 2e-06, "off_peak_pricing": {"input_cost_per_token": 1e-06, "windows": [{"hours_utc": "22:00-06:00", "weekdays": [1, 2, 3, 4, 5]}]}},
    "other-name": {"alias_of": "placed"}, "lost": {"alias_of": "nobody"},
    "odd": {"litellm_provider": "lite", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "output_cost_per_token_per_moon_phase": 1, "input_cost_per_image": 0.1}}', 'litellm');
SELECT t.model, t.usage, t.context, c.cost, c.reason FROM (VALUES
    ('tiered', '{"prompt_tokens": 32000, "completion_tokens": 1000}', '{}'), ('tiered', '{"prompt_tokens": 32001, "completion_tokens": 1000}', '{}'), ('tiered', '{"prompt_tokens": 99999, "completion_tokens": 1000}', '{}'),
    ('placed', '{"input_tokens": 1000, "output_tokens": 100}', '{}'), ('placed', '{"input_tokens": 1000, "output_tokens": 100, "inference_geo": "us"}', '{}'),
    ('placed', '{"input_tokens": 1000, "output_tokens": 100, "speed": "fast", "inference_geo": "us"}', '{}'), ('placed', '{"input_tokens": 1000, "output_tokens": 100, "inference_geo": "eu"}', '{}'),
    ('placed', '{"input_tokens": 1000, "output_tokens": 100, "service_tier": "ultrafast"}', '{}'), ('other-name', '{"input_tokens": 1000, "output_tokens": 100}', '{"service_tier": "ultrafast"}'),
    ('odd', '{"input_tokens": 1000, "output_tokens": 100}', '{}'), ('odd', '{"input_tokens": 1000, "output_tokens": 0}', '{}'), ('odd', '{"input_images": 2}', '{}')) t (model, usage, context),
    credyt.vendor_cost('lite', t.model, t.usage::jsonb, context => t.context::jsonb) c;
SELECT t.at, c.cost FROM (VALUES ('2026-07-03 21:59Z'), ('2026-07-03 22:00Z'), ('2026-07-04 22:00Z')) t (at), -- a Friday and a Saturday
    credyt.vendor_cost('lite', 'nightly', '{"input_tokens": 1000000}', at => t.at::timestamptz) c;

-- What is refused.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 100, "details": {"cached_tokens": 101}, "completion_tokens": 1}');
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": -1, "completion_tokens": 1}');
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": "100", "completion_tokens": 1}');
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 1.5, "completion_tokens": 1}');
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 1e300, "completion_tokens": 1}');
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 1}', 'chat');
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 1, "completion_tokens": 1}', 'responses');
SELECT credyt.vendor_cost('acme', 'big', '[1]');
SELECT credyt.vendor_cost('acme', 'big', NULL);
SELECT credyt.vendor_cost('acme', 'big', '{"prompt_tokens": 1, "completion_tokens": 1}', context => '[1]');
SELECT credyt.vendor_cost('gpu-cloud', 'a100', '{"gpu_second": "long"}');
SELECT credyt.set_vendor_rate('gpu-cloud', 'a100', '{"gpu_second": -1}');
SELECT credyt.set_vendor_rate('gpu-cloud', 'a100', '{"input_mtok": 3}');
SELECT credyt.set_vendor_rate('gpu-cloud', 'h100', 'null');
SELECT credyt.set_vendor_rate('gpu-cloud', 'a100', NULL);
SELECT credyt.import_vendor_rates('[]', 'csv');
SELECT credyt.import_vendor_rates('[{"id": "acme", "models": [{"id": "big", "match": {"equals": "big"}, "prices": {"input_mtok": "much"}}]}]');
UPDATE credyt.vendor_rates SET currency = 'EUR';
DELETE FROM credyt.vendors;
