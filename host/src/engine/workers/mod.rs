//! The threads that run turns, and how processor time is shared.

pub(crate) mod lanes;
pub(crate) mod processors;
pub(crate) mod shares;
pub(crate) mod threads;
