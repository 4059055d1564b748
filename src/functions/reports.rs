//! Reports of margin, what prices would have done, and `maintain`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::str::FromStr;

use pgrx::pg_sys;
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json};

use super::costing::{self, Counts};
use super::reported::read_usage;
use crate::errors::{self, Result};
use crate::ledger::margin::{self, Line, ModelCost};
use crate::ledger::price::{Measure, Price, Rounding};
use crate::ledger::{Amount, Moment, rollup};
use crate::sql_types::args::required;
use crate::sql_types::{Args, row, value};
use crate::store::reports::{self, GroupBy, ReportRange};
use crate::store::{Store, assets, events, limits, maintenance, rollups, simulation};

type DatumResult = Result<Option<pg_sys::Datum>>;

/// Lines of one movement: as many as 1,000 grants pay for with 1,000 models.
const MAX_LINES: usize = 1_000_000;

pub fn margin(args: &Args) -> DatumResult {
    let by = read_by(&required("by", args.names("by")?)?)?;
    let period = ReportRange {
        since: read_moment(args, "since")?,
        until: read_moment(args, "until")?,
        asset: args.optional_name("asset")?,
    };
    if let (Some(since), Some(until)) = (period.since, period.until)
        && since > until
    {
        return Err(errors::invalid(
            "since",
            format_args!("{since} is after until, {until}"),
        ));
    }
    Store::read(|store| {
        if let Some(asset) = &period.asset {
            assets::asset(store, asset)?;
        }
        reports::margin(store, by, &period, args)
    })?;
    Ok(None)
}

fn read_by(names: &[String]) -> Result<GroupBy> {
    let mut by = GroupBy::default();
    for name in names {
        let asked = match name.as_str() {
            "day" => &mut by.day,
            "action" => &mut by.action,
            "customer" => &mut by.customer,
            "vendor" => &mut by.vendor,
            "model" => &mut by.model,
            "kind" => &mut by.kind,
            "scope" => &mut by.scope,
            _ => {
                return Err(errors::invalid(
                    "by",
                    format_args!(
                        "{name:?} is none of day, action, customer, vendor, model, kind and scope"
                    ),
                ));
            }
        };
        if std::mem::replace(asked, true) {
            return Err(errors::invalid("by", format_args!("{name} stands twice")));
        }
    }
    Ok(by)
}

/// A moment of our calendar.
fn read_moment(args: &Args, name: &str) -> Result<Option<Moment>> {
    let moment = args.optional_moment(name)?;
    match moment {
        Some(moment) if !moment.is_of_our_era() => {
            Err(errors::out_of_range(name, "it lies before the year 1"))
        }
        _ => Ok(moment),
    }
}

/// `credyt.split_lines(kind, allocations, costs, cost)`: a ledger row by vendor, model and kind.
pub fn split_lines(args: &Args) -> DatumResult {
    let kind = args.name("kind")?;
    let allocations = required("allocations", args.optional_json("allocations")?)?;
    let costs = args.optional_json("costs")?;
    let cost = args.optional_quantity("cost")?;
    let paid = margin::paid(&kind, &allocations)
        .ok_or_else(|| errors::invalid("allocations", "they are not a ledger row's"))?;
    let spent = ModelCost::read_all(costs.as_ref(), cost)
        .filter(|spent| spent.len().saturating_mul(paid.len()) <= MAX_LINES)
        .ok_or_else(|| errors::invalid("costs", "they are not a ledger row's"))?;
    let lines = margin::merged(margin::lines(&paid, &spent));
    answer_lines(args, &lines, kind == "debit")
}

/// `credyt.posting_lines(lines, debits)`: the lines of a cost posting.
pub fn posting_lines(args: &Args) -> DatumResult {
    let json = required("lines", args.optional_json("lines")?)?;
    let debits = args.int("debits")?;
    let lines = rollup::read(&json)
        .ok_or_else(|| errors::invalid("lines", "they are not a cost posting's"))?;
    answer_lines(args, &lines, debits != 0)
}

/// `credyt.known_cost(parts)`: what is known of their costs, together.
pub fn known_cost(args: &Args) -> DatumResult {
    let Some(parts) = args.optional_json("parts")? else {
        return Ok(value::NULL);
    };
    let cost = margin::known_cost(&parts)
        .ok_or_else(|| errors::invalid("parts", "they have no costs of a ledger row"))?;
    Ok(cost.and_then(value::decimal))
}

/// The lines, each with the reports in which it stands for the debit. Where no debit is to be counted, with all.
fn answer_lines(args: &Args, lines: &[Line], is_debit: bool) -> DatumResult {
    let report_mask = if is_debit {
        rollup::counted(lines)
    } else {
        vec![rollup::ALWAYS; lines.len()]
    };
    let rows = lines.iter().zip(report_mask).map(|(line, report_mask)| {
        row! {
            vendor: value::optional_text(line.vendor.as_deref()),
            model: value::optional_text(line.model.as_deref()),
            kind: value::optional_text(line.kind.as_deref()),
            report_mask: value::int(report_mask),
            credits: value::credits(line.credits),
            revenue: value::money(line.revenue),
            cost: line.cost.and_then(value::money_decimal),
        }
    });
    row::rows(args, rows)
}

pub fn suggest_price(args: &Args) -> DatumResult {
    let action = args.name("action")?;
    let target = args.quantity("target_margin")?;
    if target >= Decimal::ONE {
        return Err(errors::invalid(
            "target_margin",
            format_args!("{target} is not below 1; 0.4 stands for 40 % of revenue"),
        ));
    }
    let period = ReportRange {
        since: read_moment(args, "since")?,
        ..ReportRange::default()
    };
    Store::read(|store| reports::suggest(store, &action, target, &period, args))?;
    Ok(None)
}

