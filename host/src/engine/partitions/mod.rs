//! The partitions of the hub that this engine runs: which they are, and how it begins and ends to run one while it works.

pub(crate) mod members;
mod moves;
pub(in crate::engine) mod owned;
mod plan;
