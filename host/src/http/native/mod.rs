//! Perennial's own API below `/api/v1`.
//!
//! Laws: one table of operations is both the routes and the OpenAPI document, so neither has what the other lacks; what
//! changes something is done only where every parameter is known.

mod again;
mod bulk;
mod doc;
mod extract;
mod feed;
mod histories;
mod hub;
mod instances;
mod live;
mod modules;
mod reply;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use futures::future::{Either, Ready, ready};
use tower::{Layer, Service};

use crate::http::query::{BadParameter, Known, Query};
use crate::http::{Api, wire};
use doc::Operation;

pub(super) use extract::{Failed, failure};
pub(super) use feed::Told;
pub(super) use live::Live;

/// Where it is.
pub(super) const BASE: &str = "/api/v1";

/// Whether a path belongs to it.
pub(super) fn is_below(path: &str) -> bool {
    path.starts_with(BASE)
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
            let names = operation.query_names().into();
            operation.handler.layer(OnlyLayer(names))
        };
        routes = routes.route(&format!("{BASE}{}", operation.path), handler);
    }
    routes
        .route(&format!("{BASE}/{{*rest}}"), axum::routing::any(no_route))
        .method_not_allowed_fallback(other_method)
}

/// Lets requests through that have the parameters of which the document tells, and no others: what changes something must not do more, or
/// something else, than its caller wrote.
#[derive(Clone)]
struct Only<S> {
    inner: S,
    /// The parameters, and whether each may be there more than once.
    names: Arc<[(String, bool)]>,
}

#[derive(Clone)]
struct OnlyLayer(Arc<[(String, bool)]>);

impl<S> Layer<S> for OnlyLayer {
    type Service = Only<S>;

    fn layer(&self, inner: S) -> Only<S> {
        let names = Arc::clone(&self.0);
        Only { inner, names }
    }
}

impl<S> Service<Request> for Only<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.unknown(request.uri()) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(bad) => Either::Left(ready(Ok(Failed::from(bad).into_response()))),
        }
    }
}

impl<S> Only<S> {
    fn unknown(&self, uri: &Uri) -> Result<(), BadParameter> {
        if uri.query().is_none() {
            return Ok(());
        }
        let known = self.names.iter().map(|(name, many)| Known {
            name,
            many: *many,
            empty: false,
        });
        let known: Vec<Known<'_>> = known.collect();
        Query::of(uri).only(&known)
    }
}

/// There is nothing at this path of the API.
async fn no_route(head: axum::http::request::Parts) -> Response {
    not_here(&head, StatusCode::NOT_FOUND, "")
}

/// The path is one of the API, and its methods are others: the router adds the header `Allow`, which names them.
async fn other_method(head: axum::http::request::Parts) -> Response {
    let but = ", only other methods of the same path";
    not_here(&head, StatusCode::METHOD_NOT_ALLOWED, but)
}

fn not_here(head: &axum::http::request::Parts, status: StatusCode, but: &str) -> Response {
    let (method, path) = (&head.method, head.uri.path());
    let message =
        format!("there is no {method} {path} in this API{but}; {BASE}/openapi.json describes it");
    failure(status, &message)
}

/// The OpenAPI document, as JSON.
fn document() -> String {
    doc::document(BASE, operations()).to_string()
}
