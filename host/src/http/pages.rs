//! Pages for people, which another crate serves beside the API: access control, sessions in a browser, and the limits of bodies.
//!
//! Invariants: pages get a [`Visitor`] with what the key of the request permits and nothing else; the session in a cookie admits reading the
//! API, and changing something only through the pages, which ask for the token of their forms; whatever is sent to change something, also
//! to sign in or out, must come from a page of this server; a body is read only for those who may change something, and for signing in
//! and out; no page sees a key that is in a URL; pages that are read again after changes cost a bounded part of a
//! processor.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use percent_encoding::percent_decode_str;
use perennial_core::Timestamp;
use subtle::ConstantTimeEq;

use crate::budget::Spent;
use crate::client::{Client, Deploy, KeyHash, Module, Role, key_hash};
use crate::http::guard;
use crate::http::origin::{origin, port};
use crate::http::permits::{self, Access, Permission};
use crate::http::query::Query;
use crate::http::secret::secret;
use crate::http::session::{self, SESSION, Session};
use crate::http::{Api, body, compat, native, unsupported, wire};
use crate::limits::COMPONENT_BYTES;
use crate::outage::warn_seldom;
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
    /// The role of the visitor's key, where one was given.
    key: Option<Role>,
    session: Option<Session>,
    origin: String,
    /// What texts for the browser are sealed with.
    secret: Secret,
    token: String,
}

/// A secret, which no log shows.
struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why the body of a request was not read. Pages find it among the extensions of the request, whose body is empty then, and say it.
#[derive(Clone, Debug)]
pub struct UnreadBody {
    status: StatusCode,
    message: String,
}

