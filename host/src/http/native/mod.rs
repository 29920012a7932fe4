//! Perennial's own API below `/api/v1`.
//!
//! Invariants: the routes and the OpenAPI document come from one table of operations, so they always agree; an operation that changes
//! something is refused if a parameter is unknown.

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
mod notices;
mod reply;
mod requests;
mod sent;
mod values;

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

pub(super) use extract::{Failed, failure, read_body};
pub(super) use feed::Told;
pub(super) use live::Live;

/// The base path.
pub(super) const BASE: &str = "/api/v1";

/// Whether a path belongs to this API.
pub(super) fn is_below(path: &str) -> bool {
    path.starts_with(BASE)
}

fn operations() -> Vec<Operation> {
    let mut all = hub::operations();
    all.extend(instances::operations());
    all.extend(requests::operations());
    all.extend(values::operations());
    all.extend(bulk::operations());
    all.extend(histories::operations());
    all.extend(live::operations());
    all.extend(notices::operations());
    all.extend(modules::operations());
    all
}

pub(super) fn routes() -> Router<Arc<Api>> {
    let document = document();
    let mut routes = Router::new().route(
        &format!("{BASE}/openapi.json"),
        get(async move || wire::json_text(StatusCode::OK, &document)),
    );
    for operation in operations() {
        let only = OnlyLayer {
            names: operation.query_names().into(),
            // What is read by an empty parameter is what is read without it.
            empty: operation.method == "GET",
        };
        let handler = operation.handler.layer(only);
        routes = routes.route(&format!("{BASE}{}", operation.path), handler);
    }
    routes
        .route(&format!("{BASE}/{{*rest}}"), axum::routing::any(no_route))
        .method_not_allowed_fallback(other_method)
}

/// Admits requests only with documented parameters. Ignoring an unknown one could change or show more, or other things, than the caller meant.
#[derive(Clone)]
struct Only<S> {
    inner: S,
    /// The parameters, and whether each may be repeated.
    names: Arc<[(String, bool)]>,
    /// Whether they may be empty.
    empty: bool,
}

#[derive(Clone)]
struct OnlyLayer {
    names: Arc<[(String, bool)]>,
    empty: bool,
}

impl<S> Layer<S> for OnlyLayer {
    type Service = Only<S>;

    fn layer(&self, inner: S) -> Only<S> {
        let Self { names, empty } = self.clone();
        Only {
            inner,
            names,
            empty,
        }
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
            empty: self.empty,
        });
        let known: Vec<Known<'_>> = known.collect();
        Query::of(uri).only(&known)
    }
}

/// No operation has this path.
async fn no_route(head: axum::http::request::Parts) -> Response {
    not_here(&head, StatusCode::NOT_FOUND, "")
}

/// The path has other methods. The router adds the header `Allow`, which lists them.
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

fn document() -> String {
    doc::document(BASE, operations()).to_string()
}
