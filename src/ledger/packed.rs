//! The packed form of a wallet: the bytes of the column `credyt.wallets.state`.
//!
//! ```text
//! version   u8       1
//! renewal   i64      next_renewal; i64::MAX for none
//! grants    varint   how many
//!   id 16 bytes | kind and flags u8 | priority zigzag varint | effective_at i64
//!   | expires_at i64 (flag) | patterns: varint count, each varint length and bytes (flag)
//!   | waiting varint (flag)
//! limits    varint   how many
//!   scope: varint length and bytes | every and flags u8 | minutes varint (of a window)
//!   | cap varint | warn_at varint | start i64 and varint (of ever) | spilled i64 (flag)
//!   | uses: varint how many, each scope, flags u8, since i64, after varint, used varint
//! alerts    u8       flags: top-up, enabled, to a balance, capped in all, in flight, waits, asked; the
//!                    wallet is closed
//!   refilled varint | alerts: varint how many, each unit and enabled u8, threshold varint
//!   | top-up (flag): threshold, credits and cooldown as varints, every: text
//!   | max_credits varint (flag) | event 16 bytes (flag) | waits until i64 (flag)
//!   | asked until i64, credits and capped as varints (flag)
//!   | noticed: varint how many, each grant 16 bytes, days varint | events varint
//! months    varint   how many
//!   action: varint length and bytes | since i64 | used as a varint of 10^-12 units
//! checksum  u32      CRC-32 of everything before and after it
//! changed   i64
//! seq       varint
//! held to   i64      next_hold_end; i64::MAX for none
//! owed      varint
//! overdraft varint   held_overdraft
//!   for each grant: remaining, held, deferred as varints
//! ```
//!
//! All integers are little-endian; amounts are varints of 10^-10 units. What a debit changes (the
//! checksum, the time and the amounts of the grant that burns first) lies together, so that the
//! write-ahead log of an update, which skips what the old and the new row begin and end with, stays
//! small however many grants there are. A library reads every version up to its own.

use uuid::Uuid;

use super::alerts::{Alert, MAX_ALERTS, Refill, RequestedTopUps, SentNotice, TopUp, Unit};
use super::interrupt::checked;
use super::limit::{Counts, Every, MAX_LIMITS, Start, Use};
use super::month::{Count, MAX_ACTIONS, MonthUse, MonthUses};
use super::wallet::{Corrupt, MAX_GRANTS};
use super::{AlertState, Amount, Grant, Kind, Limit, Moment, Wallet};

const VERSION: u8 = 1;

const KIND: u8 = 0b0000_0011;
const HAS_END: u8 = 0b0000_0100;
const HAS_PATTERNS: u8 = 0b0000_1000;
const REVOKED: u8 = 0b0001_0000;
const WAITING: u8 = 0b0010_0000;
const UNKNOWN_FLAGS: u8 = 0b1100_0000;

/// Of a limit; beside them its period: the place of a named one, or the one after the last for a window.
const SPILLED: u8 = 0b1000_0000;
const CALLS: u8 = 0b0100_0000;
const REQUIRED: u8 = 0b0010_0000;
const EVERY: u8 = 0b0001_1111;

/// Of what is used under a limit.
const WARNED: u8 = 0b001;
const REACHED: u8 = 0b010;
const UNOPENED: u8 = 0b100;

const HAS_TOPUP: u8 = 0b0000_0001;
const ENABLED: u8 = 0b0000_0010;
const TO_BALANCE: u8 = 0b0000_0100;
const HAS_MAX: u8 = 0b0000_1000;
const IN_FLIGHT: u8 = 0b0001_0000;
const WAITS: u8 = 0b0010_0000;
const HAS_ASKED: u8 = 0b0100_0000;
const CLOSED: u8 = 0b1000_0000;

const ALERT_ENABLED: u8 = 0b01;
const ALERT_PERCENT: u8 = 0b10;

