//! Rules that recognise a vendor, a model or an element of a list by its name.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use fancy_regex::{Expr, Regex, RegexBuilder};
use serde_json::Value as Json;

use super::{ReadResult, at, expected, object, text};
use crate::ledger::interrupt;
use crate::ledger::interrupt::check;

/// A name has at most 255 bytes: no rule needs a longer pattern than this.
const MAX_PATTERN_BYTES: usize = 1000;

/// What a pattern may become, and how long it may look for a match: a few counted repetitions inside
/// each other would take all memory or for ever.
const MAX_PROGRAM_BYTES: usize = 1 << 18;
const MAX_STEPS: usize = 100_000;

/// What most patterns become is not larger than this.
const SMALL_PROGRAM_BYTES: usize = 1 << 16;

/// Compiled patterns that a backend keeps; others are compiled when they are asked, and dropped.
const MAX_KEPT: usize = 32;

thread_local! {
    static KEPT: Cell<usize> = const { Cell::new(0) };
}

/// A rule as genai-prices writes it: `{"equals": "gpt-4o"}`, `{"or": [...]}`. Names are compared
/// without regard to case, but for a regex, which is searched for in the text as it is.
#[derive(Debug, Clone)]
pub enum Rule {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    /// A pattern without anything special in it: a text, as it is, anywhere or at an end.
    Literal {
        part: String,
        at_start: bool,
        at_end: bool,
    },
    Regex(Pattern),
    Any(Vec<Rule>),
    All(Vec<Rule>),
}

impl Rule {
    /// Reads a rule; `place` is where it stands, for the message.
    pub fn read(rule: &Json, place: &str) -> ReadResult<Rule> {
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
                if let Some(literal) = literal(pattern) {
                    return Ok(literal);
                }
                Expr::parse_tree(pattern).map_err(|why| at(&place, why))?;
                Ok(Rule::Regex(Pattern {
                    text: pattern.to_owned(),
                    compiled: OnceLock::new(),
                }))
            }
            "or" => Rule::read_all(value, &place).map(Rule::Any),
            "and" => Rule::read_all(value, &place).map(Rule::All),
            _ => Err(at(
                &place,
                "a clause is equals, starts_with, ends_with, contains, regex, or, and",
            )),
        }
    }

    fn read_all(rules: &Json, place: &str) -> ReadResult<Vec<Rule>> {
        let rules = rules
            .as_array()
            .ok_or_else(|| expected(place, "a list", rules))?;
        rules
            .iter()
            .enumerate()
            .map(|(nth, rule)| Rule::read(rule, &format!("{place}[{nth}]")))
            .collect()
    }

    /// Compiles the patterns of a rule that comes from a file, within what is left of a budget.
    ///
    /// # Errors
    /// A pattern that cannot be compiled, or is too much.
    pub fn check(&self, place: &str, budget: &mut Budget) -> ReadResult<()> {
        match self {
            Rule::Regex(pattern) => {
                check();
                let small = pattern.compile(SMALL_PROGRAM_BYTES);
                budget.take(if small.is_ok() { 1 } else { 16 }, place)?;
                let compiled = small.or_else(|_| pattern.compile(MAX_PROGRAM_BYTES));
                compiled.map(drop).map_err(|why| at(place, why))
            }
            Rule::Any(rules) | Rule::All(rules) => {
                rules.iter().try_for_each(|rule| rule.check(place, budget))
            }
            _ => Ok(()),
        }
    }

    /// Whether it holds for this text. `lower` is the text in lower case.
    pub fn holds(&self, text: &str, lower: &str) -> bool {
        interrupt::check();
        match self {
            Rule::Equals(part) => lower == part,
            Rule::StartsWith(part) => lower.starts_with(part.as_str()),
            Rule::EndsWith(part) => lower.ends_with(part.as_str()),
            Rule::Contains(part) => lower.contains(part.as_str()),
            Rule::Literal {
                part,
                at_start,
                at_end,
            } => match (at_start, at_end) {
                (true, true) => text == part,
                (true, false) => text.starts_with(part.as_str()),
                (false, true) => text.ends_with(part.as_str()),
                (false, false) => text.contains(part.as_str()),
            },
            Rule::Regex(pattern) => pattern.is_match(text),
            Rule::Any(rules) => rules.iter().any(|rule| rule.holds(text, lower)),
            Rule::All(rules) => rules.iter().all(|rule| rule.holds(text, lower)),
        }
    }
}

/// A regular expression, compiled when it is first asked.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Arc<CachedPattern>>,
}

/// A compiled pattern that counts among those that are kept.
#[derive(Debug)]
struct CachedPattern(Regex);

impl Drop for CachedPattern {
    fn drop(&mut self) {
        KEPT.set(KEPT.get().saturating_sub(1));
    }
}

