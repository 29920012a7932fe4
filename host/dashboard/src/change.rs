//! What becomes of a change: back to where it was made, with a sentence about what happened.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use crate::fields::Fields;
use crate::link;
use crate::page::Page;
use crate::refused::Refused;

/// The fields of a form that a page of the visitor sent. Only requests that may change something have them: see [`crate::guard`].
#[derive(Clone, Debug)]
pub(crate) struct Sent(pub(crate) Fields);

impl<S: Send + Sync> FromRequestParts<S> for Sent {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Response> {
        let fields = head.extensions.get::<Fields>().cloned();
        fields.map(Self).ok_or_else(|| {
            let message = "This needs the fields of a form.\n";
            (StatusCode::BAD_REQUEST, message).into_response()
        })
    }
}

/// Leads to a page, which says what was done.
pub(crate) fn done(to: &str, what: &str) -> Response {
    lead(to, "done", what)
}

/// Leads back to a page, which says why nothing was done.
pub(crate) fn refused(to: &str, why: &Refused) -> Response {
    lead(to, "refused", &why.message)
}

fn lead(to: &str, name: &str, text: &str) -> Response {
    let (path, before) = to.split_once('?').unwrap_or((to, ""));
    let known = Fields::parse(before.as_bytes());
    let others = known.pairs().filter(|(name, _)| !is_notice(name));
    let query = link::query(others.chain([(name, text)]));
    Redirect::to(&format!("{path}{query}")).into_response()
}

fn is_notice(name: &str) -> bool {
    matches!(name, "done" | "refused")
}

/// What a change that led to this page did. The text comes with the URL, so it is shown as a quotation of this page, never as markup.
pub(crate) fn notice(page: &Page) -> Markup {
    html! {
        @if let Some(text) = page.query.text("done") { p.done role="status" { (text) } }
        @if let Some(text) = page.query.text("refused") { p.error role="alert" { (text) } }
    }
}