/// The bytes of a wallet.
pub fn pack(wallet: &Wallet) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 48 * wallet.grants().len());
    out.push(VERSION);
    put_i64(&mut out, wallet.next_renewal.map_or(i64::MAX, |at| at.0));
    put_varint(&mut out, wallet.grants().len() as u128);
    for grant in wallet.grants() {
        put_terms(&mut out, grant);
    }
    put_limits(&mut out, &wallet.limits);
    put_alert_state(&mut out, &wallet.alert_state, wallet.closed);
    put_varint(&mut out, wallet.month_uses.iter().len() as u128);
    for MonthUse {
        action,
        since,
        used,
    } in wallet.month_uses.iter()
    {
        put_text(&mut out, action);
        put_i64(&mut out, since.0);
        put_varint(&mut out, used.units().max(0) as u128);
    }
    let head = out.len();
    out.extend([0; 4]);
    put_i64(&mut out, wallet.changed_at.0);
    put_varint(&mut out, wallet.seq.into());
    put_i64(&mut out, wallet.next_hold_end.map_or(i64::MAX, |at| at.0));
    put_amount(&mut out, wallet.owed);
    put_amount(&mut out, wallet.held_overdraft);
    for grant in wallet.grants() {
        put_amount(&mut out, grant.remaining);
        put_amount(&mut out, grant.held);
        put_amount(&mut out, grant.deferred);
    }
    let checksum = checksum(&out, head).to_le_bytes();
    out[head..head + 4].copy_from_slice(&checksum);
    out
}

/// The wallet of these bytes; anything but the exact bytes of a possible wallet is refused.
pub fn unpack(bytes: &[u8]) -> Result<Wallet, Corrupt> {
    let mut input = Input { bytes, at: 0 };
    match input.byte()? {
        VERSION => {}
        _ => return Err(Corrupt("a version this library does not know")),
    }
    let next_renewal = input.optional_moment()?;
    let count = input.length()?;
    // What the bytes claim is not believed before it has been read.
    let mut grants = Vec::with_capacity(count.min(MAX_GRANTS));
    for _ in checked(0..count) {
        grants.push(take_terms(&mut input)?);
    }
    let limits = take_limits(&mut input)?;
    let (alert_state, closed) = take_alert_state(&mut input)?;
    let month_uses = take_month_uses(&mut input)?;
    let head = input.at;
    let sum = u32::from_le_bytes(input.array()?);
    if sum != checksum(bytes, head) {
        return Err(Corrupt("the checksum does not match"));
    }
    let changed_at = Moment(input.i64()?);
    let seq = input.number()?;
    let next_hold_end = input.optional_moment()?;
    let owed = input.amount()?;
    let held_overdraft = input.amount()?;
    for grant in &mut grants {
        grant.remaining = input.amount()?;
        grant.held = input.amount()?;
        grant.deferred = input.amount()?;
    }
    if input.at != bytes.len() {
        return Err(Corrupt("bytes after the end"));
    }
    let mut wallet = Wallet::new(changed_at);
    wallet.seq = seq;
    wallet.owed = owed;
    wallet.held_overdraft = held_overdraft;
    wallet.next_hold_end = next_hold_end;
    wallet.next_renewal = next_renewal;
    wallet.limits = limits;
    wallet.month_uses = month_uses;
    wallet.alert_state = alert_state;
    wallet.closed = closed;
    wallet.with_grants(grants)
}

/// The checksum of all bytes but the four at `head`, where it is kept.
fn checksum(bytes: &[u8], head: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..head]);
    hasher.update(&bytes[head + 4..]);
    hasher.finalize()
}

