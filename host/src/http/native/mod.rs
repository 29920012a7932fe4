//! The API of Perennial's own, below `/api/v1`: what the compatible one cannot say.
//!
//! Laws: one table of operations is both the routes and the OpenAPI document, so neither has what the other lacks; what
//! changes something is done only where every parameter is known.

mod ask;
mod bulk;
mod doc;
mod feed;
mod histories;
mod hub;
mod instances;
mod live;
mod modules;
mod schemas;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use crate::http::query::{Known, Query};
use crate::http::{Api, wire};
use doc::Doc;

pub(super) use ask::{Failed, failure};
pub(super) use feed::Told;
pub(super) use live::Live;

/// Where it is.
pub(super) const BASE: &str = "/api/v1";

/// Whether a path belongs to it.
pub(super) fn is_below(path: &str) -> bool {
    path.starts_with(BASE)
}

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
    all.extend(bulk::operations());
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
        let handler = if operation.method == "GET" {
            operation.handler
        } else {
            only(&operation.doc, operation.handler)
        };
        routes = routes.route(&format!("{BASE}{}", operation.path), handler);
    }
    routes
        .route(&format!("{BASE}/{{*rest}}"), axum::routing::any(no_route))
        .method_not_allowed_fallback(no_route)
}

/// Lets requests through that have the parameters of which the document tells, and no others: what changes something must not do more, or
/// something else, than its caller wrote.
fn only(doc: &Doc, handler: MethodRouter<Arc<Api>>) -> MethodRouter<Arc<Api>> {
    let names: Arc<[(String, bool)]> = doc.query_names().into();
    handler.layer(from_fn(move |request: Request, next: Next| {
        let names = Arc::clone(&names);
        async move {
            if request.uri().query().is_some() {
                let known = names.iter().map(|(name, many)| Known {
                    name,
                    many: *many,
                    empty: false,
                });
                let known: Vec<Known<'_>> = known.collect();
                if let Err(bad) = Query::of(request.uri()).only(&known) {
                    return Failed::from(bad).into_response();
                }
            }
            next.run(request).await
        }
    }))
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
