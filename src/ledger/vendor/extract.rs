//! How the counts are read from a vendor's answer: paths into its JSON, and which unit each means.

use serde_json::Value as Json;

use super::rules::{Budget, Rule};
use super::units::{self, Unit};
use super::usage::{Counts, count};
use super::{ReadResult, at, expected, list, object, text};
use crate::ledger::interrupt::checked;

/// How one kind of answer (the API flavor) of a vendor is read.
#[derive(Debug)]
pub struct Extractor {
    pub flavor: String,
    root: Path,
    model_path: Path,
    mappings: Vec<Mapping>,
}

/// What a reader makes of an answer that has its shape.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// The counts, or what is wrong with one of them.
    pub counts: Result<Counts, String>,
    /// How many of the answer's numbers it reads.
    pub accounted: usize,
}

#[derive(Debug)]
struct Mapping {
    path: Path,
    /// `None`: a unit that is not known, whose count is not read.
    unit: Option<Unit>,
    required: bool,
}

#[derive(Debug)]
struct Path {
    steps: Vec<Step>,
    /// As a person would write it.
    shown: String,
}

#[derive(Debug)]
enum Step {
    Field(String),
    /// The first object in a list whose field matches.
    Element {
        field: String,
        rule: Rule,
    },
}

/// Where a path led to.
enum PathTarget<'a> {
    Value(&'a Json),
    /// Something on the way, or the value itself, is not there or null.
    Nothing,
    /// Something on the way is of another kind than the path needs.
    Unlike(&'a Json),
}

impl Extractor {
    pub fn read(extractor: &Json, place: &str) -> ReadResult<Extractor> {
        let extractor = object(extractor, place)?;
        let field = |key: &str| format!("{place}.{key}");
        let path = |key: &str| match extractor.get(key) {
            Some(path) => Path::read(path, &field(key)),
            None => Err(at(&field(key), "it is missing")),
        };
        let flavor = match extractor.get("api_flavor") {
            None => "default",
            Some(flavor) => text(flavor, &field("api_flavor"))?,
        };
        let model_path = match extractor.get("model_path") {
            None => Path::of("model"),
            Some(_) => path("model_path")?,
        };
        let mappings = match extractor.get("mappings") {
            None => return Err(at(&field("mappings"), "it is missing")),
            Some(mappings) => list(mappings, &field("mappings"))?,
        };
        Ok(Extractor {
            flavor: flavor.to_owned(),
            root: path("root")?,
            model_path,
            mappings: mappings
                .iter()
                .enumerate()
                .map(|(nth, mapping)| Mapping::read(mapping, &format!("{place}.mappings[{nth}]")))
                .collect::<ReadResult<_>>()?,
        })
    }

    /// Checks the rules in its paths, as those of models are.
    pub fn check(&self, place: &str, budget: &mut Budget) -> ReadResult<()> {
        let paths = self.mappings.iter().map(|mapping| &mapping.path);
        let steps = paths
            .chain([&self.root, &self.model_path])
            .flat_map(|path| &path.steps);
        for step in checked(steps) {
            if let Step::Element { rule, .. } = step {
                rule.check(place, budget)?;
            }
        }
        Ok(())
    }

    /// The model that an answer names.
    pub fn model<'a>(&self, body: &'a Json) -> Option<&'a str> {
        match self.model_path.follow(body) {
            PathTarget::Value(Json::String(model)) => Some(model),
            _ => None,
        }
    }

    /// The counts in an answer, or in its usage object alone.
    ///
    /// # Errors
    /// Why the answer has another shape.
    pub fn read_counts(&self, body: &Json) -> Result<Reading, String> {
        // Whether the body is the whole answer shows in whether it has the root.
        let usage = match self.root.follow(body) {
            PathTarget::Value(usage @ Json::Object(_)) => usage,
            _ if body.is_object() => body,
            _ => return Err(expected(&self.root.shown, "an object", body)),
        };
        let mut counts = Ok(Counts::default());
        let mut accounted: Vec<&Json> = Vec::new();
        for mapping in checked(&self.mappings) {
            let Some(unit) = mapping.unit else { continue };
            let shown = &mapping.path.shown;
            match mapping.path.follow(usage) {
                PathTarget::Value(value) => {
                    if !accounted.iter().any(|known| std::ptr::eq(*known, value)) {
                        accounted.push(value);
                    }
                    match (&mut counts, count(value, units::kind(unit).is_whole())) {
                        (Ok(counts), Ok(value)) => counts.add(unit, value),
                        (Ok(_), Err(why)) => counts = Err(at(shown, why)),
                        (Err(_), _) => {}
                    }
                }
                PathTarget::Nothing if mapping.required => return Err(at(shown, "it is missing")),
                PathTarget::Nothing => {}
                PathTarget::Unlike(value) => {
                    let kind = crate::ledger::number::kind_of(value);
                    return Err(at(shown, format_args!("its path leads through {kind}")));
                }
            }
        }
        match accounted.len() {
            0 => Err(at(&self.root.shown, "it holds none of the counts")),
            accounted => Ok(Reading { counts, accounted }),
        }
    }
}