fn put_terms(out: &mut Vec<u8>, grant: &Grant) {
    let mut flags = match grant.kind {
        Kind::Included => 0,
        Kind::Promotional => 1,
        Kind::Purchased => 2,
    };
    if grant.expires_at.is_some() {
        flags |= HAS_END;
    }
    if grant.applies_to.is_some() {
        flags |= HAS_PATTERNS;
    }
    if grant.revoked {
        flags |= REVOKED;
    }
    if grant.waiting.is_positive() {
        flags |= WAITING;
    }
    out.extend(grant.id.as_bytes());
    out.push(flags);
    let priority = i64::from(grant.priority);
    put_varint(out, ((priority << 1) ^ (priority >> 63)) as u64 as u128);
    put_i64(out, grant.effective_at.0);
    if let Some(end) = grant.expires_at {
        put_i64(out, end.0);
    }
    if let Some(patterns) = &grant.applies_to {
        put_varint(out, patterns.len() as u128);
        for pattern in patterns {
            put_varint(out, pattern.len() as u128);
            out.extend(pattern.as_bytes());
        }
    }
    if grant.waiting.is_positive() {
        put_amount(out, grant.waiting);
    }
}

fn take_terms(input: &mut Input) -> Result<Grant, Corrupt> {
    let id = Uuid::from_bytes(input.array()?);
    let flags = input.byte()?;
    if flags & UNKNOWN_FLAGS != 0 {
        return Err(Corrupt("unknown flags"));
    }
    let kind = match flags & KIND {
        0 => Kind::Included,
        1 => Kind::Promotional,
        2 => Kind::Purchased,
        _ => return Err(Corrupt("an unknown kind of grant")),
    };
    let zigzag = i64::try_from(input.varint()?).map_err(|_| Corrupt("priority is out of range"))?;
    let priority = i32::try_from((zigzag >> 1) ^ -(zigzag & 1))
        .map_err(|_| Corrupt("priority is out of range"))?;
    let effective_at = Moment(input.i64()?);
    let expires_at = if flags & HAS_END != 0 {
        Some(Moment(input.i64()?))
    } else {
        None
    };
    let applies_to = if flags & HAS_PATTERNS != 0 {
        let count = input.length()?;
        let mut patterns = Vec::new();
        for _ in 0..count {
            let length = input.length()?;
            let text = std::str::from_utf8(input.slice(length)?)
                .map_err(|_| Corrupt("a pattern that is not UTF-8"))?;
            patterns.push(text.to_owned());
        }
        Some(patterns)
    } else {
        None
    };
    let waiting = if flags & WAITING != 0 {
        let waiting = input.amount()?;
        if waiting.is_zero() {
            return Err(Corrupt("nothing waits"));
        }
        waiting
    } else {
        Amount::ZERO
    };
    Ok(Grant {
        id,
        kind,
        priority,
        effective_at,
        expires_at,
        applies_to,
        revoked: flags & REVOKED != 0,
        remaining: Amount::ZERO,
        held: Amount::ZERO,
        waiting,
        deferred: Amount::ZERO,
    })
}

fn put_limits(out: &mut Vec<u8>, limits: &[Limit]) {
    put_varint(out, limits.len() as u128);
    for limit in limits {
        put_text(out, &limit.scope);
        let place = Every::NAMED.iter().position(|every| *every == limit.every);
        let flags = [
            (limit.spilled.is_some(), SPILLED),
            (limit.counts == Counts::Calls, CALLS),
            (limit.required, REQUIRED),
        ];
        out.push(place.unwrap_or(Every::NAMED.len()) as u8 | sum_of(&flags));
        if let Every::Window(minutes) = limit.every {
            put_varint(out, minutes.into());
        }
        put_amount(out, limit.cap);
        put_amount(out, limit.warn_at);
        if let Some(start) = limit.start {
            put_i64(out, start.at.0);
            put_varint(out, start.after.into());
        }
        if let Some(moment) = limit.spilled {
            put_i64(out, moment.0);
        }
        put_varint(out, limit.uses.len() as u128);
        for one in &limit.uses {
            put_text(out, &one.scope);
            out.push(sum_of(&[
                (one.warned, WARNED),
                (one.reached, REACHED),
                (one.unopened, UNOPENED),
            ]));
            put_i64(out, one.since.0);
            put_varint(out, one.after.into());
            put_amount(out, one.used);
        }
    }
}

