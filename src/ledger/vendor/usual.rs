//! The shapes that most vendors' usage has, for vendors of which no file says how they are read.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use super::extract::{Extractor, Reading};
use super::reading::VendorResponse;
use super::units::named;

/// A field and the unit that it counts; the first one has to be there.
type Fields = &'static [(&'static str, &'static str)];

const CHAT: Fields = &[
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
    ("prompt_tokens_details.cached_tokens", "cache_read_tokens"),
    (
        "prompt_tokens_details.cache_write_tokens",
        "cache_write_tokens",
    ),
    ("prompt_tokens_details.audio_tokens", "input_audio_tokens"),
    ("prompt_tokens_details.image_tokens", "input_image_tokens"),
    (
        "completion_tokens_details.audio_tokens",
        "output_audio_tokens",
    ),
    (
        "completion_tokens_details.image_tokens",
        "output_image_tokens",
    ),
    (
        "completion_tokens_details.reasoning_tokens",
        "output_reasoning_tokens",
    ),
];

/// As DeepSeek has it: cached tokens beside the others.
const CHAT_CACHE: Fields = &[
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
    ("prompt_cache_hit_tokens", "cache_read_tokens"),
    (
        "completion_tokens_details.reasoning_tokens",
        "output_reasoning_tokens",
    ),
];

const RESPONSES: Fields = &[
    ("input_tokens", "input_tokens"),
    ("output_tokens", "output_tokens"),
    ("input_tokens_details.cached_tokens", "cache_read_tokens"),
    (
        "input_tokens_details.cache_write_tokens",
        "cache_write_tokens",
    ),
    ("input_tokens_details.text_tokens", "input_text_tokens"),
    ("input_tokens_details.image_tokens", "input_image_tokens"),
    ("input_tokens_details.audio_tokens", "input_audio_tokens"),
    ("output_tokens_details.text_tokens", "output_text_tokens"),
    ("output_tokens_details.image_tokens", "output_image_tokens"),
    ("output_tokens_details.audio_tokens", "output_audio_tokens"),
    (
        "output_tokens_details.reasoning_tokens",
        "output_reasoning_tokens",
    ),
];

const REALTIME: Fields = &[
    ("input_tokens", "input_tokens"),
    ("output_tokens", "output_tokens"),
    ("input_token_details.cached_tokens", "cache_read_tokens"),
    (
        "input_token_details.cached_tokens_details.text_tokens",
        "cache_text_read_tokens",
    ),
    (
        "input_token_details.cached_tokens_details.audio_tokens",
        "cache_audio_read_tokens",
    ),
    (
        "input_token_details.cached_tokens_details.image_tokens",
        "cache_image_read_tokens",
    ),
    ("input_token_details.text_tokens", "input_text_tokens"),
    ("input_token_details.audio_tokens", "input_audio_tokens"),
    ("input_token_details.image_tokens", "input_image_tokens"),
    ("output_token_details.text_tokens", "output_text_tokens"),
    ("output_token_details.audio_tokens", "output_audio_tokens"),
];

/// Its input tokens are those that no cache has to do with. A stream's end tells the output alone.
const MESSAGES: Fields = &[
    ("output_tokens", "output_tokens"),
    ("input_tokens", "input_tokens"),
    ("cache_creation_input_tokens", "input_tokens"),
    ("cache_creation_input_tokens", "cache_write_tokens"),
    (
        "cache_creation.ephemeral_5m_input_tokens",
        "cache_write_5m_tokens",
    ),
    (
        "cache_creation.ephemeral_1h_input_tokens",
        "cache_write_1h_tokens",
    ),
    ("cache_read_input_tokens", "input_tokens"),
    ("cache_read_input_tokens", "cache_read_tokens"),
    ("server_tool_use.web_search_requests", "web_searches"),
    (
        "output_tokens_details.thinking_tokens",
        "output_reasoning_tokens",
    ),
];

const BEDROCK: Fields = &[
    ("inputTokens", "input_tokens"),
    ("outputTokens", "output_tokens"),
    ("cacheReadInputTokens", "input_tokens"),
    ("cacheReadInputTokens", "cache_read_tokens"),
    ("cacheWriteInputTokens", "input_tokens"),
    ("cacheWriteInputTokens", "cache_write_tokens"),
];