pub fn simulate_price(args: &Args) -> DatumResult {
    let action = args.name("action")?;
    let rule = required("price", args.optional_json("price")?)?;
    let since = args.optional_moment("since")?;
    let price = Price::parse(&rule).map_err(|why| errors::invalid("price", why))?;
    Store::read(|store| simulation::simulate(store, &action, &rule, &price, since, args))?;
    Ok(None)
}

/// Debits of an action are often alike: as many answers of a rule are kept.
const KEPT_ANSWERS: usize = 10_000;

/// The rule that was read last, by its jsonb: a simulation asks for the same one row after row.
struct Rule {
    stored: Vec<u8>,
    price: Price,
    /// Of a rule that asks for no more: scale, rounding, quantity and dimensions, as they are stored, and its credits.
    answers: RefCell<HashMap<Vec<u8>, Option<Amount>>>,
}

thread_local! {
    static RULE: RefCell<Option<Rc<Rule>>> = const { RefCell::new(None) };
}

/// `credyt.repriced(price, scale, rounding, quantity, dimensions, usage, cost, at, month_used)`.
pub fn repriced(args: &Args) -> DatumResult {
    let rule = read_rule(args)?;
    let price = &rule.price;
    if price.needs_usage() || price.needs_cost() || price.counts_months() {
        return Ok(price_again(args, price)?.and_then(value::credits));
    }
    let key = repeated(args)?;
    let known = rule.answers.borrow().get(&key).copied();
    let credits = match known {
        Some(credits) => credits,
        None => {
            let credits = price_again(args, price)?;
            let mut answers = rule.answers.borrow_mut();
            if answers.len() >= KEPT_ANSWERS {
                answers.clear();
            }
            answers.insert(key, credits);
            credits
        }
    };
    Ok(credits.and_then(value::credits))
}

/// What decides the credits of a rule that asks for no usage and no costs.
fn repeated(args: &Args) -> Result<Vec<u8>> {
    let rounding = args.optional_bytes("rounding")?;
    let quantity = args.optional_bytes("quantity")?;
    let dimensions = args.optional_bytes("dimensions")?;
    let mut key = args.int("scale")?.to_ne_bytes().to_vec();
    for part in [rounding, quantity, dimensions] {
        // A NULL is no empty value.
        key.extend(
            part.map_or(u32::MAX, |part| part.len() as u32)
                .to_ne_bytes(),
        );
        key.extend(part.unwrap_or_default());
    }
    Ok(key)
}

/// `None`: the rule cannot price it.
fn price_again(args: &Args, price: &Price) -> Result<Option<Amount>> {
    let scale = u32::try_from(args.int("scale")?)
        .map_err(|_| errors::invalid("scale", "it is negative"))?;
    let rounding = Rounding::from_str(&args.name("rounding")?)
        .map_err(|why| errors::invalid("rounding", why))?;
    let dimensions: Map<String, Json> = args.optional_object("dimensions")?.unwrap_or_default();
    let usage = match args.optional_json("usage")? {
        Some(usage) if price.needs_usage() => {
            let at = args.moment("at")?;
            Store::read(|store| costing::used(store, &read_usage(&usage)?, at))?
        }
        _ => Counts::default(),
    };
    let measure = Measure {
        quantity: args.optional_quantity("quantity")?.unwrap_or(Decimal::ONE),
        used: args.optional_quantity("month_used")?.unwrap_or_default(),
        dimensions: &dimensions,
        usage: &usage.by_unit,
        usage_is_whole: usage.unread.is_none(),
        cost: args.optional_quantity("cost")?,
    };
    let credits = price.credits(&measure, scale, rounding);
    Ok(credits.ok().map(Amount::from_units))
}

fn read_rule(args: &Args) -> Result<Rc<Rule>> {
    let stored = args.bytes("price")?;
    let last = RULE.with_borrow(|rule| rule.clone());
    if let Some(rule) = last.filter(|rule| rule.stored == stored) {
        return Ok(rule);
    }
    let rule = required("price", args.optional_json("price")?)?;
    let price = Price::parse(&rule).map_err(|why| errors::invalid("price", why))?;
    let rule = Rc::new(Rule {
        stored: stored.to_owned(),
        price,
        answers: RefCell::default(),
    });
    RULE.set(Some(rule.clone()));
    Ok(rule)
}

/// The ledger rows that a call takes for each wallet it may take, on average.
const ROWS_PER_WALLET: i64 = 100;

pub fn maintain(args: &Args) -> DatumResult {
    let batch = args.int("batch")?;
    if batch < 1 {
        return Err(errors::invalid(
            "batch",
            format_args!("{batch} is less than 1"),
        ));
    }
    let many = i64::from(batch);
    let (booked, rolled_up, pruned) = Store::write(|store| {
        let booked =
            maintenance::book_overdue(store, batch)? + maintenance::search_notices(store, batch)?;
        let rolled_up = rollups::roll_up(store, many, many * ROWS_PER_WALLET)?;
        let now = assets::now(store)?;
        let events = events::prune(store, now, batch)?;
        let limits = limits::prune(store, now, batch)?;
        Ok((booked as i64, rolled_up, (events + limits) as i64))
    })?;
    row! {
        booked: value::bigint(booked),
        rolled_up: value::bigint(rolled_up),
        pruned: value::bigint(pruned),
    }
    .datum(args)
}
