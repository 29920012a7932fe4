//! HTTP calls that are tasks: the host's own activity `http`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::execution::Execution;
use crate::payload::Payload;
use crate::{ActivityCall, Context, Failure, RetryPolicy};

impl Context {
    /// Sends an HTTP request, as an activity that comes with the host. The deployment has to grant the host that it goes to:
    /// `perennial deploy --allow-http api.example.com`.
    ///
    /// The result is the response, whatever its status, or a failure if there is none: `HttpFailed`, `HttpNotGranted`, `Timeout` or
    /// `LimitExceeded`. Redirects are followed, to hosts that are granted. A request may be sent more than once, like any activity.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn weather(ctx: Context, city: String) -> Result<String, Failure> {
    ///     let request = HttpRequest::get(format!("https://api.example.com/weather/{city}")).header_from_env("authorization", "API_TOKEN");
    ///     let response = ctx.http(request).retry(RetryPolicy::new(5, Duration::from_secs(1)).backoff(2.0)).await?;
    ///     Ok(response.error_for_status()?.text())
    /// }
    /// ```
    pub fn http(&self, request: HttpRequest) -> HttpCall {
        HttpCall::new(self.execution(), &request)
    }
}

/// The name of the activity.
const NAME: &str = "http";

/// The kind of failure that has a response in its details.
const STATUS: &str = "HttpStatus";

/// An HTTP request, for [`Context::http`](crate::Context::http).
///
/// It becomes part of the instance's history, with its headers and its body. Keep what is secret out of it with
/// [`header_from_env`](Self::header_from_env).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[must_use = "a request is sent by `ctx.http(request).await`"]
pub struct HttpRequest {
    method: String,
    url: String,
    headers: Vec<Header>,
    #[serde(flatten)]
    body: Body,
    #[serde(skip)]
    unusable: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from_env: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Body {
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "body")]
    text: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "bodyBase64"
    )]
    base64: Option<String>,
}

impl Body {
    fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self {
                text: Some(text),
                base64: None,
            },
            Err(error) => Self {
                text: None,
                base64: Some(STANDARD.encode(error.as_bytes())),
            },
        }
    }
}

impl HttpRequest {
    /// A request with any method, to an `http` or `https` URL.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Body::default(),
            unusable: None,
        }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST request. It has a header `Idempotency-Key`, the same for every attempt, as have all that are not GET, HEAD, OPTIONS or TRACE.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// A PUT request.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// A DELETE request.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header {
            name: name.into(),
            value: Some(value.into()),
            from_env: None,
        });
        self
    }

    /// Adds a header with the value of an environment variable that the module is granted, such as a token. The host puts it in when it
    /// sends the request: it is neither in the history nor in a log, and a redirect to another host does not get it.
    pub fn header_from_env(mut self, name: impl Into<String>, variable: impl Into<String>) -> Self {
        self.headers.push(Header {
            name: name.into(),
            value: None,
            from_env: Some(variable.into()),
        });
        self
    }

    /// Sends these bytes.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::of(bytes.into());
        self
    }

    /// Sends a value as JSON. What serde cannot write fails the call with `InvalidInput`.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => {
                self.body = Body::of(text.into_bytes());
                self.header("content-type", "application/json")
            }
            Err(error) => {
                self.unusable = Some(error.to_string());
                self
            }
        }
    }
}

/// A whole HTTP response.
#[derive(Clone, Debug, Deserialize)]
pub struct HttpResponse {
    status: u16,
    url: String,
    headers: Vec<Header>,
    #[serde(flatten)]
    body: Body,
}

impl HttpResponse {
    /// The status, such as 200.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is one of 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The URL of the response, after redirects.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        header.value.as_deref()
    }

    /// All headers, as names and values, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|header| {
            let value = header.value.as_deref().unwrap_or_default();
            (header.name.as_str(), value)
        })
    }

    /// The body.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.body.text, &self.body.base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }

    /// The body as a text; what is not UTF-8 in it becomes a replacement character.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.body.text {
            Some(text) => text.clone(),
            None => String::from_utf8_lossy(&self.bytes()).into_owned(),
        }
    }

    /// The body as a value.
    ///
    /// # Errors
    ///
    /// `InvalidOutput` if it is not the JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Payload::Output {
            of: "activity",
            name: NAME,
        }
        .decode(Some(&self.text()))
    }

    /// This response, if its status is below 400.
    ///
    /// # Errors
    ///
    /// `HttpStatus` otherwise, with the status in its message.
    pub fn error_for_status(self) -> Result<Self, Failure> {
        if self.status < 400 {
            return Ok(self);
        }
        let failure = Failure::new(STATUS, format!("the server answered {}", self.status));
        Err(if self.status < 500 {
            failure.not_retryable()
        } else {
            failure
        })
    }
}

/// A durable HTTP call, made by [`Context::http`](crate::Context::http). A future of the response.
#[must_use = "a call is scheduled when it is awaited"]
pub struct HttpCall(ActivityCall<HttpResponse>);

impl HttpCall {
    pub(crate) fn new(execution: Rc<Execution>, request: &HttpRequest) -> Self {
        let payload = Payload::Input {
            of: "activity",
            name: NAME,
        };
        let input = match &request.unusable {
            None => payload.encode(request),
            Some(error) => {
                let message = format!("the body of the request cannot be written as JSON: {error}");
                Err(Failure::new("InvalidInput", message).not_retryable())
            }
        };
        Self(ActivityCall::new(execution, NAME.to_owned(), input))
    }

    /// Has the host try again where there is no response, or one with the status 408, 429 or 500 to 599. The last response is what comes out.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        Self(self.0.retry(policy))
    }

    /// Gives up an attempt after this long.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        Self(self.0.attempt_timeout(timeout))
    }
}

impl Future for HttpCall {
    type Output = Result<HttpResponse, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let outcome = task::ready!(Pin::new(&mut self.0).poll(cx));
        // For a retry policy such a response is a failure; for whoever reads it, it is a response.
        Poll::Ready(outcome.or_else(|failure| match failure.details() {
            Some(response) if failure.kind() == STATUS => Ok(response),
            _ => Err(failure),
        }))
    }
}

impl fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall").finish_non_exhaustive()
    }
}