/// Gemini's, as its JSON has it; its Python objects have the same names with underscores.
const GEMINI: Fields = &[
    ("promptTokenCount", "input_tokens"),
    ("toolUsePromptTokenCount", "input_tokens"),
    ("toolUsePromptTokenCount", "input_tool_tokens"),
    ("cachedContentTokenCount", "cache_read_tokens"),
    ("candidatesTokenCount", "output_tokens"),
    ("thoughtsTokenCount", "output_tokens"),
    ("thoughtsTokenCount", "output_reasoning_tokens"),
    ("promptTokensDetails.TEXT", "input_text_tokens"),
    ("promptTokensDetails.AUDIO", "input_audio_tokens"),
    ("promptTokensDetails.IMAGE", "input_image_tokens"),
    ("promptTokensDetails.VIDEO", "input_video_tokens"),
    ("cacheTokensDetails.TEXT", "cache_text_read_tokens"),
    ("cacheTokensDetails.AUDIO", "cache_audio_read_tokens"),
    ("cacheTokensDetails.IMAGE", "cache_image_read_tokens"),
    ("cacheTokensDetails.VIDEO", "cache_video_read_tokens"),
    ("candidatesTokensDetails.TEXT", "output_text_tokens"),
    ("candidatesTokensDetails.AUDIO", "output_audio_tokens"),
    ("candidatesTokensDetails.IMAGE", "output_image_tokens"),
    ("candidatesTokensDetails.VIDEO", "output_video_tokens"),
];

static SHAPES: LazyLock<Vec<Extractor>> = LazyLock::new(|| {
    let shapes = [
        shape("usage", CHAT, str::to_owned),
        shape("usage", CHAT_CACHE, str::to_owned),
        shape("usage", RESPONSES, str::to_owned),
        shape("usage", REALTIME, str::to_owned),
        shape("usage", MESSAGES, str::to_owned),
        shape("usage", BEDROCK, str::to_owned),
        shape("usageMetadata", GEMINI, str::to_owned),
        shape("usage_metadata", GEMINI, snake),
    ];
    shapes
        .iter()
        .filter_map(|shape| Extractor::read(shape, "usual").ok())
        .collect()
});

/// A shape as a file would have it. A step in capitals is the modality of an element in a list.
fn shape(root: &str, fields: Fields, write: fn(&str) -> String) -> Json {
    let mappings = fields.iter().enumerate().map(|(nth, (path, unit))| {
        let mut steps = Vec::new();
        for step in path.split('.') {
            if step.bytes().all(|byte| byte.is_ascii_uppercase()) {
                steps.push(
                    json!({"type": "array-match", "field": "modality", "match": {"equals": step}}),
                );
                steps.push(json!(write("tokenCount")));
            } else {
                steps.push(json!(write(step)));
            }
        }
        json!({"path": steps, "dest": unit, "required": nth == 0})
    });
    json!({"api_flavor": root, "root": root, "mappings": mappings.collect::<Vec<_>>()})
}

/// `promptTokenCount` as `prompt_token_count`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// What each shape that fits reads in an answer.
pub fn read(answer: &VendorResponse) -> Vec<Reading> {
    let number = |key: &str| answer.usage().get(key).and_then(Json::as_u64);
    let tokens = ["prompt_tokens", "completion_tokens", "total_tokens"].map(number);
    let fitting = SHAPES
        .iter()
        .filter_map(|shape| shape.read_counts(answer.body()).ok());
    let mut fitting: Vec<Reading> = fitting.collect();
    // A prompt without a completion is an embedding, and says so by its total, or the answer's end is
    // missing.
    let completion = answer.usage().get("completion_tokens");
    if let [Some(prompt), _, total] = tokens
        && completion.is_none_or(Json::is_null)
        && total != Some(prompt)
    {
        fitting.clear();
    }
    let (Some(output), Some(reasoning)) =
        (named("output_tokens"), named("output_reasoning_tokens"))
    else {
        return fitting;
    };
    // Some vendors (xAI) count reasoning beside the completion; the total tells.
    if let [Some(prompt), Some(completion), Some(total)] = tokens {
        for reading in &mut fitting {
            if let Ok(counts) = &mut reading.counts {
                let thought = counts.of(reasoning);
                let apart = u128::from(prompt) + u128::from(completion);
                if !thought.is_zero() && u128::from(total) == apart + whole(thought) {
                    counts.add(output, thought);
                }
            }
        }
    }
    fitting
}

