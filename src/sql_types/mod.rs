//! The borders between SQL and Rust: arguments in, values and rows out.

pub mod args;
mod argument_names;
mod document;
pub mod field;
mod memory;
pub mod named;
pub mod row;
pub mod value;

pub use args::Args;
pub use memory::Scratch;
pub use row::Row;
pub(crate) use row::row;

use pgrx::pg_sys;

/// Ends the call where Postgres wants that: a timeout, a cancel, the end of the session. What the
/// ledger's loops check for.
pub fn check_for_interrupts() {
    // SAFETY: reads a flag that signal handlers set. pgrx runs ProcessInterrupts under its guard: an
    // error in it unwinds through our frames as a panic, which `guarded` raises again.
    unsafe {
        if (&raw const pg_sys::InterruptPending).read_volatile() != 0 {
            pg_sys::ProcessInterrupts();
        }
    }
}
