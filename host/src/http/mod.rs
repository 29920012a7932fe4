//! The HTTP server: the management API of Durable Functions, with which its published clients work unchanged, Perennial's own API, and gRPC
//! for the Durable Task SDKs.
//!
//! [`router`] returns an [`axum::Router`] that an embedding program can mount; [`Api`] configures one; [`serve`] runs it on a socket, with
//! limits, and drains it at shutdown.
//!
//! Invariants: the server uses only a [`Client`] and knows nothing of how instances run; an error that the caller caused says what to do,
//! any other error reveals nothing of the host's internals.

mod bill;
mod body;
mod closing;
mod compat;
#[cfg(feature = "grpc")]
mod grpc;
mod guard;
mod http2;
mod last_keys;
mod line;
mod metrics;
mod native;
mod ops;
mod origin;
mod paced;
mod pages;
mod permits;
mod places;
mod query;
mod request_metrics;
mod revoked;
mod secret;
mod serve;
mod session;
mod tls;
mod unsupported;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;

use crate::budget::Budget;
use crate::client::{Client, Error, Result};
use crate::http::closing::Closing;
use crate::http::guard::is_this_machine;
use crate::http::last_keys::LastKeys;
use crate::http::origin::UrlSettings;
use crate::http::permits::Access;
use crate::http::places::{Places, PlacesMax};
use crate::http::request_metrics::RequestMetrics;
use crate::http::revoked::Revocations;
use crate::limits::http as limits;

pub use pages::{UnreadBody, Visitor};
pub use permits::Permission;
pub use serve::serve;
pub use tls::Tls;

/// All routes over one task hub, without access control: put your program's own protection in front.
///
/// The gRPC service for the Durable Task SDKs is among them. It needs HTTP/2, which your server must speak (with the feature `http2` of axum),
/// and must be at the root: SDKs know no path before it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = perennial::Host::builder().start().await?;
/// let app = axum::Router::new().nest_service("/flows", perennial::http::router(host.client()));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// axum::serve(listener, app).await?;
/// # Ok(())
/// # }
/// ```
pub fn router(client: Client) -> Router {
    Api::new(client).into_router()
}

/// Configures what a router serves, and how.
#[derive(Clone, Debug)]
#[must_use = "it serves once it is made a router"]
pub struct Api {
    hubs: Vec<Client>,
    urls: UrlSettings,
    body_bytes_max: usize,
    budget: Budget,
    connections_max: usize,
    peer_connections_max: Option<usize>,
    wait_max: Duration,
    access: Access,
    origins: Vec<HeaderValue>,
    closing: Arc<Closing>,
    request_metrics: Arc<RequestMetrics>,
    live: Arc<OnceLock<native::Live>>,
    revocations: Arc<Revocations>,
    last_keys: Arc<LastKeys>,
    oldest: Arc<metrics::Oldest>,
    /// Simultaneous calls of gRPC.
    #[cfg(feature = "grpc")]
    calls: Budget,
    #[cfg(feature = "grpc")]
    work_streams: Arc<grpc::WorkStreams>,
    /// The connections of all servers of these settings.
    places: Arc<OnceLock<Arc<Places>>>,
    only_grpc: bool,
    /// What is served for people.
    pages: Option<Router>,
    /// The work items that are out.
    #[cfg(feature = "grpc")]
    workers: Arc<crate::grpc::Workers>,
}

impl Api {
    /// Serves a task hub.
    pub fn new(client: Client) -> Self {
        Self {
            hubs: vec![client],
            urls: UrlSettings::default(),
            body_bytes_max: limits::BODY_BYTES,
            budget: Budget::new(limits::MEMORY_BYTES),
            connections_max: limits::CONNECTIONS,
            peer_connections_max: None,
            wait_max: limits::WAIT,
            access: Access::default(),
            origins: Vec::new(),
            closing: Arc::default(),
            request_metrics: Arc::default(),
            live: Arc::default(),
            revocations: Arc::default(),
            last_keys: Arc::default(),
            oldest: Arc::default(),
            #[cfg(feature = "grpc")]
            calls: Budget::new(limits::CALLS as u64),
            #[cfg(feature = "grpc")]
            work_streams: Arc::default(),
            places: Arc::default(),
            only_grpc: false,
            pages: None,
            #[cfg(feature = "grpc")]
            workers: Arc::default(),
        }
    }

    /// Serves another task hub, which requests select with `taskHub`. The default is the first one.
    pub fn hub(mut self, client: Client) -> Self {
        self.hubs.push(client);
        self
    }

