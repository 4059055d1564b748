//! Calls within a call: a trigger of the database's owner on one of the tables that a call writes may make another
//! call. Where that one writes a wallet which the outer call has read, the outer one must not write it over.

use std::cell::RefCell;

use crate::errors::{self, Result};

/// A wallet that a nested call has written.
struct Write {
    depth: usize,
    customer: String,
    asset: String,
}

#[derive(Default)]
struct Calls {
    /// How many there are, each within the one before it.
    depth: usize,
    /// By nested calls, since the outermost one began.
    writes: Vec<Write>,
}

thread_local! {
    static CALLS: RefCell<Calls> = RefCell::default();
}

/// A call, from its begin to its end.
pub struct Call {
    depth: usize,
}

impl Call {
    pub fn begin() -> Call {
        CALLS.with_borrow_mut(|calls| {
            if calls.depth == 0 {
                calls.writes.clear();
            }
            calls.depth += 1;
            Call { depth: calls.depth }
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.with_borrow_mut(|calls| calls.depth = self.depth - 1);
    }
}

/// The moment when a wallet is read: how many writes of nested calls there were.
#[derive(Clone, Copy)]
pub struct ReadAt(usize);

pub fn read_at() -> ReadAt {
    CALLS.with_borrow(|calls| ReadAt(calls.writes.len()))
}

/// A wallet is about to be written: 27000 where a call within this one has written it since it was read.
pub fn check(call: &Call, since: ReadAt, customer: &str, asset: &str) -> Result<()> {
    let by_other = |write: &Write| {
        write.depth > call.depth && write.customer == customer && write.asset == asset
    };
    let is_lost = CALLS.with_borrow(|calls| calls.writes.iter().skip(since.0).any(by_other));
    match is_lost {
        true => Err(errors::written_by_trigger(customer, asset)),
        false => Ok(()),
    }
}

/// A wallet has been written.
pub fn wrote(call: &Call, customer: &str, asset: &str) {
    if call.depth == 1 {
        return;
    }
    CALLS.with_borrow_mut(|calls| {
        calls.writes.push(Write {
            depth: call.depth,
            customer: customer.to_owned(),
            asset: asset.to_owned(),
        });
    });
}
