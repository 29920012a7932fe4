//! Operations on instances: start, read, wait, change, delete.

pub(crate) mod again;
pub(crate) mod bulk;
pub(crate) mod control;
pub(crate) mod family;
pub(crate) mod filter;
#[cfg(feature = "http")]
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod history_query;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod open_work;
pub(crate) mod pending;
pub(crate) mod purge;
pub(crate) mod recorded;
pub(crate) mod requests;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod tags;
pub(crate) mod values;
pub(crate) mod wait;
pub(crate) mod wait_words;
pub(crate) mod waits;
