//! Extractors and the error type of the API.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::budget::Spent;
use crate::client::body::{ErrorBody, ErrorDetails};
use crate::client::{Client, DISK_FULL, Error, LOCKED, key_hash, lacking};
use crate::http::body::{self, Unread};
use crate::http::permits::Permission;
use crate::http::query::{BadParameter, Query};
use crate::http::secret::secret;
use crate::http::{Api, wire};
use crate::limits::COMPONENT_BYTES;

/// The selected hub and the query parameters of a request.
pub(super) struct Ask {
    pub(super) api: Arc<Api>,
    pub(super) client: Client,
    pub(super) query: Query,
    /// The access key of the request.
    secret: Option<String>,
}

/// A failed request: its status, an error code for programs, and a message for people.
#[derive(Debug)]
pub(in crate::http) struct Failed {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failed {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "notFound", message)
    }

    /// The budget of bodies and answers is exhausted.
    pub(in crate::http) fn no_room() -> Self {
        let message = "the bodies and answers of other requests use all the memory that is set aside for them (serve --max-http-memory); try again soon";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// The status, and what happened.
    pub(in crate::http) fn told(self) -> (StatusCode, String) {
        (self.status, self.message)
    }

    /// The instance does not exist.
    pub(super) fn no_instance(id: &str) -> Self {
        Self::not_found(format!("there is no instance {id:?}"))
    }
}

impl From<&Failed> for ErrorBody {
    fn from(failed: &Failed) -> Self {
        Self {
            error: ErrorDetails {
                code: failed.code.to_owned(),
                message: failed.message.clone(),
            },
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let response = wire::json(self.status, &ErrorBody::from(&self));
        let is_later = [
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::INSUFFICIENT_STORAGE,
        ];
        if is_later.contains(&self.status) {
            return wire::with_header(response, header::RETRY_AFTER, "1");
        }
        response
    }
}

/// An error that occurred before any operation was reached.
pub(in crate::http) fn failure(status: StatusCode, message: &str) -> Response {
    let code = match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "notFound",
        StatusCode::METHOD_NOT_ALLOWED => "methodNotAllowed",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => "limitExceeded",
        StatusCode::EXPECTATION_FAILED
        | StatusCode::NOT_IMPLEMENTED
        | StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "error",
    };
    Failed::new(status, code, message).into_response()
}

impl From<Spent> for Failed {
    fn from(_: Spent) -> Self {
        Self::no_room()
    }
}

impl From<BadParameter> for Failed {
    fn from(bad: BadParameter) -> Self {
        Self::invalid(bad.0)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let (status, code) = if error.is_not_stored() {
            (StatusCode::NOT_FOUND, "notStored")
        } else if error.is_unknown_module() {
            (StatusCode::NOT_FOUND, "unknownModule")
        } else if error.is_unknown_request() {
            (StatusCode::NOT_FOUND, "unknownRequest")
        } else if error.is_not_found() && !error.is_unknown_hub() {
            (StatusCode::NOT_FOUND, "notFound")
        } else if error.is_already_exists() {
            (StatusCode::CONFLICT, "alreadyExists")
        } else if error.is_other_run() {
            (StatusCode::CONFLICT, "otherRun")
        } else if error.is_in_use() {
            (StatusCode::CONFLICT, "inUse")
        } else if error.would_forget() {
            (StatusCode::CONFLICT, "wouldForget")
        } else if error.is_wrong_state() {
            (StatusCode::CONFLICT, "wrongState")
        } else if error.is_name_taken() {
            (StatusCode::CONFLICT, "nameTaken")
        } else if error.is_unknown_orchestration() {
            (StatusCode::BAD_REQUEST, "unknownOrchestration")
        } else if error.is_quota_exceeded() {
            (StatusCode::TOO_MANY_REQUESTS, "quotaExceeded")
        } else if error.is_limit_exceeded() {
            (StatusCode::PAYLOAD_TOO_LARGE, "limitExceeded")
        } else if error.is_overloaded() {
            (StatusCode::SERVICE_UNAVAILABLE, "overloaded")
        } else if error.is_ambiguous_module() {
            (StatusCode::BAD_REQUEST, "ambiguousModule")
        } else if error.is_invalid() {
            (StatusCode::BAD_REQUEST, "invalid")
        } else if error.is_shutting_down() {
            (StatusCode::SERVICE_UNAVAILABLE, "shuttingDown")
        } else if error.is_queued() {
            (StatusCode::SERVICE_UNAVAILABLE, "queued")
        } else if error.is_withdrawn() {
            (StatusCode::SERVICE_UNAVAILABLE, "withdrawn")
        } else if error.is_unauthorized() {
            (StatusCode::FORBIDDEN, "forbidden")
        } else if error.is_disk_full() {
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "diskFull", DISK_FULL);
        } else if error.is_locked() {
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "locked", LOCKED);
        } else if let Some(lacking) = lacking(&error) {
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", lacking);
        } else {
            return internal(&error);
        };
        Self::new(status, code, error.to_string())
    }
}

