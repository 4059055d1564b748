//! Why some usage has no cost, and what its counts are good for all the same.

use std::fmt;

/// Why some usage has no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    VendorUnknown,
    ModelMissing,
    ModelUnknown,
    FlavorUnknown,
    UsageUnreadable,
    UsageMissing,
    UsagePartial,
    UsageInvalid,
    UnitUnpriced,
    TierUnknown,
    RateUnclear,
    CurrencyForeign,
    CostTooLarge,
}

impl Reason {
    /// The code that programs compare; it never changes.
    pub fn code(self) -> &'static str {
        match self {
            Reason::VendorUnknown => "vendor_unknown",
            Reason::ModelMissing => "model_missing",
            Reason::ModelUnknown => "model_unknown",
            Reason::FlavorUnknown => "api_flavor_unknown",
            Reason::UsageUnreadable => "usage_unreadable",
            Reason::UsageMissing => "usage_missing",
            Reason::UsagePartial => "usage_partial",
            Reason::UsageInvalid => "usage_invalid",
            Reason::UnitUnpriced => "unit_unpriced",
            Reason::TierUnknown => "tier_unknown",
            Reason::RateUnclear => "rate_unclear",
            Reason::CurrencyForeign => "currency_foreign",
            Reason::CostTooLarge => "cost_too_large",
        }
    }
}

/// A reason with what it is about, as a plain sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncosted {
    pub reason: Reason,
    pub says: String,
}

impl Uncosted {
    pub fn new(reason: Reason, says: impl fmt::Display) -> Uncosted {
        Uncosted {
            reason,
            says: says.to_string(),
        }
    }
}

/// As it is stored and shown: `model_unknown: no rate is known for model b200 of cloud`.
impl fmt::Display for Uncosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.says)
    }
}

/// What the counts in an answer are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// All of them are known.
    Whole,
    /// Some are known, others are not: the input, where only the end of a stream was given.
    Partial,
    /// There are none, or no reader understands them.
    Nothing,
    /// They are no numbers, or contradict each other.
    Invalid,
}