/// The flags that are set.
fn sum_of(flags: &[(bool, u8)]) -> u8 {
    let set = flags.iter().filter(|(set, _)| *set);
    set.map(|(_, flag)| flag).sum()
}

fn take_limits(input: &mut Input) -> Result<Vec<Limit>, Corrupt> {
    let count = input.length()?;
    let mut limits = Vec::with_capacity(count.min(MAX_LIMITS));
    for _ in 0..count {
        let scope = input.text()?;
        let flags = input.byte()?;
        let unknown = Corrupt("an unknown period");
        let every = match Every::NAMED.get(usize::from(flags & EVERY)) {
            Some(every) => *every,
            None if usize::from(flags & EVERY) == Every::NAMED.len() => {
                let minutes = u32::try_from(input.varint()?).ok();
                minutes.and_then(Every::window).ok_or(unknown)?
            }
            None => return Err(unknown),
        };
        let (cap, warn_at) = (input.amount()?, input.amount()?);
        let start = if every == Every::Ever {
            let at = Moment(input.i64()?);
            let after = input.number()?;
            Some(Start { at, after })
        } else {
            None
        };
        let spilled = if flags & SPILLED != 0 {
            Some(Moment(input.i64()?))
        } else {
            None
        };
        let count = input.length()?;
        let mut uses = Vec::new();
        for _ in 0..count {
            uses.push(take_use(input)?);
        }
        limits.push(Limit {
            scope,
            every,
            counts: Counts::ALL[usize::from(flags & CALLS != 0)],
            cap,
            warn_at,
            required: flags & REQUIRED != 0,
            start,
            uses,
            spilled,
        });
    }
    Ok(limits)
}

fn take_month_uses(input: &mut Input) -> Result<MonthUses, Corrupt> {
    let count = input.length()?;
    let mut uses = Vec::with_capacity(count.min(MAX_ACTIONS));
    for _ in 0..count {
        uses.push(MonthUse {
            action: input.text()?,
            since: Moment(input.i64()?),
            used: Count::of_units(input.varint()? as i128)
                .ok_or(Corrupt("what was used in a month is out of range"))?,
        });
    }
    MonthUses::of(uses).ok_or(Corrupt(
        "actions of a month that are too many, or not in order",
    ))
}

fn take_use(input: &mut Input) -> Result<Use, Corrupt> {
    let scope = input.text()?;
    let flags = input.byte()?;
    if flags & !(WARNED | REACHED | UNOPENED) != 0 {
        return Err(Corrupt("unknown flags"));
    }
    Ok(Use {
        scope,
        since: Moment(input.i64()?),
        after: input.number()?,
        used: input.amount()?,
        warned: flags & WARNED != 0,
        reached: flags & REACHED != 0,
        unopened: flags & UNOPENED != 0,
    })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u128);
    out.extend(text.as_bytes());
}

fn put_alert_state(out: &mut Vec<u8>, alert_state: &AlertState, closed: bool) {
    let topup = alert_state.topup.as_ref();
    let is = |flag: fn(&TopUp) -> bool| topup.is_some_and(flag);
    let flags = [
        (topup.is_some(), HAS_TOPUP),
        (is(|topup| topup.enabled), ENABLED),
        (
            is(|topup| matches!(topup.refill, Refill::ToBalance(_))),
            TO_BALANCE,
        ),
        (is(|topup| topup.max_credits.is_some()), HAS_MAX),
        (is(|topup| topup.in_flight.is_some()), IN_FLIGHT),
        (is(|topup| topup.waits_until.is_some()), WAITS),
        (is(|topup| topup.asked.is_some()), HAS_ASKED),
        (closed, CLOSED),
    ];
    out.push(
        flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| flag)
            .sum(),
    );
    put_amount(out, alert_state.refilled);
    put_varint(out, alert_state.alerts.len() as u128);
    for alert in &alert_state.alerts {
        let unit = match alert.unit {
            Unit::Credits => 0,
            Unit::Percent => ALERT_PERCENT,
        };
        out.push(unit | if alert.enabled { ALERT_ENABLED } else { 0 });
        put_amount(out, alert.threshold);
    }
    if let Some(topup) = topup {
        put_topup(out, topup);
    }
    put_varint(out, alert_state.noticed.len() as u128);
    for noticed in &alert_state.noticed {
        out.extend(noticed.grant.as_bytes());
        put_varint(out, noticed.days.max(0) as u128);
    }
    put_varint(out, alert_state.events.into());
}

