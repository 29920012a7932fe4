//! Access control: keys, hosts and origins.
//!
//! Invariants: keys are never logged and never part of an error; reading requires a key that may read, everything else an admin key; web
//! pages of other sites cannot reach a server on this machine.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::budget::Spent;
use crate::client::KeyRing;
use crate::client::{Client, key_hash};
use crate::http::origin::{is_same, origin, port};
use crate::http::permits::{Access, Permission};
use crate::http::query::Query;
use crate::http::revoked::Admitted;
use crate::http::secret::secret;
use crate::http::session::{self, Session};
use crate::http::{Api, body, compat, failure, metrics, native, unsupported, wire};
use crate::outage::warn_seldom;

/// Admits or refuses a request, and checks that its answer fits into the budget.
pub(crate) async fn guard(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    if let Some(refused) = unsupported::refusal(&head) {
        return refused;
    }
    let query = Query::of(&head.uri);
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    let admitted = match admit(&api, &head, query.text("taskHub"), reads).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused.into_response(head.uri.path()),
    };
    let is_native = native::is_below(head.uri.path());
    let path = head.uri.path().to_owned();
    let response = async {
        let response = next.run(Request::from_parts(head, body)).await;
        body::bounded(&api, response).unwrap_or_else(|Spent| match is_native {
            true => native::Failed::no_room().into_response(),
            false => compat::full(),
        })
    };
    let Some(admitted) = admitted else {
        return response.await;
    };
    let answered = api.revocations.guard(admitted, response).await;
    answered.unwrap_or_else(|| REVOKED.into_response(&path))
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) message: &'static str,
}

/// The key was revoked while the request was answered.
pub(super) const REVOKED: Refused = Refused::unauthorized("The key of this request was revoked.");

impl Refused {
    const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message }
    }

    const fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(super) fn into_response(self, path: &str) -> Response {
        let response = failure(path, self.status, self.message);
        if self.status == StatusCode::UNAUTHORIZED {
            return wire::with_header(response, header::WWW_AUTHENTICATE, "Bearer");
        }
        response
    }
}

/// Admits a request to a hub, which reads or also changes something. Returns the key with which it was admitted, if keys are required.
pub(super) async fn admit(
    api: &Api,
    head: &Parts,
    hub: Option<&str>,
    reads: bool,
) -> Result<Option<Admitted>, Refused> {
    if let Some(refused) = misplaced(api, head) {
        return Err(refused);
    }
    match api.access {
        Access::Everyone | Access::ThisMachine => Ok(None),
        Access::Keys => with_key(api, head, hub, reads).await.map(Some),
    }
}

/// Refuses what no key would admit: a request for another host, or of another site's page where only this machine is let in.
pub(super) fn misplaced(api: &Api, head: &Parts) -> Option<Refused> {
    match api.access {
        Access::Everyone => None,
        Access::ThisMachine => nowhere(head).or_else(|| outsider(api, head)),
        Access::Keys => nowhere(head),
    }
}

/// Refuses requests whose `Host` header is repeated or invalid.
fn nowhere(head: &Parts) -> Option<Refused> {
    let mut named = head.headers.get_all(header::HOST).iter();
    let host = named.next()?;
    if named.next().is_none() && host_of(host).is_some() {
        return None;
    }
    let message = "The header Host must name one host, such as localhost:7071.";
    Some(Refused::new(StatusCode::BAD_REQUEST, message))
}

/// The host in a header, without its port.
fn host_of(header: &HeaderValue) -> Option<String> {
    let text = header.to_str().ok()?;
    let authority = text.parse::<Authority>().ok()?;
    let host = authority.host();
    let port = text.strip_prefix(host)?;
    let port_is_one = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(port) => port.parse::<u16>().is_ok(),
    };
    (port_is_one && !host.is_empty()).then(|| host.to_owned())
}

/// Refuses requests that a browser sends for another site's page: those under another host name (DNS rebinding) or from another origin.
fn outsider(api: &Api, head: &Parts) -> Option<Refused> {
    let in_url = head.uri.host().map(str::to_owned);
    let in_header = head.headers.get(header::HOST).and_then(host_of);
    let mut hosts = in_url.iter().chain(&in_header);
    if !hosts.all(|host| is_this_machine(host)) {
        let message = "This server answers only to names of this machine, such as localhost; for others it needs a base URL and keys.";
        return Some(Refused::new(StatusCode::FORBIDDEN, message));
    }
    let message = "Web pages of this origin are not allowed; the server can be told to allow them.";
    let refused = || Some(Refused::new(StatusCode::FORBIDDEN, message));
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        // A page that embeds an answer from another site sends no `Origin`. Following a link is allowed.
        let says = |name: &str, value: &str| head.headers.get(name).is_some_and(|is| is == value);
        let embeds = says("sec-fetch-site", "cross-site") && !says("sec-fetch-mode", "navigate");
        return embeds.then(refused).flatten();
    };
    let known = origins.next().is_none()
        && origin.to_str().is_ok_and(|origin| {
            is_own(origin, head) || api.origins.iter().any(|allowed| allowed == origin)
        });
    (!known).then(refused).flatten()
}

