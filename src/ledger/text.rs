//! The text form of a wallet: JSON that a person can read and a dump can carry.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::alerts::{Alert, Refill, RequestedTopUps, SentNotice, TopUp};
use super::limit::{Start, Use};
use super::month::{Count, MonthUse, MonthUses};
use super::number::parse_decimal;
use super::wallet::Corrupt;
use super::{AlertState, Amount, Grant, Kind, Limit, Moment, Wallet};

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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<LimitText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alerts: Vec<AlertText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    month_uses: Vec<MonthUseText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refilled: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topup: Option<TopUpText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    noticed: Vec<SentNoticeText>,
    #[serde(default, skip_serializing_if = "is_zero")]
    events: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    closed: bool,
    grants: Vec<GrantText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitText {
    scope: String,
    every: String,
    counts: String,
    cap: String,
    warn_at: String,
    #[serde(default, skip_serializing_if = "is_false")]
    required: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<StartText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spilled: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    uses: Vec<UseText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartText {
    at: String,
    after: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UseText {
    scope: String,
    since: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    after: u64,
    used: String,
    #[serde(default, skip_serializing_if = "is_false")]
    warned: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    reached: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    unopened: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertText {
    threshold: String,
    unit: String,
    enabled: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MonthUseText {
    action: String,
    since: String,
    used: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopUpText {
    threshold: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credits: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to_balance: Option<String>,
    enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_credits: Option<String>,
    every: String,
    cooldown_seconds: i32,
    in_flight: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waits_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<RequestedTopUpsText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SentNoticeText {
    grant: Uuid,
    days: i32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestedTopUpsText {
    until: String,
    credits: String,
    capped: bool,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<String>,
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
        limits: wallet.limits.iter().map(limit_text).collect(),
        month_uses: wallet.month_uses.iter().map(month_use_text).collect(),
        alerts: wallet.alert_state.alerts.iter().map(alert_text).collect(),
        refilled: (!wallet.alert_state.refilled.is_zero())
            .then(|| wallet.alert_state.refilled.to_string()),
        topup: wallet.alert_state.topup.as_ref().map(topup_text),
        noticed: (wallet.alert_state.noticed.iter())
            .map(|&SentNotice { grant, days }| SentNoticeText { grant, days })
            .collect(),
        events: wallet.alert_state.events,
        closed: wallet.closed,
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
                waiting: (!grant.waiting.is_zero()).then(|| grant.waiting.to_string()),
                deferred: grant.deferred.to_string(),
            })
            .collect(),
    };
    // Strings, integers and lists: nothing in it can fail to be written.
    serde_json::to_string(&text).unwrap_or_default()
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn limit_text(limit: &Limit) -> LimitText {
    LimitText {
        scope: limit.scope.clone(),
        every: limit.every.to_string(),
        counts: limit.counts.to_string(),
        cap: limit.cap.to_string(),
        warn_at: limit.warn_at.to_string(),
        required: limit.required,
        start: limit.start.map(|start| StartText {
            at: start.at.to_string(),
            after: start.after,
        }),
        spilled: limit.spilled.map(|moment| moment.to_string()),
        uses: limit.uses.iter().map(use_text).collect(),
    }
}

fn use_text(one: &Use) -> UseText {
    UseText {
        scope: one.scope.clone(),
        since: one.since.to_string(),
        after: one.after,
        used: one.used.to_string(),
        warned: one.warned,
        reached: one.reached,
        unopened: one.unopened,
    }
}

fn alert_text(alert: &Alert) -> AlertText {
    AlertText {
        threshold: alert.threshold.to_string(),
        unit: alert.unit.to_string(),
        enabled: alert.enabled,
    }
}

fn month_use_text(one: &MonthUse) -> MonthUseText {
    MonthUseText {
        action: one.action.clone(),
        since: one.since.to_string(),
        used: one.used.decimal().to_string(),
    }
}

fn month_use(text: MonthUseText) -> Result<MonthUse, String> {
    let used = parse_decimal(&text.used)?;
    Ok(MonthUse {
        action: text.action,
        since: moment(&text.since)?,
        used: Count::of(used).ok_or_else(|| format!("{used} is no count of a month"))?,
    })
}

fn topup_text(topup: &TopUp) -> TopUpText {
    let (credits, to_balance) = match topup.refill {
        Refill::Credits(credits) => (Some(credits.to_string()), None),
        Refill::ToBalance(target) => (None, Some(target.to_string())),
    };
    TopUpText {
        threshold: topup.threshold.to_string(),
        credits,
        to_balance,
        enabled: topup.enabled,
        max_credits: topup.max_credits.map(|max| max.to_string()),
        every: topup.every.to_string(),
        cooldown_seconds: topup.cooldown_seconds,
        in_flight: topup.in_flight,
        waits_until: topup.waits_until.map(|until| until.to_string()),
        asked: topup.asked.map(|asked| RequestedTopUpsText {
            until: asked.until.to_string(),
            credits: asked.credits.to_string(),
            capped: asked.capped,
        }),
    }
}

fn alert(text: &AlertText) -> Result<Alert, String> {
    Ok(Alert {
        threshold: not_negative(&text.threshold)?,
        unit: (text.unit.parse()).map_err(|_| format!("{:?} is no unit", text.unit))?,
        enabled: text.enabled,
    })
}

fn topup(text: &TopUpText) -> Result<TopUp, String> {
    let refill = match (&text.credits, &text.to_balance) {
        (Some(credits), None) => Refill::Credits(not_negative(credits)?),
        (None, Some(target)) => Refill::ToBalance(not_negative(target)?),
        _ => return Err("a top-up has either credits or to_balance".to_owned()),
    };
    let asked = |text: &RequestedTopUpsText| {
        Ok::<RequestedTopUps, String>(RequestedTopUps {
            until: moment(&text.until)?,
            credits: not_negative(&text.credits)?,
            capped: text.capped,
        })
    };
    Ok(TopUp {
        threshold: not_negative(&text.threshold)?,
        refill,
        enabled: text.enabled,
        max_credits: text.max_credits.as_deref().map(not_negative).transpose()?,
        every: (text.every.parse())
            .map_err(|_| format!("{:?} is no period of a top-up", text.every))?,
        cooldown_seconds: text.cooldown_seconds,
        in_flight: text.in_flight,
        waits_until: text.waits_until.as_deref().map(moment).transpose()?,
        asked: text.asked.as_ref().map(asked).transpose()?,
    })
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
            waiting: grant.waiting.as_deref().map_or(Ok(Amount::ZERO), amount)?,
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
    let used = |one: UseText| {
        Ok(Use {
            since: moment(&one.since)?,
            after: one.after,
            used: not_negative(&one.used)?,
            warned: one.warned,
            reached: one.reached,
            unopened: one.unopened,
            scope: one.scope,
        })
    };
    let start = |start: StartText| {
        Ok::<Start, String>(Start {
            at: moment(&start.at)?,
            after: start.after,
        })
    };
    let limit = |limit: LimitText| {
        Ok(Limit {
            every: (limit.every.parse())
                .map_err(|_| format!("{:?} is no period of a limit", limit.every))?,
            counts: (limit.counts.parse())
                .map_err(|()| format!("{:?} is nothing that a limit counts", limit.counts))?,
            cap: not_negative(&limit.cap)?,
            warn_at: not_negative(&limit.warn_at)?,
            required: limit.required,
            start: limit.start.map(start).transpose()?,
            spilled: limit.spilled.as_deref().map(moment).transpose()?,
            uses: (limit.uses.into_iter().map(used)).collect::<Result<_, String>>()?,
            scope: limit.scope,
        })
    };
    let limits = text
        .limits
        .into_iter()
        .map(limit)
        .collect::<Result<Vec<Limit>, String>>()?;
    let month_uses = text.month_uses.into_iter().map(month_use);
    let month_uses = MonthUses::of(month_uses.collect::<Result<_, String>>()?)
        .ok_or_else(|| "actions of a month are too many, or not in order".to_owned())?;
    let alerts = text.alerts.iter().map(alert);
    let alert_state = AlertState {
        alerts: alerts.collect::<Result<_, String>>()?,
        refilled: (text.refilled.as_deref()).map_or(Ok(Amount::ZERO), not_negative)?,
        topup: text.topup.as_ref().map(topup).transpose()?,
        noticed: (text.noticed.into_iter())
            .map(|SentNoticeText { grant, days }| SentNotice { grant, days })
            .collect(),
        events: text.events,
    };
    let mut wallet = Wallet::new(moment(&text.changed_at)?);
    wallet.seq = text.seq;
    wallet.owed = amount(&text.owed)?;
    wallet.held_overdraft = amount(&text.held_overdraft)?;
    wallet.next_hold_end = next_hold_end;
    wallet.next_renewal = next_renewal;
    wallet.limits = limits;
    wallet.month_uses = month_uses;
    wallet.alert_state = alert_state;
    wallet.closed = text.closed;
    wallet
        .with_grants(grants)
        .map_err(|Corrupt(invariant)| invariant.to_owned())
}

/// The document, where it has the right shape: without this a list would do for an object.
fn objects(text: &str) -> Result<Value, String> {
    let text: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let all = |list: &Value| {
        let list = list.as_array();
        list.is_some_and(|list| list.iter().all(Value::is_object))
    };
    match text.get("grants") {
        _ if !text.is_object() => return Err("it is no JSON object".to_owned()),
        Some(grants) if all(grants) => {}
        _ => return Err("grants is no list of objects".to_owned()),
    }
    for name in ["limits", "month_uses", "alerts", "noticed"] {
        if text.get(name).is_some_and(|list| !all(list)) {
            return Err(format!("{name} is no list of objects"));
        }
    }
    let limits = text.get("limits").and_then(Value::as_array);
    for limit in limits.into_iter().flatten() {
        let uses = limit.get("uses").is_none_or(all);
        if !uses || !limit.get("start").is_none_or(Value::is_object) {
            return Err("uses or start of a limit is no object".to_owned());
        }
    }
    match text.get("topup") {
        Some(topup) if !topup.is_object() => Err("topup is no object".to_owned()),
        Some(topup) if topup.get("asked").is_some_and(|asked| !asked.is_object()) => {
            Err("asked is no object".to_owned())
        }
        _ => Ok(text),
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text).ok_or_else(|| format!("{text:?} is no RFC 3339 time"))
}

fn not_negative(text: &str) -> Result<Amount, String> {
    let amount = amount(text)?;
    if amount.is_negative() {
        return Err(format!("{text:?} is negative"));
    }
    Ok(amount)
}

fn amount(text: &str) -> Result<Amount, String> {
    Amount::parse(text).ok_or_else(|| format!("{text:?} is no amount with at most ten decimals"))
}
