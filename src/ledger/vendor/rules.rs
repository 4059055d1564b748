//! Rules that recognise a vendor, a model or an element of a list by its name.

use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use super::{Found, at, expected, object, text};
use crate::ledger::interrupt;

/// A name has at most 255 bytes: no rule needs a longer pattern than this.
const MAX_PATTERN_BYTES: usize = 1000;

/// What a pattern may become, and how long it may look for a match: a few counted repetitions inside
/// each other would take all memory or for ever.
const MAX_PROGRAM_BYTES: usize = 1 << 20;
const MAX_STEPS: usize = 100_000;

/// A rule as genai-prices writes it: `{"equals": "gpt-4o"}`, `{"or": [...]}`. Names are compared
/// without regard to case, but for a regex, which is searched for in the text as it is.
#[derive(Debug, Clone)]
pub enum Rule {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(Regex),
    Any(Vec<Rule>),
    All(Vec<Rule>),
}

impl Rule {
    /// Reads a rule; `place` is where it stands, for the message.
    pub fn read(rule: &Json, place: &str) -> Found<Rule> {
        interrupt::check();
        let rule = object(rule, place)?;
        let mut clauses = rule.iter();
        let (Some((clause, value)), None) = (clauses.next(), clauses.next()) else {
            return Err(at(place, "it has to be an object with one clause"));
        };
        let place = format!("{place}.{clause}");
        let lower = || text(value, &place).map(str::to_lowercase);
        match clause.as_str() {
            "equals" => lower().map(Rule::Equals),
            "starts_with" => lower().map(Rule::StartsWith),
            "ends_with" => lower().map(Rule::EndsWith),
            "contains" => lower().map(Rule::Contains),
            "regex" => {
                let pattern = text(value, &place)?;
                if pattern.len() > MAX_PATTERN_BYTES {
                    let why = format_args!("it is longer than {MAX_PATTERN_BYTES} bytes");
                    return Err(at(&place, why));
                }
                let pattern = RegexBuilder::new(pattern)
                    .delegate_size_limit(MAX_PROGRAM_BYTES)
                    .backtrack_limit(MAX_STEPS)
                    .build();
                pattern.map(Rule::Regex).map_err(|why| at(&place, why))
            }
            "or" => Rule::read_all(value, &place).map(Rule::Any),
            "and" => Rule::read_all(value, &place).map(Rule::All),
            _ => Err(at(
                &place,
                "a clause is equals, starts_with, ends_with, contains, regex, or, and",
            )),
        }
    }

    fn read_all(rules: &Json, place: &str) -> Found<Vec<Rule>> {
        let rules = rules
            .as_array()
            .ok_or_else(|| expected(place, "a list", rules))?;
        rules
            .iter()
            .enumerate()
            .map(|(nth, rule)| Rule::read(rule, &format!("{place}[{nth}]")))
            .collect()
    }

    /// Does it hold for this text? `lower` is the text in lower case.
    pub fn holds(&self, text: &str, lower: &str) -> bool {
        interrupt::check();
        match self {
            Rule::Equals(part) => lower == part,
            Rule::StartsWith(part) => lower.starts_with(part.as_str()),
            Rule::EndsWith(part) => lower.ends_with(part.as_str()),
            Rule::Contains(part) => lower.contains(part.as_str()),
            // A search that would take too long has found nothing.
            Rule::Regex(pattern) => pattern.is_match(text).unwrap_or(false),
            Rule::Any(rules) => rules.iter().any(|rule| rule.holds(text, lower)),
            Rule::All(rules) => rules.iter().all(|rule| rule.holds(text, lower)),
        }
    }
}