fn put_topup(out: &mut Vec<u8>, topup: &TopUp) {
    put_amount(out, topup.threshold);
    let (Refill::Credits(amount) | Refill::ToBalance(amount)) = topup.refill;
    put_amount(out, amount);
    put_varint(out, topup.cooldown_seconds.max(0) as u128);
    put_text(out, topup.every.as_str());
    if let Some(max) = topup.max_credits {
        put_amount(out, max);
    }
    if let Some(event) = topup.in_flight {
        out.extend(event.as_bytes());
    }
    if let Some(until) = topup.waits_until {
        put_i64(out, until.0);
    }
    if let Some(asked) = topup.asked {
        put_i64(out, asked.until.0);
        put_amount(out, asked.credits);
        put_varint(out, asked.capped.into());
    }
}

fn take_alert_state(input: &mut Input) -> Result<(AlertState, bool), Corrupt> {
    let flags = input.byte()?;
    let set = |flag| flags & flag != 0;
    if !set(HAS_TOPUP) && flags & !CLOSED != 0 {
        return Err(Corrupt("unknown flags"));
    }
    let refilled = input.amount()?;
    let count = input.length()?;
    let mut alerts = Vec::with_capacity(count.min(MAX_ALERTS));
    for _ in 0..count {
        let flags = input.byte()?;
        if flags & !(ALERT_ENABLED | ALERT_PERCENT) != 0 {
            return Err(Corrupt("unknown flags"));
        }
        alerts.push(Alert {
            unit: match flags & ALERT_PERCENT {
                0 => Unit::Credits,
                _ => Unit::Percent,
            },
            enabled: flags & ALERT_ENABLED != 0,
            threshold: input.amount()?,
        });
    }
    let topup = if set(HAS_TOPUP) {
        Some(take_topup(input, set)?)
    } else {
        None
    };
    let count = input.length()?;
    let mut noticed = Vec::with_capacity(count.min(MAX_GRANTS));
    for _ in checked(0..count) {
        noticed.push(SentNotice {
            grant: Uuid::from_bytes(input.array()?),
            days: i32::try_from(input.varint()?).map_err(|_| Corrupt("days are out of range"))?,
        });
    }
    let events = u64::try_from(input.varint()?).map_err(|_| Corrupt("events is out of range"))?;
    let alert_state = AlertState {
        alerts,
        refilled,
        topup,
        noticed,
        events,
    };
    Ok((alert_state, set(CLOSED)))
}

fn take_topup(input: &mut Input, set: impl Fn(u8) -> bool) -> Result<TopUp, Corrupt> {
    let threshold = input.amount()?;
    let amount = input.amount()?;
    let cooldown = i32::try_from(input.varint()?);
    let every = input.text()?.parse();
    Ok(TopUp {
        threshold,
        refill: match set(TO_BALANCE) {
            true => Refill::ToBalance(amount),
            false => Refill::Credits(amount),
        },
        enabled: set(ENABLED),
        cooldown_seconds: cooldown.map_err(|_| Corrupt("a cooldown is out of range"))?,
        every: every.map_err(|_| Corrupt("an unknown period"))?,
        max_credits: if set(HAS_MAX) {
            Some(input.amount()?)
        } else {
            None
        },
        in_flight: if set(IN_FLIGHT) {
            Some(Uuid::from_bytes(input.array()?))
        } else {
            None
        },
        waits_until: if set(WAITS) {
            Some(Moment(input.i64()?))
        } else {
            None
        },
        asked: if set(HAS_ASKED) {
            Some(RequestedTopUps {
                until: Moment(input.i64()?),
                credits: input.amount()?,
                capped: match input.varint()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Corrupt("unknown flags")),
                },
            })
        } else {
            None
        },
    })
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend(value.to_le_bytes());
}