/// Logs an internal error under a random id, and tells the caller only the id.
fn internal(error: &Error) -> Failed {
    let reference = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(%reference, %error, "a request failed");
    let message = format!(
        "something went wrong; the log of the host says more under the reference {reference}"
    );
    Failed::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

impl FromRequestParts<Arc<Api>> for Ask {
    type Rejection = Failed;

    async fn from_request_parts(head: &mut Parts, api: &Arc<Api>) -> Result<Self, Failed> {
        let query = Query::of(&head.uri);
        let hub = query.text("taskHub");
        let client = api.client(hub).cloned().ok_or_else(|| {
            let (hub, served) = (hub.unwrap_or_default(), api.hub_names());
            let message = format!("the task hub {hub:?} is not served here; served: {served}");
            Failed::new(StatusCode::NOT_FOUND, "noTaskHub", message)
        })?;
        // Operations that it means nothing for refuse the parameter before.
        let client = match query.text("ifRun") {
            Some(run) => client.for_run(run),
            None => client,
        };
        Ok(Self {
            api: Arc::clone(api),
            client,
            secret: secret(&head.headers, &query).map(str::to_owned),
            query,
        })
    }
}

impl Ask {
    /// Whether the caller has a permission that not every caller has who was admitted.
    ///
    /// # Errors
    /// If the keys of the hub cannot be read.
    pub(super) async fn may(&self, permission: Permission) -> Result<bool, Failed> {
        let role = match &self.secret {
            Some(secret) => self.client.role_of(key_hash(secret)).await?,
            None => None,
        };
        Ok(permission.is_given(self.api.access, role))
    }

    /// As [`may`](Self::may).
    ///
    /// # Errors
    /// The answer, if the caller does not have the permission.
    pub(super) async fn must(&self, permission: Permission) -> Result<(), Failed> {
        if self.may(permission).await? {
            return Ok(());
        }
        let message = permission.refusal();
        Err(Failed::new(StatusCode::FORBIDDEN, "forbidden", message))
    }
}

/// Requires an admin key, before the body is read.
pub(super) struct Admin;

impl FromRequestParts<Arc<Api>> for Admin {
    type Rejection = Failed;

    async fn from_request_parts(head: &mut Parts, api: &Arc<Api>) -> Result<Self, Failed> {
        let ask = Ask::from_request_parts(head, api).await?;
        ask.must(Permission::Grant).await.map(|()| Self)
    }
}

/// The decoded path parameters.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Segments<T> {
    type Rejection = Failed;

    async fn from_request_parts(head: &mut Parts, api: &Arc<Api>) -> Result<Self, Failed> {
        match Path::<T>::from_request_parts(head, api).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(_) => Err(Failed::invalid("the path is not UTF-8")),
        }
    }
}

/// A body up to the size limit.
pub(super) struct Bytes(pub(super) axum::body::Bytes);

impl FromRequest<Arc<Api>> for Bytes {
    type Rejection = Failed;

    async fn from_request(request: Request<Body>, api: &Arc<Api>) -> Result<Self, Failed> {
        read(api, request, api.body_bytes_max).await.map(Self)
    }
}

/// A body with a component. Its limit is higher than that of other bodies; base64 in JSON adds a third.
pub(super) struct Component {
    pub(super) bytes: axum::body::Bytes,
    pub(super) is_json: bool,
}

impl FromRequest<Arc<Api>> for Component {
    type Rejection = Failed;

    async fn from_request(request: Request<Body>, api: &Arc<Api>) -> Result<Self, Failed> {
        let media_type = request.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|media_type| media_type.to_str().ok());
        let is_json =
            media_type.is_some_and(|media_type| media_type.starts_with("application/json"));
        let limit = if is_json {
            COMPONENT_BYTES / 2 * 3
        } else {
            COMPONENT_BYTES
        };
        let bytes = read(api, request, limit).await?;
        Ok(Self { bytes, is_json })
    }
}

async fn read(
    api: &Api,
    request: Request<Body>,
    limit: usize,
) -> Result<axum::body::Bytes, Failed> {
    let (head, body) = request.into_parts();
    read_body(api, &head.headers, body, limit).await
}

/// Reads a body up to a limit in bytes.
///
/// # Errors
/// The answer that says why it was not read.
pub(in crate::http) async fn read_body(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<axum::body::Bytes, Failed> {
    let read = body::read(api, headers, body, limit).await;
    read.map_err(|unread| match unread {
        Unread::TooLarge(limit) => {
            let message = format!("the body is too large: at most {limit} bytes are allowed");
            Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "limitExceeded", message)
        }
        Unread::Slow => {
            let message = "the body did not arrive in time; send it again";
            Failed::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
        }
        Unread::Broken => Failed::invalid("the body ended before it was complete; send it again"),
        Unread::NoRoom => Failed::no_room(),
    })
}

/// A JSON body; an absent one counts as an empty object.
pub(super) struct Object<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Object<T> {
    type Rejection = Failed;

    async fn from_request(request: Request<Body>, api: &Arc<Api>) -> Result<Self, Failed> {
        let Bytes(bytes) = Bytes::from_request(request, api).await?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        // A list would be taken for the values of the fields, in their order.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(Failed::invalid(
                "the body must be a JSON object, not a list",
            ));
        }
        serde_json::from_slice(bytes)
            .map(Self)
            .map_err(|error| Failed::invalid(format!("the body is not what was expected: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::one_error_of_each_kind;

    #[test]
    fn the_code_of_an_answer_is_that_of_the_error() {
        let mut answered = 0;
        for error in one_error_of_each_kind() {
            let failed = Failed::from(error.clone());
            // A host has the file of its hub, and a request for another hub does not get this far.
            let is_elsewhere = error.code() == "needsFile" || error.is_unknown_hub();
            if failed.code != "internal" && !is_elsewhere {
                assert_eq!(failed.code, error.code(), "{error:?}");
                answered += 1;
            }
        }
        assert!(answered > 10, "only {answered} errors are told to callers");
    }
}
