//! What a model's units cost: dated, by hour of the day, by tier, for some requests otherwise; and
//! the cost of some usage.
//!
//! Rates as they are stored:
//! ```json
//! {"prices": [{"units": {"input_tokens": {"price": "3", "per": 1000000,
//!                                         "tiers": [{"above": "200000", "price": "6"}]}}},
//!             {"start_date": "2026-09-01", "units": {}},
//!             {"start_time": "16:30:00", "end_time": "00:30:00", "units": {}}],
//!             {"weekdays": [6, 7], "timezone": "Asia/Shanghai", "units": {}}],
//!  "variants": [{"when": {"service_tier": "batch"}, "units": {}}],
//!  "multipliers": [{"when": {"inference_geo": "us"}, "times": "1.1"}],
//!  "unclear": {"input_tokens": "input_cost_per_token_in_space"}}
//! ```
//! - Of the prices the last one that is active counts, the first where none is. Dates and times are
//!   those of UTC.
//! - A variant replaces the units it has where the request was served as `when` says; of several the
//!   first counts, unit by unit. A multiplier is of all tokens; `*` is any value but the usual ones.
//! - A call that uses an `unclear` unit has no cost: its price depends on what is not understood. `*`
//!   are all units.
//! - A tier is a cliff: with more input tokens in all than `above`, every unit of the call costs the
//!   tier's price.
//! - `minimum`: a call is charged for at least this number.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::ToPrimitive;
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

use super::terms::{self, Term, Terms};
use super::uncosted::{Reason, Uncosted};
use super::units::{self, INPUT, REQUESTS, Unit, Units, bit, each, kind};
use super::usage::{Counts, MAX_UNIT_BYTES};
use super::{ReadResult, at, expected, list, object, text};
use crate::ledger::number::{json_decimal, kind_of, plain, quoted};
use crate::ledger::{Moment, interrupt};

/// Decimals of a cost.
pub const COST_DECIMALS: u32 = 12;

/// Prices, and the numbers in tiers and minimums, are below this.
const LIMIT: i64 = 1_000_000_000_000;

/// Units that a model may have.
const MAX_UNITS: usize = 200;

const DAY: i64 = 86_400_000_000;

/// A model's rates, ready to be applied.
#[derive(Debug)]
pub struct Rates {
    prices: Vec<(Option<Constraint>, Table)>,
    variants: Vec<Variant>,
    multipliers: Vec<Multiplier>,
    /// Units, and the field that was not understood.
    unclear: Vec<(String, String)>,
}

#[derive(Debug)]
struct Variant {
    when: When,
    constraint: Option<Constraint>,
    table: Table,
}

#[derive(Debug)]
struct Multiplier {
    when: When,
    times: Decimal,
}

/// How a request has to be served: keys and values as terms have them.
#[derive(Debug)]
struct When(Vec<(String, String)>);

#[derive(Debug)]
enum Constraint {
    From(Moment),
    /// Microseconds of the day, over midnight when the end comes first, the whole day when both are
    /// one; on these days of the week (ISO numbers), all when there are none.
    Recurring {
        times: Option<(i64, i64)>,
        weekdays: Vec<i8>,
        timezone: TimeZone,
    },
}

impl When {
    fn read(place_of: &Map<String, Json>, place: &str) -> ReadResult<When> {
        let place = format!("{place}.when");
        let when = object(place_of.get("when").unwrap_or(&Json::Null), &place)?;
        if when.is_empty() {
            return Err(at(&place, "it is empty"));
        }
        let pairs = when.iter().map(|(key, value)| {
            let value = text(value, &place)?;
            Ok((terms::canonical_key(key), terms::canonical(value)))
        });
        pairs.collect::<ReadResult<_>>().map(When)
    }

    /// Whether this term is one of those that it asks for.
    fn names(&self, term: &Term) -> bool {
        self.0.iter().any(|(key, value)| {
            *key == term.key && (*value == term.value || (value == "*" && !term.is_usual()))
        })
    }

    fn holds(&self, terms: &Terms) -> bool {
        let told = |(key, value): &(String, String)| {
            terms.iter().any(|term| {
                *key == term.key && (*value == term.value || (value == "*" && !term.is_usual()))
            })
        };
        self.0.iter().all(told)
    }
}

