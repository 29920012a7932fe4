//! The activity `http`: one durable HTTP call, to hosts that the calling orchestration's module is granted.
//!
//! Invariants: the client connects only to granted hosts, also after redirects; logs and failures contain no headers, no bodies, and no
//! more of a URL than its host; a response status that a retry may change is a failure that a retry policy can act on.

use std::sync::Arc;
use std::time::Duration;

use perennial_core::{Failure, Json, kind};
use reqwest::header::{
    AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
};
use reqwest::{Method, StatusCode, Url, redirect};

use super::wire::{Body, Request, Response, ResponseHeader};
use crate::chain::chain;
use crate::engine::executor::{Attempt, AttemptError, AttemptFuture, Grants, Resource, Shortage};

/// The name of the activity.
pub(super) const NAME: &str = "http";

/// The module is not granted a host or a variable.
const NOT_GRANTED: &str = "HttpNotGranted";
/// The server responded with a status that a retry may change.
const STATUS: &str = "HttpStatus";
/// The request got no response.
const FAILED: &str = "HttpFailed";
/// The request is invalid.
const INVALID: &str = "InvalidInput";

/// More redirects than this count as a loop.
const REDIRECTS_MAX: usize = 10;

/// How much of the body of a failed response is kept: enough for the server's error message.
const FAILED_BODY_BYTES_MAX: usize = 64 << 10;

/// Limits connecting, so that an unreachable host is noticed before the attempt's own timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes requests. Creates the client with the first one: most hosts need none.
#[derive(Clone, Default)]
pub(super) struct Http {
    client: Arc<tokio::sync::OnceCell<reqwest::Client>>,
}

impl Http {
    pub(super) fn run(&self, grants: Grants, attempt: Attempt) -> AttemptFuture {
        let this = self.clone();
        Box::pin(async move {
            let interrupt = attempt.interrupt.clone();
            tokio::select! {
                outcome = this.call(&grants, &attempt) => outcome,
                () = interrupt.told() => {
                    let message = "the request was given up: nobody waits for it any more";
                    Err(Failure::permanent(kind::CANCELED, message).into())
                }
            }
        })
    }

    async fn call(&self, grants: &Grants, attempt: &Attempt) -> Result<Option<Json>, AttemptError> {
        let input = attempt.input.as_ref().map_or("null", Json::as_str);
        let request: Request = serde_json::from_str(input)
            .map_err(|error| invalid(format!("it is not what was expected: {error}")))?;
        let mut next = Next::of(request, grants, attempt)?;
        let client = self.client.get_or_try_init(client).await?;
        for _ in 0..=REDIRECTS_MAX {
            check(grants, &next.url)?;
            let response = next.send(client).await?;
            match next.redirected(&response)? {
                Some(following) => next = following,
                None => return finish(response, attempt.output_bytes_max).await,
            }
        }
        let message = format!("the request was redirected more than {REDIRECTS_MAX} times");
        Err(Failure::permanent(FAILED, message).into())
    }
}

async fn client() -> Result<reqwest::Client, AttemptError> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("perennial/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        // This module checks the grants of each redirect itself. A proxy would connect to unchecked hosts.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build();
    client.map_err(|error| {
        let message = format!("there is no HTTP client: {}", chain(&error));
        match Resource::in_chain(&error).filter(|resource| resource.is_of_process()) {
            Some(resource) => Shortage::new(resource, message).into(),
            None => Failure::retryable(kind::HOST_ERROR, message).into(),
        }
    })
}

/// The next request to send: the original one, or the target of a redirect.
struct Next {
    method: Method,
    url: Url,
    headers: HeaderMap,
    /// Headers that only the first server may see.
    secret: Vec<HeaderName>,
    body: Option<Vec<u8>>,
}

impl Next {
    fn of(request: Request, grants: &Grants, attempt: &Attempt) -> Result<Self, Failure> {
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| invalid(format!("{:?} is no method", request.method)))?;
        let url = parse(&request.url)?;
        let body = request.body.bytes().map_err(invalid)?;
        let mut headers = HeaderMap::new();
        let mut secret = vec![AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
        for header in request.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes())
                .map_err(|_| invalid(format!("{:?} is no name of a header", header.name)))?;
            if is_the_hosts(&name) {
                return Err(invalid(format!("the header {name} is the host's own")));
            }
            let value = match (header.value, header.from_env) {
                (Some(value), None) => value,
                (None, Some(variable)) => {
                    secret.push(name.clone());
                    variable_of(grants, &name, &variable)?
                }
                _ => {
                    let message = format!("the header {name} needs either a value or a fromEnv");
                    return Err(invalid(message));
                }
            };
            let value = HeaderValue::from_str(&value)
                .map_err(|_| invalid(format!("the value of the header {name} cannot be sent")))?;
            headers.append(name, value);
        }
        if !method.is_safe() {
            // Requests are made at least once: with this key a server recognises a repeated one.
            let key = HeaderValue::from_str(&attempt.idempotency_key()).ok();
            let name = HeaderName::from_static("idempotency-key");
            key.map(|key| headers.entry(name).or_insert(key));
        }
        Ok(Self {
            method,
            url,
            headers,
            secret,
            body,
        })
    }

    async fn send(&self, client: &reqwest::Client) -> Result<reqwest::Response, AttemptError> {
        let mut request = client
            .request(self.method.clone(), self.url.clone())
            .headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        request
            .send()
            .await
            .map_err(|error| failed(&self.url, error))
    }

    /// The redirected request, as browsers do it; `None` if the response is final.
    fn redirected(&self, response: &reqwest::Response) -> Result<Option<Self>, Failure> {
        let status = response.status();
        let keeps = match status {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method != Method::POST,
            StatusCode::SEE_OTHER => self.method == Method::HEAD,
            _ => return Ok(None),
        };
        let Some(location) = response.headers().get(LOCATION) else {
            return Ok(None);
        };
        let to = location.to_str().ok().and_then(|to| self.url.join(to).ok());
        let url = to.ok_or_else(|| {
            let message = format!("{} redirects to what is no URL", authority(&self.url));
            Failure::permanent(FAILED, message)
        })?;
        usable(&url)?;
        let mut next = Self {
            method: self.method.clone(),
            url,
            headers: self.headers.clone(),
            secret: self.secret.clone(),
            body: self.body.clone(),
        };
        if !keeps {
            (next.method, next.body) = (Method::GET, None);
            for name in ["content-type", "content-encoding", "idempotency-key"] {
                next.headers.remove(name);
            }
        }
        if next.url.origin() != self.url.origin() {
            for name in &next.secret {
                next.headers.remove(name);
            }
        }
        Ok(Some(next))
    }
}

