//! What holds for all pages: who may change something, and what a browser may do with a page.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use maud::{Markup, html};
use perennial::http::UnreadBody;

use crate::change::Notices;
use crate::fields::{FIELDS_MAX, Fields};
use crate::show::sentence;
use crate::visit::{SIGN_IN, SIGN_OUT, is_at, visitor};
use crate::{layout, show, sign};

/// Scripts, styles and forms of this server only; nothing inline, nothing of other hosts, not within other pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The header with which scripts send the token of forms.
const TOKEN_HEADER: &str = "x-form-token";

/// The media type of forms.
const FORM: &str = "application/x-www-form-urlencoded";

/// Whether a body is a form, whatever the case and the parameters of its media type.
fn is_form(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE);
    let text = media_type.and_then(|media_type| media_type.to_str().ok());
    let kind = text.and_then(|text| text.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
}

/// Lets nothing pass that changes something and was not sent by a page of this visitor, and gives each page its policy. The fields of a form
/// are among the extensions afterwards, and so is what an earlier change has to tell.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let notices = Notices::of(&mut head);
    let response = match admitted(Request::from_parts(head, body)).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    };
    with_policy(notices.on(response))
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
    let signs_in = is_at(head.uri.path(), SIGN_IN);
    let is_door = signs_in || is_at(head.uri.path(), SIGN_OUT);
    if visitor.role().is_none() && !signs_in {
        return Err(sign::asked(&visitor, &head.uri, None));
    }
    let refused = |status, why: Markup| Err(layout::bare(status, &visitor, "Refused", why));
    if !visitor.may_change() && !is_door {
        let why = html! { p { "This key may only read." } };
        return refused(StatusCode::FORBIDDEN, why);
    }
    if let Some(unread) = head.extensions.get::<UnreadBody>() {
        let why = html! { p { (sentence(unread.message())) " Nothing was changed." } };
        return refused(unread.status(), why);
    }
    // The host has bounded it.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        let why = html! { p { "The form did not arrive whole; send it again." } };
        return refused(StatusCode::BAD_REQUEST, why);
    };
    let is_form = is_form(&head.headers);
    let fields = match is_form {
        true => Fields::parse_form(&bytes),
        false => Ok(Fields::default()),
    };
    let fields = match fields {
        Ok(fields) => fields,
        Err(count) => {
            let why = html! {
                p { "The form has " (show::count(count as u64)) " fields, and at most " (show::count(FIELDS_MAX as u64)) " are taken. "
                    "Nothing was changed." }
            };
            return refused(StatusCode::PAYLOAD_TOO_LARGE, why);
        }
    };
    let in_header = head.headers.get(TOKEN_HEADER);
    let token = in_header
        .and_then(|token| token.to_str().ok())
        .or_else(|| fields.text("token"));
    if token.is_none() && !is_form {
        let why = html! {
            p { "This needs the fields of a form of a page, of the media type " code { (FORM) } ". Nothing was changed." }
            p { "Programs use the HTTP API instead." }
        };
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    if !token.is_some_and(|token| visitor.is_form_token(token)) {
        let why = html! {
            p { "The form was made for another key, or before you signed in or out. Nothing was changed." }
            p { "Go back, reload the page, and send it again." }
        };
        return refused(StatusCode::FORBIDDEN, why);
    }
    head.extensions.insert(fields);
    Ok(Request::from_parts(head, Body::from(bytes)))
}
