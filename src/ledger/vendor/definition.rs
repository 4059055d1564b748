//! A vendor: by which names it and its models go, and how its answers are read.

use serde_json::Value as Json;

use super::extract::Extractor;
use super::rules::{Rule, with_dashed_dates};
use super::{ReadResult, list, name, object, text};

/// How a vendor's names and answers are read, as it is stored:
/// `{"match": rule, "fallback": [vendor], "extractors": [...], "models": [{"id", "match"}]}`, all
/// but the models optional. Models are tried in their order, the first whose rule holds is meant.
#[derive(Debug)]
pub struct Definition {
    pub fallback: Vec<String>,
    pub extractors: Vec<Extractor>,
    models: Vec<(String, Rule)>,
}

impl Definition {
    pub fn read(definition: &Json) -> ReadResult<Definition> {
        let definition = object(definition, "definition")?;
        let each = |key: &str| {
            definition
                .get(key)
                .map_or(Ok(&[][..]), |all| list(all, key).map(Vec::as_slice))
        };
        Ok(Definition {
            fallback: each("fallback")?
                .iter()
                .map(|vendor| text(vendor, "fallback").map(str::to_owned))
                .collect::<ReadResult<_>>()?,
            extractors: each("extractors")?
                .iter()
                .map(|one| Extractor::read(one, "extractors"))
                .collect::<ReadResult<_>>()?,
            models: each("models")?
                .iter()
                .map(|model| {
                    let model = object(model, "models")?;
                    let rule = model.get("match").unwrap_or(&Json::Null);
                    Ok((
                        name(model.get("id"), "models")?.to_owned(),
                        Rule::read(rule, "models")?,
                    ))
                })
                .collect::<ReadResult<_>>()?,
        })
    }

    /// The id of the model that a name means here.
    pub fn model(&self, name: &str) -> Option<&str> {
        let lower = name.to_lowercase();
        let found = self
            .models
            .iter()
            .find(|(_, rule)| rule.holds(&lower, &lower));
        found.map(|(id, _)| id.as_str())
    }
}

/// The vendor and the model that a name means: this vendor's, or one of those whose models it
/// offers. Dates are tried as they are written first.
pub fn find<'a>(
    own: (&'a str, &'a Definition),
    fallback: &[(&'a str, &'a Definition)],
    name: &str,
) -> Option<(&'a str, &'a str)> {
    let find = |name: &str| {
        std::iter::once(&own)
            .chain(fallback)
            .find_map(|(vendor, definition)| Some((*vendor, definition.model(name)?)))
    };
    find(name).or_else(|| find(&with_dashed_dates(name)?))
}
