//! Who may do what: `allow` and `disallow`. What is allowed is kept as rights of Postgres alone.

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::sql_types::{Args, row, value};
use crate::store::access::{self, Capability};
use crate::store::{Store, cluster};

type DatumResult = Result<Option<pg_sys::Datum>>;

pub fn allow(args: &Args) -> DatumResult {
    change(args, |store, role, what, allowed| {
        access::grant(store, role, what, cluster::is_distributed())?;
        if !allowed.contains(&what) {
            allowed.push(what);
        }
        Ok(())
    })
}

/// What the role still needs for something else stays.
pub fn disallow(args: &Args) -> DatumResult {
    change(args, |store, role, what, allowed| {
        allowed.retain(|other| *other != what);
        access::revoke(store, role, what, allowed)
    })
}

fn change(
    args: &Args,
    body: impl FnOnce(&Store, &str, Capability, &mut Vec<Capability>) -> Result<()>,
) -> DatumResult {
    let role = args.identifier("role")?;
    let what = read_capability(&args.name("what")?)?;
    let allowed = Store::write(|store| {
        access::lock(store)?;
        if role == "public" {
            return Err(errors::role_is_everyone());
        }
        match access::owns(store, &role)? {
            None => return Err(errors::role_not_found(&role)),
            Some(true) => return Err(errors::role_is_owner(&role)),
            Some(false) => {}
        }
        let mut allowed = access::allowed(store, &role)?;
        body(store, &role, what, &mut allowed)?;
        Ok(allowed)
    })?;
    let may = |what| value::bool(allowed.contains(&what));
    row! {
        role: value::name(&role),
        spend: may(Capability::Spend),
        events: may(Capability::Events),
        operate: may(Capability::Operate),
        report: may(Capability::Report),
    }
    .datum(args)
}

fn read_capability(what: &str) -> Result<Capability> {
    Capability::ALL
        .into_iter()
        .find(|capability| capability.name() == what)
        .ok_or_else(|| {
            errors::invalid(
                "what",
                format_args!("{what:?} is not spend, events, operate or report"),
            )
        })
}
