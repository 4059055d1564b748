//! Which of several prices counts at a moment.
//!
//! A customer's own price comes before that of his price list, and that before the price for all. Who is kept on
//! the prices of an earlier moment has the list's and those for all as they were then.

use crate::ledger::Moment;

/// One version of a price.
pub trait Version {
    fn effective_at(&self) -> Moment;
    fn is_withdrawn(&self) -> bool;
}

/// The versions that may count for a customer, each list the latest first.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a, V> {
    pub own: &'a [V],
    pub list: &'a [V],
    pub for_all: &'a [V],
    /// The moment whose prices he is kept on; `None`: those of the moment that is asked for.
    pub as_of: Option<Moment>,
}

impl<'a, V: Version> Layers<'a, V> {
    /// What counts at a moment. `now`: where no price had taken effect, the first one that has by now holds from
    /// the beginning.
    pub fn at(&self, at: Moment, now: Moment) -> Option<&'a V> {
        let shared = [self.list, self.for_all];
        let shared_at = self.as_of.unwrap_or(at);
        if let Some(own) = in_force(self.own, at) {
            return Some(own);
        }
        if shared
            .iter()
            .any(|versions| has_started(versions, shared_at))
        {
            return shared
                .into_iter()
                .find_map(|versions| in_force(versions, shared_at));
        }
        let own = if has_started(self.own, at) {
            &[][..]
        } else {
            self.own
        };
        let layers = [own, self.list, self.for_all];
        let first = layers.iter().flat_map(|versions| started(versions, now));
        let first = first.map(Version::effective_at).min()?;
        layers
            .into_iter()
            .find_map(|versions| in_force(versions, first))
    }
}

/// The latest version that counts at this moment, unless it withdraws the price.
fn in_force<V: Version>(versions: &[V], at: Moment) -> Option<&V> {
    started(versions, at)
        .next()
        .filter(|latest| !latest.is_withdrawn())
}

fn has_started<V: Version>(versions: &[V], at: Moment) -> bool {
    started(versions, at).next().is_some()
}

/// The versions that have taken effect by this moment.
fn started<V: Version>(versions: &[V], at: Moment) -> impl Iterator<Item = &V> {
    versions
        .iter()
        .filter(move |version| version.effective_at() <= at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From when, withdrawn, and a number to know it by.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Set(i64, bool, usize);

    impl Version for Set {
        fn effective_at(&self) -> Moment {
            Moment(self.0)
        }

        fn is_withdrawn(&self) -> bool {
            self.1
        }
    }

    fn layer() -> impl Strategy<Value = Vec<(i64, bool)>> {
        prop::collection::vec((0..12_i64, prop::bool::weighted(0.3)), 0..4)
    }

    /// The last in a list of what was set up to a moment, in the order in which it was set.
    fn last(set: &[Set], at: i64) -> Option<Set> {
        let mut last: Option<Set> = None;
        for one in set {
            if one.0 <= at && last.is_none_or(|last| last.0 <= one.0) {
                last = Some(*one);
            }
        }
        last
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        /// Where nothing that all may have had begun yet, the first price is set back to the beginning of time; then
        /// own comes before list before all, each by what was set last.
        #[test]
        fn precedence_is_what_it_says(
            own in layer(), list in layer(), for_all in layer(), at in 0..12_i64, as_of in prop::option::of(0..12_i64), more in 0..4_i64,
        ) {
            let now = at + more;
            let as_of = as_of.map(|as_of| as_of.min(at));
            let mut number = 0;
            let mut numbered = |layer: Vec<(i64, bool)>| {
                let set = |(at, withdrawn)| { number += 1; Set(at, withdrawn, number) };
                layer.into_iter().map(set).collect::<Vec<_>>()
            };
            let layers = [numbered(own), numbered(list), numbered(for_all)];
            let latest_first = |set: &Vec<Set>| {
                let mut set = set.clone();
                set.sort_by_key(|one| (-one.0, usize::MAX - one.2));
                set
            };
            let sorted = layers.clone().map(|set| latest_first(&set));
            let found = Layers {
                own: &sorted[0],
                list: &sorted[1],
                for_all: &sorted[2],
                as_of: as_of.map(Moment),
            }
            .at(Moment(at), Moment(now));

            let times = [at, as_of.unwrap_or(at), as_of.unwrap_or(at)];
            let mut naive = layers;
            let none_shared = (1..3).all(|n| last(&naive[n], times[n]).is_none());
            let own_begun = last(&naive[0], at).is_some();
            if none_shared {
                let candidates = || (0..3).filter(|n| *n > 0 || !own_begun);
                let first = candidates().flat_map(|n| naive[n].iter()).map(|one| one.0).filter(|from| *from <= now).min();
                for n in candidates().collect::<Vec<_>>() {
                    for one in naive[n].iter_mut().filter(|one| Some(one.0) == first) {
                        one.0 = i64::MIN;
                    }
                }
            }
            let mut expected = None;
            for n in 0..3 {
                let latest = last(&naive[n], times[n]).filter(|latest| !latest.1);
                expected = expected.or(latest.map(|latest| latest.2));
            }
            prop_assert_eq!(found.map(|found| found.2), expected);
        }
    }
}
