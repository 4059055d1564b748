//! The arguments of our functions and their defaults, as SQL declares them: nothing repeats them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value as Json;

use super::session;
use super::statement::{Statement, Store, TEXT};
use crate::errors::{self, Result};
use crate::sql_types::named::{Argument, Signature};
use crate::sql_types::value;

/// The names of all arguments, and the defaults of the last of them as one list of expressions.
static DECLARED: Statement = Statement {
    sql: "SELECT p.proargnames[1:p.pronargs], coalesce(pg_catalog.pg_get_expr(p.proargdefaults, 0), '')
          FROM pg_catalog.pg_proc p
          WHERE p.pronamespace = 'credyt'::regnamespace AND p.proname = $1 AND p.proargnames[1] <> 'request'",
    args: &[TEXT],
};

thread_local! {
    /// With the installation that they are of.
    static KNOWN: RefCell<HashMap<&'static str, (u64, Rc<Signature>)>> = RefCell::default();
}

/// The signature of a function, in its form with arguments. Looked up once in a backend.
pub fn of(function: &'static str) -> Result<Rc<Signature>> {
    let known = KNOWN.with_borrow(|known| known.get(function).cloned());
    if let Some((_, signature)) = known.filter(|(of, _)| *of == session::installation()) {
        return Ok(signature);
    }
    let signature = Rc::new(Store::read(|store| read(store, function))?);
    KNOWN.with_borrow_mut(|known| {
        known.insert(function, (session::installation(), Rc::clone(&signature)))
    });
    Ok(signature)
}

fn read(store: &Store, function: &'static str) -> Result<Signature> {
    let missing = || errors::corrupted("the installation", format_args!("no {function}"));
    let rows = DECLARED.run(store, &[value::text(function)])?;
    let declared: Option<(Vec<String>, String)> = rows.read_first()?;
    let (names, expressions) = declared.ok_or_else(missing)?;
    let rows = store.query(&format!(
        "SELECT pg_catalog.jsonb_build_array({expressions})"
    ))?;
    let defaults = match rows.read_one()? {
        Json::Array(defaults) => defaults,
        _ => return Err(missing()),
    };
    let required = names.len() - defaults.len().min(names.len());
    let defaults = std::iter::repeat_n(None, required).chain(defaults.into_iter().map(Some));
    let argument = |(name, default)| Argument { name, default };
    Ok(Signature {
        function,
        arguments: names.into_iter().zip(defaults).map(argument).collect(),
    })
}
