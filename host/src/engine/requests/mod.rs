//! Requests of clients, and how they become changes of the hub.

pub(crate) mod bounds;
pub(crate) mod commands;
pub(crate) mod intake;
mod judge;
pub(crate) mod owner;
pub(crate) mod refused;
pub(crate) mod request;
pub(crate) mod rewind;
mod routing;
mod stepped;
pub(crate) mod steps;