fn whole(count: rust_decimal::Decimal) -> u128 {
    use num_traits::ToPrimitive;
    count.to_u128().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::vendor::reading::best;
    use crate::ledger::vendor::units::kind;

    fn counts(body: Json) -> Vec<(&'static str, String)> {
        let found = best(read(&VendorResponse::of(&body)))
            .unwrap()
            .counts
            .unwrap();
        let named = found
            .known()
            .map(|(unit, count)| (kind(unit).name, count.to_string()));
        let mut all: Vec<_> = named.filter(|(_, count)| count != "0").collect();
        all.sort_unstable();
        all
    }

    fn expect(body: Json, wanted: &[(&'static str, &str)]) {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(unit, count)| (*unit, (*count).to_owned()))
            .collect();
        assert_eq!(counts(body), wanted);
    }

    #[test]
    fn every_shape_is_read() {
        assert_eq!(SHAPES.len(), 8);
        expect(
            json!({"model": "m", "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25,
                   "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0}}}),
            &[
                ("cache_read_tokens", "8"),
                ("input_tokens", "20"),
                ("output_tokens", "5"),
            ],
        );
        expect(
            json!({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 32,
                   "completion_tokens_details": {"reasoning_tokens": 7}}),
            &[
                ("input_tokens", "20"),
                ("output_reasoning_tokens", "7"),
                ("output_tokens", "12"),
            ],
        );
        expect(
            json!({"prompt_tokens": 20, "completion_tokens": 5, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 12}),
            &[
                ("cache_read_tokens", "8"),
                ("input_tokens", "20"),
                ("output_tokens", "5"),
            ],
        );
        expect(
            json!({"usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 5,
                   "output_tokens_details": {"reasoning_tokens": 2}}}),
            &[
                ("cache_read_tokens", "8"),
                ("input_tokens", "20"),
                ("output_reasoning_tokens", "2"),
                ("output_tokens", "5"),
            ],
        );
        expect(
            json!({"usage": {"input_tokens": 20, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 3, "output_tokens": 5}}),
            &[
                ("cache_read_tokens", "8"),
                ("cache_write_tokens", "3"),
                ("input_tokens", "31"),
                ("output_tokens", "5"),
            ],
        );
        expect(
            json!({"usage": {"inputTokens": 20, "outputTokens": 5, "totalTokens": 33, "cacheReadInputTokens": 8}}),
            &[
                ("cache_read_tokens", "8"),
                ("input_tokens", "28"),
                ("output_tokens", "5"),
            ],
        );
        let gemini = &[
            ("cache_read_tokens", "8"),
            ("input_audio_tokens", "4"),
            ("input_tokens", "20"),
            ("output_reasoning_tokens", "7"),
            ("output_tokens", "12"),
        ];
        expect(
            json!({"usageMetadata": {"promptTokenCount": 20, "cachedContentTokenCount": 8, "candidatesTokenCount": 5,
                   "thoughtsTokenCount": 7, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}]}}),
            gemini,
        );
        expect(
            json!({"usage_metadata": {"prompt_token_count": 20, "cached_content_token_count": 8, "candidates_token_count": 5,
                   "thoughts_token_count": 7, "prompt_tokens_details": [{"modality": "AUDIO", "token_count": 4}]}}),
            gemini,
        );
    }

    #[test]
    fn a_stream_is_read_as_a_whole() {
        expect(
            json!([
                {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1}}},
                {"type": "content_block_delta", "delta": {"text": "Hi"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}]),
            &[
                ("cache_read_tokens", "5"),
                ("input_tokens", "30"),
                ("output_tokens", "15"),
            ],
        );
        expect(
            json!([{"model": "m", "choices": [{}], "usage": null}, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
                   {"usage": null}]),
            &[("input_tokens", "3"), ("output_tokens", "4")],
        );
        expect(
            json!({"type": "response.completed", "response": {"model": "m", "usage": {"input_tokens": 3, "output_tokens": 4}}}),
            &[("input_tokens", "3"), ("output_tokens", "4")],
        );
    }
}
