//! Reads the access key of a request.

use axum::http::{HeaderMap, header};

use crate::http::query::Query;

/// The cookie in which a browser keeps a key for the pages is named after its hub.
pub(crate) const COOKIE: &str = "perennial-key-";

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

/// The key of a hub that a browser keeps.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, hub: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all.filter_map(|line| line.to_str().ok());
    pairs
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| name.strip_prefix(COOKIE) == Some(hub) && !value.is_empty())
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_of_its_hub() {
        let mut headers = HeaderMap::new();
        let line = "other=1; perennial-key-a=prn_1;perennial-key-b=; perennial-key-ab=prn_2";
        headers.insert(header::COOKIE, HeaderValue::from_static(line));
        assert_eq!(cookie(&headers, "a"), Some("prn_1"));
        assert_eq!(cookie(&headers, "ab"), Some("prn_2"));
        assert_eq!(cookie(&headers, "b"), None);
        assert_eq!(cookie(&headers, "c"), None);
    }
}
