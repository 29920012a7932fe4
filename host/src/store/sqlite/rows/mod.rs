//! The tables of a hub: reading and writing rows.

pub(crate) mod commands;
pub(crate) mod cuts;
pub(crate) mod histories;
pub(crate) mod inbox;
pub(crate) mod instances;
pub(crate) mod keys;
pub(crate) mod list;
#[cfg(test)]
pub(crate) mod load;
pub(crate) mod looks;
pub(crate) mod modules;
pub(crate) mod overview;
pub(crate) mod queries;
pub(crate) mod reader;
pub(crate) mod requests;
mod settings;
pub(crate) mod sql;
mod stored;
pub(crate) mod tags;
pub(crate) mod tasks;
mod turns;
pub(crate) mod values;
pub(crate) mod wait_counts;
pub(crate) mod walks;
