//! What became of an attempt to reach a row without SQL.

/// What was done, or why it was left to SQL.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Way {
    Direct,
    /// The setting is off.
    Off,
    /// An earlier call of this backend had an unexpected result.
    Failed,
    /// Above READ COMMITTED.
    Isolation,
    /// A read-only transaction, or a standby.
    ReadOnly,
    /// A parallel operation.
    Parallel,
    /// An extension checks permissions.
    Hook,
    /// The table is not as declared, or is changing.
    Table,
    /// The function's owner may not do all that it takes.
    Permission,
    /// There is no such row.
    Missing,
    /// Another session has the row, or has just changed it.
    Contended,
    /// This call has written the row by SQL.
    Written,
    /// What must not be: from now on this backend uses SQL.
    Unexpected,
}

/// As `direct_access_counts` names them.
pub const WAYS: [&str; 13] = [
    "direct",
    "setting",
    "failed",
    "isolation",
    "read_only",
    "parallel",
    "hook",
    "table",
    "permission",
    "missing",
    "contended",
    "written",
    "unexpected",
];
