//! The gRPC server for the Durable Task SDKs: their clients manage instances, their workers run orchestrations and activities.

/// The messages of the protocol and the trait of its service. A test generates this file from `proto/durabletask.proto`.
#[rustfmt::skip]
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    clippy::use_self,
    dead_code,
    missing_docs,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub(crate) mod generated;
