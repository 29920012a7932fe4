//! Reads the access key of a request.

use axum::http::HeaderMap;

use crate::http::query::Query;

pub(crate) fn secret<'a>(headers: &'a HeaderMap, query: &'a Query) -> Option<&'a str> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    header("x-functions-key")
        .or_else(|| {
            let (scheme, token) = header("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        })
        .or_else(|| query.text("code"))
        .filter(|secret| !secret.is_empty())
}
