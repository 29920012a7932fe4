//! The dashboard of Perennial: what durable workflows do, what is stuck and why, and what can be done about it, in a browser.
//!
//! [`pages`] is a router for [`Api::pages`](perennial::http::Api::pages), which adds it to the HTTP API below `/ui`; [`router`] is both
//! together, for programs that embed a host:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let host = perennial::Host::builder().start().await?;
//! let app = axum::Router::new().nest_service("/flows", perennial_dashboard::router(host.client()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: pages use only the public API of a [`Client`]; all text from a hub is escaped, and characters in it that nobody sees are written out; no page has an inline script or style;
//! pages can be read without JavaScript; a change needs the token of the visitor's forms and a key that permits it; nothing runs while
//! nobody looks, except a command on many instances that a visitor gave.
#![warn(clippy::too_many_lines)]
#![allow(
    clippy::result_large_err,
    reason = "what a handler returns instead of its page is a page too"
)]

mod admit;
mod assets;
mod change;
mod export;
mod fields;
mod guard;
mod instance;
mod instances;
mod layout;
mod link;
mod modules;
mod notice;
mod overview;
mod page;
mod payload;
mod refused;
mod show;
mod sign;
mod start;
mod visible;
mod visit;
mod workers;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;
use perennial::Client;
use perennial::http::Api;

/// The pages, for [`Api::pages`](perennial::http::Api::pages).
pub fn pages() -> Router {
    Router::new()
        .route("/", get(admit::to_default_hub))
        .route("/{hub}", get(admit::to_overview))
        .merge(sign::routes())
        .merge(overview::routes())
        .merge(instances::routes())
        .merge(instance::routes())
        .merge(start::routes())
        .merge(modules::routes())
        .merge(workers::routes())
        .fallback(admit::nothing_there)
        .method_not_allowed_fallback(admit::other_method)
        .layer(from_fn(guard::guard))
        .layer(from_fn(start::keep_typed))
        .merge(assets::routes())
}

/// The HTTP API of a task hub and its dashboard below `/ui`, without access control: put your program's own protection in front.
pub fn router(client: Client) -> Router {
    Api::new(client).pages(pages()).into_router()
}
