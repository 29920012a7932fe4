//! The API of Perennial's own, below `/api/v1`: what the compatible one cannot say.
//!
//! Law: one table of operations is both the routes and the OpenAPI document, so neither has what the other lacks.

mod ask;
mod doc;
mod histories;
mod hub;
mod instances;
mod live;
mod modules;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, get};

use crate::http::{Api, wire};
use doc::Doc;

pub(super) use ask::failure;

/// Where it is.
pub(super) const BASE: &str = "/api/v1";

/// One operation: where it is, what is said of it, and what does it.
struct Operation {
    method: &'static str,
    path: &'static str,
    doc: Doc,
    handler: MethodRouter<Arc<Api>>,
}

fn operations() -> Vec<Operation> {
    let mut all = hub::operations();
    all.extend(instances::operations());
    all.extend(histories::operations());
    all.extend(live::operations());
    all.extend(modules::operations());
    all
}

/// The routes.
pub(super) fn routes() -> Router<Arc<Api>> {
    let document = document();
    let mut routes = Router::new().route(
        &format!("{BASE}/openapi.json"),
        get(async move || wire::json_text(StatusCode::OK, &document)),
    );
    for operation in operations() {
        routes = routes.route(&format!("{BASE}{}", operation.path), operation.handler);
    }
    routes
        .route(&format!("{BASE}/{{*rest}}"), axum::routing::any(no_route))
        .method_not_allowed_fallback(no_route)
}

async fn no_route(head: axum::http::request::Parts) -> Response {
    let message = format!(
        "there is no {} {} in this API; {BASE}/openapi.json describes it",
        head.method,
        head.uri.path()
    );
    failure(StatusCode::NOT_FOUND, &message)
}

/// The OpenAPI document, as JSON.
fn document() -> String {
    let operations = operations();
    let described = operations
        .iter()
        .map(|operation| (operation.method, operation.path, &operation.doc));
    doc::document(BASE, described).to_string()
}
