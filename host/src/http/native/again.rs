//! Rewind and restart.

use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::http::native::BASE;
use crate::http::native::extract::{Ask, Failed, Object, Segments};
use crate::http::wire;

type Answer = Result<Response, Failed>;

/// The body of a rewind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RewindBody {
    reason: Option<String>,
    module: Option<String>,
    #[serde(default)]
    all_failures: bool,
    #[serde(default)]
    forget_completed: bool,
}

pub(super) async fn rewind(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(body): Object<RewindBody>,
) -> Answer {
    let mut rewind = ask.client.rewind(id);
    if let Some(reason) = body.reason {
        rewind = rewind.reason(reason);
    }
    if let Some(module) = body.module {
        rewind = rewind.module(module);
    }
    if body.all_failures {
        rewind = rewind.all_failures();
    }
    if body.forget_completed {
        rewind = rewind.forget_completed();
    }
    Ok(wire::json(StatusCode::OK, &rewind.await?))
}

/// The body of a restart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RestartBody {
    id: Option<String>,
}

pub(super) async fn restart(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(body): Object<RestartBody>,
) -> Answer {
    let restart = ask.client.restart(&id);
    let begun = match body.id {
        Some(same) if same == id => restart.await?,
        Some(other) => restart.with_id(other).await?,
        None => restart.with_new_id().await?,
    };
    Ok(created(&begun))
}

/// What is answered where an instance began.
pub(super) fn created(id: &str) -> Response {
    let escaped = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    let place = format!("{BASE}/instances/{escaped}");
    let response = wire::json(StatusCode::CREATED, &json!({ "instanceId": id }));
    wire::with_header(response, header::LOCATION, &place)
}
