//! The gRPC server for the Durable Task SDKs: their clients manage instances, their workers run orchestrations and activities.
//!
//! Invariants: the calls use only a [`Client`](crate::Client) and know nothing of connections, keys and limits, which `http/grpc.rs` has;
//! translation is one file in each direction; payloads come back exactly as an SDK sent them.

mod failure;
mod from_wire;
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
mod manage;
mod payload;
mod service;
mod status;
mod time;
mod to_wire;
mod workers;

pub(crate) use generated::task_hub_sidecar_service_server::{
    SERVICE_NAME, TaskHubSidecarServiceServer,
};
pub(crate) use manage::hub::Hub;
pub(crate) use service::{Service, may_read};
pub(crate) use status::shutting_down;
pub(crate) use workers::Workers;