impl Pattern {
    /// What cannot be compiled, or would search for too long, has found nothing.
    fn is_match(&self, text: &str) -> bool {
        if let Some(kept) = self.compiled.get() {
            return kept.0.is_match(text).unwrap_or(false);
        }
        check();
        let Ok(compiled) = self.compile(MAX_PROGRAM_BYTES) else {
            return false;
        };
        let found = compiled.is_match(text).unwrap_or(false);
        if KEPT.get() < MAX_KEPT {
            KEPT.set(KEPT.get() + 1);
            let _ = self.compiled.set(Arc::new(CachedPattern(compiled)));
        }
        found
    }

    fn compile(&self, limit: usize) -> Result<Regex, fancy_regex::Error> {
        RegexBuilder::new(&self.text)
            .delegate_size_limit(limit)
            .delegate_dfa_size_limit(MAX_PROGRAM_BYTES)
            .backtrack_limit(MAX_STEPS)
            .build()
    }
}

/// What the patterns of one vendor, and those of a whole file, may come to: 1 for a small one, 16 for
/// a large one.
pub struct Budget {
    vendor: u32,
    file: u32,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            vendor: Budget::OF_VENDOR,
            file: Budget::OF_FILE,
        }
    }
}

impl Budget {
    const OF_VENDOR: u32 = 4096;
    const OF_FILE: u32 = 16_384;

    pub fn next_vendor(&mut self) {
        self.vendor = Budget::OF_VENDOR;
    }

    fn take(&mut self, weight: u32, place: &str) -> ReadResult<()> {
        let rest = (
            self.vendor.checked_sub(weight),
            self.file.checked_sub(weight),
        );
        let (Some(vendor), Some(file)) = rest else {
            return Err(at(place, "the regular expressions are too large together"));
        };
        (self.vendor, self.file) = (vendor, file);
        Ok(())
    }
}

/// The rule of a pattern that needs no regular expression.
fn literal(pattern: &str) -> Option<Rule> {
    let (rest, at_start) = match pattern.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let (rest, at_end) = match rest.strip_suffix('$') {
        Some(before) if !before.ends_with('\\') => (before, true),
        Some(_) => return None,
        // What may follow does not matter.
        None => (rest.strip_suffix(".*").unwrap_or(rest), false),
    };
    let mut part = String::with_capacity(rest.len());
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => part.push(letters.next().filter(char::is_ascii_punctuation)?),
            letter if letter.is_alphanumeric() || "-_/: @".contains(letter) => part.push(letter),
            _ => return None,
        }
    }
    Some(Rule::Literal {
        part,
        at_start,
        at_end,
    })
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
    fn what_is_literal_needs_no_expression() {
        for (pattern, holds_for, not_for) in [
            ("^gpt-5\\.6$", "gpt-5.6", "gpt-5.6-x"),
            ("^gpt-5\\.6", "gpt-5.6-x", "a-gpt-5.6"),
            ("^gpt-5.*", "gpt-5.6-x", "a-gpt-5.6"),
            ("mini$", "gpt-mini", "gpt-mini-x"),
            ("o/x", "go/x4", "go/y"),
        ] {
            let rule = Rule::read(&json!({"regex": pattern}), "match").unwrap();
            assert!(matches!(rule, Rule::Literal { .. }), "{pattern}");
            for (name, wanted) in [
                (holds_for, true),
                (not_for, false),
                (&holds_for.to_uppercase(), false),
            ] {
                assert_eq!(
                    rule.holds(name, &name.to_lowercase()),
                    wanted,
                    "{pattern} {name}"
                );
                assert_eq!(
                    Regex::new(pattern).unwrap().is_match(name).unwrap(),
                    wanted,
                    "{pattern} {name}"
                );
            }
        }
        for pattern in [
            "a.c", "a\\d", "^a\\$", "a|b", "(a)", "a{2}", "a\\", "[a]", "a^b",
        ] {
            assert!(literal(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn expressions_are_limited_in_sum() {
        let small = Rule::read(&json!({"regex": "^a-\\d{4}$"}), "match").unwrap();
        let mut budget = Budget {
            vendor: 2,
            ..Budget::default()
        };
        small.check("match", &mut budget).unwrap();
        small.check("match", &mut budget).unwrap();
        assert!(small.check("match", &mut budget).is_err());
        budget.next_vendor();
        small.check("match", &mut budget).unwrap();
        // A large one takes more.
        let large = Rule::read(&json!({"regex": "^\\w{4}$"}), "match").unwrap();
        budget.vendor = 15;
        assert!(large.check("match", &mut budget).is_err());
        // Only a bounded number is kept.
        let rules: Vec<Rule> = (0..100)
            .map(|nth| Rule::read(&json!({"regex": format!("^a{nth}-\\d$")}), "match").unwrap())
            .collect();
        for rule in &rules {
            assert!(!rule.holds("b", "b"));
        }
        assert_eq!(KEPT.get(), MAX_KEPT);
        assert!(rules[99].holds("a99-1", "a99-1"));
        drop(rules);
        assert_eq!(KEPT.get(), 0);
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