    /// Sets the base of every URL in answers, such as `https://flows.example.com`; it overrides the request's host.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.urls.base_url = Some(url.into());
        self
    }

    /// Trusts `X-Forwarded-Host`, `-Proto` and `-Prefix`. Use it only behind a proxy that sets them itself.
    pub fn trust_forwarded(mut self) -> Self {
        self.urls.trust_forwarded = true;
        self
    }

    /// Sets the limit of a request body in bytes; the default is 4 MiB.
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Sets the limit in bytes of all bodies and answers in memory together; the default is 128 MiB. Requests beyond it are answered with
    /// 503, except those with bodies and answers of up to 16 KiB.
    pub fn memory_max(mut self, bytes: u64) -> Self {
        self.budget = Budget::new(bytes);
        self
    }

    /// Sets the limit of simultaneous connections in [`serve`]; the default is 1,024. Beyond it, connections that keep the server waiting
    /// are closed. If there are none, a new connection can only ask for the health of the host; other requests are told to retry.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Sets the limit of simultaneous connections from one address in [`serve`]; the default is 256, and no separate limit for this machine
    /// and for a proxy in front.
    pub fn connections_per_peer_max(mut self, connections: usize) -> Self {
        self.peer_connections_max = Some(connections);
        self
    }

    /// Sets the longest wait of a request for an instance; the default is 230 seconds. Longer waits are shortened to it.
    pub fn wait_max(mut self, limit: Duration) -> Self {
        self.wait_max = limit;
        self
    }

    /// Requires a key of the hub that a request selects: see [`Client::create_key`].
    pub fn require_keys(mut self) -> Self {
        self.access = Access::Keys;
        self
    }

    /// Serves only gRPC and the health of the host, for an address of its own. Otherwise gRPC is served beside the HTTP API.
    #[cfg(feature = "grpc")]
    pub fn only_grpc(mut self) -> Self {
        self.only_grpc = true;
        self
    }

    /// Admits programs of this machine without a key: requests must use a name of this machine, and web pages of other origins are refused.
    pub fn this_machine_only(mut self) -> Self {
        self.access = Access::ThisMachine;
        self
    }

    /// Lets web pages of an origin, such as `https://console.example.com`, use the API from a browser.
    ///
    /// # Errors
    /// [`Error::is_invalid`](crate::Error::is_invalid) if the origin is invalid.
    pub fn allow_origin(mut self, origin: &str) -> Result<Self> {
        let is_origin = origin.split_once("://").is_some_and(|(scheme, host)| {
            matches!(scheme, "http" | "https") && host.parse::<Authority>().is_ok()
        });
        match HeaderValue::from_str(origin) {
            Ok(value) if is_origin => self.origins.push(value),
            _ => {
                return Err(Error::invalid(format!(
                    "the origin {origin:?} must be like https://console.example.com"
                )));
            }
        }
        Ok(self)
    }

    /// Serves pages for people below `/ui`, with the access control of the API, and leads there from the root. Handlers find a [`Visitor`]
    /// among the extensions of each request. In a browser a key is kept in a cookie, with which pages may also read the API.
    ///
    /// The crate `perennial-dashboard` has such pages.
    pub fn pages(mut self, pages: Router) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Whether callers beyond this machine may reach a server with these settings on this address.
    pub fn is_exposed_on(&self, address: SocketAddr) -> bool {
        let named = self.urls.base_url.as_deref().map(|url| {
            let host = url.parse::<Uri>().ok();
            host.and_then(|url| url.host().map(str::to_owned))
        });
        let elsewhere = named.is_some_and(|host| !host.is_some_and(|host| is_this_machine(&host)));
        !address.ip().is_loopback() || self.urls.trust_forwarded || elsewhere
    }

    /// Builds the router.
    pub fn into_router(self) -> Router {
        let origins = self.origins.clone();
        let api = Arc::new(self);
        if api.only_grpc {
            return finished(ops::health().fallback(nothing_but_grpc), api);
        }
        let guarded = compat::routes()
            .merge(native::routes())
            .merge(metrics::routes());
        let guard = from_fn_with_state(Arc::clone(&api), guard::guard);
        let mut routes = guarded.layer(guard);
        if let Some(pages) = &api.pages {
            routes = routes.merge(pages::routes(&api, pages.clone()));
        }
        if !origins.is_empty() {
            routes = routes.layer(cors(origins));
        }
        finished(routes.merge(ops::health()).fallback(nothing_there), api)
    }

    /// The router for connections beyond the limit: it answers only health checks.
    fn into_door(self) -> Router {
        let api = Arc::new(self);
        ops::health()
            .fallback(full)
            .layer(from_fn_with_state(Arc::clone(&api), request_metrics::count))
            .layer(CatchPanicLayer::custom(panicked))
            .with_state(api)
    }

    /// The feeds of live streams.
    fn live(&self) -> &native::Live {
        self.live.get_or_init(|| {
            let (budget, closing) = (self.budget.clone(), Arc::clone(&self.closing));
            native::Live::new(native::Told::new(budget, closing))
        })
    }

    /// The places of connections, which all servers of these settings share.
    fn places(&self) -> Arc<Places> {
        Arc::clone(self.places.get_or_init(|| Places::new(self.places_max())))
    }

    fn places_max(&self) -> PlacesMax {
        let behind_proxy = self.urls.trust_forwarded || self.urls.base_url.is_some();
        PlacesMax {
            all: self.connections_max,
            peer: self.peer_connections_max,
            stranger: if behind_proxy {
                usize::MAX
            } else {
                limits::STRANGER_CONNECTIONS
            },
        }
    }

    /// The hub that a request selects; the first one by default.
    fn client(&self, hub: Option<&str>) -> Option<&Client> {
        let Some(name) = hub else {
            return self.hubs.first();
        };
        self.hubs
            .iter()
            .find(|client| client.task_hub() == name)
            .or_else(|| {
                self.hubs
                    .iter()
                    .find(|client| client.task_hub().eq_ignore_ascii_case(name))
            })
    }

    fn hub_names(&self) -> String {
        let names: Vec<_> = self.hubs.iter().map(Client::task_hub).collect();
        names.join(", ")
    }
}

