//! What is remembered of prices with an asset.

use std::collections::HashMap;
use std::rc::Rc;

use super::table::table;
use crate::ledger::Moment;
use crate::ledger::price::Price;
use crate::ledger::price::book;

/// One version of a price; `price` is `None` where it was withdrawn.
#[derive(Clone)]
pub struct Version {
    pub version: i32,
    pub(super) effective_at: Moment,
    pub price: Option<Rc<Price>>,
}

impl book::Version for Version {
    fn effective_at(&self) -> Moment {
        self.effective_at
    }

    fn is_withdrawn(&self) -> bool {
        self.price.is_none()
    }
}

/// The versions of one action's price, the latest first: one customer's own, a price list's, or those for all.
pub type Versions = Rc<[Version]>;

/// The prices of one action.
pub(super) struct PriceBook {
    pub(super) for_all: Versions,
    /// Whether any customer has a price of their own.
    pub(super) has_own: bool,
    pub(super) own: HashMap<String, Versions>,
    /// By price list.
    pub(super) lists: HashMap<String, Versions>,
}

table! {
    /// From `effective_at` on a customer has the prices of this list, and what prices there were at `as_of`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Assignment {
        customer: String as text,
        asset: String as text,
        version: i32 as int,
        /// `None`: no list but that for all.
        price_list: Option<String> as text,
        /// `None`: the prices of now.
        as_of: Option<Moment> as timestamptz,
        effective_at: Moment as timestamptz,
    }
}

/// A customer's assignments in one asset, the latest first.
pub type Assignments = Rc<[Assignment]>;

/// What is remembered with an asset.
#[derive(Default)]
pub(super) struct PriceListCache {
    /// Whether any customer has one. `None`: not known.
    pub(super) any: Option<bool>,
    pub(super) of: HashMap<String, Assignments>,
}
