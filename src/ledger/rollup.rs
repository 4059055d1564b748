//! How reports count a debit that has several lines.
//!
//! Credits, revenue and cost of the lines add up to the debit's. The debit itself, and its quantity,
//! are to count once in every group of a report that the debit touches. So each line says in which
//! reports it is the one to count: those by vendor, model and kind, or by some of them, are eight.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::Amount;
use super::interrupt::checked;
use super::margin::{Line, read_cost};

/// A line that counts in every report.
pub const ALWAYS: i32 = 255;

const VENDOR: usize = 1;
const MODEL: usize = 2;
const KIND: usize = 4;

/// The bit of the reports that are broken down by these.
pub fn report(vendor: bool, model: bool, kind: bool) -> i32 {
    let by = |asked: bool, bit| if asked { bit } else { 0 };
    1 << (by(vendor, VENDOR) + by(model, MODEL) + by(kind, KIND))
}

/// For each line of a movement the reports in which the movement counts with it: of the lines that
/// fall into one group, the first.
pub fn counted(lines: &[Line]) -> Vec<i32> {
    let mut groups: [HashSet<_>; 8] = Default::default();
    let mut reports = |line| {
        let Line {
            vendor,
            model,
            kind,
            ..
        }: &Line = line;
        let mut bits = 0;
        for (by, seen) in groups.iter_mut().enumerate() {
            let group = (
                (by & VENDOR != 0).then_some(vendor),
                (by & MODEL != 0).then_some(model),
                (by & KIND != 0).then_some(kind),
            );
            if seen.insert(group) {
                bits |= 1 << by;
            }
        }
        bits
    };
    checked(lines).map(&mut reports).collect()
}

/// The lines of a cost posting, read back. `None`: they are not what a posting has.
pub fn read(lines: &Json) -> Option<Vec<Line>> {
    let line = |line: &Json| {
        let text = |name: &str| line.get(name).and_then(Json::as_str).map(str::to_owned);
        let amount = |name: &str| Amount::parse(line.get(name)?.as_str()?);
        let cost = match line.get("cost") {
            None | Some(Json::Null) => None,
            Some(cost) => Some(read_cost(cost)?),
        };
        Some(Line {
            vendor: text("vendor"),
            model: text("model"),
            kind: text("kind"),
            credits: amount("credits")?,
            revenue: amount("revenue")?,
            cost,
        })
    };
    checked(lines.as_array()?).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::number::parse_decimal;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn line(vendor: u8, model: u8, kind: u8) -> Line {
        Line {
            vendor: (vendor > 0).then(|| vendor.to_string()),
            model: (model > 0).then(|| model.to_string()),
            kind: (kind > 0).then(|| kind.to_string()),
            credits: Amount::ZERO,
            revenue: Amount::ZERO,
            cost: parse_decimal("0.5").ok(),
        }
    }

    #[test]
    fn a_single_line_counts_always() {
        assert_eq!(counted(&[line(1, 1, 1)]), [ALWAYS]);
    }

    #[test]
    fn two_models_of_a_vendor_count_each_by_model_and_once_by_vendor() {
        let both = counted(&[line(1, 1, 1), line(1, 2, 1)]);
        let count = |bit: i32| both.iter().filter(|line| *line & bit != 0).count();
        assert_eq!(count(report(false, true, false)), 2);
        assert_eq!(count(report(true, true, true)), 2);
        assert_eq!(count(report(true, false, true)), 1);
        assert_eq!(count(report(false, false, false)), 1);
    }

    #[test]
    fn lines_are_read_back_as_they_were_written() {
        let lines = vec![
            line(1, 0, 2),
            Line {
                cost: None,
                ..line(0, 1, 0)
            },
        ];
        let json = Json::Array(lines.iter().map(Line::json).collect());
        assert_eq!(read(&json), Some(lines));
        assert_eq!(read(&serde_json::json!([{"credits": 1}])), None);
    }

    proptest! {
        #[test]
        fn a_movement_counts_once_in_every_group(
            parts in prop::collection::vec((0..3_u8, 0..3_u8, 0..3_u8), 1..9)
        ) {
            let lines: Vec<Line> = parts.iter().map(|(v, m, k)| line(*v, *m, *k)).collect();
            let counted = counted(&lines);
            for by in 0..8_usize {
                let asked = |bit: usize, value: &Option<String>| (by & bit != 0).then(|| value.clone());
                let group = |l: &Line| (asked(VENDOR, &l.vendor), asked(MODEL, &l.model), asked(KIND, &l.kind));
                let bit = report(by & VENDOR != 0, by & MODEL != 0, by & KIND != 0);
                let groups: HashSet<_> = lines.iter().map(group).collect();
                let counting: Vec<_> = lines.iter().zip(&counted).filter(|(_, c)| *c & bit != 0).map(|(l, _)| group(l)).collect();
                prop_assert_eq!(counting.len(), groups.len());
                prop_assert_eq!(counting.into_iter().collect::<HashSet<_>>(), groups);
            }
        }
    }
}
