//! What wallets owe, debt by debt: what ledger rows owe, and who pays it.

use uuid::Uuid;

use super::ledger::Entry;
use super::open_wallet::{DebtReduction, OpenWallet};
use super::statement::{Query, Statement, Store, TEXT};
use super::table::{insert, query, sql, table};
use super::{grants, ledger};
use crate::errors::{self, Result};
use crate::ledger::refund::{GrantPayment, RevokedDebt, RevokedGrant};
use crate::ledger::wallet::{Debt, Part, PendingEntry};
use crate::ledger::{Amount, Wallet};
use crate::sql_types::value;

table! {
    /// What a ledger row owes.
    struct OpenDebt {
        customer: String as text,
        asset: String as text,
        seq: u64 as bigint,
        id: Uuid as uuid,
        action: Option<String> as text,
        owed: Amount as credits,
        /// Of a revocation's debt: what refunds gave back.
        returned: Amount as credits,
    }
}

static OWE: Statement = insert!("open_debts", OpenDebt);

static DEBTS: Statement = Statement {
    sql: sql!(
        "SELECT ",
        OpenDebt::COLUMNS,
        " FROM credyt.open_debts d WHERE d.customer = $1 AND d.asset = $2 AND d.owed > 0 ORDER BY d.seq"
    ),
    args: &[TEXT, TEXT],
};

query! {
    DebtOf(customer: text, asset: text, seq: bigint):
    "SELECT ", OpenDebt::COLUMNS, " FROM credyt.open_debts d
     WHERE d.customer = :customer AND d.asset = :asset AND d.seq = :seq"
}

query! {
    Pay(customer: text, asset: text, debt: uuid, credits: credits, returned: credits):
    "UPDATE credyt.open_debts SET owed = owed - :credits, returned = returned + :returned
     WHERE customer = :customer AND asset = :asset AND id = :debt"
}

/// A revocation's stay: what refunds give back of them counts.
static FORGET_PAID: Statement = Statement {
    sql: "DELETE FROM credyt.open_debts
          WHERE customer = $1 AND asset = $2 AND owed = 0 AND action IS NOT NULL",
    args: &[TEXT, TEXT],
};

/// What the wallet owes, debt by debt, the oldest first.
pub(super) fn debts_of(
    store: &Store,
    customer: &str,
    asset: &str,
    wallet: &Wallet,
) -> Result<Vec<Debt>> {
    if wallet.owed.is_zero() {
        return Ok(Vec::new());
    }
    let rows = DEBTS.run(store, &[value::text(customer), value::text(asset)])?;
    let debt = |row: OpenDebt| Debt {
        id: row.id,
        action: row.action,
        owed: row.owed,
    };
    rows.iter().map(|row| row.read().map(debt)).collect()
}

impl OpenWallet {
    /// Pays what live credits can pay of what is owed. Returns what they paid.
    pub(super) fn settle(&mut self, store: &Store) -> Result<Vec<PendingEntry>> {
        if !self.wallet.may_settle(self.now) {
            return Ok(Vec::new());
        }
        let mut debts = self.take_debts(store)?;
        let paid = self.wallet.settle(self.now, &mut debts);
        self.debts = Some(debts);
        Ok(paid)
    }

    pub(super) fn take_debts(&mut self, store: &Store) -> Result<Vec<Debt>> {
        match self.debts.take() {
            Some(debts) => Ok(debts),
            None => debts_of(store, &self.customer, &self.asset.name, &self.wallet),
        }
    }

    /// How much of what this ledger row owes is not paid yet.
    pub fn owed_by(&mut self, store: &Store, id: Uuid) -> Result<Amount> {
        let debts = self.take_debts(store)?;
        let owed = debts
            .iter()
            .filter(|debt| debt.id == id)
            .map(|debt| debt.owed);
        let owed = owed.sum();
        self.debts = Some(debts);
        Ok(owed)
    }

    /// Lets a debit owe so much less, at most what it owes. Written with the next movement.
    pub fn lower_debt(&mut self, store: &Store, id: Uuid, credits: Amount) -> Result<()> {
        self.lower(store, id, credits, Amount::ZERO)
    }

    /// A refund takes credits off the debt of a revocation (`lowers`), or gives them back to who had paid
    /// it. Written with the next movement.
    pub fn return_debt(
        &mut self,
        store: &Store,
        id: Uuid,
        credits: Amount,
        lowers: bool,
    ) -> Result<()> {
        let owed = if lowers { credits } else { Amount::ZERO };
        self.lower(store, id, owed, credits)
    }

    fn lower(&mut self, store: &Store, id: Uuid, owed: Amount, returned: Amount) -> Result<()> {
        let mut debts = self.take_debts(store)?;
        for debt in debts.iter_mut().filter(|debt| debt.id == id) {
            debt.owed -= owed;
        }
        self.wallet.owed -= owed;
        debts.retain(|debt| debt.owed.is_positive());
        self.debts = Some(debts);
        if owed.is_positive() || returned.is_positive() {
            self.lowered.push(DebtReduction { id, owed, returned });
        }
        Ok(())
    }

    /// What was revoked of a grant after it was spent, as a refund needs it.
    pub fn revoked(&self, store: &Store, grant: Uuid) -> Result<RevokedGrant> {
        let mut revoked = RevokedGrant::default();
        for row in ledger::referring_to(store, &self.customer, grant)? {
            if row.kind != "revocation" {
                continue;
            }
            let owed = row.was_owed()?;
            let earned = |part: &Part| part.grant.is_some() && part.revenue.is_positive();
            revoked.reclaimed |= owed.is_positive() || row.parts()?.iter().any(earned);
            if owed.is_zero() {
                continue;
            }
            let query = DebtOf {
                customer: &self.customer,
                asset: &self.asset.name,
                seq: row.seq,
            };
            let debt: Option<OpenDebt> = query.run(store)?.read_first()?;
            let debt =
                debt.ok_or_else(|| errors::corrupted("the debts", "a revocation's is not there"))?;
            let mut settled = Vec::new();
            for settlement in ledger::referring_to(store, &self.customer, row.id)? {
                settled.extend(settlement.parts()?.into_iter().filter_map(GrantPayment::of));
            }
            revoked.debts.push(RevokedDebt::new(
                row.id,
                owed,
                debt.owed,
                debt.returned,
                settled,
            ));
        }
        if revoked.reclaimed {
            (revoked.spent, revoked.earned) = grants::spent(store, &self.customer, grant)?;
        }
        Ok(revoked)
    }

    /// Writes down what a new ledger row owes.
    pub(super) fn owe(&self, store: &Store, entry: &Entry) -> Result<()> {
        if entry.owed.is_zero() {
            return Ok(());
        }
        let row = OpenDebt {
            customer: self.customer.clone(),
            asset: self.asset.name.clone(),
            seq: entry.seq,
            id: entry.id,
            action: entry.action.clone(),
            owed: entry.owed,
            returned: Amount::ZERO,
        };
        OWE.run(store, &row.values()?)?;
        Ok(())
    }

    pub(super) fn pay(
        &self,
        store: &Store,
        debt: Uuid,
        credits: Amount,
        returned: Amount,
    ) -> Result<()> {
        let query = Pay {
            customer: &self.customer,
            asset: &self.asset.name,
            debt,
            credits,
            returned,
        };
        query.run(store)?;
        Ok(())
    }

    pub(super) fn forget_paid(&self, store: &Store) -> Result<()> {
        FORGET_PAID.run(
            store,
            &[value::text(&self.customer), value::text(&self.asset.name)],
        )?;
        Ok(())
    }
}
