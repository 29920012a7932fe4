//! A hub of a remote host, managed through its HTTP API below `/api/v1`.
//!
//! Invariants: a remote client gets the same answers as a client in the host's process; a key is sent only to the given host, and no
//! message contains it.

mod calls;
mod changes;

use std::time::Duration;

use perennial_core::check_known_id;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chain::chain;
use crate::client::body::ErrorBody;
use crate::client::{Client, Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take, unless the request waits for an instance.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest wait for one answer. A proxy would treat a longer silence as a broken connection.
pub(crate) const ANSWER_EVERY: Duration = Duration::from_secs(20);

/// The path of the API, below the address of the host.
const API: [&str; 2] = ["api", "v1"];

/// A remote host and one of its hubs.
pub(crate) struct Remote {
    base: Url,
    hub: String,
    key: Option<HeaderValue>,
    /// The run of an instance that commands are meant for.
    run: Option<String>,
    http: reqwest::Client,
}

/// A request to be sent.
struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<(&'static str, Vec<u8>)>,
    timeout: Option<Duration>,
    accept: Option<&'static str>,
}

/// An answer that is read line by line.
struct Lines {
    response: Response,
    read: Vec<u8>,
    /// Whether the host sent lines, as requested, instead of one JSON answer.
    are_lines: bool,
    over: bool,
}

impl Lines {
    /// The next non-empty line; `None` at the end.
    async fn next(&mut self, remote: &Remote) -> Result<Option<Vec<u8>>> {
        loop {
            let end = self.read.iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.filter(|_| self.are_lines) {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            if self.over {
                let rest = std::mem::take(&mut self.read);
                return Ok(Some(rest).filter(|rest| !rest.trim_ascii().is_empty()));
            }
            match self.response.chunk().await {
                Ok(Some(more)) => self.read.extend_from_slice(&more),
                Ok(None) => self.over = true,
                Err(error) => return Err(remote.unreachable(error)),
            }
        }
    }
}

impl Call {
    fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            query: Vec::new(),
            body: None,
            timeout: Some(ANSWER_TIMEOUT),
            accept: None,
        }
    }

    fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a parameter if it is true.
    fn flag(self, name: &'static str, is_set: bool) -> Self {
        if is_set {
            self.query(name, "true")
        } else {
            self
        }
    }

    fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|error| Error::json("the request", &error))?;
        self.body = Some(("application/json", body));
        Ok(self)
    }

    fn bytes(mut self, media_type: &'static str, body: Vec<u8>) -> Self {
        self.body = Some((media_type, body));
        self
    }

    /// Sets the time limit; `None` means no limit.
    fn within(mut self, limit: Option<Duration>) -> Self {
        self.timeout = limit;
        self
    }
}

impl Remote {
    fn new(url: &str, hub: &str, key: Option<&str>) -> Result<Self> {
        let (base, coded) = read_url(url)?;
        let key = key.map(str::to_owned).or(coded).map(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                Error::invalid("the key contains characters that keys never contain; copy it again")
            })?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // A redirect could lead the key to another host.
            .redirect(redirect::Policy::none());
        if is_loopback(&base) {
            // A proxy would resolve the loopback address to its own machine.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Error::unreachable(url, chain(&error)))?;
        Ok(Self {
            base,
            hub: hub.to_owned(),
            key: key.transpose()?,
            run: None,
            http,
        })
    }

    /// The same host, for commands that are meant for one run of an instance. A host that does not know such commands refuses them.
    pub(crate) fn for_run(&self, run: &str) -> Self {
        Self {
            base: self.base.clone(),
            hub: self.hub.clone(),
            key: self.key.clone(),
            run: Some(run.to_owned()),
            http: self.http.clone(),
        }
    }

    pub(crate) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn url(&self, call: &Call) -> Result<Url> {
        let mut url = self.base.clone();
        // URL parsing would remove these path segments and so change the path.
        if let Some(part) = call
            .path
            .iter()
            .find(|part| matches!(part.as_str(), "" | "." | ".."))
        {
            return Err(no_part(part));
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(API).extend(&call.path);
        }
        let run = self.run.as_deref().filter(|_| call.method != Method::GET);
        url.query_pairs_mut()
            .append_pair("taskHub", &self.hub)
            .extend_pairs(run.map(|run| ("ifRun", run)))
            .extend_pairs(
                call.query
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            );
        Ok(url)
    }