#[derive(Debug, Default)]
struct Table {
    known: Vec<(Unit, Price)>,
    own: BTreeMap<String, Price>,
}

#[derive(Debug)]
struct Price {
    price: Decimal,
    per: u64,
    /// Ascending.
    tiers: Vec<(Decimal, Decimal)>,
    minimum: Option<Decimal>,
}

/// What some usage costs by a model's rates.
#[derive(Debug)]
pub struct ComputedCost {
    pub cost: Result<Decimal, Uncosted>,
    /// Unit by unit: count, price, per and cost; a price of null is that of a unit that costs nothing.
    pub components: Json,
    /// The disjoint amounts.
    pub usage: BTreeMap<String, Decimal>,
}

// ---- reading ------------------------------------------------------------------------------------

impl Rates {
    /// Reads rates in the stored form.
    pub fn read(rates: &Json) -> ReadResult<Rates> {
        let rates = object(rates, "rates")?;
        let each = |key: &str| match rates.get(key) {
            None => Ok(&[][..]),
            Some(all) => list(all, key).map(Vec::as_slice),
        };
        let prices = each("prices")?.iter().enumerate().map(|(nth, price)| {
            let place = format!("prices[{nth}]");
            let price = object(price, &place)?;
            Ok((
                Constraint::read(price, &place)?,
                Table::read(price, &place)?,
            ))
        });
        let variants = each("variants")?.iter().enumerate().map(|(nth, variant)| {
            let place = format!("variants[{nth}]");
            let variant = object(variant, &place)?;
            Ok(Variant {
                when: When::read(variant, &place)?,
                constraint: Constraint::read(variant, &place)?,
                table: Table::read(variant, &place)?,
            })
        });
        let multipliers = each("multipliers")?.iter().enumerate().map(|(nth, one)| {
            let place = format!("multipliers[{nth}]");
            let one = object(one, &place)?;
            let times = one.get("times").unwrap_or(&Json::Null);
            Ok(Multiplier {
                when: When::read(one, &place)?,
                times: number(times, &format!("{place}.times"))?,
            })
        });
        let unclear = match rates.get("unclear") {
            None => Vec::new(),
            Some(unclear) => object(unclear, "unclear")?
                .iter()
                .map(|(unit, field)| Ok((unit.clone(), text(field, "unclear")?.to_owned())))
                .collect::<ReadResult<_>>()?,
        };
        let rates = Rates {
            prices: prices.collect::<ReadResult<_>>()?,
            variants: variants.collect::<ReadResult<_>>()?,
            multipliers: multipliers.collect::<ReadResult<_>>()?,
            unclear,
        };
        match rates.prices.is_empty() {
            true => Err(at("prices", "there is none")),
            false => Ok(rates),
        }
    }
}

/// A price as `set_vendor_rate` and the stored form write it: a number, which is for one, or
/// `{"price", "per", "tiers", "minimum"}`. Returned in the stored form.
pub fn stored_price(price: &Json, place: &str) -> ReadResult<Json> {
    let read = Price::read(price, place)?;
    Ok(read.stored())
}

impl Constraint {
    /// The constraint beside some units, if there is one.
    fn read(place_of: &Map<String, Json>, place: &str) -> ReadResult<Option<Constraint>> {
        let field = |key: &str| format!("{place}.{key}");
        if let Some(date) = place_of.get("start_date") {
            let others = ["start_time", "end_time", "weekdays"];
            if others.iter().any(|other| place_of.contains_key(*other)) {
                return Err(at(place, "a constraint is a date, or times and weekdays"));
            }
            let date = text(date, &field("start_date"))?;
            let start = Moment::parse(&format!("{date}T00:00:00Z"));
            let start = start.filter(|_| date.len() == 10);
            return start
                .map(|start| Some(Constraint::From(start)))
                .ok_or_else(|| {
                    let date = quoted(date);
                    let why = format_args!("{date} is not a date like 2026-09-01");
                    at(&field("start_date"), why)
                });
        }
        let times = match (place_of.get("start_time"), place_of.get("end_time")) {
            (None, None) => None,
            (Some(start), Some(end)) => Some((
                time_of_day(start, &field("start_time"))?,
                time_of_day(end, &field("end_time"))?,
            )),
            _ => return Err(at(place, "a start_time and an end_time belong together")),
        };
        let weekdays = match place_of.get("weekdays") {
            None => Vec::new(),
            Some(days) => list(days, &field("weekdays"))?
                .iter()
                .map(|day| {
                    let day = day.as_i64().and_then(|day| i8::try_from(day).ok());
                    day.filter(|day| (1..=7).contains(day))
                        .ok_or_else(|| at(&field("weekdays"), "a day of the week is 1 to 7"))
                })
                .collect::<ReadResult<_>>()?,
        };
        let timezone = match place_of.get("timezone") {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(text(name, &field("timezone"))?)
                .map_err(|_| at(&field("timezone"), "no such time zone is known"))?,
        };
        let is_always = times.is_none() && weekdays.is_empty();
        Ok((!is_always).then_some(Constraint::Recurring {
            times,
            weekdays,
            timezone,
        }))
    }

