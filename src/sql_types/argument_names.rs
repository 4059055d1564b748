//! The names of a function's arguments, as SQL declares them: so that no position is written beside a name.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;

thread_local! {
    /// By the oid of the function, whose arguments keep their names.
    static KNOWN: RefCell<HashMap<pg_sys::Oid, Rc<[String]>>> = RefCell::default();
}

/// The names of the arguments of the function that is running.
#[derive(Clone)]
pub struct ArgumentNames {
    /// Those of a type's functions, which have one argument, are empty.
    names: Rc<[String]>,
    /// The place after the last one that was asked for: arguments are mostly read in their order.
    next: Cell<usize>,
}

impl ArgumentNames {
    /// # Safety
    /// `fcinfo` is what Postgres passed to the function that is running.
    pub unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> ArgumentNames {
        // SAFETY: the function manager has filled in both.
        let (function, count) = unsafe { ((*(*fcinfo).flinfo).fn_oid, (*fcinfo).nargs) };
        let known = KNOWN.with_borrow(|known| known.get(&function).cloned());
        let names = known.unwrap_or_else(|| {
            // SAFETY: a function that is running is in the catalog.
            let names: Rc<[String]> = unsafe { declared(function, count as usize) }.into();
            KNOWN.with_borrow_mut(|known| known.insert(function, Rc::clone(&names)));
            names
        });
        ArgumentNames {
            names,
            next: Cell::new(0),
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Where the argument of this name is, from 0; or the one without a name.
    pub fn position(&self, name: &str) -> Option<usize> {
        let is = |known: &String| known == name || known.is_empty();
        let is_at = |at: &usize| self.names.get(*at).is_some_and(is);
        let next = Some(self.next.get()).filter(is_at);
        let at = next.or_else(|| (0..self.names.len()).find(is_at))?;
        self.next.set(at + 1);
        Some(at)
    }
}

/// # Safety
/// `function` is the oid of a function with this number of arguments.
unsafe fn declared(function: pg_sys::Oid, count: usize) -> Vec<String> {
    let (mut types, mut modes) = (std::ptr::null_mut(), std::ptr::null_mut());
    let mut names = std::ptr::null_mut();
    // SAFETY: the names are copies; there is one for each argument, or none at all.
    unsafe {
        let key = pg_sys::Datum::from(function);
        let row = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::PROCOID as i32, key);
        if !row.is_null() {
            pg_sys::get_func_arg_info(row, &mut types, &mut names, &mut modes);
            pg_sys::ReleaseSysCache(row);
        }
        let name = |at| match names.is_null() {
            true => String::new(),
            false => CStr::from_ptr(*names.add(at))
                .to_string_lossy()
                .into_owned(),
        };
        (0..count).map(name).collect()
    }
}
