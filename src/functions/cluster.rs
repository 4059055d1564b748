//! Several servers: `distribute`, and what a cluster needs of the functions about a customer.

use pgrx::pg_sys;

use crate::errors::{self, Result};
use crate::sql_types::{Args, value};
use crate::store::{Store, access, cluster, distribution};

/// Citus makes no more shards of one table at once.
const MOST_SHARDS: i32 = 1024;

pub fn distribute(args: &Args) -> Result<Option<pg_sys::Datum>> {
    let shards = args.int("shards")?;
    if !(1..=MOST_SHARDS).contains(&shards) {
        let why = format_args!("{shards} is not from 1 to {MOST_SHARDS}");
        return Err(errors::invalid("shards", why));
    }
    let tables = Store::write(|store| {
        distribution::check_cluster(store)?;
        let tables = distribution::distribute(store, shards)?;
        for (role, what) in access::everyone_allowed(store)? {
            access::grant(store, &role, what, true)?;
        }
        Ok(tables)
    })?;
    Ok(value::int(i32::try_from(tables).unwrap_or(i32::MAX)))
}

/// Planner support of the functions that Citus delegates to the node of their customer, which it does with constants
/// only. So the customer is hidden from it, behind a cast that does nothing, where the call has to run here:
/// - a NULL. Citus 14 follows it as an address while it looks for the node, and all sessions of the server end. The
///   function refuses it, as without Citus.
/// - on behalf of a role that cannot log in, and so not call the other node.
pub fn keep_call_here(args: &Args) -> Result<Option<pg_sys::Datum>> {
    // The planner takes a null pointer for "as it was".
    let as_it_was = Ok(Some(pg_sys::Datum::from(0_usize)));
    let request = args.internal::<pg_sys::SupportRequestSimplify>("node")?;
    // SAFETY: the planner passes a node, whose tag says what it is. A call that it simplifies has its arguments in a
    // list; it is not changed, but copied.
    unsafe {
        if (*request).type_ != pg_sys::NodeTag::T_SupportRequestSimplify {
            return as_it_was;
        }
        let customer = match (*(*request).fcall).args.as_ref() {
            Some(list) if list.length > 0 => (*list.elements).ptr_value.cast::<pg_sys::Const>(),
            _ => return as_it_was,
        };
        if (*customer).xpr.type_ != pg_sys::NodeTag::T_Const {
            return as_it_was;
        }
        let cannot_leave = cluster::has_citus() && cluster::is_without_login();
        if !(*customer).constisnull && !cannot_leave {
            return as_it_was;
        }
        let call = pg_sys::copyObjectImpl((*request).fcall.cast()).cast::<pg_sys::FuncExpr>();
        let first = &mut *(*(*call).args).elements;
        first.ptr_value = pg_sys::makeRelabelType(
            first.ptr_value.cast(),
            (*customer).consttype,
            (*customer).consttypmod,
            (*customer).constcollid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CAST,
        )
        .cast();
        Ok(Some(pg_sys::Datum::from(call)))
    }
}