/// Headers that the HTTP client sets itself, or that would address another site of the same server.
fn is_the_hosts(name: &HeaderName) -> bool {
    [
        "connection",
        "content-length",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
    .contains(&name.as_str())
}

fn variable_of(grants: &Grants, header: &HeaderName, variable: &str) -> Result<String, Failure> {
    let granted = grants.env.iter().find(|(name, _)| name == variable);
    granted.map(|(_, value)| value.clone()).ok_or_else(|| {
        let message = format!(
            "the header {header} is to come from the variable {variable}, which the module is not granted; \
             `perennial grants MODULE --grant-env {variable}=VALUE` grants it"
        );
        Failure::permanent(NOT_GRANTED, message)
    })
}

fn parse(text: &str) -> Result<Url, Failure> {
    // The error leaves out the text: it may contain a secret.
    let url =
        Url::parse(text).map_err(|error| invalid(format!("its URL cannot be read: {error}")))?;
    usable(&url)?;
    Ok(url)
}

fn usable(url: &Url) -> Result<(), Failure> {
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        let message = format!(
            "only http and https are for URLs here, not {}",
            url.scheme()
        );
        return Err(invalid(message));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "a name and password do not belong into a URL, but into the header authorization",
        ));
    }
    Ok(())
}

fn check(grants: &Grants, url: &Url) -> Result<(), Failure> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    if grants.allows_http(host, port, url.port().is_none()) {
        return Ok(());
    }
    let authority = authority(url);
    let message = format!(
        "the module is not granted HTTP requests to {authority}; `perennial grants MODULE --allow-http {authority}` grants them"
    );
    Err(Failure::permanent(NOT_GRANTED, message))
}

/// The part of a URL that may be logged: its host, and its port unless it is the scheme's default.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn failed(url: &Url, error: reqwest::Error) -> AttemptError {
    let lacks = Resource::in_chain(&error).filter(|resource| resource.is_of_process());
    let what = if error.is_connect() {
        "could not connect to"
    } else {
        "there was no whole response from"
    };
    let message = format!("{what} {}: {}", authority(url), chain(&error.without_url()));
    match lacks {
        // The fault lies in the machine, not in a server.
        Some(resource) => Shortage::new(resource, message).into(),
        None => Failure::retryable(FAILED, message).into(),
    }
}

/// Reads a response, and turns it into the output or the failure of the attempt.
async fn finish(
    mut response: reqwest::Response,
    bytes_max: u64,
) -> Result<Option<Json>, AttemptError> {
    let (status, url) = (response.status(), response.url().clone());
    let transient = status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failed(&url, error))?
    {
        body.extend_from_slice(&chunk);
        if transient && body.len() >= FAILED_BODY_BYTES_MAX {
            body.truncate(FAILED_BODY_BYTES_MAX);
            break;
        }
        if body.len() as u64 > bytes_max {
            let message = format!(
                "the response of {} has more than {bytes_max} bytes, the most that a payload may have",
                authority(&url)
            );
            return Err(Failure::permanent(kind::LIMIT_EXCEEDED, message).into());
        }
    }
    let header = |(name, value): (&HeaderName, &HeaderValue)| ResponseHeader {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    let answer = Response {
        status: status.as_u16(),
        url: url.to_string(),
        headers: response.headers().iter().map(header).collect(),
        body: Body::of(body),
    };
    let text = serde_json::to_string(&answer).map_err(|error| {
        Failure::permanent(
            kind::INVALID_RESULT,
            format!("the response is no JSON: {error}"),
        )
    })?;
    if transient {
        let message = format!("{} answered {status}", authority(&url));
        return Err(Failure {
            details: Some(Json::from_text(text)),
            ..Failure::retryable(STATUS, message)
        }
        .into());
    }
    Ok(Some(Json::from_text(text)))
}

fn invalid(message: impl Into<String>) -> Failure {
    let message: String = message.into();
    Failure::permanent(
        INVALID,
        format!("activity \"http\" cannot use its input: {message}"),
    )
}