impl UnreadBody {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened to the body, and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Bytes of a form that signs in or out.
const DOOR_BYTES: usize = 64 << 10;

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
            !self.needs_key() || (self.role().is_some() && selected == Some(client.task_hub()))
        })
    }

    /// What the visitor may do; `None` if a key is needed and the request has none of this hub. [`may`](Self::may) tells what needs more.
    pub fn role(&self) -> Option<Role> {
        match self.needs_key() {
            true => self.0.key,
            false => Some(Role::Admin),
        }
    }

    /// Whether the visitor may do something. It is decided where the API decides it, by the same rule.
    pub fn may(&self, permission: Permission) -> bool {
        permission.is_given(self.0.api.access, self.0.key)
    }

    /// Whether the visitor may change something.
    pub fn may_change(&self) -> bool {
        self.may(Permission::Change)
    }

    /// Why a visitor may not do something, and what to do.
    pub fn refusal(permission: Permission) -> &'static str {
        permission.refusal()
    }

    /// A deployment to the selected hub, under the rule of the API: who may not [grant](Permission::Grant) cannot give the grants of a
    /// module to another component. `replace` takes names over that other modules own.
    ///
    /// # Errors
    /// [`Error::is_unauthorized`](crate::Error::is_unauthorized) if it would do that, or no hub is selected.
    pub async fn deploy(&self, module: Module, replace: bool) -> crate::Result<Deploy> {
        let Some(client) = &self.0.hub else {
            let message = "this task hub is not served here".to_owned();
            return Err(crate::Error::forbidden(message));
        };
        permits::deploy(client, self.may(Permission::Grant), module, replace).await
    }

    /// As [`deploy`](Self::deploy), for a module that the hub has stored, by its digest, under this name.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy), and those of [`Client::stored_module`](crate::Client::stored_module).
    pub async fn deploy_stored(
        &self,
        digest: &str,
        name: &str,
        replace: bool,
    ) -> crate::Result<Deploy> {
        let Some(client) = &self.0.hub else {
            let message = "this task hub is not served here".to_owned();
            return Err(crate::Error::forbidden(message));
        };
        let may_grant = self.may(Permission::Grant);
        permits::deploy_stored(client, may_grant, (digest, name.to_owned()), replace).await
    }

    /// Whether the browser has a session. Where no key is needed, it is one for what needs a key also there.
    pub fn is_signed_in(&self) -> bool {
        self.0.session.is_some()
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
        mount_of(&self.0.origin)
    }

    /// The token that each form must send, so that no other site's page can send it.
    pub fn form_token(&self) -> &str {
        &self.0.token
    }

    /// Whether a form sent the right token. The comparison takes constant time.
    pub fn is_form_token(&self, given: &str) -> bool {
        bool::from(given.as_bytes().ct_eq(self.0.token.as_bytes()))
    }

    /// Signs in with a key of the selected hub. Returns the value of the header `Set-Cookie`, which does not contain the key; `None` if it is
    /// no key of the hub. The session ends when the key is revoked, and twelve hours after it was last used.
    ///
    /// # Errors
    /// If the keys of the hub cannot be read.
    pub async fn sign_in(&self, key: &str) -> crate::Result<Option<HeaderValue>> {
        let Some(client) = &self.0.hub else {
            return Ok(None);
        };
        let ring = client.key_ring().await?;
        let session = session::begin(&ring, &key_hash(key), client.now());
        Ok(session.and_then(|session| self.session_cookie(&session)))
    }

    fn session_cookie(&self, session: &str) -> Option<HeaderValue> {
        let path = format!("{}/", self.mount());
        self.raw_cookie("session", session, &path, SESSION)
    }

    /// The value of the header `Set-Cookie` that signs out of the selected hub.
    pub fn sign_out(&self) -> Option<HeaderValue> {
        let path = format!("{}/", self.mount());
        self.raw_cookie("session", "", &path, 0)
    }

    /// A text for this browser, as the value of a header `Set-Cookie`: it comes back with requests below `path`, for so many seconds, and
    /// [`cookie`](Self::cookie) reads it. Nobody else can write one. `None` if a cookie cannot have that path.
    pub fn set_cookie(
        &self,
        kind: &str,
        text: &str,
        path: &str,
        seconds: u64,
    ) -> Option<HeaderValue> {
        let until = Timestamp(self.now().0.saturating_add(seconds.saturating_mul(1_000)));
        let sealed = session::seal(&self.0.secret.0, &format!("cookie {kind}"), text, until);
        self.raw_cookie(kind, &sealed, path, seconds)
    }

    /// The value of the header `Set-Cookie` that removes a [cookie](Self::set_cookie).
    pub fn remove_cookie(&self, kind: &str, path: &str) -> Option<HeaderValue> {
        self.raw_cookie(kind, "", path, 0)
    }

    /// The text of a [cookie](Self::set_cookie) of a request.
    pub fn cookie(&self, headers: &HeaderMap, kind: &str) -> Option<String> {
        let (name, now) = (self.cookie_name(kind), self.now());
        let purpose = format!("cookie {kind}");
        let mut found = session::cookies(headers, &name);
        found.find_map(|sealed| Some(session::unseal(&self.0.secret.0, &purpose, sealed, now)?.0))
    }

    /// Whether a request has a [cookie](Self::set_cookie), whoever wrote it.
    pub fn has_cookie(&self, headers: &HeaderMap, kind: &str) -> bool {
        let name = self.cookie_name(kind);
        session::cookies(headers, &name).next().is_some()
    }

    fn cookie_name(&self, kind: &str) -> String {
        let hub = self.0.hub.as_ref().map_or(NO_HUB, Client::task_hub);
        session::cookie_name(kind, port(&self.0.origin), hub)
    }

    fn now(&self) -> Timestamp {
        let clients = self.0.hub.iter().chain(&self.0.api.hubs);
        clients.map(Client::now).next().unwrap_or_default()
    }

    /// `Lax` lets a visitor follow a shared link; a page of another site can send no form with the cookie.
    fn raw_cookie(&self, kind: &str, value: &str, path: &str, seconds: u64) -> Option<HeaderValue> {
        if path.contains([';', ',', ' ']) {
            return None;
        }
        let secure = if self.0.origin.starts_with("https:") {
            "; Secure"
        } else {
            ""
        };
        let name = self.cookie_name(kind);
        let cookie = format!(
            "{name}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}; Max-Age={seconds}"
        );
        HeaderValue::from_str(&cookie).ok()
    }

    /// The session's cookie anew, so that it does not end while it is used.
    async fn renewed(&self) -> Option<HeaderValue> {
        let session = self.0.session.as_ref().filter(|session| session.is_old)?;
        let client = self.0.hub.as_ref()?;
        let ring = client.key_ring().await.ok()?;
        self.session_cookie(&session::begin(&ring, &session.hash, client.now())?)
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
    if let Some(refused) = unsupported::refusal(&head) {
        return refused;
    }
    if let Some(refused) = guard::misplaced(&api, &head) {
        return said(refused.status, refused.message);
    }
    // A path, so that no header decides to which host it leads.
    let to = format!("{}{BASE}/", mount_of(&origin(&api.urls, &head)));
    let response = wire::empty(StatusCode::SEE_OTHER);
    wire::with_header(response, header::LOCATION, &to)
}

