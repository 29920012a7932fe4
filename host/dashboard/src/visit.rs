//! Who asks for a page, and under which path the pages are.

use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use perennial::http::Visitor;

/// The path below a hub at which a key is sent.
pub(crate) const SIGN_IN: &str = "/sign-in";

/// The path below a hub that signs out.
pub(crate) const SIGN_OUT: &str = "/sign-out";

/// Who asks. It is missing only if the pages were mounted without [`Api::pages`](perennial::http::Api::pages).
pub(crate) fn visitor(head: &Parts) -> Result<Visitor, Response> {
    head.extensions.get::<Visitor>().cloned().ok_or_else(|| {
        let message = "These pages must be mounted with Api::pages.\n";
        (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
    })
}

/// Whether a path is this one below a hub, such as [`SIGN_IN`].
pub(crate) fn is_at(path: &str, below_hub: &str) -> bool {
    let hub_and_rest = path.trim_start_matches('/').split_once('/');
    hub_and_rest.is_some_and(|(_, rest)| Some(rest) == below_hub.strip_prefix('/'))
}

/// The path of the pages, without a trailing slash.
pub(crate) fn base(visitor: &Visitor) -> String {
    format!("{}/ui", visitor.mount())
}
