//! Vendor rates: `import_vendor_rates`, `set_vendor_rate`, `vendor_cost`.

use pgrx::pg_sys;
use serde_json::{Map, Value as Json, json};

use crate::errors::{self, Result};
use crate::ledger::number::plain;
use crate::ledger::vendor::rates::read_own;
use crate::ledger::vendor::{ImportError, Reason, read_import};
use crate::sql_types::args::required;
use crate::sql_types::{Args, row, value};
use crate::store::Store;
use crate::store::assets;
use crate::store::vendors::{self, UsageToCost};

pub fn import_vendor_rates(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let rates = required("rates", args.optional_json("rates")?)?;
    let format = args.name("format")?;
    let effective_at = args.optional_moment("effective_at")?;
    let dry_run = args.bool("dry_run")?;
    let import = read_import(&format, &rates).map_err(|why| match why {
        ImportError::Format => errors::invalid(
            "format",
            format_args!("{format:?} is neither genai-prices nor litellm"),
        ),
        ImportError::File(why) => errors::invalid("rates", shortened(&why)),
    })?;
    let imported = Store::write(|store| {
        let now = assets::now(store)?;
        vendors::import(store, &format, &import, effective_at, now, dry_run)
    })?;
    let unrecognised: Map<String, Json> = import
        .unrecognised
        .into_iter()
        .map(|(field, count)| (field, json!(count)))
        .collect();
    row! {
        added: value::int(imported.added),
        changed: value::int(imported.changed),
        unchanged: value::int(imported.unchanged),
        skipped: value::int(import.skipped),
        unrecognised: value::json("rates", &Json::Object(unrecognised))?,
    }
    .datum(args)
}

/// The names of fields are the caller's, and may be of any length.
fn shortened(why: &str) -> String {
    why.chars().take(1000).collect()
}

pub fn set_vendor_rate(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let vendor = args.name("vendor")?;
    let model = args.name("model")?;
    let rates = args.optional_json("rates")?.ok_or_else(|| {
        errors::invalid(
            "rates",
            "it may not be NULL; the JSON value null withdraws the rate",
        )
    })?;
    let effective_at = args.optional_moment("effective_at")?;
    let refuse = |why: &str| {
        let why = shortened(why);
        errors::invalid("rates", format_args!("{vendor} {model}: {why}"))
    };
    let (stored, currency) = match rates {
        Json::Null => (Json::Null, "USD".to_owned()),
        rates => read_own(&rates).map_err(|why| refuse(&why))?,
    };
    let new = Store::write(|store| {
        let now = assets::now(store)?;
        if stored == Json::Null && !vendors::has_own(store, &vendor, &model)? {
            return Err(refuse("there is no rate of yours to withdraw"));
        }
        vendors::set(store, &vendor, &model, stored, currency, effective_at, now)
    })?;
    new.into_row()?.datum(args)
}

pub fn vendor_cost(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let asked = UsageToCost {
        vendor: args.name("vendor")?,
        model: args.optional_name("model")?,
        body: required("usage", args.optional_json("usage")?)?,
        api_flavor: args.optional_name("api_flavor")?,
        context: Json::Object(args.object("context")?),
    };
    let at = args.optional_moment("at")?;
    // Nothing is written; but what is read by the latest snapshot may be kept for the next call.
    let costed = Store::write(|store| {
        let at = match at {
            Some(at) => at,
            None => assets::now(store)?,
        };
        vendors::cost(store, &asked, at)
    })?;
    costed.check()?;
    let (cost, reason) = match &costed.cost {
        Ok(cost) => (Some(*cost), None),
        Err(why) if why.reason == Reason::FlavorUnknown => {
            return Err(errors::invalid("api_flavor", &why.says));
        }
        Err(why) => (None, Some(why.to_string())),
    };
    let usage: Map<String, Json> = costed
        .usage
        .iter()
        .map(|(unit, count)| {
            // As a JSON number, exactly.
            let number = serde_json::from_str(&plain(*count));
            (unit.clone(), number.unwrap_or(Json::Null))
        })
        .collect();
    row! {
        vendor: value::text(&costed.vendor),
        model: value::optional_text(costed.model.as_deref()),
        cost: cost.and_then(value::money_decimal),
        currency: value::optional_text(costed.currency.as_deref()),
        components: value::json("usage", &costed.components)?,
        usage: value::json("usage", &Json::Object(usage))?,
        rate_version: costed.rate_version.and_then(value::int),
        reason: value::optional_text(reason.as_deref()),
    }
    .datum(args)
}
