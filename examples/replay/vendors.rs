//! Vendors: what five real models cost, and how their answers say what was used.
//!
//! The rates are read here from the same file that `credyt.import_vendor_rates` is given, by code of its own: what the
//! database computes is compared with what is computed here.

use std::fs;

use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use crate::common::{Result, decimal};

/// How an answer tells its usage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Chat completions: prompt_tokens include the cached ones.
    Chat,
    /// OpenAI's responses: the same under other names; reasoning is part of the output.
    Responses,
    /// Anthropic's messages: input_tokens are those that were neither read from the cache nor written to it.
    Messages,
    /// Gemini: thoughts are counted beside the answer.
    Gemini,
}

pub struct Model {
    pub vendor: &'static str,
    /// As the rates, and so the reports, name it.
    pub id: &'static str,
    /// As the vendor's answer names it.
    answers_as: &'static str,
    api_flavor: Option<&'static str>,
    shape: Shape,
}

/// The models that a request is given to, and how many of 100 each gets.
pub const MODELS: [(Model, u32); 5] = [
    (
        Model {
            vendor: "openai",
            id: "gpt-4o-mini",
            answers_as: "gpt-4o-mini-2024-07-18",
            api_flavor: Some("chat"),
            shape: Shape::Chat,
        },
        30,
    ),
    (
        Model {
            vendor: "openai",
            id: "gpt-5",
            answers_as: "gpt-5-2025-08-07",
            api_flavor: Some("responses"),
            shape: Shape::Responses,
        },
        15,
    ),
    (
        Model {
            vendor: "anthropic",
            id: "claude-sonnet-4-5",
            answers_as: "claude-sonnet-4-5-20250929",
            api_flavor: None,
            shape: Shape::Messages,
        },
        15,
    ),
    (
        Model {
            vendor: "google",
            id: "gemini-2.5-flash",
            answers_as: "gemini-2.5-flash",
            api_flavor: None,
            shape: Shape::Gemini,
        },
        25,
    ),
    (
        // It has no rate for cached tokens: they cost what others cost.
        Model {
            vendor: "mistral",
            id: "mistral-small-latest",
            answers_as: "mistral-small-latest",
            api_flavor: None,
            shape: Shape::Chat,
        },
        15,
    ),
];

/// The small model that chooses a tool before another one answers.
pub const ROUTER: usize = 0;

/// A model that came out after the file of rates: its rate is set when the replay is over.
pub const MISSING: Model = Model {
    vendor: "openai",
    id: "gpt-6-preview",
    answers_as: "gpt-6-preview",
    api_flavor: Some("responses"),
    shape: Shape::Responses,
};
/// Money per million tokens: input, read from the cache, output.
const MISSING_PER_MILLION: [&str; 3] = ["2.25", "0.225", "18"];

/// A model whose rate nobody ever sets.
pub const UNKNOWN: Model = Model {
    vendor: "anthropic",
    id: "claude-unreleased",
    answers_as: "claude-unreleased",
    api_flavor: None,
    shape: Shape::Messages,
};

/// The tokens that a model has read and written.
#[derive(Clone, Copy)]
pub struct Used {
    /// All that was read, from the cache or not.
    pub input: u32,
    pub cached: u32,
    pub written_to_cache: u32,
    /// All that was written, thoughts included.
    pub output: u32,
    pub thoughts: u32,
}

impl Model {
    /// Does it report what it wrote to its cache?
    pub fn writes_to_cache(&self) -> bool {
        self.shape == Shape::Messages
    }

    pub fn thinks(&self) -> bool {
        matches!(self.shape, Shape::Responses | Shape::Gemini)
    }

    /// The part of the vendor's answer that counts.
    pub fn answer(&self, used: Used) -> Json {
        let Used {
            input,
            cached,
            written_to_cache,
            output,
            thoughts,
        } = used;
        let total = input + output;
        match self.shape {
            Shape::Chat => json!({
                "object": "chat.completion",
                "model": self.answers_as,
                "usage": {
                    "prompt_tokens": input,
                    "completion_tokens": output,
                    "total_tokens": total,
                    "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
                    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
                },
            }),
            Shape::Responses => json!({
                "object": "response",
                "model": self.answers_as,
                "usage": {
                    "input_tokens": input,
                    "input_tokens_details": {"cached_tokens": cached},
                    "output_tokens": output,
                    "output_tokens_details": {"reasoning_tokens": thoughts},
                    "total_tokens": total,
                },
            }),
            Shape::Messages => json!({
                "type": "message",
                "model": self.answers_as,
                "usage": {
                    "input_tokens": input - cached - written_to_cache,
                    "cache_read_input_tokens": cached,
                    "cache_creation_input_tokens": written_to_cache,
                    "output_tokens": output,
                    "service_tier": "standard",
                },
            }),
            Shape::Gemini => {
                let mut usage = json!({
                    "promptTokenCount": input,
                    "candidatesTokenCount": output - thoughts,
                    "thoughtsTokenCount": thoughts,
                    "totalTokenCount": total,
                });
                if cached > 0 {
                    usage["cachedContentTokenCount"] = cached.into();
                }
                json!({"modelVersion": self.answers_as, "usageMetadata": usage})
            }
        }
    }

    /// What `debit_credits`, `authorize` and `capture` take as usage.
    pub fn usage(&self, used: Used, request: Option<&str>) -> Json {
        let mut usage = Map::new();
        usage.insert("vendor".into(), self.vendor.into());
        usage.insert("body".into(), self.answer(used));
        if let Some(flavor) = self.api_flavor {
            usage.insert("api_flavor".into(), flavor.into());
        }
        if let Some(request) = request {
            usage.insert("vendor_request_id".into(), request.into());
        }
        Json::Object(usage)
    }

