//! How long work is interrupted.
//!
//! Every loop whose length the caller or elapsed time decides calls `check` on each turn. The program
//! that runs the ledger installs what is to be checked for; without that nothing is. Work that has to end
//! ends by unwinding: what it owns is dropped, and locks and borrows are given back. So nothing that
//! outlives the call (a cache, a thread-local) may be changed half way when `check` is called.

use std::cell::Cell;

thread_local! {
    static HOOK: Cell<fn()> = const { Cell::new(|| ()) };
}

/// From now on `check` calls this, in this thread. It returns, or unwinds where the work is to end.
pub fn install(hook: fn()) {
    HOOK.set(hook);
}

/// Ends the work here where it is to end. Cheap enough for every turn of a loop.
pub fn check() {
    HOOK.get()();
}

/// The same items, checking before each.
pub fn checked<I: IntoIterator>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter().inspect(|_| check())
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static TURNS: Cell<u32> = const { Cell::new(0) };
    }

    fn end_after_ten() {
        TURNS.set(TURNS.get() + 1);
        if TURNS.get() == 10 {
            std::panic::resume_unwind(Box::new("ended"));
        }
    }

    #[test]
    fn a_loop_ends_where_the_hook_unwinds() {
        assert_eq!(checked(0..100).count(), 100);
        install(end_after_ten);
        let borrowed = std::cell::RefCell::new(0);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut turns = borrowed.borrow_mut();
            for _ in checked(0..100) {
                *turns += 1;
            }
        }));
        assert!(ended.is_err());
        // Nine turns were made, and the borrow was given back.
        assert_eq!(*borrowed.borrow(), 9);
        install(|| ());
    }
}
