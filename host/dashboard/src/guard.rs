//! What holds for all pages: who may change something, and what a browser may do with a page.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use maud::html;

use crate::fields::Fields;
use crate::visit::{SIGN_IN, SIGN_OUT, visitor};
use crate::{layout, sign};

/// Scripts, styles and forms of this server only; nothing inline, nothing of other hosts, not within other pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The header with which scripts send the token of forms.
const TOKEN_HEADER: &str = "x-form-token";

/// Lets nothing pass that changes something and was not sent by a page of this visitor, and gives each page its policy. The fields of a form
/// are among the extensions afterwards.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let response = match admitted(request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    };
    with_policy(response)
}

fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let name = HeaderName::from_static;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (name("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn admitted(request: Request) -> Result<Request, Response> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    let (mut head, body) = request.into_parts();
    let visitor = visitor(&head)?;
    let signs_in = head.uri.path().ends_with(SIGN_IN);
    if visitor.role().is_none() && !signs_in {
        return Err(sign::asked(&visitor, &head.uri, None));
    }
    // It only makes the browser forget its key, which no page of another site can do: its request would not have the cookie.
    if head.uri.path().ends_with(SIGN_OUT) {
        head.extensions.insert(Fields::default());
        return Ok(Request::from_parts(head, Body::empty()));
    }
    if !visitor.may_change() && !signs_in {
        let why = html! { p { "This key may only read." } };
        return Err(layout::bare(
            StatusCode::FORBIDDEN,
            &visitor,
            "Refused",
            why,
        ));
    }
    // The host has bounded it.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        let why = html! { p { "The form did not arrive whole; send it again." } };
        return Err(layout::bare(
            StatusCode::BAD_REQUEST,
            &visitor,
            "Refused",
            why,
        ));
    };
    let media_type = head.headers.get(header::CONTENT_TYPE);
    let is_form = media_type.is_some_and(|kind| kind == "application/x-www-form-urlencoded");
    let fields = if is_form {
        Fields::parse(&bytes)
    } else {
        Fields::default()
    };
    let in_header = head.headers.get(TOKEN_HEADER);
    let token = in_header
        .and_then(|token| token.to_str().ok())
        .or_else(|| fields.text("token"));
    if !token.is_some_and(|token| visitor.is_form_token(token)) {
        let why = html! {
            p { "The form was made before the host was restarted, or for another key. Nothing was changed." }
            p { "Go back, reload the page, and send it again." }
        };
        return Err(layout::bare(
            StatusCode::FORBIDDEN,
            &visitor,
            "Refused",
            why,
        ));
    }
    head.extensions.insert(fields);
    Ok(Request::from_parts(head, Body::from(bytes)))
}
