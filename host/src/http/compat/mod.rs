//! The HTTP API of Durable Functions: its routes, codes, headers and bodies.

mod commands;
mod history;
mod links;
mod list;
mod reply;
mod route;
mod start;
mod status;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;

use perennial_core::Json;

use crate::client::{Client, parse_json};
use crate::http::Api;
use crate::http::origin::origin;
use crate::http::query::Query;
use commands::RestartOptions;
pub(super) use reply::{full, problem};
use route::{Route, route};

/// The base path of the webhooks.
pub(super) const WEBHOOKS: &str = "/runtime/webhooks/durabletask";

/// The base path of version 1.
const LEGACY: &str = "/admin/extensions/DurableTaskExtension";

/// The base path that the language SDKs use.
const RPC: &str = "/durabletask";

/// The routes.
pub(super) fn routes() -> Router<Arc<Api>> {
    let mut routes = Router::new();
    for base in [WEBHOOKS, LEGACY, RPC] {
        let handler =
            move |State(api): State<Arc<Api>>, request: Request| webhook(api, base, request);
        routes = routes.route(&format!("{base}/{{*rest}}"), any(handler));
    }
    let root = |State(api): State<Arc<Api>>, request: Request| root(api, request);
    routes.route("/orchestrators/{*rest}", any(root))
}

/// A request with the objects it refers to.
struct Call<'a> {
    api: &'a Api,
    client: &'a Client,
    query: Query,
    head: &'a Parts,
    /// The body, until it is taken as a payload, so that long waits do not hold it.
    body: Mutex<Bytes>,
    /// The base URL of links in the answer.
    base: String,
}

/// The answer to a request that is refused.
type Refused = Box<Response>;

async fn webhook(api: Arc<Api>, base: &'static str, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let rest = head.uri.path().strip_prefix(base).unwrap_or_default();
    let Some(route) = route(&head.method, rest) else {
        return reply::no_route(&head);
    };
    let links = if base == LEGACY { LEGACY } else { WEBHOOKS };
    let done = async {
        let body = reply::read_body(&api, &head, body).await?;
        dispatch(Call::new(&api, &head, body, links)?, route).await
    };
    done.await.unwrap_or_else(|refused| *refused)
}

/// The two routes of the curl examples in the articles, which are outside the base paths.
async fn root(api: Arc<Api>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let found = match route(&head.method, head.uri.path()) {
        Some(Route::Start { name, id: None }) => Some((name, false)),
        Some(Route::Start { name, id: Some(id) }) if id.eq_ignore_ascii_case("wait") => {
            Some((name, true))
        }
        _ => None,
    };
    let Some((name, wait)) = found else {
        return reply::no_route(&head);
    };
    let done = async {
        let body = reply::read_body(&api, &head, body).await?;
        let call = Call::new(&api, &head, body, WEBHOOKS)?;
        if wait {
            start::start_and_wait(&call, name).await
        } else {
            start::start(&call, name, None).await
        }
    };
    done.await.unwrap_or_else(|refused| *refused)
}

async fn dispatch(call: Call<'_>, route: Route) -> Result<Response, Refused> {
    match route {
        Route::Start { name, id } => start::start(&call, name, id).await,
        Route::List => list::list(&call).await,
        Route::Status(id) => status::status(&call, &id).await,
        Route::RaiseEvent { id, event } => commands::raise_event(&call, &id, &event).await,
        Route::Terminate(id) => commands::terminate(&call, &id).await,
        Route::Suspend(id) => commands::suspend(&call, &id).await,
        Route::Resume(id) => commands::resume(&call, &id).await,
        Route::Rewind(id) => commands::rewind(&call, &id).await,
        Route::Restart(id) => commands::restart(&call, &id, RestartOptions::default()).await,
        Route::RestartWithOptions(id) => commands::restart_with_options(&call, &id).await,
        Route::Purge(id) => commands::purge(&call, &id).await,
        Route::PurgeMany => commands::purge_many(&call).await,
        Route::MakePrimary => Ok(reply::ok()),
        Route::Entities => Ok(reply::no_entities()),
    }
}

impl<'a> Call<'a> {
    fn new(api: &'a Api, head: &'a Parts, body: Bytes, base: &str) -> Result<Self, Refused> {
        let query = Query::of(&head.uri);
        let hub = query.text("taskHub");
        let client = api
            .client(hub)
            .ok_or_else(|| reply::no_hub(hub.unwrap_or_default(), &api.hub_names()))?;
        Ok(Self {
            api,
            client,
            query,
            head,
            body: Mutex::new(body),
            base: format!("{}{base}", origin(&api.urls, head)),
        })
    }

    /// The body as a payload; `None` if it is empty.
    fn payload(&self) -> Result<Option<Json>, Refused> {
        let agent = self.header(header::USER_AGENT.as_str());
        let payload = reply::payload(&self.take_body())?;
        Ok(payload.map(|json| match agent {
            Some(agent) if writes_twice(agent) => written_once(json),
            _ => json,
        }))
    }

    fn take_body(&self) -> Bytes {
        std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A header that may be ignored if it is not ASCII.
    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// A header that must be ASCII. An empty one counts as absent.
    fn readable_header(&self, name: &str) -> Result<Option<&str>, Refused> {
        let Some(value) = self.head.headers.get(name) else {
            return Ok(None);
        };
        let text = value.to_str().map_err(|_| {
            reply::argument(&format!(
                "The header {name} has characters that are not ASCII."
            ))
        })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

/// Whether the client encodes payloads as JSON twice. The one for Python always does; its HTTP library is in the user agent. Durable
/// Functions also gives an orchestration the decoded inner text.
fn writes_twice(agent: &str) -> bool {
    agent.contains("aiohttp/")
}

/// Decodes a string that contains JSON; other JSON stays as it is.
fn written_once(json: Json) -> Json {
    if !json.as_str().trim_start().starts_with('"') {
        return json;
    }
    let inner = serde_json::from_str::<String>(json.as_str()).ok();
    let inner = inner.and_then(|text| parse_json(text).ok());
    inner.unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_twice_is_what_was_meant() {
        let once = |text: &str| written_once(parse_json(text).unwrap()).as_str().to_owned();
        assert_eq!(once(r#""{\"a\": 1}""#), r#"{"a": 1}"#);
        assert_eq!(once(r#""\"now\"""#), r#""now""#);
        assert_eq!(once(r#""null""#), "null");
        // Decoded only once: a string inside is meant as a string.
        assert_eq!(once(r#""\"{\\\"a\\\": 1}\"""#), r#""{\"a\": 1}""#);
        for other in [
            r#"{"a": "1"}"#,
            r#""hello""#,
            r#""{a}""#,
            "17",
            r#"["1"]"#,
            r#""""#,
        ] {
            assert_eq!(once(other), other);
        }
    }

    #[test]
    fn only_the_client_for_python_writes_twice() {
        assert!(writes_twice("Python/3.13 aiohttp/3.14.5"));
        for agent in ["axios/1.7.2", "curl/8.5.0", "python-requests/2.34.2", ""] {
            assert!(!writes_twice(agent), "{agent}");
        }
    }
}