    pub fn api_flavor(&self) -> &'static str {
        self.api_flavor.unwrap_or("default")
    }
}

/// The file of rates, and what it says about the models above.
pub struct Rates {
    pub file: Json,
    of: Vec<Rate>,
    missing: Rate,
}

impl Rates {
    pub fn read(path: &str) -> Result<Rates> {
        let text = fs::read_to_string(path).map_err(|error| {
            format!(
                "No rates of vendors in {path}: {error}.\nThe replay takes prices/data.json of https://github.com/pydantic/genai-prices: \
                 put it there as genai_prices.json, or say where it is (make replay RATES=path, --rates path)."
            )
        })?;
        let file: Json =
            serde_json::from_str(&text).map_err(|error| format!("{path} is no JSON: {error}"))?;
        let of = MODELS
            .iter()
            .map(|(model, _)| {
                Rate::find(&file, model).map_err(|why| {
                    format!("{path}: {why} for {} of {}", model.id, model.vendor).into()
                })
            })
            .collect::<Result<_>>()?;
        let [input, cached, output] = MISSING_PER_MILLION.map(Steps::flat);
        Ok(Rates {
            file,
            of,
            missing: Rate {
                written_to_cache: input.clone(),
                input,
                cached,
                output,
            },
        })
    }

    /// What the vendor charges, in dollars.
    pub fn cost(&self, model: usize, used: Used) -> Decimal {
        self.of[model].cost(used)
    }

    /// The same of the model whose rate is missing.
    pub fn cost_of_missing(&self, used: Used) -> Decimal {
        self.missing.cost(used)
    }

    /// What `credyt.set_vendor_rate` is given for it.
    pub fn missing(&self) -> Json {
        let [input, cached, output] =
            MISSING_PER_MILLION.map(|price| json!({"price": price, "per": 1_000_000}));
        json!({"input_tokens": input, "cache_read_tokens": cached, "output_tokens": output})
    }

    /// One line for each model: dollars per million tokens.
    pub fn lines(&self) -> Vec<String> {
        let line = |((model, share), rate): (&(Model, u32), &Rate)| {
            format!(
                "{share:>5} %  {:<10} {:<22}${} in, ${} cached, ${} out",
                model.vendor, model.id, rate.input.base, rate.cached.base, rate.output.base
            )
        };
        MODELS.iter().zip(&self.of).map(line).collect()
    }
}

/// What a model costs.
struct Rate {
    input: Steps,
    cached: Steps,
    written_to_cache: Steps,
    output: Steps,
}

impl Rate {
    fn find(file: &Json, model: &Model) -> std::result::Result<Rate, String> {
        let with_id = |list: &Json, id: &str| {
            let mut all = list.as_array().into_iter().flatten();
            all.find(|one| one["id"] == id).cloned()
        };
        let prices = with_id(file, model.vendor)
            .and_then(|vendor| with_id(&vendor["models"], model.id))
            .map(|model| model["prices"].clone())
            .ok_or("there is no price")?;
        if !prices.is_object() {
            return Err(
                "the price changes with the date or the hour, which is not read here,".into(),
            );
        }
        let read = |name: &str| Steps::read(&prices[name]);
        let input = read("input_mtok").ok_or("there is no input_mtok")?;
        Ok(Rate {
            cached: read("cache_read_mtok").unwrap_or_else(|| input.clone()),
            written_to_cache: read("cache_write_mtok").unwrap_or_else(|| input.clone()),
            output: read("output_mtok").ok_or("there is no output_mtok")?,
            input,
        })
    }

    fn cost(&self, used: Used) -> Decimal {
        let fresh = used.input - used.cached - used.written_to_cache;
        let parts = [
            (&self.input, fresh),
            (&self.cached, used.cached),
            (&self.written_to_cache, used.written_to_cache),
            (&self.output, used.output),
        ];
        let sum: Decimal = parts
            .iter()
            .map(|(price, tokens)| price.at(used.input) * Decimal::from(*tokens))
            .sum();
        sum / Decimal::from(1_000_000)
    }
}

/// Dollars per million tokens, by how many tokens were read in all.
#[derive(Clone)]
struct Steps {
    base: Decimal,
    above: Vec<(Decimal, Decimal)>,
}

impl Steps {
    fn flat(price: &str) -> Steps {
        Steps {
            base: decimal(price),
            above: Vec::new(),
        }
    }

    /// A number, or `{"base": 1.25, "tiers": [{"start": 200000, "price": 2.5}]}`.
    fn read(price: &Json) -> Option<Steps> {
        let number = |json: &Json| Decimal::from_str_exact(&json.as_number()?.to_string()).ok();
        if price.is_number() {
            let above = Vec::new();
            return Some(Steps {
                base: number(price)?,
                above,
            });
        }
        let tier = |tier: &Json| Some((number(&tier["start"])?, number(&tier["price"])?));
        Some(Steps {
            base: number(&price["base"])?,
            above: price["tiers"]
                .as_array()?
                .iter()
                .map(tier)
                .collect::<Option<_>>()?,
        })
    }

    fn at(&self, input: u32) -> Decimal {
        let reached = |(start, _): &&(Decimal, Decimal)| Decimal::from(input) > *start;
        let step = self.above.iter().rev().find(reached);
        step.map_or(self.base, |(_, price)| *price)
    }
}