    /// Sends a request and waits for the head of the answer.
    async fn begin(&self, call: Call) -> Result<Response> {
        let url = self.url(&call)?;
        let mut request = self.http.request(call.method, url);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        if let Some(media_type) = call.accept {
            request = request.header(ACCEPT, media_type);
        }
        if let Some((media_type, body)) = call.body {
            request = request.header(CONTENT_TYPE, media_type).body(body);
        }
        if let Some(limit) = call.timeout {
            request = request.timeout(limit);
        }
        let response = request.send().await;
        let response = response.map_err(|error| self.unreachable(error))?;
        if response.status().is_redirection() {
            return Err(self.redirected(&response));
        }
        Ok(response)
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let message = chain(&error.without_url());
        let certificate = bad_certificate(&message).map(str::to_owned);
        Error::unreachable(self.address(), certificate.unwrap_or(message))
    }

    async fn send(&self, call: Call) -> Result<(StatusCode, Vec<u8>)> {
        let response = self.begin(call).await?;
        let status = response.status();
        let body = response.bytes().await;
        let body = body.map_err(|error| self.unreachable(error))?;
        if status.is_success() {
            return Ok((status, body.to_vec()));
        }
        Err(self.refused(status, &body))
    }

    /// Sends a request for an answer in lines; older hosts may answer with one JSON value.
    async fn lines(&self, mut call: Call) -> Result<Lines> {
        const LINES: &str = "application/x-ndjson";
        call.accept = Some(LINES);
        let response = self.begin(call).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.bytes().await;
            let body = body.map_err(|error| self.unreachable(error))?;
            return Err(self.refused(status, &body));
        }
        let kind = response.headers().get(CONTENT_TYPE);
        Ok(Lines {
            are_lines: kind.is_some_and(|kind| kind == LINES),
            response,
            read: Vec::new(),
            over: false,
        })
    }

    /// Sends a request and parses its answer.
    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let (status, body) = self.send(call).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.strange(format!("its answer {status} cannot be read: {error}")))
    }

    /// As [`ask`](Self::ask); `None` if the requested thing does not exist.
    async fn find<T: DeserializeOwned>(&self, call: Call) -> Result<Option<T>> {
        match self.ask(call).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_absent_there() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Error {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) => Error::answered(error.code, error.message),
            Err(_) => self.strange(format!("it answered {status}")),
        }
    }

    fn redirected(&self, response: &Response) -> Error {
        let to = response.headers().get(LOCATION);
        let to = to.and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
        self.strange(format!("it redirects to {to}"))
    }

    /// An error for an answer that does not belong to this API.
    fn strange(&self, what: impl std::fmt::Display) -> Error {
        Error::not_perennial(self.address(), what.to_string())
    }
}

impl Client {
    /// Connects to a task hub that a remote host serves over HTTP: see `perennial::http`. `url` is the address of the host, such as
    /// `https://flows.example.com`; `key` is one of the hub's access keys, if the host requires one.
    ///
    /// This sends no request yet. Operations that need the hub's file (backups, checks of modules, a router over the client) return an
    /// error.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// let client = perennial::Client::connect("http://127.0.0.1:7071", "default", None)?;
    /// println!("{:?}", client.counts().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the URL does not use http or https, or the hub name or the key is invalid. Requests fail with
    /// [`Error::is_unreachable`] and [`Error::is_unauthorized`].
    pub fn connect(url: &str, task_hub: &str, key: Option<&str>) -> Result<Self> {
        super::check_name(task_hub)?;
        Ok(Self {
            hub: task_hub.into(),
            backend: super::Backend::Remote(std::sync::Arc::new(Remote::new(url, task_hub, key)?)),
            overviews: Default::default(),
            run: None,
        })
    }
}

