//! The gRPC server as the SDKs of Durable Task see it: each management call, each status code, and what a server must withstand.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "grpc/access.rs"]
mod access;
#[path = "grpc/control.rs"]
mod control;
#[rustfmt::skip]
#[path = "grpc/generated.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    unused_qualifications,
    reason = "generated code"
)]
mod generated;
#[path = "grpc/history.rs"]
mod history;
#[path = "grpc/hubs.rs"]
mod hubs;
#[path = "grpc/lists.rs"]
mod lists;
#[path = "grpc/raw.rs"]
mod raw;
#[path = "grpc/see.rs"]
mod see;
#[path = "grpc/starts.rs"]
mod starts;
