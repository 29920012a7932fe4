//! Worker threads, and the sharing of processor time.

pub(crate) mod lanes;
pub(crate) mod processors;
pub(crate) mod shares;
pub(crate) mod threads;