/// The path segments of an instance. An invalid id is refused, because it could change the path.
fn instance<'a>(id: &'a str, rest: &[&'a str]) -> Result<Vec<&'a str>> {
    check_known_id(id).map_err(|problem| Error::invalid(problem.to_string()))?;
    if matches!(id, "." | "..") {
        return Err(no_part(id));
    }
    Ok([&["instances", id], rest].concat())
}

fn no_part(text: &str) -> Error {
    Error::invalid(format!("{text:?} cannot be part of a URL"))
}

/// Parses the address of a host, and the key in it, if any.
fn read_url(text: &str) -> Result<(Url, Option<String>)> {
    let bad = |why: &str| {
        Error::invalid(format!(
            "the address {text:?} {why}; write it like http://127.0.0.1:7071 or https://flows.example.com"
        ))
    };
    let mut url: Url = text.parse().map_err(|_| bad("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("does not begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("contains a user name or a password"));
    }
    let key = url.query_pairs().find(|(name, _)| name == "code");
    let key = key.map(|(_, key)| key.into_owned());
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/api/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok((url, key))
}

/// What is wrong with the certificate of a host, where the TLS library has only the name of a variant for it.
fn bad_certificate(message: &str) -> Option<&'static str> {
    const WRONG: [(&str, &str); 6] = [
        (
            "CaUsedAsEndEntity",
            "its certificate is one of an authority (CA:TRUE), which a server must not use: make one with `-addext basicConstraints=critical,CA:FALSE`, if openssl makes it",
        ),
        (
            "UnknownIssuer",
            "its certificate was signed by an authority that this machine does not trust",
        ),
        ("BadSignature", "the signature of its certificate is wrong"),
        ("BadEncoding", "its certificate cannot be read"),
        ("Revoked", "its certificate was revoked"),
        (
            "InvalidPurpose",
            "its certificate is not one for servers (serverAuth)",
        ),
    ];
    let (_, words) = message.split_once("invalid peer certificate: ")?;
    let found = WRONG.into_iter().find(|(name, _)| words.contains(name));
    found.map(|(_, plain)| plain)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path_and_a_key() {
        let read = |text| {
            let (url, key) = read_url(text).unwrap();
            (url.to_string(), key)
        };
        let root = ("http://h:7071/".to_owned(), None);
        assert_eq!(read("http://h:7071"), root);
        assert_eq!(read("http://h:7071/api/v1/"), root);
        let nested = ("https://h/flows".to_owned(), Some("k y".to_owned()));
        assert_eq!(read("https://h/flows/?code=k%20y"), nested);
        for bad in ["h:7071", "", "ftp://h", "http://", "http://me:word@h"] {
            let error = read_url(bad).unwrap_err();
            assert!(
                error.is_invalid() && error.to_string().contains("write it like"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_bad_certificate_is_described_in_words() {
        for (kind, words) in [
            (
                "Other(OtherError(CaUsedAsEndEntity))",
                "authority (CA:TRUE)",
            ),
            ("UnknownIssuer", "does not trust"),
            ("BadSignature", "signature"),
            ("BadEncoding", "cannot be read"),
            ("Revoked", "was revoked"),
            ("InvalidPurpose", "serverAuth"),
        ] {
            let said = format!("invalid peer certificate: {kind}");
            let plain = bad_certificate(&said).unwrap_or_default();
            assert!(plain.contains(words), "{said}: {plain}");
        }
        assert_eq!(bad_certificate("tcp connect error: Revoked"), None);
    }

    #[test]
    fn ids_are_parts_of_the_path_and_nothing_else() {
        let remote = Remote::new("http://h/x", "default", Some("secret")).unwrap();
        let url = |id: &str| {
            let path = instance(id, &["wait"])?;
            remote.url(&Call::get(&path).query("since", "a&b"))
        };
        assert_eq!(
            url("a b%2F\u{fc}").unwrap().as_str(),
            "http://h/x/api/v1/instances/a%20b%252F%C3%BC/wait?taskHub=default&since=a%26b"
        );
        for bad in ["", ".", "..", "a/b", "a?b"] {
            assert!(url(bad).unwrap_err().is_invalid(), "{bad:?}");
        }
    }
}
