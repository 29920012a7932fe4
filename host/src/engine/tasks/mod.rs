//! Tasks of instances: activities and their attempts, and everything with a due time.

pub(crate) mod activities;
pub(crate) mod attempts;
pub(crate) mod backoff;
mod cut_off;
mod drain;
mod due;
pub(crate) mod fair_queue;
pub(crate) mod heart;
pub(crate) mod once;
pub(crate) mod ready;
pub(crate) mod remote;
pub(crate) mod timers;
