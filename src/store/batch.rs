//! Wallets that are opened together and written back together, in a few statements however many there are.
//!
//! Wallets are locked in the order of the bytes of customer and asset, as every call locks several.
//! Under READ COMMITTED nothing else can change them until the transaction ends, so what is read after
//! the locks (keys, closed periods) stays as it is. The statements go through arrays in their order,
//! row by row through an index: nothing in them depends on what the planner knows of the tables.

use std::collections::{BTreeSet, HashMap};

use super::assets;
use super::cluster;
use super::ledger::{NewRows, TakenKey};
use super::nested;
use super::open_wallet::{Found, OpenWallet, WalletRow};
use super::periods;
use super::statement::{Columns, Statement, Store, TEXT, TEXTS};
use super::table::{insert_all, sql, table};
use super::wallets;
use crate::errors::{self, Result};
use crate::ledger::Moment;
use crate::ledger::interrupt::checked;
use crate::sql_types::field::Nth;
use crate::sql_types::value;

static LOCK_ALL: Statement = Statement {
    sql: sql!(
        "SELECT r.nth, l.*
          FROM unnest($1, $2) WITH ORDINALITY AS r (customer, asset, nth)
          CROSS JOIN LATERAL (SELECT ",
        Found::COLUMNS,
        "                     FROM credyt.wallets w WHERE w.customer = r.customer AND w.asset = r.asset
                              FOR NO KEY UPDATE) l"
    ),
    args: &[TEXTS, TEXTS],
};

static MISSING: Statement = Statement {
    sql: "SELECT DISTINCT r.asset FROM unnest($1, $2) AS r (customer, asset)
          WHERE (SELECT w.asset FROM credyt.wallets w
                 WHERE w.customer = r.customer AND w.asset = r.asset) IS NULL
          ORDER BY r.asset",
    args: &[TEXTS, TEXTS],
};

/// Those that are there are locked as they come, so that the order is kept.
static OPEN_ALL: Statement = insert_all!(
    "wallets AS w",
    WalletRow,
    " ON CONFLICT (customer, asset) DO UPDATE SET status = w.status WHERE false"
);

table! {
    /// A wallet that is written back; its state is packed.
    struct WrittenWallet {
        customer: String as text,
        asset: String as text,
        state: Vec<u8> as bytea,
        next_due_at: Option<Moment> as timestamptz,
    }
}