/// Amounts in a wallet are never negative.
fn put_amount(out: &mut Vec<u8>, amount: Amount) {
    put_varint(out, amount.units().max(0) as u128);
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], Corrupt> {
        let end = self
            .at
            .checked_add(length)
            .ok_or(Corrupt("it ends too early"))?;
        let slice = self
            .bytes
            .get(self.at..end)
            .ok_or(Corrupt("it ends too early"))?;
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        self.slice(N)?
            .try_into()
            .map_err(|_| Corrupt("it ends too early"))
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(Corrupt("it ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn text(&mut self) -> Result<String, Corrupt> {
        let length = self.length()?;
        let text = std::str::from_utf8(self.slice(length)?);
        text.map(str::to_owned)
            .map_err(|_| Corrupt("a scope that is not UTF-8"))
    }

    fn i64(&mut self) -> Result<i64, Corrupt> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The last moment there is stands for none.
    fn optional_moment(&mut self) -> Result<Option<Moment>, Corrupt> {
        Ok(Some(self.i64()?).filter(|at| *at != i64::MAX).map(Moment))
    }

    fn varint(&mut self) -> Result<u128, Corrupt> {
        let mut value: u128 = 0;
        // 17 bytes hold 119 bits, more than any amount needs.
        for shift in (0..119).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // One number, one form: no zeros at the end.
                return if byte == 0 && shift > 0 {
                    Err(Corrupt("a number in a longer form than it needs"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(Corrupt("a number that is too long"))
    }

    /// The number of a ledger row.
    fn number(&mut self) -> Result<u64, Corrupt> {
        u64::try_from(self.varint()?).map_err(|_| Corrupt("seq is out of range"))
    }

    fn amount(&mut self) -> Result<Amount, Corrupt> {
        // At most 119 bits, so it fits.
        Ok(Amount::from_units(self.varint()? as i128))
    }

    /// A count of things that take at least one byte each: never more than there are bytes left.
    fn length(&mut self) -> Result<usize, Corrupt> {
        let length = self.varint()?;
        let left = (self.bytes.len() - self.at) as u128;
        if length > left {
            return Err(Corrupt("it ends too early"));
        }
        Ok(length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::limit::Calendar;
    use proptest::prelude::*;

    fn grants() -> impl Strategy<Value = Vec<Grant>> {
        let grant = (
            any::<u128>(),
            0..3_u8,
            any::<i32>(),
            -1_000_000_000_i64..1_000_000_000,
            prop::option::of(1..1_000_000_000_i64),
            prop::option::of(prop::collection::vec("[a-z.*]{1,12}", 1..4)),
            any::<bool>(),
            (
                1..Amount::MAX_ISSUE.units(),
                0..=100_i128,
                0..Amount::MAX_ISSUE.units(),
            ),
        )
            .prop_map(
                |(id, kind, priority, start, end, applies_to, revoked, amounts)| Grant {
                    id: Uuid::from_u128(id),
                    kind: [Kind::Included, Kind::Promotional, Kind::Purchased][usize::from(kind)],
                    priority,
                    effective_at: Moment(start),
                    expires_at: end.map(|e| Moment(start + e)),
                    applies_to,
                    revoked,
                    remaining: Amount::from_units(amounts.0),
                    held: Amount::from_units(amounts.0 / 100 * amounts.1),
                    waiting: Amount::ZERO,
                    deferred: Amount::from_units(amounts.2),
                },
            );
        prop::collection::vec(grant, 0..40)
    }

    fn limits() -> impl Strategy<Value = Limit> {
        let scopes = prop::sample::select(&["user:alice", "user:*", "action:image.*"][..]);
        let every = prop_oneof![
            prop::sample::select(&Every::NAMED[..]),
            (1..=366 * 1440_u32).prop_map(Every::Window),
        ];
        let amounts = (
            0..10_u128.pow(17),
            1..=10_000_000_000_i128,
            0..10_i128.pow(27),
        );
        let flags = any::<[bool; 6]>();
        (scopes, every, amounts, any::<u32>(), flags).prop_map(
            |(scope, every, (cap, warn_at, used), after, flags)| {
                let calls = flags[0];
                let cap = cap as i128 * if calls { 10_000_000_000 } else { 1 };
                let counts = Counts::ALL[usize::from(calls)];
                let mut limit = Limit::new(scope, every, counts, Amount::from_units(cap));
                limit.warn_at = Amount::from_units(warn_at);
                limit.required = flags[1] && scope == "user:*";
                let at = Moment(7);
                let after = u64::from(after);
                limit.start = (every == Every::Ever).then_some(Start { at, after });
                limit.spilled = flags[2].then_some(Moment(-7));
                if flags[3] {
                    limit.put(Use {
                        scope: if scope == "user:*" { "user:bob" } else { scope }.to_owned(),
                        since: Moment(7),
                        after,
                        used: Amount::from_units(used),
                        warned: flags[4],
                        reached: flags[5],
                        unopened: flags[4] && flags[5],
                    });
                }
                limit
            },
        )
    }

    fn wallet(mut grants: Vec<Grant>, seq: u64, owed: i128, hold: Option<i64>) -> Wallet {
        grants.sort_by(Grant::burn_order);
        grants.dedup_by_key(|g| g.id);
        let mut wallet = Wallet::new(Moment(seq as i64 / 2));
        wallet.seq = seq;
        wallet.owed = Amount::from_units(owed);
        wallet.held_overdraft = Amount::from_units(owed / 3);
        wallet.next_hold_end = hold.map(Moment);
        wallet.next_renewal = hold.map(|at| Moment(at / 2));
        for grant in &mut grants {
            if grant.ended(wallet.changed_at) && !grant.revoked && grant.priority % 2 == 0 {
                grant.waiting = Amount::from_units(grant.unheld().units() / 2);
            }
        }
        wallet.with_grants(grants).unwrap()
    }

    proptest! {
        #[test]
        fn both_ways(g in grants(), seq in 0..1_u64 << 58, owed in 0..Amount::MAX_WALLET.units(), hold in prop::option::of(0..1_i64 << 57)) {
            let wallet = wallet(g, seq, owed, hold);
            prop_assert_eq!(unpack(&pack(&wallet)), Ok(wallet));
        }

        #[test]
        fn limits_and_alerts_both_ways(
            limits in prop::collection::vec(limits(), 0..5),
            months in prop::collection::vec((prop::sample::select(&["image", "image.large", "ü"][..]), -9..9_i64, 0..10_i128.pow(27)), 0..4),
            refilled in 0..Amount::MAX_WALLET.units(),
            alerts in prop::collection::vec((0..Amount::MAX_ISSUE.units(), any::<bool>(), any::<bool>()), 0..4),
            topup in prop::option::of((
                (0..Amount::MAX_ISSUE.units(), 0..Amount::MAX_ISSUE.units(), any::<bool>(), any::<bool>(), 0..4_usize),
                (0..i32::MAX, prop::option::of(0..Amount::MAX_ISSUE.units()), prop::option::of(any::<u128>())),
                (prop::option::of(0..1_i64 << 57), prop::option::of((0..1_i64 << 57, 0..Amount::MAX_WALLET.units(), any::<bool>()))),
            )),
            noticed in prop::collection::btree_map(any::<u128>(), 1..3650_i32, 0..3),
            events in any::<u64>(), closed in any::<bool>(), flip in 1..=255_u8, at in any::<prop::sample::Index>(),
        ) {
            let mut wallet = wallet(Vec::new(), 7, 12, None);
            wallet.limits = limits;
            for (action, since, used) in months {
                let used = Count::of_units(used).unwrap();
                wallet.month_uses.begin(action, Moment(since), used).unwrap();
            }
            wallet.alert_state = AlertState {
                refilled: Amount::from_units(refilled),
                alerts: alerts.into_iter().enumerate().map(|(at, (threshold, percent, enabled))| Alert {
                    threshold: Amount::from_units(if percent { at as i128 } else { threshold - threshold % 10 + at as i128 }),
                    unit: if percent { Unit::Percent } else { Unit::Credits },
                    enabled,
                }).collect(),
                topup: topup.map(|((threshold, credits, to_balance, enabled, every), (cooldown_seconds, max, in_flight), (waits, asked))| TopUp {
                    threshold: Amount::from_units(threshold),
                    refill: if to_balance { Refill::ToBalance(Amount::from_units(threshold + 1)) } else { Refill::Credits(Amount::from_units(credits + 1)) },
                    enabled,
                    max_credits: max.map(Amount::from_units),
                    every: Calendar::ALL[every],
                    cooldown_seconds,
                    in_flight: in_flight.map(Uuid::from_u128),
                    waits_until: waits.map(Moment),
                    asked: asked.map(|(until, credits, capped)| RequestedTopUps { until: Moment(until), credits: Amount::from_units(credits), capped }),
                }),
                noticed: noticed.into_iter().map(|(grant, days)| SentNotice { grant: Uuid::from_u128(grant), days }).collect(),
                events,
            };
            wallet.closed = closed;
            let mut bytes = pack(&wallet);
            let unpacked = unpack(&bytes);
            prop_assert_eq!(unpacked.as_ref(), Ok(&wallet));
            prop_assert_eq!(crate::ledger::text::parse(&crate::ledger::text::print(&wallet)), Ok(wallet));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(unpack(&bytes).is_err());
        }

        #[test]
        fn every_changed_byte_and_every_cut_is_found(g in grants(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
            let bytes = pack(&wallet(g, 7, 12, None));
            let at = at.index(bytes.len());
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            prop_assert!(unpack(&damaged).is_err());
            prop_assert!(unpack(&bytes[..at]).is_err());
            damaged = bytes.clone();
            damaged.push(flip);
            prop_assert!(unpack(&damaged).is_err());
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            let _ = unpack(&bytes);
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            prop_assert!(unpack(&bytes).is_err());
        }
    }

    #[test]
    fn a_debit_changes_bytes_that_lie_together() {
        let grant = |n: u128| Grant {
            id: Uuid::from_u128(n),
            kind: Kind::Purchased,
            priority: 100,
            effective_at: Moment(0),
            expires_at: None,
            applies_to: None,
            revoked: false,
            remaining: Amount::from_units(1_000_000_000_000),
            held: Amount::ZERO,
            waiting: Amount::ZERO,
            deferred: Amount::from_units(50_000_000_000),
        };
        let mut wallet = Wallet::new(Moment(0));
        for n in 0..30 {
            wallet.issue(grant(n)).unwrap();
        }
        let before = pack(&wallet);
        let credit = Amount::from_units(10_000_000_000);
        wallet
            .spend(Moment(1), "image", credit, Amount::ZERO)
            .unwrap();
        wallet.seq += 1;
        let after = pack(&wallet);
        let same_start = before
            .iter()
            .zip(&after)
            .take_while(|(a, b)| a == b)
            .count();
        let same_end = before
            .iter()
            .rev()
            .zip(after.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(after.len() - same_start - same_end < 45);
    }
}
