//! Typed answers of operations, from which the document is derived.

use std::marker::PhantomData;

use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::budget::Permit;
use crate::http::native::extract::Failed;
use crate::http::{body, wire};

/// An answer in JSON.
pub(super) struct Reply<T> {
    response: Response,
    of: PhantomData<fn(T)>,
}

/// An answer without a body.
pub(super) struct Nothing(pub(super) StatusCode);

/// An answer that the operation describes itself.
pub(super) struct Raw(pub(super) Response);

impl<T: Serialize> Reply<T> {
    pub(super) fn new(status: StatusCode, value: &T) -> Self {
        Self {
            response: wire::json(status, value),
            of: PhantomData,
        }
    }

    /// 200 with this value.
    pub(super) fn ok(value: &T) -> Self {
        Self::new(StatusCode::OK, value)
    }

    /// 200 with a large value, within a permit.
    pub(super) fn ok_in(room: Permit, value: &T) -> Result<Self, Failed> {
        Ok(Self {
            response: body::json_in(room, StatusCode::OK, value)?,
            of: PhantomData,
        })
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        *self.response.status_mut() = status;
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.response = wire::with_header(self.response, name, value);
        self
    }
}

impl<T> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl IntoResponse for Nothing {
    fn into_response(self) -> Response {
        wire::empty(self.0)
    }
}

impl IntoResponse for Raw {
    fn into_response(self) -> Response {
        self.0
    }
}
