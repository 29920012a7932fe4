//! What an instance waits for: activities and their attempts, and everything that comes due.

pub(crate) mod activities;
pub(crate) mod attempts;
pub(crate) mod backoff;
pub(crate) mod fair_queue;
pub(crate) mod ready;
pub(crate) mod timers;
