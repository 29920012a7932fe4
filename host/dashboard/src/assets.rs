//! Style sheets and scripts, which are part of the program.
//!
//! Invariant: the path of an asset contains a hash of all of them, so a browser may keep it for ever.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($name:literal $kind:ident)*) => {
        &[$(($name, $kind, include_str!(concat!("../assets/", $name)))),*]
    };
}

/// Each asset: its name, its media type, its text.
const ASSETS: &[(&str, &str, &str)] = assets! {
    "app.css" CSS
    "app.js" JS
    "icon.svg" SVG
    "instance.css" CSS
    "instance.js" JS
    "instances.css" CSS
    "instances.js" JS
    "live.js" JS
    "modules.css" CSS
    "modules.js" JS
    "start.js" JS
    "theme.js" JS
    "timeline.js" JS
    "travel.css" CSS
    "travel.js" JS
};

/// A hash of all assets.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, _, text) in ASSETS {
        hash.update(name);
        hash.update(text);
    }
    let hash = hash.finalize();
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
});

/// The path of an asset below that of the pages.
pub(crate) fn path(name: &str) -> String {
    debug_assert!(ASSETS.iter().any(|(known, ..)| *known == name), "{name}");
    format!("/_/{}/{name}", *VERSION)
}

/// The names of all assets of a kind, by the end of the name.
pub(crate) fn ending(end: &'static str) -> impl Iterator<Item = &'static str> {
    ASSETS
        .iter()
        .map(|(name, ..)| *name)
        .filter(move |name| name.ends_with(end))
}

pub(crate) fn routes() -> Router {
    Router::new().route("/_/{version}/{name}", get(asset))
}

async fn asset(Path((version, name)): Path<(String, String)>) -> Response {
    let found = ASSETS.iter().find(|(known, ..)| *known == name);
    let Some((_, kind, text)) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // A page of an earlier program asks for an earlier version; it gets this one, and does not keep it.
    let cache = if version == *VERSION {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, *text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit is for what a browser must load; it is compressed by no one, so the plain size is what counts.
    #[test]
    fn all_assets_together_are_small() {
        let size: usize = ASSETS.iter().map(|(.., text)| text.len()).sum();
        assert!(size < 250_000, "{size} bytes");
    }

    #[test]
    fn no_asset_needs_another_host() {
        for (name, _, text) in ASSETS {
            let urls = text.matches("http://").count() + text.matches("https://").count();
            let own = text.matches("http://www.w3.org/").count();
            assert_eq!(urls, own, "{name}");
        }
    }
}
