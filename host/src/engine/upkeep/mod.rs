//! Retention, quotas, shortages and statistics.

pub(crate) mod counts;
pub(crate) mod durations;
pub(crate) mod quotas;
pub(crate) mod retention;
mod shortages;
pub(crate) mod stats;
