//! Memory of Postgres that is given back before the call is over.

use pgrx::pg_sys;

/// A memory context that is current until it is dropped; then it is gone, with all that was made in it.
pub struct Scratch {
    context: pg_sys::MemoryContext,
    caller: pg_sys::MemoryContext,
}

impl Scratch {
    pub fn new() -> Scratch {
        // SAFETY: a child of the current context, which outlives it.
        unsafe {
            let caller = pg_sys::CurrentMemoryContext;
            let context = pg_sys::AllocSetContextCreateExtended(
                caller,
                c"credyt_pg scratch".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            pg_sys::MemoryContextSwitchTo(context);
            Scratch { context, caller }
        }
    }

    /// Gives back what was made in it so far. No value of it may be used any more.
    pub fn reset(&self) {
        // SAFETY: it is ours, and lives as long as self.
        unsafe { pg_sys::MemoryContextReset(self.context) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: it is not current any more when it is deleted.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.caller);
            pg_sys::MemoryContextDelete(self.context);
        }
    }
}