/// Why there is no page, as a text: a person reads it.
fn said(status: StatusCode, message: &str) -> Response {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    (
        status,
        [(header::CONTENT_TYPE, kind)],
        format!("{message}\n"),
    )
        .into_response()
}

/// The path of an origin.
fn mount_of(origin: &str) -> &str {
    let path = origin.split_once("://");
    let path = path.and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    path.unwrap_or_default()
}

/// Finds out who asks, and passes the request on to the pages with its [`Visitor`].
async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if let Some(refused) = unsupported::refusal(&head) {
        return refused;
    }
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let refused = guard::misplaced(&api, &head);
    let refused = refused.or_else(|| guard::foreign(&api, &head).filter(|_| !reads));
    if let Some(refused) = refused {
        return said(refused.status, refused.message);
    }
    hide_key(&mut head);
    let visitor = match visitor(&api, &head).await {
        Ok(visitor) => visitor,
        Err(error) => {
            warn_seldom!(%error, "the keys of the task hub could not be read");
            let message = "The keys of the task hub cannot be read right now.";
            return said(StatusCode::SERVICE_UNAVAILABLE, message);
        }
    };
    let is_door = is_door(&head.uri);
    let body = if reads || !(visitor.may_change() || is_door) {
        Body::empty()
    } else {
        let is_component = (head.headers.get(header::CONTENT_TYPE))
            .is_some_and(|media_type| media_type == "application/wasm");
        let limit = match (is_door, is_component) {
            (true, _) => DOOR_BYTES,
            (false, true) => COMPONENT_BYTES,
            (false, false) => api.body_bytes_max,
        };
        match native::read_body(&api, &head.headers, body, limit).await {
            Ok(bytes) => Body::from(bytes),
            Err(unread) => {
                let (status, message) = unread.told();
                head.extensions.insert(UnreadBody { status, message });
                Body::empty()
            }
        }
    };
    head.extensions.insert(visitor.clone());
    let is_again = reads && head.headers.contains_key(AGAIN);
    let answer = next.run(Request::from_parts(head, body));
    let mut response = if is_again {
        let (response, took) = accounted(answer).await;
        api.live().looks().charge(took);
        response
    } else {
        answer.await
    };
    if !is_door && let Some(cookie) = visitor.renewed().await {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    body::bounded(&api, response).unwrap_or_else(|Spent| compat::full())
}

/// Whether a path signs in or out, which needs no permission to change something.
fn is_door(uri: &Uri) -> bool {
    let below = uri.path().strip_prefix(BASE).unwrap_or_default();
    let mut parts = below.split('/').skip(2);
    matches!(parts.next(), Some("sign-in" | "sign-out")) && parts.next().is_none()
}

/// Takes a key out of the URL, before it gets into a page, a form or a redirect: pages take keys only from forms and headers.
fn hide_key(head: &mut Parts) {
    if let Some(uri) = without_key(&head.uri) {
        head.uri = uri;
    }
    let original = head.extensions.get::<OriginalUri>();
    if let Some(uri) = original.and_then(|OriginalUri(uri)| without_key(uri)) {
        head.extensions.insert(OriginalUri(uri));
    }
}