    fn is_active(&self, at: Moment) -> bool {
        match self {
            Constraint::From(start) => at >= *start,
            Constraint::Recurring {
                times,
                weekdays,
                timezone,
            } => {
                let now = at.0.rem_euclid(DAY);
                let is_time = times.is_none_or(|(start, end)| match start.cmp(&end) {
                    Ordering::Greater => now >= start || now < end,
                    _ => start <= now && now < end,
                });
                is_time && (weekdays.is_empty() || weekdays.contains(&weekday(at, timezone)))
            }
        }
    }
}

/// The day of the week, 1 is Monday.
fn weekday(at: Moment, timezone: &TimeZone) -> i8 {
    let stamp = at.timestamp().unwrap_or_default();
    let there = timezone.to_datetime(stamp);
    there.weekday().to_monday_one_offset()
}

/// Microseconds of the UTC day. A time without an offset is UTC's.
fn time_of_day(value: &Json, place: &str) -> ReadResult<i64> {
    let time = text(value, place)?;
    let bad = || {
        at(
            place,
            format_args!("{} is not a time like 16:30:00Z", quoted(time)),
        )
    };
    let stamp = match time.find(['Z', 'z', '+', '-']) {
        Some(_) => format!("2000-01-01T{time}"),
        None => format!("2000-01-01T{time}Z"),
    };
    // A day later or earlier by the offset is the same time of the day.
    let moment = Moment::parse(&stamp).ok_or_else(bad)?;
    Ok(moment.0.rem_euclid(DAY))
}

fn is_active(constraint: &Option<Constraint>, at: Moment) -> bool {
    constraint
        .as_ref()
        .is_none_or(|constraint| constraint.is_active(at))
}

impl Table {
    fn read(place_of: &Map<String, Json>, place: &str) -> ReadResult<Table> {
        let place = format!("{place}.units");
        let all = object(place_of.get("units").unwrap_or(&Json::Null), &place)?;
        if all.len() > MAX_UNITS {
            return Err(at(&place, format_args!("there are more than {MAX_UNITS}")));
        }
        let mut table = Table::default();
        for (name, price) in all {
            if name.is_empty() || name.len() > MAX_UNIT_BYTES {
                return Err(at(
                    &place,
                    format_args!("a unit has between 1 and {MAX_UNIT_BYTES} bytes"),
                ));
            }
            let price = Price::read(price, &format!("{place}.{name}"))?;
            match units::named(name) {
                Some(unit) => table.known.push((unit, price)),
                None => {
                    table.own.insert(name.clone(), price);
                }
            }
        }
        table.known.sort_by_key(|(unit, _)| *unit);
        Ok(table)
    }
}