static WRITE_ALL: Statement = Statement {
    sql: sql!(
        "UPDATE credyt.wallets w SET state = r.state::credyt.wallet, next_due_at = r.next_due_at
         FROM unnest(",
        WrittenWallet::PLACES,
        ") AS r (",
        WrittenWallet::COLUMNS,
        ") WHERE w.customer = r.customer AND w.asset = r.asset"
    ),
    args: WrittenWallet::LISTS,
};

/// Whose wallets, each in which asset, in the order in which they are locked.
pub type WalletKeys<'a> = BTreeSet<(&'a str, &'a str)>;

/// Wallets that are open together.
pub struct Batch {
    /// In their order, each with the number of its last row when it was opened.
    wallets: Vec<(OpenWallet, u64)>,
    /// What has been booked later, in this order.
    rows: NewRows,
}

impl Batch {
    /// Opens those of these wallets that are there.
    pub fn open(store: &Store, wanted: &WalletKeys) -> Result<Batch> {
        if cluster::is_distributed() {
            // Citus locks rows of one customer at a time.
            return Batch::one_by_one(wanted, |customer, asset| {
                wallets::find(store, customer, asset)
            });
        }
        let locked = LOCK_ALL.run(store, &named(wanted).args())?;
        // Taken after the locks, so that time in a wallet never runs backwards.
        let now = assets::now(store)?;
        let names: Vec<(&str, &str)> = wanted.iter().copied().collect();
        let mut wallets = Vec::with_capacity(names.len());
        for row in locked.iter() {
            let (Nth(nth), found) = row.read()?;
            if let Some((customer, asset)) = names.get(nth) {
                let open = wallets::load(store, customer, asset, found, now)?;
                let seq = open.wallet.seq;
                wallets.push((open, seq));
            }
        }
        Ok(Batch {
            wallets,
            rows: NewRows::default(),
        })
    }

    /// The same; empty ones are made of those that are not there, in assets that are.
    pub fn open_or_create(store: &Store, wanted: &WalletKeys) -> Result<Batch> {
        if cluster::is_distributed() {
            return Batch::one_by_one(wanted, |customer, asset| {
                match assets::asset(store, asset) {
                    Ok(_) => wallets::open_or_create(store, customer, asset).map(Some),
                    Err(_) => Ok(None),
                }
            });
        }
        let missing = MISSING.run(store, &named(wanted).args())?;
        let mut first_open = HashMap::new();
        for row in missing.iter() {
            let asset: String = row.read()?;
            if assets::asset(store, &asset).is_ok() {
                // Before the time is taken, so that no close overlooks these wallets.
                let first = periods::share(store, &asset)?;
                first_open.insert(asset, first);
            }
        }
        if !first_open.is_empty() {
            let now = assets::now(store)?;
            let mut columns = Columns::new(WalletRow::ELEMENTS);
            for (customer, asset) in wanted {
                if let Ok(asset) = assets::asset(store, asset) {
                    let first = first_open.get(&asset.name).copied().flatten();
                    let now = first.map_or(now, |first| first.max(now));
                    columns.push(WalletRow::new(customer, &asset.name, now).elements()?);
                }
            }
            OPEN_ALL.run(store, &columns.args())?;
        }
        Batch::open(store, wanted)
    }

    fn one_by_one(
        wanted: &WalletKeys,
        open: impl Fn(&str, &str) -> Result<Option<OpenWallet>>,
    ) -> Result<Batch> {
        let mut wallets = Vec::with_capacity(wanted.len());
        for (customer, asset) in checked(wanted) {
            if let Some(open) = open(customer, asset)? {
                let seq = open.wallet.seq;
                wallets.push((open, seq));
            }
        }
        let rows = NewRows::default();
        Ok(Batch { wallets, rows })
    }

    fn place(&self, customer: &str, asset: &str) -> Option<usize> {
        let name = |open: &OpenWallet| {
            let by_customer = open.customer.as_str().cmp(customer);
            by_customer.then_with(|| open.asset.name.as_str().cmp(asset))
        };
        self.wallets.binary_search_by(|(open, _)| name(open)).ok()
    }

    /// One of the open wallets.
    pub fn find(&self, customer: &str, asset: &str) -> Option<&OpenWallet> {
        let place = self.place(customer, asset)?;
        self.wallets.get(place).map(|(open, _)| open)
    }

    /// One of the open wallets, and where its movements are booked later; or WC002, or WC009.
    pub fn wallet(
        &mut self,
        store: &Store,
        customer: &str,
        asset: &str,
    ) -> Result<(&mut OpenWallet, &mut NewRows)> {
        let place = self.place(customer, asset);
        match place.and_then(|place| self.wallets.get_mut(place)) {
            Some((open, _)) => Ok((open, &mut self.rows)),
            None => Err(wallets::missing(store, customer, asset)),
        }
    }

    /// Inserts the rows that have been booked so far, for a call that reads them. No key is among them.
    pub fn insert_rows(&mut self, store: &Store) -> Result<()> {
        self.rows.write(store)
    }

    /// Writes what has been booked later, and the wallets of it. Not where a key of it is taken: then the call has to
    /// fail.
    pub fn write(mut self, store: &Store) -> Result<Option<TakenKey>> {
        if let Some(taken) = self.rows.insert_new(store)? {
            return Ok(Some(taken));
        }
        let one_by_one = cluster::is_distributed();
        let mut columns = Columns::new(WrittenWallet::ELEMENTS);
        for (open, seq) in &mut self.wallets {
            if open.wallet.seq != *seq {
                let state = open.state()?;
                if one_by_one {
                    open.write(store, &state)?;
                    continue;
                }
                open.check_unwritten(store)?;
                nested::wrote(&store.call, &open.customer, &open.asset.name);
                let row = WrittenWallet {
                    customer: open.customer.clone(),
                    asset: open.asset.name.clone(),
                    state,
                    next_due_at: open.due_in_row(),
                };
                columns.push(row.elements()?);
            }
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let written = WRITE_ALL.run(store, &columns.args())?.count();
        if written < columns.count() {
            return Err(errors::corrupted("the wallets", "one of them is lost"));
        }
        Ok(None)
    }
}

fn named(wanted: &WalletKeys) -> Columns {
    let mut columns = Columns::new(&[TEXT, TEXT]);
    for (customer, asset) in wanted {
        columns.push(vec![value::text(customer), value::text(asset)]);
    }
    columns
}