/// A URL without its parameters `code`, if it has some.
fn without_key(uri: &Uri) -> Option<Uri> {
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        name.eq_ignore_ascii_case("code")
    };
    let query = uri.query()?;
    if !query.split('&').any(|pair| is_key(&pair)) {
        return None;
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let path = match rest.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), rest.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).ok()
}

async fn visitor(api: &Arc<Api>, head: &Parts) -> crate::Result<Visitor> {
    // A key in a URL would stay in histories and logs.
    let no_query = Query::default();
    let name = hub_in(head.uri.path());
    let hub = api.client(name).cloned();
    let ring = match &hub {
        Some(client) => match client.key_ring().await {
            Ok(ring) => Some(ring),
            Err(error) if api.access == Access::Keys => return Err(error),
            // Where no key is needed, pages say what is wrong with the hub.
            Err(_) => None,
        },
        None => None,
    };
    let given = secret(&head.headers, &no_query).map(key_hash);
    let session = match (&hub, &ring, given) {
        (Some(client), Some(ring), None) => guard::session(api, head, client, ring),
        _ => None,
    };
    let hash = given.or_else(|| session.as_ref().map(|session| session.hash));
    let key = ring.as_ref().zip(hash.as_ref());
    let key = key.and_then(|(ring, hash)| ring.role_of(hash));
    let secret = ring.map_or_else(|| SECRET.get_or_init(random).to_vec(), |ring| ring.secret);
    let token = token(&secret, hash.filter(|_| key.is_some()).as_ref());
    let origin = origin(&api.urls, head);
    let api = Arc::clone(api);
    Ok(Visitor(Arc::new(Visit {
        api,
        hub,
        key,
        session,
        origin,
        secret: Secret(secret),
        token,
    })))
}

/// The hub that a path selects; `None` is the default one.
fn hub_in(path: &str) -> Option<&str> {
    let below = path.strip_prefix(BASE)?.trim_start_matches('/');
    let first = below.split('/').next().unwrap_or_default();
    Some(first).filter(|first| !first.is_empty() && *first != NO_HUB)
}

/// Stands for the secret of a hub where there is none.
static SECRET: OnceLock<[u8; 32]> = OnceLock::new();

fn random() -> [u8; 32] {
    let both = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(both[0].as_bytes());
    secret[16..].copy_from_slice(both[1].as_bytes());
    secret
}

/// The token of the forms of a visitor. It stays the same when the host is restarted, so that what was filled in can be sent. Without a
/// key only programs of this machine are let in, or those whom the embedding program lets in.
fn token(secret: &[u8], key: Option<&KeyHash>) -> String {
    let of = key.map_or_else(String::new, |hash| format!("{hash:?}"));
    session::token(secret, "forms", &of)
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
        let (one, two) = (key_hash("prn_1"), key_hash("prn_2"));
        assert_eq!(token(b"s", Some(&one)), token(b"s", Some(&one)));
        assert_ne!(token(b"s", Some(&one)), token(b"s", Some(&two)));
        assert_ne!(token(b"s", None), token(b"s", Some(&one)));
        assert_ne!(token(b"s", None), token(b"t", None));
        assert_eq!(token(b"s", None).len(), 32);
    }

    #[test]
    fn only_signing_in_and_out_needs_no_permission() {
        let is_door = |path: &str| is_door(&path.parse().unwrap());
        assert!(is_door("/ui/default/sign-in") && is_door("/ui/default/sign-out?a=b"));
        for other in [
            "/ui/sign-in",
            "/ui/default/instances/a/sign-in",
            "/ui/default/sign-in/x",
        ] {
            assert!(!is_door(other), "{other}");
        }
    }

    #[test]
    fn a_key_is_taken_out_of_a_url() {
        let left = |url: &str| without_key(&url.parse().unwrap()).map(|url| url.to_string());
        assert_eq!(left("/ui/a?x=1&codes=2"), None);
        assert_eq!(left("/ui/a?code=prn_1").as_deref(), Some("/ui/a"));
        let some = left("/ui/a?x=1&Code=prn_1&c%6Fde=prn_2&code&y=%26");
        assert_eq!(some.as_deref(), Some("/ui/a?x=1&y=%26"));
    }
}