impl Price {
    fn read(price: &Json, place: &str) -> ReadResult<Price> {
        let Json::Object(fields) = price else {
            return Ok(Price {
                price: number(price, place)?,
                per: 1,
                tiers: Vec::new(),
                minimum: None,
            });
        };
        let field = |key: &str| format!("{place}.{key}");
        if let Some(key) = fields
            .keys()
            .find(|key| !["price", "per", "tiers", "minimum"].contains(&key.as_str()))
        {
            return Err(at(&field(key), "a price has price, per, tiers and minimum"));
        }
        let per = match fields.get("per") {
            None => 1,
            Some(per) => {
                let place = field("per");
                let per = number(per, &place)?;
                let whole = per.to_u64().filter(|_| per.scale() == 0 && !per.is_zero());
                whole.ok_or_else(|| at(&place, "it has to be a whole number above 0"))?
            }
        };
        let tiers = match fields.get("tiers") {
            None => &[][..],
            Some(tiers) => list(tiers, &field("tiers"))?,
        };
        let mut tiers = tiers
            .iter()
            .enumerate()
            .map(|(nth, tier)| {
                let place = format!("{place}.tiers[{nth}]");
                let tier = object(tier, &place)?;
                let get = |key: &str| tier.get(key).unwrap_or(&Json::Null);
                Ok((
                    number(get("above"), &format!("{place}.above"))?,
                    number(get("price"), &format!("{place}.price"))?,
                ))
            })
            .collect::<ReadResult<Vec<_>>>()?;
        tiers.sort_by_key(|(above, _)| *above);
        Ok(Price {
            price: number(fields.get("price").unwrap_or(&Json::Null), &field("price"))?,
            per,
            tiers,
            minimum: match fields.get("minimum") {
                None => None,
                Some(minimum) => Some(number(minimum, &field("minimum"))?),
            },
        })
    }

    fn stored(&self) -> Json {
        let mut stored = Map::new();
        stored.insert("price".into(), json!(plain(self.price)));
        stored.insert("per".into(), json!(self.per));
        if !self.tiers.is_empty() {
            let tiers = self.tiers.iter();
            let tiers =
                tiers.map(|(above, price)| json!({"above": plain(*above), "price": plain(*price)}));
            stored.insert("tiers".into(), tiers.collect());
        }
        if let Some(minimum) = self.minimum {
            stored.insert("minimum".into(), json!(plain(minimum)));
        }
        Json::Object(stored)
    }

    /// The price at a number of input tokens in all, and the tier it is of.
    fn at(&self, all_input: Decimal) -> (Decimal, Option<Decimal>) {
        let tier = self
            .tiers
            .iter()
            .rev()
            .find(|(above, _)| all_input > *above);
        tier.map_or((self.price, None), |(above, price)| (*price, Some(*above)))
    }
}

/// A number that is not negative and not absurd.
pub(super) fn number(value: &Json, place: &str) -> ReadResult<Decimal> {
    interrupt::check();
    if !matches!(value, Json::Number(_) | Json::String(_)) {
        return Err(at(
            place,
            format_args!("it has to be a number, not {}", kind_of(value)),
        ));
    }
    let number = json_decimal(value).map_err(|why| at(place, why))?;
    if number.is_sign_negative() && !number.is_zero() {
        return Err(at(place, format_args!("{number} is negative")));
    }
    if number >= Decimal::from(LIMIT) {
        return Err(at(place, format_args!("{number} is not below 1e12")));
    }
    Ok(number)
}

/// Rates as `set_vendor_rate` takes them: `{"gpu_second": "0.0011"}`, with `currency` beside the
/// units where it is not USD. Returned are the stored form and the currency.
pub fn read_own(rates: &Json) -> ReadResult<(Json, String)> {
    let rates = rates
        .as_object()
        .ok_or_else(|| expected("rates", "an object of units and prices", rates))?;
    let currency = match rates.get("currency") {
        None => "USD",
        Some(currency) => text(currency, "currency")?,
    };
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(at(
            "currency",
            format_args!("{} is no code of three capital letters", quoted(currency)),
        ));
    }
    let units = rates
        .iter()
        .filter(|(unit, _)| *unit != "currency")
        .map(|(unit, price)| {
            // The key of a price in a file is no unit: what it would mean for one is a trap.
            if let Some(known) = units::priced_by(unit).filter(|_| units::named(unit).is_none()) {
                let known = kind(known);
                return Err(at(
                    unit,
                    format_args!(
                        "a rate names a unit: {{\"{}\": {{\"price\": ..., \"per\": {}}}}}",
                        known.name, known.per
                    ),
                ));
            }
            Ok((unit.clone(), stored_price(price, unit)?))
        })
        .collect::<ReadResult<Map<_, _>>>()?;
    if units.is_empty() {
        return Err(at("rates", "there is no unit"));
    }
    let stored = json!({"prices": [{"units": units}]});
    Rates::read(&stored)?;
    Ok((stored, currency.to_owned()))
}

