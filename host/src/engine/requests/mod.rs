//! What clients ask for, and how it becomes a change of the hub.

pub(crate) mod bounds;
pub(crate) mod intake;
pub(crate) mod owner;
pub(crate) mod refused;
pub(crate) mod request;
pub(crate) mod rewind;
pub(crate) mod steps;
