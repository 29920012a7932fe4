//! The list of instances, and what can be done with many of them at once.
//!
//! Invariants: the query of the URL says what is listed, exported or changed; nothing here counts or reads all instances of a hub, except
//! where the visitor asks for a count or an export; a command on many instances is explained and counted before it can be given. Paths of
//! operations are not below that of the list, because an instance may have any id.

mod command;
mod confirm;
mod export;
mod filters;
mod jobs;
mod list;
mod picked;
mod result;
mod search;
mod table;

use axum::Router;
use axum::routing::{get, post};

use crate::instances::jobs::Jobs;

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/{hub}/instances", get(list::page))
        .route("/{hub}/instances.csv", get(export::csv))
        .route("/{hub}/instances.json", get(export::json))
        .route("/{hub}/instances.jsonl", get(export::lines))
        .route("/{hub}/count", get(list::count))
        .route("/{hub}/bulk", get(confirm::to_list).post(confirm::run))
        .route(
            "/{hub}/bulk/confirm",
            get(confirm::to_list).post(confirm::page),
        )
        .route("/{hub}/bulk/{key}", get(result::page))
        .route("/{hub}/bulk/{key}/stop", post(result::stop))
        .with_state(Jobs::default())
}
