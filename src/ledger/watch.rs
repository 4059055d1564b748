//! What a wallet is watched for: that its balance falls so low that somebody has to be told, or asked
//! for more.
//!
//! The balance that is compared is what can be spent on anything without going into debt: live and
//! unheld, less what is owed or pinned of the overdraft. A crossing is a fall from above to the
//! threshold or below; a fall that begins there already is none.

use uuid::Uuid;

use super::Amount;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The threshold of `balance.low`.
    pub alert: Option<Amount>,
    pub topup: Option<TopUp>,
    /// Events of this wallet so far: their ids ascend with it.
    pub events: u64,
}

/// When to ask for more credits, and for how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUp {
    pub threshold: Amount,
    pub credits: Amount,
    pub enabled: bool,
    /// The request that has not been answered yet, by a purchase or a failure.
    pub in_flight: Option<Uuid>,
}

/// What somebody has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    Low { threshold: Amount },
    Depleted,
    TopUp { threshold: Amount, credits: Amount },
}

impl Watch {
    /// What a change of the balance brings about. A top-up is asked for by any fall that ends at its
    /// threshold or below, unless one is in flight: what a failed one left undone is asked for again.
    pub fn signals(&self, before: Amount, after: Amount) -> Vec<Signal> {
        let mut signals = Vec::new();
        if after >= before {
            return signals;
        }
        let crossed = |threshold: Amount| before > threshold && after <= threshold;
        if let Some(threshold) = self.alert.filter(|threshold| crossed(*threshold)) {
            signals.push(Signal::Low { threshold });
        }
        if crossed(Amount::ZERO) {
            signals.push(Signal::Depleted);
        }
        if let Some(topup) = &self.topup
            && topup.enabled
            && topup.in_flight.is_none()
            && after <= topup.threshold
        {
            signals.push(Signal::TopUp {
                threshold: topup.threshold,
                credits: topup.credits,
            });
        }
        signals
    }

    /// A purchase has answered the request that was in flight.
    pub fn purchased(&mut self) {
        if let Some(topup) = &mut self.topup {
            topup.in_flight = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(units: i128) -> Amount {
        Amount::from_units(units)
    }

    #[test]
    fn once_on_crossing_and_again_after_recovery() {
        let mut watch = Watch {
            alert: Some(amount(20)),
            ..Watch::default()
        };
        let low = Signal::Low {
            threshold: amount(20),
        };
        let falls = |watch: &Watch, from, to| watch.signals(amount(from), amount(to));
        assert_eq!(falls(&watch, 30, 21), []);
        assert_eq!(falls(&watch, 21, 20), std::slice::from_ref(&low));
        assert_eq!(falls(&watch, 20, 19), []);
        assert_eq!(falls(&watch, 19, 50), []);
        assert_eq!(falls(&watch, 50, -5), [low, Signal::Depleted]);
        assert_eq!(falls(&watch, -5, -6), []);
        watch.alert = None;
        assert_eq!(falls(&watch, 50, 1), []);
        assert_eq!(falls(&watch, 1, 0), [Signal::Depleted]);
    }

    #[test]
    fn one_top_up_in_flight() {
        let mut watch = Watch {
            topup: Some(TopUp {
                threshold: amount(10),
                credits: amount(100),
                enabled: true,
                in_flight: None,
            }),
            ..Watch::default()
        };
        let asked = [Signal::TopUp {
            threshold: amount(10),
            credits: amount(100),
        }];
        let falls = |watch: &Watch, from, to| watch.signals(amount(from), amount(to));
        assert_eq!(falls(&watch, 30, 10), asked);
        // Asked for by the next spend where it was low already, but not by a grant.
        assert_eq!(falls(&watch, 8, 7), asked);
        assert_eq!(falls(&watch, 7, 9), []);
        let topup = |watch: &mut Watch| watch.topup.clone().unwrap();
        watch.topup = Some(TopUp {
            in_flight: Some(Uuid::nil()),
            ..topup(&mut watch)
        });
        assert_eq!(falls(&watch, 30, 5), []);
        watch.purchased();
        assert_eq!(falls(&watch, 30, 5), asked);
        watch.topup = Some(TopUp {
            enabled: false,
            ..topup(&mut watch)
        });
        assert_eq!(falls(&watch, 30, 5), []);
    }
}
