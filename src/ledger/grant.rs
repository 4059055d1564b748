//! A grant as a wallet keeps it: the terms that decide when it burns, and what is left of it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Amount, Moment};

/// Where the credits of a grant come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Given by a plan, period by period.
    Included,
    /// A gift.
    Promotional,
    /// Bought.
    Purchased,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Included => "included",
            Kind::Promotional => "promotional",
            Kind::Purchased => "purchased",
        }
    }

    /// Gifts burn first, what was bought last.
    const fn burn_rank(self) -> u8 {
        match self {
            Kind::Promotional => 0,
            Kind::Included => 1,
            Kind::Purchased => 2,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Kind, UnknownKind> {
        match text {
            "included" => Ok(Kind::Included),
            "promotional" => Ok(Kind::Promotional),
            "purchased" => Ok(Kind::Purchased),
            _ => Err(UnknownKind),
        }
    }
}

/// An open grant: credits remain in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub id: Uuid,
    pub kind: Kind,
    /// Lower burns first.
    pub priority: i32,
    /// When it starts.
    pub effective_at: Moment,
    /// When it ends: it is live before this moment. `None`: never.
    pub expires_at: Option<Moment>,
    /// The actions it may pay for (`image.*`, `upscale`); `None` pays for all.
    pub applies_to: Option<Vec<String>>,
    /// Revoked while holds still pin a part of it: what they return is taken too.
    pub revoked: bool,
    /// Credits not spent, held ones included.
    pub remaining: Amount,
    /// Credits that open authorizations pin.
    pub held: Amount,
    /// Unheld credits that may roll over once the next period is paid for: they outlive the grant's end,
    /// and nothing spends them.
    pub waiting: Amount,
    /// What was paid for the remaining credits and is not earned yet.
    pub deferred: Amount,
}

impl Grant {
    /// Credits no authorization pins.
    pub fn unheld(&self) -> Amount {
        self.remaining - self.held
    }

    /// Unheld credits that its end takes away.
    pub fn perishable(&self) -> Amount {
        self.unheld() - self.waiting
    }

    /// Whether it has begun.
    pub fn started(&self, now: Moment) -> bool {
        self.effective_at <= now
    }

    /// Whether it has ended.
    pub fn ended(&self, now: Moment) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether its unheld credits may be spent now.
    pub fn live(&self, now: Moment) -> bool {
        self.started(now) && !self.ended(now) && !self.revoked
    }

    /// Whether it may pay for this action. `None` stands for no action in particular, and is always true.
    pub fn pays_for(&self, action: Option<&str>) -> bool {
        match (&self.applies_to, action) {
            (None, _) | (_, None) => true,
            (Some(patterns), Some(action)) => patterns.iter().any(|p| matches(p, action)),
        }
    }

    /// Takes credits out with their share of what is deferred, which is returned: the movement that
    /// empties the grant takes all of it.
    pub fn take(&mut self, credits: Amount) -> Amount {
        let revenue = self.deferred.share(credits, self.remaining);
        self.remaining -= credits;
        self.deferred -= revenue;
        self.waiting = self.waiting.min(self.unheld());
        revenue
    }

    /// The grant that these credits of it become in another wallet: new, on the same terms.
    pub fn moved(&self, id: Uuid, now: Moment, credits: Amount, deferred: Amount) -> Grant {
        Grant {
            id,
            effective_at: now,
            revoked: false,
            remaining: credits,
            held: Amount::ZERO,
            waiting: Amount::ZERO,
            deferred,
            ..self.clone()
        }
    }

    /// The order in which grants are spent: priority, then the earliest end, then grants limited to
    /// some actions, then gifts before included before bought, then the oldest, then the id.
    pub fn burn_order(&self, other: &Grant) -> Ordering {
        let end = |g: &Grant| g.expires_at.unwrap_or(Moment(i64::MAX));
        (self.priority.cmp(&other.priority))
            .then_with(|| end(self).cmp(&end(other)))
            .then_with(|| self.applies_to.is_none().cmp(&other.applies_to.is_none()))
            .then_with(|| self.kind.burn_rank().cmp(&other.kind.burn_rank()))
            .then_with(|| self.effective_at.cmp(&other.effective_at))
            .then_with(|| self.id.cmp(&other.id))
    }
}

/// Whether the pattern (a whole action, or a beginning and `*`) matches this action.
pub fn matches(pattern: &str, action: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => action.starts_with(beginning),
        None => pattern == action,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(matches("image.*", "image.upscale"));
        assert!(matches("image.*", "image."));
        assert!(!matches("image.*", "image"));
        assert!(!matches("image.*", "video.image.x"));
        assert!(matches("upscale", "upscale"));
        assert!(!matches("upscale", "upscale.4k"));
        assert!(matches("*", "anything"));
    }
}
