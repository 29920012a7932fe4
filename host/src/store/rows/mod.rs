//! The tables of a hub: reading and writing rows.

pub(crate) mod commands;
pub(crate) mod filter;
pub(crate) mod instances;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod live;
mod looks;
pub(crate) mod modules;
pub(crate) mod overview;
pub(crate) mod parents;
pub(crate) mod queries;
pub(crate) mod reader;
pub(crate) mod requests;
mod stored;
pub(crate) mod tags;
pub(crate) mod tasks;
pub(crate) mod turns;
pub(crate) mod values;
pub(crate) mod wait_counts;
pub(crate) mod waits;
mod walks;