/// A name with dates like `-20251211` written as `-2025-12-11`: resellers write them so, and the
/// rules know the other form. `None` where there is none.
pub fn with_dashed_dates(name: &str) -> Option<String> {
    let mut dashed = String::new();
    let mut rest = name;
    while let Some(found) = rest.find('-') {
        let (before, after) = rest.split_at(found + 1);
        dashed.push_str(before);
        rest = after;
        if let Some((date, tail)) = leading_date(after) {
            dashed.push_str(&date);
            rest = tail;
        }
    }
    dashed.push_str(rest);
    (dashed != name).then_some(dashed)
}

/// A date of eight digits that ends with the text, or before a dash or a colon.
fn leading_date(text: &str) -> Option<(String, &str)> {
    let (digits, tail) = text.split_at_checked(8)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit())
        || !digits.starts_with("20")
        || !(tail.is_empty() || tail.starts_with(['-', ':']))
    {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i8>().ok();
    let year: i16 = digits.get(..4)?.parse().ok()?;
    let date = jiff::civil::Date::new(year, part(4, 6)?, part(6, 8)?).ok()?;
    Some((date.to_string(), tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(rule: Json, name: &str) -> bool {
        Rule::read(&rule, "match")
            .unwrap()
            .holds(name, &name.to_lowercase())
    }

    #[test]
    fn rules_hold_as_they_say() {
        assert!(holds(json!({"equals": "GPT-4o"}), "gpt-4O"));
        assert!(!holds(json!({"equals": "gpt-4o"}), "gpt-4o-mini"));
        assert!(holds(json!({"starts_with": "GPT"}), "gpt-4o"));
        assert!(holds(json!({"ends_with": "mini"}), "gpt-4o-MINI"));
        assert!(holds(json!({"contains": "4"}), "gpt-4o"));
        assert!(holds(json!({"regex": "^o[134]"}), "o3-mini"));
        assert!(!holds(json!({"regex": "^o[134]"}), "gpt-o3"));
        assert!(holds(json!({"regex": "^a(?!.*-tts(?:$|-))\\d"}), "a1-x"));
        assert!(!holds(json!({"regex": "^a(?!.*-tts(?:$|-))\\d"}), "a1-tts"));
        assert!(!holds(
            json!({"regex": "^(?=(a|aa)+$)(a|aa)+b"}),
            &"a".repeat(60)
        ));
        assert!(holds(
            json!({"and": [{"contains": "a"}, {"or": [{"equals": "x"}, {"contains": "b"}]}]}),
            "cab"
        ));
        let deep = format!("{}a{}", "(".repeat(50), ")".repeat(50));
        assert!(holds(json!({"regex": deep}), "a"));
        assert!(!holds(json!({"or": []}), "x"));
        assert!(holds(json!({"and": []}), "x"));
    }

    #[test]
    fn a_bad_rule_says_where() {
        for (rule, place) in [
            (json!("gpt"), "match: "),
            (json!({}), "match: "),
            (json!({"equals": "a", "contains": "b"}), "match: "),
            (json!({"equals": 4}), "match.equals: "),
            (json!({"regex": "("}), "match.regex: "),
            (
                json!({"or": [{"equals": "a"}, {"like": "b"}]}),
                "match.or[1].like: ",
            ),
            (json!({"and": {}}), "match.and: "),
        ] {
            let why = Rule::read(&rule, "match").unwrap_err();
            assert!(why.starts_with(place), "{why}");
        }
    }

    #[test]
    fn compact_dates_are_dashed() {
        for (name, dashed) in [
            ("gpt-5.2-20251211", Some("gpt-5.2-2025-12-11")),
            ("a-20240229:x", Some("a-2024-02-29:x")),
            ("a-20240101-20240102-b", Some("a-2024-01-01-2024-01-02-b")),
            ("a-20230229", None),
            ("a-20251311", None),
            ("a-202512111", None),
            ("a20251211", None),
            ("a-19991211", None),
            ("-", None),
            ("", None),
            ("ü-2025121é", None),
        ] {
            assert_eq!(with_dashed_dates(name).as_deref(), dashed, "{name}");
        }
    }
}