// ---- costing ------------------------------------------------------------------------------------

/// The prices that count for one call.
struct ApplicablePrice<'a> {
    known: Vec<(Unit, &'a Price)>,
    priced: Units,
    own: Vec<&'a BTreeMap<String, Price>>,
    /// By what the prices of tokens are multiplied.
    times: Decimal,
}

impl ApplicablePrice<'_> {
    fn of(&self, unit: Unit) -> Option<&Price> {
        let found = self.known.iter().find(|(known, _)| *known == unit);
        found.map(|(_, price)| *price)
    }

    fn of_own(&self, unit: &str) -> Option<&Price> {
        self.own.iter().find_map(|prices| prices.get(unit))
    }

    /// The price of what is told apart: its own, or that of the most special unit it lies inside.
    fn nearest(&self, unit: Unit) -> Option<&Price> {
        let nearest = each((units::around(unit) | bit(unit)) & self.priced)
            .max_by_key(|unit| (kind(*unit).depth(), kind(*unit).has_type()))?;
        self.of(nearest)
    }
}

impl Rates {
    /// What these counts cost at a moment, for a request that was served like this.
    ///
    /// # Errors
    /// Counts that contradict each other.
    pub fn cost(&self, counts: &Counts, at: Moment, terms: &Terms) -> ReadResult<ComputedCost> {
        let applied = match self.applied(at, terms) {
            Ok(applied) => applied,
            Err(why) => return self.uncosted(counts, at, why),
        };
        let disjoint = counts.disjoint(applied.priced)?;
        if let Some(why) = self.unclear(counts) {
            return self.uncosted(counts, at, why);
        }
        let all_input = counts.all_input();
        let mut components = Vec::with_capacity(disjoint.known.len() + disjoint.own.len());
        let mut sum = Sum::default();
        let mut usage = disjoint.named();
        let mut unpriced: Vec<&str> = Vec::new();
        let mut is_priced = false;
        let mut is_complete = true;
        let known = disjoint
            .known
            .iter()
            .map(|(unit, count)| (kind(*unit).name, *count, applied.nearest(*unit), true));
        let own = disjoint
            .own
            .iter()
            .map(|(name, count)| (name.as_str(), *count, applied.of_own(name), false));
        // A call counts itself, unless the usage says how many calls it was.
        let calls = applied
            .of(*REQUESTS)
            .filter(|_| disjoint.known.iter().all(|(unit, _)| unit != &*REQUESTS))
            .map(|price| (kind(*REQUESTS).name, Decimal::ONE, Some(price), true));
        for (name, count, price, known) in known.chain(own).chain(calls) {
            if count.is_zero() {
                // Free or not, it costs nothing.
                is_priced |= price.is_some();
                continue;
            }
            let Some(price) = price else {
                unpriced.push(name);
                is_complete &= known;
                components
                    .push(json!({"unit": name, "count": plain(count), "price": null, "cost": "0"}));
                continue;
            };
            is_priced = true;
            let charged = price.minimum.map_or(count, |minimum| count.max(minimum));
            let (mut rate, above) = price.at(all_input);
            if known && applied.times != Decimal::ONE && units::named(name).is_some_and(is_token) {
                let Some(more) = rate.checked_mul(applied.times) else {
                    let why = Uncosted::new(Reason::CostTooLarge, "the price has too many digits");
                    return self.uncosted(counts, at, why);
                };
                rate = more;
            }
            sum.add(rate, charged, price.per);
            let mut component = Map::new();
            component.insert("unit".into(), json!(name));
            component.insert("count".into(), json!(plain(charged)));
            component.insert("price".into(), json!(plain(rate)));
            component.insert("per".into(), json!(price.per));
            if let Some(above) = above {
                component.insert("above".into(), json!(plain(above)));
            }
            let mut alone = Sum::default();
            alone.add(rate, charged, price.per);
            component.insert("cost".into(), json!(alone.rounded().map(plain)));
            components.push(Json::Object(component));
            if name == kind(*REQUESTS).name {
                usage.insert(name.to_owned(), count);
            }
        }
        let cost = if unpriced.is_empty() || (is_priced && is_complete) {
            let too_large = || Uncosted::new(Reason::CostTooLarge, "the cost is 1e15 or more");
            sum.rounded().ok_or_else(too_large)
        } else {
            let unpriced = unpriced.join(", ");
            let says = format_args!("no price for {unpriced}");
            Err(Uncosted::new(Reason::UnitUnpriced, says))
        };
        Ok(ComputedCost {
            cost,
            components: Json::Array(components),
            usage,
        })
    }