/// Adds gRPC and what holds for all requests.
fn finished(routes: Router<Arc<Api>>, api: Arc<Api>) -> Router {
    #[cfg(feature = "grpc")]
    let routes = routes
        .merge(grpc::routes())
        .layer(axum::middleware::from_fn(grpc::other_service));
    routes
        .layer(from_fn_with_state(Arc::clone(&api), request_metrics::count))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(api)
}

/// The answer of a server of gRPC to requests of HTTP.
async fn nothing_but_grpc(uri: Uri) -> Response {
    let message =
        "This address serves only gRPC, for the Durable Task SDKs; the HTTP API has another one.";
    failure(uri.path(), StatusCode::NOT_FOUND, message)
}

/// The CORS settings for web pages of allowed origins.
fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    const MAX_AGE: Duration = Duration::from_secs(600);
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            name("x-functions-key"),
            name("x-ms-continuation-token"),
            name("last-event-id"),
            name("traceparent"),
        ])
        .expose_headers([
            header::LOCATION,
            header::RETRY_AFTER,
            name("x-ms-continuation-token"),
        ])
        .max_age(MAX_AGE)
}

/// An error in the format of the API to which the path belongs.
fn failure(path: &str, status: StatusCode, message: &str) -> Response {
    if native::is_below(path) {
        return native::failure(status, message);
    }
    compat::problem(status, message)
}

/// The path belongs to neither API.
async fn nothing_there(uri: Uri) -> Response {
    let message = format!(
        "There is nothing at this path. The API is below {}, and {}/openapi.json describes it; that of Durable Functions is below {}.",
        native::BASE,
        native::BASE,
        compat::WEBHOOKS
    );
    failure(uri.path(), StatusCode::NOT_FOUND, &message)
}

const FULL: &str = "this server has as many connections as it takes, all of them at work, or as many from this address; try again soon";

/// The answer to other requests at the door.
async fn full(request: axum::extract::Request) -> Response {
    #[cfg(feature = "grpc")]
    if grpc::is_grpc(request.headers()) {
        return grpc::refused(tonic::Status::unavailable(FULL));
    }
    let uri = request.uri();
    let message = FULL;
    let response = failure(uri.path(), StatusCode::SERVICE_UNAVAILABLE, message);
    let response = wire::with_header(response, header::RETRY_AFTER, "1");
    wire::with_header(response, header::CONNECTION, "close")
}

/// A panic ends only its own request, and the answer reveals nothing.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let what = what.or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(panic = what.unwrap_or_default(), "a request panicked");
    let message = "Something went wrong while processing your request";
    compat::problem(StatusCode::INTERNAL_SERVER_ERROR, message)
}
