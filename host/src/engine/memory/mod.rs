//! Instances in memory, and callers that wait for them.

pub(crate) mod asked;
pub(crate) mod elsewhere;
pub(crate) mod slots;
pub(crate) mod waiters;
