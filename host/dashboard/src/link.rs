//! Paths and queries, with every part escaped.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand in a part of a path as it is.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One part of a path.
pub(crate) fn part(text: &str) -> String {
    // Browsers take these two for steps in the path, escaped or not.
    match text {
        "." | ".." => String::new(),
        _ => utf8_percent_encode(text, PART).to_string(),
    }
}

/// A query, with its question mark; empty without any pairs. Pairs with an empty value are left out.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if !value.is_empty() {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        empty if empty.is_empty() => empty,
        query => format!("?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_place_in_a_url() {
        assert_eq!(part("a/b?c#d%"), "a%2Fb%3Fc%23d%25");
        assert_eq!(part("<é>"), "%3C%C3%A9%3E");
        assert_eq!(query([("a", "1&b=2"), ("c", "")]), "?a=1%26b%3D2");
        assert_eq!(query([]), "");
    }
}