impl Mapping {
    fn read(mapping: &Json, place: &str) -> ReadResult<Mapping> {
        let mapping = object(mapping, place)?;
        let field = |key: &str| format!("{place}.{key}");
        let value = |key: &str| {
            mapping
                .get(key)
                .ok_or_else(|| at(&field(key), "it is missing"))
        };
        let required = match mapping.get("required") {
            None => true,
            Some(Json::Bool(required)) => *required,
            Some(other) => return Err(expected(&field("required"), "true or false", other)),
        };
        Ok(Mapping {
            path: Path::read(value("path")?, &field("path"))?,
            unit: units::named(text(value("dest")?, &field("dest"))?)
                .filter(|unit| *unit != *units::REQUESTS),
            required,
        })
    }
}

impl Path {
    fn of(field: &str) -> Path {
        Path {
            steps: vec![Step::Field(field.to_owned())],
            shown: field.to_owned(),
        }
    }

    /// A field's name, or a list of names and of conditions on the elements of a list.
    fn read(path: &Json, place: &str) -> ReadResult<Path> {
        let Json::Array(parts) = path else {
            return text(path, place).map(Path::of);
        };
        let mut shown = String::new();
        let mut steps = Vec::new();
        for (nth, part) in parts.iter().enumerate() {
            let place = format!("{place}[{nth}]");
            let step = Step::read(part, &place)?;
            if nth > 0 {
                shown.push('.');
            }
            shown.push_str(match &step {
                Step::Field(field) => field,
                Step::Element { .. } => "[]",
            });
            steps.push(step);
        }
        match steps.last() {
            Some(Step::Field(_)) => Ok(Path { steps, shown }),
            _ => Err(at(place, "a path ends with the name of a field")),
        }
    }

    fn follow<'a>(&self, mut json: &'a Json) -> PathTarget<'a> {
        for step in checked(&self.steps) {
            let next = match (step, json) {
                (_, Json::Null) => None,
                (Step::Field(field), Json::Object(object)) => object.get(field),
                (Step::Element { field, rule }, Json::Array(list)) => list.iter().find(|item| {
                    let value = item.get(field).and_then(Json::as_str);
                    value.is_some_and(|value| rule.holds(value, &value.to_lowercase()))
                }),
                // What writes an empty object as an empty list means the same by it.
                (_, Json::Array(list)) if list.is_empty() => None,
                _ => return PathTarget::Unlike(json),
            };
            match next {
                Some(next) => json = next,
                None => return PathTarget::Nothing,
            }
        }
        match json {
            Json::Null => PathTarget::Nothing,
            json => PathTarget::Value(json),
        }
    }
}

