//! Refuses HTTP features that this server does not support.
//!
//! If it ignored an unknown content encoding, for example, it would misread the body.

use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;

use crate::http::{failure, wire};
use crate::limits::http::{HEAD_BYTES, QUERY_PARAMETERS};

/// The answer to a request that needs an unsupported feature.
pub(super) fn refusal(head: &Parts) -> Option<Response> {
    let refused = |status, message: &str| Some(failure(head.uri.path(), status, message));
    if head_bytes(head) > HEAD_BYTES {
        let message = format!(
            "The request line and the headers are larger than {} KiB.",
            HEAD_BYTES >> 10
        );
        return refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &message);
    }
    let parameters = head.uri.query().map_or(0, |query| query.split('&').count());
    if parameters > QUERY_PARAMETERS {
        let message = format!(
            "The query has {parameters} parameters; at most {QUERY_PARAMETERS} are allowed."
        );
        return refused(StatusCode::URI_TOO_LONG, &message);
    }
    if !is_only(head, &header::TRANSFER_ENCODING, "chunked") {
        let message = "This server knows no Transfer-Encoding but chunked.";
        return refused(StatusCode::NOT_IMPLEMENTED, message);
    }
    if !is_only(head, &header::CONTENT_ENCODING, "identity") {
        let message = "This server takes bodies as they are: send it without a Content-Encoding.";
        let refused = refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)?;
        return Some(wire::with_header(
            refused,
            header::ACCEPT_ENCODING,
            "identity",
        ));
    }
    if !is_only(head, &header::EXPECT, "100-continue") {
        let message = "This server knows no Expect but 100-continue.";
        return refused(StatusCode::EXPECTATION_FAILED, message);
    }
    None
}

/// Whether a header is absent or has exactly this value, in any case of letters.
fn is_only(head: &Parts, name: &HeaderName, value: &str) -> bool {
    let mut values = head.headers.get_all(name).iter();
    values.all(|is| is.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
}

/// The approximate size of the head in bytes.
fn head_bytes(head: &Parts) -> usize {
    let line = |name: &HeaderName, bytes: usize| name.as_str().len() + bytes + ": \r\n".len();
    let headers = head.headers.iter();
    let headers: usize = headers.map(|(name, value)| line(name, value.len())).sum();
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    target + headers
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn answered(name: &str, value: &str) -> Option<u16> {
        let request = Request::builder()
            .uri("/api/v1/instances")
            .header(name, value);
        let (head, ()) = request.body(()).unwrap().into_parts();
        refusal(&head).map(|response| response.status().as_u16())
    }

    #[test]
    fn what_is_not_done_is_refused() {
        assert_eq!(answered("transfer-encoding", "Chunked"), None);
        assert_eq!(answered("transfer-encoding", "gzip, chunked"), Some(501));
        assert_eq!(answered("content-encoding", "identity"), None);
        assert_eq!(answered("content-encoding", "gzip"), Some(415));
        assert_eq!(answered("expect", "100-Continue"), None);
        assert_eq!(answered("expect", "200-ok"), Some(417));
        assert_eq!(answered("x-anything", &"x".repeat(60_000)), None);
        assert_eq!(answered("x-anything", &"x".repeat(HEAD_BYTES)), Some(431));
    }

    #[test]
    fn a_query_has_so_many_parameters() {
        let answered = |count: usize| {
            let uri = format!("/api/v1/instances?{}", vec!["a=1"; count].join("&"));
            let (head, ()) = Request::get(uri).body(()).unwrap().into_parts();
            refusal(&head).map(|response| response.status().as_u16())
        };
        assert_eq!(answered(QUERY_PARAMETERS), None);
        assert_eq!(answered(QUERY_PARAMETERS + 1), Some(414));
    }
}
