//! Pages for people, which another crate serves beside the API: access control, sessions in a browser, and the limits of bodies.
//!
//! Invariants: pages get a [`Visitor`] with what the key of the request permits and nothing else; a key in a cookie admits reading the API,
//! and changing something only through the pages, which ask for the token of their forms; a body is read only for those who may change
//! something, and for signing in; pages that are read again after changes cost a bounded part of a processor.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::budget::Spent;
use crate::client::{Client, Role, key_hash};
use crate::http::guard::{self, Access};
use crate::http::origin::origin;
use crate::http::query::Query;
use crate::http::secret::{COOKIE, cookie, secret};
use crate::http::{Api, body, compat, native, unsupported, wire};
use crate::limits::COMPONENT_BYTES;
use crate::timed::accounted;

/// The path of the pages.
pub(super) const BASE: &str = "/ui";

/// The part of a path that stands for no hub: names of hubs have no underscore.
const NO_HUB: &str = "_";

/// The header of a request for a page that is read again after a change. What such requests cost makes notices of changes rarer.
const AGAIN: &str = "x-read-again";

/// Who asks for a page, and what they may see and do. Pages find it among the extensions of a request.
#[derive(Clone, Debug)]
pub struct Visitor(Arc<Visit>);

#[derive(Debug)]
struct Visit {
    api: Arc<Api>,
    hub: Option<Client>,
    role: Option<Role>,
    origin: String,
    token: String,
}

impl Visitor {
    /// The hub that the path selects: the first part of the path below the pages. `None` if it is not served here.
    pub fn client(&self) -> Option<&Client> {
        self.0.hub.as_ref()
    }

    /// The names of the hubs that are served, the default one first.
    pub fn hubs(&self) -> impl Iterator<Item = &str> {
        self.0.api.hubs.iter().map(Client::task_hub)
    }

    /// The hubs that the visitor may read: where keys are needed, only the one whose key the request has.
    pub fn readable(&self) -> impl Iterator<Item = &Client> {
        let all = self.0.api.hubs.iter();
        all.filter(|client| {
            let selected = self.0.hub.as_ref().map(Client::task_hub);
            !self.needs_key() || (self.0.role.is_some() && selected == Some(client.task_hub()))
        })
    }

    /// What the visitor may do; `None` if a key is needed and the request has none of this hub.
    pub fn role(&self) -> Option<Role> {
        self.0.role
    }

    /// Whether the visitor may change something.
    pub fn may_change(&self) -> bool {
        self.0.role == Some(Role::Admin)
    }

    /// Whether visitors need a key.
    pub fn needs_key(&self) -> bool {
        self.0.api.access == Access::Keys
    }

    /// Scheme, host and mount path under which the visitor reaches the server, without a trailing slash.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The path under which the router is mounted, without a trailing slash; empty at the root.
    pub fn mount(&self) -> &str {
        let path = self.0.origin.split_once("://");
        let path = path.and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        path.unwrap_or_default()
    }

    /// The token that each form must send, so that no other site's page can send it.
    pub fn form_token(&self) -> &str {
        &self.0.token
    }

    /// Whether a form sent the right token. The comparison takes constant time.
    pub fn is_form_token(&self, given: &str) -> bool {
        bool::from(given.as_bytes().ct_eq(self.0.token.as_bytes()))
    }

    /// Signs in with a key of the selected hub. Returns the value of the header `Set-Cookie`; `None` if it is no key of the hub.
    ///
    /// # Errors
    /// If the keys of the hub cannot be read.
    pub async fn sign_in(&self, key: &str) -> crate::Result<Option<HeaderValue>> {
        let Some(client) = &self.0.hub else {
            return Ok(None);
        };
        let known = client.role_of(key_hash(key)).await?.is_some();
        Ok(known.then(|| self.cookie(client, key, "")).flatten())
    }

    /// The value of the header `Set-Cookie` that signs out of the selected hub.
    pub fn sign_out(&self) -> Option<HeaderValue> {
        self.cookie(self.0.hub.as_ref()?, "", "; Max-Age=0")
    }

    /// `Lax` lets a visitor follow a shared link; a page of another site can send no form with the cookie.
    fn cookie(&self, client: &Client, key: &str, more: &str) -> Option<HeaderValue> {
        let secure = if self.0.origin.starts_with("https:") {
            "; Secure"
        } else {
            ""
        };
        let (hub, path) = (client.task_hub(), self.mount());
        let cookie =
            format!("{COOKIE}{hub}={key}; Path={path}/; HttpOnly; SameSite=Lax{secure}{more}");
        HeaderValue::from_str(&cookie).ok()
    }
}

/// The routes of pages, and the way from the root to them.
pub(super) fn routes(api: &Arc<Api>, pages: Router) -> Router<Arc<Api>> {
    let layer = from_fn_with_state(Arc::clone(api), admit);
    let to_pages = from_fn_with_state(Arc::clone(api), front);
    Router::new().nest_service(BASE, pages).layer(layer).merge(
        Router::new()
            .route("/", get(async || StatusCode::NOT_FOUND))
            .layer(to_pages),
    )
}

