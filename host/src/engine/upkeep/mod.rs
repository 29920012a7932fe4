//! Retention, quotas and statistics.

pub(crate) mod counts;
pub(crate) mod durations;
pub(crate) mod quotas;
pub(crate) mod retention;
pub(crate) mod stats;
