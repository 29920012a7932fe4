//! The rows of a hub, as a copy of the hub reads and writes them.

pub(in crate::store) mod read;
pub(in crate::store) mod write;