/// Whether an origin is the server itself, by the host and port of the request.
fn is_own(origin: &str, head: &Parts) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else {
        return false;
    };
    let asked = head.uri.authority().cloned().or_else(|| {
        let host = head.headers.get(header::HOST)?.to_str().ok()?;
        host.parse::<Authority>().ok()
    });
    let port = |authority: &Authority| match (authority.port_u16(), origin.scheme_str()) {
        (Some(port), _) => Some(port),
        (None, Some("http")) => Some(80),
        (None, Some("https")) => Some(443),
        (None, _) => None,
    };
    origin
        .authority()
        .zip(asked.as_ref())
        .is_some_and(|(origin, asked)| {
            origin.host().eq_ignore_ascii_case(asked.host()) && port(origin) == port(asked)
        })
}

/// Whether a host name or address can only mean this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
}

/// The session of a browser with a hub, which its cookies prove.
pub(super) fn session(api: &Api, head: &Parts, client: &Client, ring: &KeyRing) -> Option<Session> {
    let port = port(&origin(&api.urls, head));
    let name = session::cookie_name("session", port, client.task_hub());
    let cookies = session::cookies(&head.headers, &name);
    session::find(ring, cookies, client.now())
}

/// Refuses a change that the page of another site may have sent with a visitor's cookies, or to sign a visitor in or out. Browsers say
/// whose page it was; programs that are no browsers say nothing, and need the token of the form like all others.
pub(super) fn foreign(api: &Api, head: &Parts) -> Option<Refused> {
    let mut sites = head.headers.get_all("sec-fetch-site").iter();
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    let is_own = match (sites.next(), origins.next()) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, None) => true,
        (None, Some(given)) => given
            .to_str()
            .is_ok_and(|given| is_own(given, head) || is_same(given, &origin(&api.urls, head))),
    };
    let is_sole = sites.next().is_none() && origins.next().is_none();
    let message = "Only pages of this server may send forms to it, and nothing was changed. Behind a proxy the server must be told its address: \
                   with --base-url, or with --trust-forwarded.";
    (!(is_own && is_sole)).then_some(Refused::new(StatusCode::FORBIDDEN, message))
}

/// Admits a request whose key permits it, or returns the answer that refuses it.
async fn with_key(
    api: &Api,
    head: &Parts,
    hub: Option<&str>,
    reads: bool,
) -> Result<Admitted, Refused> {
    let query = Query::of(&head.uri);
    let given = secret(&head.headers, &query).map(key_hash);
    // What a browser keeps for the pages lets them read the API, too; it changes nothing there, or pages of other sites could.
    let keeps = reads && api.pages.is_some() && head.headers.contains_key(header::COOKIE);
    if given.is_none() && !keeps {
        return Err(Refused::unauthorized(NEEDS_KEY));
    }
    // A hub that is not served here has no keys; the caller learns only that.
    let Some(client) = api.client(hub) else {
        return Err(Refused::unauthorized(NO_KEY));
    };
    let ring = match head.uri.path() {
        metrics::PATH => api.last_keys.of(client).await,
        _ => client.key_ring().await.map(Arc::new),
    };
    let ring = ring.map_err(|error| {
        warn_seldom!(%error, "the keys of the task hub could not be read");
        let message = "The keys of the task hub cannot be read right now.";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let (key, role) = match given {
        Some(key) => (
            key,
            ring.role_of(&key).ok_or(Refused::unauthorized(NO_KEY))?,
        ),
        None => match session(api, head, client, &ring) {
            Some(session) => (session.hash, session.role),
            None => return Err(Refused::unauthorized(NEEDS_KEY)),
        },
    };
    let permission = if reads {
        Permission::Read
    } else {
        Permission::Change
    };
    if !permission.is_given(api.access, Some(role)) {
        let message = permission.refusal();
        return Err(Refused::new(StatusCode::FORBIDDEN, message));
    }
    let client = client.clone();
    Ok(Admitted { client, key })
}

const NEEDS_KEY: &str =
    "A key is needed: as the parameter code, as the header x-functions-key, or as a bearer token.";

const NO_KEY: &str = "This is no key of this task hub.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_once_and_can_be_one() {
        let refused = |hosts: &[&str]| {
            let mut request = axum::http::Request::builder().uri("/");
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            let head = request.body(()).unwrap().into_parts().0;
            nowhere(&head).map(|refused| refused.status.as_u16())
        };
        for host in ["localhost", "localhost:7071", "[::1]:7071", "a.example.com"] {
            assert_eq!(refused(&[host]), None, "{host}");
        }
        for host in [
            "",
            " ",
            "a b",
            "http://localhost",
            "localhost:x",
            "localhost:99999",
            "a@localhost",
            "[::1",
            "localhost/",
        ] {
            assert_eq!(refused(&[host]), Some(400), "{host}");
        }
        assert_eq!(refused(&["localhost", "localhost"]), Some(400));
        assert_eq!(refused(&[]), None, "as programs that speak HTTP/1.0 do");
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "::1",
            "a.localhost",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "localhost.example.com",
            "10.0.0.1",
            "0.0.0.0",
            "example.com",
            "",
            "notlocalhost",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
