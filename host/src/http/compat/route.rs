//! Parses the routes of the Durable Functions API.

use axum::http::Method;

/// An operation with its path parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Start { name: String, id: Option<String> },
    List,
    PurgeMany,
    Status(String),
    Purge(String),
    RaiseEvent { id: String, event: String },
    Terminate(String),
    Suspend(String),
    Resume(String),
    Rewind(String),
    Restart(String),
    RestartWithOptions(String),
    MakePrimary,
    Entities,
}

/// Parses a method and the part of a path after the base; `None` if no operation matches.
///
/// Fixed path segments match in any case of letters, and a trailing slash is ignored.
pub(crate) fn route(method: &Method, path: &str) -> Option<Route> {
    let segments = segments(path)?;
    let mut segments = segments.iter().map(String::as_str);
    let collection = segments.next()?.to_ascii_lowercase();
    let rest: Vec<&str> = segments.collect();
    let reads = method == Method::GET || method == Method::HEAD;
    match (collection.as_str(), &rest[..]) {
        ("orchestrators", [name]) if method == Method::POST => Some(Route::Start {
            name: (*name).to_owned(),
            id: None,
        }),
        ("orchestrators", [name, id]) if method == Method::POST => Some(Route::Start {
            name: (*name).to_owned(),
            id: Some((*id).to_owned()),
        }),
        ("instances", []) if reads => Some(Route::List),
        ("instances", []) if method == Method::DELETE => Some(Route::PurgeMany),
        ("instances", [id]) if reads => Some(Route::Status((*id).to_owned())),
        ("instances", [id]) if method == Method::DELETE => Some(Route::Purge((*id).to_owned())),
        ("instances", [id, operation, rest @ ..]) if method == Method::POST => {
            of_instance(id, operation, rest)
        }
        ("makeprimary", []) if method == Method::POST => Some(Route::MakePrimary),
        ("entities", _) => Some(Route::Entities),
        _ => None,
    }
}

fn of_instance(id: &str, operation: &str, rest: &[&str]) -> Option<Route> {
    let id = id.to_owned();
    match (operation.to_ascii_lowercase().as_str(), rest) {
        ("raiseevent", [event]) => Some(Route::RaiseEvent {
            id,
            event: (*event).to_owned(),
        }),
        ("terminate", []) => Some(Route::Terminate(id)),
        ("suspend", []) => Some(Route::Suspend(id)),
        ("resume", []) => Some(Route::Resume(id)),
        ("rewind", []) => Some(Route::Rewind(id)),
        ("restart", []) => Some(Route::Restart(id)),
        ("restartwithoptions", []) => Some(Route::RestartWithOptions(id)),
        _ => None,
    }
}

/// The decoded segments of a path; `None` if one is empty or not UTF-8.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/')
        .map(|segment| {
            let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
            decoded.ok().filter(|text| !text.is_empty())
        })
        .map(|segment| segment.map(std::borrow::Cow::into_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<Route> {
        route(&Method::GET, path)
    }

    fn post(path: &str) -> Option<Route> {
        route(&Method::POST, path)
    }

    #[test]
    fn words_are_known_in_any_case_and_with_a_slash_behind() {
        assert_eq!(get("/instances/"), Some(Route::List));
        assert_eq!(get("/Instances/a"), Some(Route::Status("a".to_owned())));
        let raised = Some(Route::RaiseEvent {
            id: "a".to_owned(),
            event: "Go".to_owned(),
        });
        assert_eq!(post("/instances/a/RAISEEVENT/Go/"), raised);
    }

    #[test]
    fn ids_are_decoded_once() {
        assert_eq!(
            get("/instances/a%2Fb"),
            Some(Route::Status("a/b".to_owned()))
        );
        assert_eq!(
            get("/instances/a%252Fb"),
            Some(Route::Status("a%2Fb".to_owned()))
        );
        assert_eq!(
            get("/instances/%C3%A9"),
            Some(Route::Status("é".to_owned()))
        );
        assert_eq!(get("/instances/%FF"), None);
        assert_eq!(get("/instances/a+b"), Some(Route::Status("a+b".to_owned())));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in [
            "",
            "/",
            "//",
            "/instances//",
            "/instances/a/b",
            "/orchestrators/a",
            "/x",
        ] {
            assert_eq!(get(path), None, "{path}");
        }
        for path in [
            "/instances",
            "/instances/a",
            "/instances/a/raiseEvent",
            "/instances/a/terminate/b",
        ] {
            assert_eq!(post(path), None, "{path}");
        }
    }
}
