//! The units that vendors count in, and how they lie inside each other.
//!
//! A vendor's count of input tokens includes the cached ones, the ones of audio, and so on. What lies
//! inside what follows from a unit's traits: a unit lies inside another when it has all its traits.
//! The list is that of the genai-prices project, whose files name a price by its key. Units that are
//! not in it (`gpu_second`) lie inside nothing.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A unit by its place in the list.
pub type Unit = u8;

/// A set of units, one bit each.
pub type Units = u128;

pub struct Kind {
    pub name: &'static str,
    /// How a genai-prices file names its price.
    pub price_key: &'static str,
    /// The number of units that the price is for.
    pub per: u64,
    /// Family, direction, modality, type, lifetime; empty where it has none.
    traits: [&'static str; 5],
}

const fn unit(
    name: &'static str,
    price_key: &'static str,
    per: u64,
    traits: [&'static str; 5],
) -> Kind {
    Kind {
        name,
        price_key,
        per,
        traits,
    }
}

/// Every unit; at most as many as `Units` has bits.
#[rustfmt::skip]
pub static KINDS: [Kind; 60] = [
    unit("input_tokens", "input_mtok", 1_000_000, ["tokens", "input", "", "", ""]),
    unit("output_tokens", "output_mtok", 1_000_000, ["tokens", "output", "", "", ""]),
    unit("cache_read_tokens", "cache_read_mtok", 1_000_000, ["tokens", "input", "", "cache_read", ""]),
    unit("cache_write_tokens", "cache_write_mtok", 1_000_000, ["tokens", "input", "", "cache_write", ""]),
    unit("cache_write_5m_tokens", "cache_write_5m_mtok", 1_000_000, ["tokens", "input", "", "cache_write", "5m"]),
    unit("cache_write_1h_tokens", "cache_write_1h_mtok", 1_000_000, ["tokens", "input", "", "cache_write", "1h"]),
    unit("input_text_tokens", "input_text_mtok", 1_000_000, ["tokens", "input", "text", "", ""]),
    unit("output_text_tokens", "output_text_mtok", 1_000_000, ["tokens", "output", "text", "", ""]),
    unit("cache_text_read_tokens", "cache_text_read_mtok", 1_000_000, ["tokens", "input", "text", "cache_read", ""]),
    unit("cache_text_write_tokens", "cache_text_write_mtok", 1_000_000, ["tokens", "input", "text", "cache_write", ""]),
    unit("cache_text_write_5m_tokens", "cache_text_write_5m_mtok", 1_000_000, ["tokens", "input", "text", "cache_write", "5m"]),
    unit("cache_text_write_1h_tokens", "cache_text_write_1h_mtok", 1_000_000, ["tokens", "input", "text", "cache_write", "1h"]),
    unit("input_audio_tokens", "input_audio_mtok", 1_000_000, ["tokens", "input", "audio", "", ""]),
    unit("output_audio_tokens", "output_audio_mtok", 1_000_000, ["tokens", "output", "audio", "", ""]),
    unit("cache_audio_read_tokens", "cache_audio_read_mtok", 1_000_000, ["tokens", "input", "audio", "cache_read", ""]),
    unit("cache_audio_write_tokens", "cache_audio_write_mtok", 1_000_000, ["tokens", "input", "audio", "cache_write", ""]),
    unit("cache_audio_write_5m_tokens", "cache_audio_write_5m_mtok", 1_000_000, ["tokens", "input", "audio", "cache_write", "5m"]),
    unit("cache_audio_write_1h_tokens", "cache_audio_write_1h_mtok", 1_000_000, ["tokens", "input", "audio", "cache_write", "1h"]),
    unit("input_image_tokens", "input_image_mtok", 1_000_000, ["tokens", "input", "image", "", ""]),
    unit("output_image_tokens", "output_image_mtok", 1_000_000, ["tokens", "output", "image", "", ""]),
    unit("cache_image_read_tokens", "cache_image_read_mtok", 1_000_000, ["tokens", "input", "image", "cache_read", ""]),
    unit("cache_image_write_tokens", "cache_image_write_mtok", 1_000_000, ["tokens", "input", "image", "cache_write", ""]),
    unit("cache_image_write_5m_tokens", "cache_image_write_5m_mtok", 1_000_000, ["tokens", "input", "image", "cache_write", "5m"]),
    unit("cache_image_write_1h_tokens", "cache_image_write_1h_mtok", 1_000_000, ["tokens", "input", "image", "cache_write", "1h"]),
    unit("input_video_tokens", "input_video_mtok", 1_000_000, ["tokens", "input", "video", "", ""]),
    unit("output_video_tokens", "output_video_mtok", 1_000_000, ["tokens", "output", "video", "", ""]),
    unit("cache_video_read_tokens", "cache_video_read_mtok", 1_000_000, ["tokens", "input", "video", "cache_read", ""]),
    unit("cache_video_write_tokens", "cache_video_write_mtok", 1_000_000, ["tokens", "input", "video", "cache_write", ""]),
    unit("cache_video_write_5m_tokens", "cache_video_write_5m_mtok", 1_000_000, ["tokens", "input", "video", "cache_write", "5m"]),
    unit("cache_video_write_1h_tokens", "cache_video_write_1h_mtok", 1_000_000, ["tokens", "input", "video", "cache_write", "1h"]),
    unit("input_tool_tokens", "input_tool_mtok", 1_000_000, ["tokens", "input", "", "tool", ""]),
    unit("input_text_tool_tokens", "input_text_tool_mtok", 1_000_000, ["tokens", "input", "text", "tool", ""]),
    unit("input_audio_tool_tokens", "input_audio_tool_mtok", 1_000_000, ["tokens", "input", "audio", "tool", ""]),
    unit("input_image_tool_tokens", "input_image_tool_mtok", 1_000_000, ["tokens", "input", "image", "tool", ""]),
    unit("input_video_tool_tokens", "input_video_tool_mtok", 1_000_000, ["tokens", "input", "video", "tool", ""]),
    unit("output_reasoning_tokens", "output_reasoning_mtok", 1_000_000, ["tokens", "output", "", "reasoning", ""]),
    unit("output_text_reasoning_tokens", "output_text_reasoning_mtok", 1_000_000, ["tokens", "output", "text", "reasoning", ""]),
    unit("output_audio_reasoning_tokens", "output_audio_reasoning_mtok", 1_000_000, ["tokens", "output", "audio", "reasoning", ""]),
    unit("output_image_reasoning_tokens", "output_image_reasoning_mtok", 1_000_000, ["tokens", "output", "image", "reasoning", ""]),
    unit("output_video_reasoning_tokens", "output_video_reasoning_mtok", 1_000_000, ["tokens", "output", "video", "reasoning", ""]),
    unit("output_citation_tokens", "output_citation_mtok", 1_000_000, ["tokens", "output", "", "citation", ""]),
    unit("output_text_citation_tokens", "output_text_citation_mtok", 1_000_000, ["tokens", "output", "text", "citation", ""]),
    unit("output_audio_citation_tokens", "output_audio_citation_mtok", 1_000_000, ["tokens", "output", "audio", "citation", ""]),
    unit("output_image_citation_tokens", "output_image_citation_mtok", 1_000_000, ["tokens", "output", "image", "citation", ""]),
    unit("output_video_citation_tokens", "output_video_citation_mtok", 1_000_000, ["tokens", "output", "video", "citation", ""]),
    unit("input_characters", "input_mchars", 1_000_000, ["characters", "input", "", "", ""]),
    unit("input_text_messages", "input_text_messages_kcount", 1_000, ["messages", "input", "text", "", ""]),
    unit("audio_seconds", "audio_hours", 3_600, ["durations", "", "audio", "", ""]),
    unit("input_audio_seconds", "input_audio_hours", 3_600, ["durations", "input", "audio", "", ""]),
    unit("output_audio_seconds", "output_audio_hours", 3_600, ["durations", "output", "audio", "", ""]),
    unit("input_pixels", "input_gpixels", 1_000_000_000, ["pixels", "input", "", "", ""]),
    unit("input_document_pages", "input_document_kpages", 1_000, ["document_pages", "input", "", "", ""]),
    unit("input_annotated_document_pages", "input_annotated_document_kpages", 1_000, ["document_pages", "input", "", "annotated", ""]),
    unit("rerank_searches", "rerank_searches_kcount", 1_000, ["rerank", "", "", "", ""]),
    unit("web_searches", "web_searches_kcount", 1_000, ["tool_calls", "", "", "web_search", ""]),
    unit("social_searches", "social_searches_kcount", 1_000, ["tool_calls", "", "", "social_search", ""]),
    unit("storage_searches", "storage_searches_kcount", 1_000, ["tool_calls", "", "", "storage_search", ""]),
    unit("code_executions", "code_executions_kcount", 1_000, ["tool_calls", "", "", "code_execution", ""]),
    unit("cache_write_12h_tokens", "cache_write_12h_mtok", 1_000_000, ["tokens", "input", "", "cache_write", "12h"]),
    unit("requests", "requests_kcount", 1_000, ["requests", "", "", "", ""]),
];

struct Lookup {
    by_name: HashMap<&'static str, Unit>,
    by_price_key: HashMap<&'static str, Unit>,
    /// The units that each one lies inside, itself not counted.
    around: Vec<Units>,
}

static LOOKUP: LazyLock<Lookup> = LazyLock::new(|| Lookup {
    by_name: numbered().map(|(unit, kind)| (kind.name, unit)).collect(),
    by_price_key: numbered()
        .map(|(unit, kind)| (kind.price_key, unit))
        .collect(),
    around: KINDS
        .iter()
        .map(|inner| {
            numbered()
                .filter(|(_, outer)| inner.lies_inside(outer))
                .fold(0, |set, (unit, _)| set | bit(unit))
        })
        .collect(),
});

/// The units that are told apart whatever a model's rate prices apart, so that meters read the same
/// names for every model.
pub static TOLD_APART: LazyLock<Units> = LazyLock::new(|| {
    let names = [
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "input_audio_tokens",
        "output_audio_tokens",
        "cache_audio_read_tokens",
    ];
    names
        .into_iter()
        .filter_map(named)
        .fold(0, |set, unit| set | bit(unit))
});

/// All input tokens: what tiers go by.
pub static INPUT: LazyLock<Unit> = LazyLock::new(|| named("input_tokens").unwrap_or_default());

/// Calls, which count themselves.
pub static REQUESTS: LazyLock<Unit> = LazyLock::new(|| named("requests").unwrap_or_default());

/// The families of which there are only whole ones.
const WHOLE: [&str; 5] = ["tokens", "characters", "messages", "rerank", "tool_calls"];

impl Kind {
    /// How special it is: its number of traits.
    pub fn depth(&self) -> usize {
        self.traits.iter().filter(|part| !part.is_empty()).count()
    }

    pub fn is_whole(&self) -> bool {
        WHOLE.contains(&self.traits[0])
    }

    /// Whether these are tokens of this direction.
    pub fn is_tokens(&self, direction: &str) -> bool {
        self.traits[0] == "tokens" && self.traits[1] == direction
    }

    /// Whether it names a type of token, such as cached.
    pub fn has_type(&self) -> bool {
        !self.traits[3].is_empty()
    }

    fn lies_inside(&self, outer: &Kind) -> bool {
        self.depth() > outer.depth()
            && self
                .traits
                .iter()
                .zip(outer.traits)
                .all(|(inner, outer)| outer.is_empty() || *inner == outer)
    }

    /// Whether it names a type of token, but neither what the token stands for nor how long it is kept.
    pub fn is_type_alone(&self) -> bool {
        self.has_type() && self.traits[2].is_empty() && self.traits[4].is_empty()
    }

    /// Whether its type is all that sets it apart from the unit that it lies inside.
    pub fn is_type_of(&self, outer: &Kind) -> bool {
        let mut beyond = (0..self.traits.len()).filter(|at| self.traits[*at] != outer.traits[*at]);
        beyond.next() == Some(3) && beyond.next().is_none()
    }
}

fn numbered() -> impl Iterator<Item = (Unit, &'static Kind)> {
    (0..).zip(&KINDS)
}

pub fn named(name: &str) -> Option<Unit> {
    LOOKUP.by_name.get(name).copied()
}

pub fn priced_by(price_key: &str) -> Option<Unit> {
    LOOKUP.by_price_key.get(price_key).copied()
}

pub fn kind(unit: Unit) -> &'static Kind {
    &KINDS[usize::from(unit)]
}

pub fn bit(unit: Unit) -> Units {
    1 << unit
}

/// The units of a set, in the order of the list.
pub fn each(mut set: Units) -> impl Iterator<Item = Unit> {
    std::iter::from_fn(move || {
        if set == 0 {
            return None;
        }
        let unit = set.trailing_zeros() as Unit;
        set &= set - 1;
        Some(unit)
    })
}

/// The units that this one lies inside, itself not counted.
pub fn around(unit: Unit) -> Units {
    LOOKUP.around[usize::from(unit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_lie_inside_each_other() {
        let names = |name: &str| -> Vec<&str> {
            each(around(named(name).unwrap()))
                .map(|unit| kind(unit).name)
                .collect()
        };
        assert_eq!(names("input_tokens"), Vec::<&str>::new());
        assert_eq!(
            names("cache_audio_read_tokens"),
            ["input_tokens", "cache_read_tokens", "input_audio_tokens"]
        );
        assert_eq!(names("input_audio_seconds"), ["audio_seconds"]);
        assert!(KINDS.len() <= 128);
        let mut keys: Vec<_> = KINDS.iter().map(|kind| kind.price_key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), KINDS.len());
    }
}