    /// The counts, told apart by the usual prices, and why they have no cost.
    fn uncosted(&self, counts: &Counts, at: Moment, why: Uncosted) -> ReadResult<ComputedCost> {
        let priced = self
            .applied(at, &Terms::default())
            .map_or(0, |applied| applied.priced);
        Ok(ComputedCost {
            cost: Err(why),
            components: json!([]),
            usage: counts.disjoint(priced)?.named(),
        })
    }

    /// The reason why a call with these counts has no cost, where it uses a unit whose price is not understood.
    fn unclear(&self, counts: &Counts) -> Option<Uncosted> {
        let uses = |name: &str| match units::named(name) {
            _ if name == "*" => true,
            Some(unit) => counts
                .known()
                .any(|(counted, count)| counted == unit && !count.is_zero()),
            None => counts.own.get(name).is_some_and(|count| !count.is_zero()),
        };
        let (unit, field) = self.unclear.iter().find(|(unit, _)| uses(unit))?;
        let unit = if unit == "*" { "the call" } else { unit };
        let says = format_args!("the price of {unit} depends on {field}, which is not understood");
        Some(Uncosted::new(Reason::RateUnclear, says))
    }

    /// Whether each of these units has a price at that moment.
    pub fn has_all(&self, counts: &Counts, at: Moment) -> bool {
        let Ok(applied) = self.applied(at, &Terms::default()) else {
            return false;
        };
        let mut known = counts.known();
        known.all(|(unit, _)| applied.nearest(unit).is_some())
            && counts.own.keys().all(|unit| applied.of_own(unit).is_some())
    }

    /// Whether there is a price for this unit, which only the vendor has.
    pub fn has_own(&self, unit: &str, at: Moment) -> bool {
        let applied = self.applied(at, &Terms::default());
        applied.is_ok_and(|applied| applied.of_own(unit).is_some())
    }

    /// Whether input tokens cost something at that moment.
    pub fn prices_input(&self, at: Moment) -> bool {
        let applied = self.applied(at, &Terms::default());
        applied.is_ok_and(|applied| {
            let price = applied.of(*INPUT);
            price.is_some_and(|price| {
                let tiers = price.tiers.iter().map(|(_, price)| *price);
                tiers.chain([price.price]).any(|price| !price.is_zero())
            })
        })
    }

    fn applied(&self, at: Moment, terms: &Terms) -> Result<ApplicablePrice<'_>, Uncosted> {
        let mut active = self.prices.iter().rev();
        let standard = active
            .find(|(constraint, _)| is_active(constraint, at))
            .or(self.prices.first());
        let variants: Vec<&Variant> = self
            .variants
            .iter()
            .filter(|variant| is_active(&variant.constraint, at) && variant.when.holds(terms))
            .collect();
        let multipliers: Vec<&Multiplier> = self
            .multipliers
            .iter()
            .filter(|one| one.when.holds(terms))
            .collect();
        for term in terms
            .iter()
            .filter(|term| term.is_priced() && !term.is_usual())
        {
            let is_used = variants.iter().any(|one| one.when.names(term))
                || multipliers.iter().any(|one| one.when.names(term));
            // What a caller says of a moment at which it had no price yet has the usual one.
            let is_known = || !term.is_told && self.variants.iter().any(|one| one.when.names(term));
            if !is_used && !is_known() {
                let says =
                    format_args!("no price is known for {} {}", term.key, quoted(&term.value));
                return Err(Uncosted::new(Reason::TierUnknown, says));
            }
        }
        let mut applied = ApplicablePrice {
            known: Vec::with_capacity(standard.map_or(0, |(_, table)| table.known.len())),
            priced: 0,
            own: Vec::new(),
            times: Decimal::ONE,
        };
        for one in multipliers {
            let times = applied.times.checked_mul(one.times);
            applied.times = times.ok_or_else(|| {
                Uncosted::new(Reason::CostTooLarge, "the multipliers have too many digits")
            })?;
        }
        let standard = standard.map(|(_, table)| table);
        for table in variants.iter().map(|one| &one.table).chain(standard) {
            for (unit, price) in &table.known {
                if applied.priced & bit(*unit) == 0 {
                    applied.priced |= bit(*unit);
                    applied.known.push((*unit, price));
                }
            }
            applied.own.push(&table.own);
        }
        Ok(applied)
    }
}

