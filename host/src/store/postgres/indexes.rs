//! How a query names the index of instances that it walks.
//!
//! PostgreSQL has no way to say it, and its statistics may mislead it: a table that was empty when it was analyzed last makes each index look
//! as good as another. So each index but those of the key and of the id has a condition in `schema.sql` that every instance fulfils and no
//! other index has, and PostgreSQL considers it only for a query with the same condition.
//!
//! Invariant: each read of instances has one key or id, or several, or exactly one of these conditions.

/// The condition of an index, by the name of the index after `instance_`.
macro_rules! by {
    (created) => {
        "key <> -1"
    };
    (status) => {
        "key <> -2"
    };
    (name) => {
        "key <> -3"
    };
    (version) => {
        "key <> -4"
    };
    (parent) => {
        "key <> -5"
    };
    (live) => {
        "key <> -6"
    };
    (ended) => {
        "key <> -7"
    };
}
pub(super) use by;