/// Leads from the root to the pages.
async fn front(State(api): State<Arc<Api>>, request: Request, _: Next) -> Response {
    let (head, _) = request.into_parts();
    let to = format!("{}{BASE}/", origin(&api.urls, &head));
    let response = wire::empty(StatusCode::SEE_OTHER);
    wire::with_header(response, header::LOCATION, &to)
}

/// Finds out who asks, and passes the request on to the pages with its [`Visitor`].
async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if let Some(refused) = unsupported::refusal(&head) {
        return refused;
    }
    if let Some(refused) = guard::misplaced(&api, &head) {
        return refused.into_response(head.uri.path());
    }
    let visitor = match visitor(&api, &head).await {
        Ok(visitor) => visitor,
        Err(error) => {
            tracing::error!(%error, "the keys of the task hub could not be read");
            let message = "The keys of the task hub cannot be read right now.";
            return compat::problem(StatusCode::SERVICE_UNAVAILABLE, message);
        }
    };
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let body = if reads || !(visitor.may_change() || is_sign_in(&head.uri)) {
        Body::empty()
    } else {
        let is_component = (head.headers.get(header::CONTENT_TYPE))
            .is_some_and(|media_type| media_type == "application/wasm");
        let limit = if is_component {
            COMPONENT_BYTES
        } else {
            api.body_bytes_max
        };
        match native::read_body(&api, &head.headers, body, limit).await {
            Ok(bytes) => Body::from(bytes),
            Err(unread) => return unread.into_response(),
        }
    };
    head.extensions.insert(visitor);
    let is_again = reads && head.headers.contains_key(AGAIN);
    let answer = next.run(Request::from_parts(head, body));
    let response = if is_again {
        let (response, took) = accounted(answer).await;
        api.live().looks().charge(took);
        response
    } else {
        answer.await
    };
    body::bounded(&api, response).unwrap_or_else(|Spent| compat::full())
}

/// The path at which a visitor without a key sends one.
fn is_sign_in(uri: &Uri) -> bool {
    uri.path().ends_with("/sign-in")
}

async fn visitor(api: &Arc<Api>, head: &Parts) -> crate::Result<Visitor> {
    // A key in a URL would stay in histories and logs.
    let no_query = Query::default();
    let name = hub_in(head.uri.path());
    let hub = api.client(name).cloned();
    let (role, key) = match (&api.access, &hub) {
        (Access::Everyone | Access::ThisMachine, _) => (Some(Role::Admin), None),
        (Access::Keys, None) => (None, None),
        (Access::Keys, Some(client)) => {
            let key = secret(&head.headers, &no_query)
                .or_else(|| cookie(&head.headers, client.task_hub()));
            match key {
                Some(key) => (client.role_of(key_hash(key)).await?, Some(key)),
                None => (None, None),
            }
        }
    };
    let token = token(role.and(key));
    let origin = origin(&api.urls, head);
    let api = Arc::clone(api);
    Ok(Visitor(Arc::new(Visit {
        api,
        hub,
        role,
        origin,
        token,
    })))
}

/// The hub that a path selects; `None` is the default one.
fn hub_in(path: &str) -> Option<&str> {
    let below = path.strip_prefix(BASE)?.trim_start_matches('/');
    let first = below.split('/').next().unwrap_or_default();
    Some(first).filter(|first| !first.is_empty() && *first != NO_HUB)
}

/// The token of the forms of a visitor. With a key it stays the same when the host is restarted; without one, only programs of this machine
/// are let in, or those whom the embedding program lets in.
fn token(key: Option<&str>) -> String {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    let hash = match key {
        Some(key) => Sha256::digest(format!("the token of forms\n{key}")),
        None => {
            let secret = SECRET.get_or_init(|| {
                let both = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
                let mut secret = [0; 32];
                secret[..16].copy_from_slice(both[0].as_bytes());
                secret[16..].copy_from_slice(both[1].as_bytes());
                secret
            });
            Sha256::digest(secret)
        }
    };
    hash[..16].iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_of_a_path_names_the_hub() {
        assert_eq!(hub_in("/ui"), None);
        assert_eq!(hub_in("/ui/"), None);
        assert_eq!(hub_in("/ui/_/app.css"), None);
        assert_eq!(hub_in("/ui/billing"), Some("billing"));
        assert_eq!(hub_in("/ui/billing/instances/a"), Some("billing"));
    }

    #[test]
    fn each_key_has_a_token_of_its_own() {
        assert_eq!(token(Some("prn_1")), token(Some("prn_1")));
        assert_ne!(token(Some("prn_1")), token(Some("prn_2")));
        assert_ne!(token(None), token(Some("")));
        assert_eq!(token(None).len(), 32);
    }
}