fn is_token(unit: Unit) -> bool {
    kind(unit).is_tokens("input") || kind(unit).is_tokens("output")
}

/// A sum of prices times counts, exact until it is rounded.
#[derive(Debug, Clone)]
enum Sum {
    /// numerator / 10^decimals: nearly always enough.
    Decimal(i128, u32),
    /// A fraction.
    Wide(BigInt, BigInt),
}

impl Default for Sum {
    fn default() -> Sum {
        Sum::Decimal(0, 0)
    }
}

impl Sum {
    fn add(&mut self, price: Decimal, count: Decimal, per: u64) {
        if let Sum::Decimal(sum, decimals) = *self
            && let Some((sum, decimals)) = narrow(sum, decimals, price, count, per)
        {
            *self = Sum::Decimal(sum, decimals);
            return;
        }
        let (numerator, denominator) = match self {
            Sum::Decimal(sum, decimals) => (BigInt::from(*sum), power_of_ten(*decimals)),
            Sum::Wide(numerator, denominator) => {
                (std::mem::take(numerator), std::mem::take(denominator))
            }
        };
        let times = BigInt::from(price.mantissa()) * BigInt::from(count.mantissa());
        let over = power_of_ten(price.scale() + count.scale()) * BigInt::from(per);
        *self = Sum::Wide(numerator * &over + times * &denominator, denominator * over);
    }

    /// To the nearest, and to the even digit when two are equally near. `None` from 1e15 on.
    fn rounded(&self) -> Option<Decimal> {
        let units = match self {
            Sum::Decimal(sum, decimals) if *decimals <= COST_DECIMALS => {
                sum.checked_mul(10_i128.checked_pow(COST_DECIMALS - decimals)?)?
            }
            Sum::Decimal(sum, decimals) => {
                half_even(sum, &10_i128.checked_pow(decimals - COST_DECIMALS)?)
            }
            Sum::Wide(numerator, denominator) => {
                half_even(&(numerator * power_of_ten(COST_DECIMALS)), denominator).to_i128()?
            }
        };
        let cost = Decimal::try_from_i128_with_scale(units, COST_DECIMALS).ok()?;
        (cost < Decimal::from(1_000_000_000_000_000_i64)).then(|| cost.normalize())
    }
}

/// sum / 10^decimals + price x count / per, if machine integers do.
fn narrow(
    sum: i128,
    decimals: u32,
    price: Decimal,
    count: Decimal,
    per: u64,
) -> Option<(i128, u32)> {
    let zeros = per.ilog10();
    if 10_u64.checked_pow(zeros)? != per {
        return None;
    }
    let term = price.mantissa().checked_mul(count.mantissa())?;
    let term_decimals = price.scale() + count.scale() + zeros;
    let common = decimals.max(term_decimals);
    let shift = |value: i128, from: u32| value.checked_mul(10_i128.checked_pow(common - from)?);
    let sum = shift(sum, decimals)?.checked_add(shift(term, term_decimals)?)?;
    Some((sum, common))
}

/// A number that is not negative divided by one above 0.
fn half_even<T: Integer + Clone>(numerator: &T, denominator: &T) -> T {
    let (quotient, rest) = numerator.div_rem(denominator);
    let above = denominator.clone() - rest.clone();
    if rest > above || (rest == above && quotient.is_odd()) {
        quotient + T::one()
    } else {
        quotient
    }
}

fn power_of_ten(exponent: u32) -> BigInt {
    10_i128
        .checked_pow(exponent)
        .map_or_else(|| BigInt::from(10).pow(exponent), BigInt::from)
}