impl Step {
    fn read(step: &Json, place: &str) -> ReadResult<Step> {
        let Json::Object(element) = step else {
            return text(step, place).map(|field| Step::Field(field.to_owned()));
        };
        let field = |key: &str| format!("{place}.{key}");
        let value = |key: &str| element.get(key).unwrap_or(&Json::Null);
        match value("type").as_str() {
            Some("array-match") => Ok(Step::Element {
                field: text(value("field"), &field("field"))?.to_owned(),
                rule: Rule::read(value("match"), &field("match"))?,
            }),
            _ => Err(at(&field("type"), "it has to be array-match")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn extractor() -> Extractor {
        Extractor::read(
            &json!({"api_flavor": "default", "root": "usageMetadata", "model_path": "modelVersion", "mappings": [
                {"path": "prompt", "dest": "input_tokens"},
                {"path": "tools", "dest": "input_tokens", "required": false},
                {"path": ["details", {"type": "array-match", "field": "modality", "match": {"equals": "AUDIO"}}, "tokenCount"],
                 "dest": "input_audio_tokens", "required": false},
                {"path": "sparks", "dest": "input_spark_tokens", "required": true}]}),
            "extractors[0]",
        )
        .unwrap()
    }

    type Units = Vec<(&'static str, String)>;

    fn read(body: Json) -> Result<Result<Units, String>, String> {
        let named = |counts: Counts| -> Units {
            let known = counts.known();
            known
                .map(|(unit, count)| (units::kind(unit).name, count.to_string()))
                .collect()
        };
        extractor()
            .read_counts(&body)
            .map(|reading| reading.counts.map(named))
    }

    #[test]
    fn the_whole_answer_and_its_usage_alone_are_read() {
        let usage = json!({"prompt": 10, "tools": 2.0, "details": [
            {"modality": "TEXT", "tokenCount": 9}, {"tokenCount": 7}, 5,
            {"modality": "audio", "tokenCount": 3}]});
        let expected = Ok(Ok(vec![
            ("input_tokens", "12".to_owned()),
            ("input_audio_tokens", "3".to_owned()),
        ]));
        assert_eq!(read(usage.clone()), expected);
        let answer = json!({"modelVersion": "m-1", "usageMetadata": usage});
        assert_eq!(read(answer.clone()), expected);
        assert_eq!(extractor().model(&answer), Some("m-1"));
        assert_eq!(extractor().model(&json!({"modelVersion": 4})), None);
    }

    #[test]
    fn what_is_null_or_empty_is_not_there() {
        let expected = Ok(Ok(vec![("input_tokens", "10".to_owned())]));
        for details in [json!(null), json!([]), json!([{"modality": "TEXT"}])] {
            let usage = json!({"prompt": 10, "tools": null, "details": details});
            assert_eq!(read(usage), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (usage, bad, why) in [
            (json!({}), false, "prompt: it is missing"),
            (json!({"prompt": null}), false, "prompt: it is missing"),
            (
                json!({"prompt": "ten"}),
                true,
                "prompt: it has to be a number, not a string",
            ),
            (
                json!({"prompt": true}),
                true,
                "prompt: it has to be a number, not a boolean",
            ),
            (json!({"prompt": -1}), true, "prompt: -1 is negative"),
            (
                json!({"prompt": 1.5}),
                true,
                "prompt: 1.5 is not a whole number",
            ),
            (
                json!({"prompt": 1, "details": 4}),
                false,
                "details.[].tokenCount: its path leads through a number",
            ),
            (
                json!({"prompt": 1, "details": {"a": 1}}),
                false,
                "details.[].tokenCount: its path leads through an object",
            ),
            (
                json!(4),
                false,
                "usageMetadata: it has to be an object, not a number",
            ),
        ] {
            let why = why.to_owned();
            assert_eq!(read(usage), if bad { Ok(Err(why)) } else { Err(why) });
        }
    }
}
