//! The text form of a wallet: JSON that a person can read and a dump can carry.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::wallet::Corrupt;
use super::{Amount, Grant, Kind, Moment, Wallet};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WalletText {
    version: u8,
    changed_at: String,
    seq: u64,
    owed: String,
    held_overdraft: String,
    next_hold_end: Option<String>,
    next_renewal: Option<String>,
    grants: Vec<GrantText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantText {
    id: Uuid,
    kind: Kind,
    priority: i32,
    effective_at: String,
    expires_at: Option<String>,
    applies_to: Option<Vec<String>>,
    revoked: bool,
    remaining: String,
    held: String,
    deferred: String,
}

/// The JSON text of a wallet; amounts are strings, moments RFC 3339 in UTC.
pub fn print(wallet: &Wallet) -> String {
    let text = WalletText {
        version: 1,
        changed_at: wallet.changed_at.to_string(),
        seq: wallet.seq,
        owed: wallet.owed.to_string(),
        held_overdraft: wallet.held_overdraft.to_string(),
        next_hold_end: wallet.next_hold_end.map(|at| at.to_string()),
        next_renewal: wallet.next_renewal.map(|at| at.to_string()),
        grants: wallet
            .grants()
            .iter()
            .map(|grant| GrantText {
                id: grant.id,
                kind: grant.kind,
                priority: grant.priority,
                effective_at: grant.effective_at.to_string(),
                expires_at: grant.expires_at.map(|at| at.to_string()),
                applies_to: grant.applies_to.clone(),
                revoked: grant.revoked,
                remaining: grant.remaining.to_string(),
                held: grant.held.to_string(),
                deferred: grant.deferred.to_string(),
            })
            .collect(),
    };
    // Strings, integers and lists: nothing in it can fail to be written.
    serde_json::to_string(&text).unwrap_or_default()
}

/// The wallet of a JSON text, or why it is none.
pub fn parse(text: &str) -> Result<Wallet, String> {
    let text = objects(text)?;
    let text: WalletText = serde_json::from_value(text).map_err(|error| error.to_string())?;
    if text.version != 1 {
        return Err(format!("version {} is not known", text.version));
    }
    let mut grants = Vec::with_capacity(text.grants.len());
    for grant in text.grants {
        grants.push(Grant {
            id: grant.id,
            kind: grant.kind,
            priority: grant.priority,
            effective_at: moment(&grant.effective_at)?,
            expires_at: grant.expires_at.as_deref().map(moment).transpose()?,
            applies_to: grant.applies_to,
            revoked: grant.revoked,
            remaining: amount(&grant.remaining)?,
            held: amount(&grant.held)?,
            deferred: amount(&grant.deferred)?,
        });
    }
    let mut ids: Vec<Uuid> = grants.iter().map(|grant| grant.id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a grant is there twice".to_owned());
    }
    let next_hold_end = text.next_hold_end.as_deref().map(moment).transpose()?;
    let next_renewal = text.next_renewal.as_deref().map(moment).transpose()?;
    Wallet::from_parts(
        moment(&text.changed_at)?,
        text.seq,
        amount(&text.owed)?,
        amount(&text.held_overdraft)?,
        next_hold_end,
        next_renewal,
        grants,
    )
    .map_err(|Corrupt(law)| law.to_owned())
}

/// The document, where it has the right shape: without this a list would do for an object.
fn objects(text: &str) -> Result<Value, String> {
    let text: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match text.get("grants").and_then(Value::as_array) {
        _ if !text.is_object() => Err("it is no JSON object".to_owned()),
        Some(grants) if grants.iter().all(Value::is_object) => Ok(text),
        _ => Err("grants is no list of objects".to_owned()),
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text).ok_or_else(|| format!("{text:?} is no RFC 3339 time"))
}

fn amount(text: &str) -> Result<Amount, String> {
    Amount::parse(text).ok_or_else(|| format!("{text:?} is no amount with at most ten decimals"))
}
