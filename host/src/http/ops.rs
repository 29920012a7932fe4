//! Health and readiness.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

use crate::client::Client;
use crate::http::Api;
use crate::outage::Outage;

/// Routes without access control: they reveal only whether the host works.
pub(super) fn health() -> Router<Arc<Api>> {
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(ready))
}

/// Logs that a hub cannot be used, at most every ten seconds for each hub: this is asked often.
pub(super) fn warn_of(hub: &str, error: &dyn fmt::Display, what: &str) {
    static SEEN: Mutex<BTreeMap<String, Outage>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let outage = seen.entry(hub.to_owned()).or_default();
    if let Some(unsaid) = outage.failed() {
        tracing::warn!(hub, %error, unsaid, "the task hub cannot be {what}");
    }
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    if api.closing.is_closed() {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the host is shutting down\n",
        );
    }
    for client in &api.hubs {
        let hub = client.task_hub();
        if client.is_draining() {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the host is shutting down\n",
            );
        }
        if !client.is_hosted() {
            let message = format!("no host runs task hub {hub:?}\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
        if let Err(error) = client.keys().await {
            warn_of(hub, &error, "read");
            let message = format!("task hub {hub:?} cannot be read; the log says why\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
        if let Err(error) = client.can_write().await {
            let why = if error.is_disk_full() && client.is_in_database() {
                "the disk of its database is full"
            } else if error.is_disk_full() {
                "its disk is full"
            } else if error.is_locked() {
                "something else has locked it"
            } else {
                "the log says why"
            };
            warn_of(hub, &error, "written");
            let message = format!("task hub {hub:?} cannot be written; {why}\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
    }
    let shortages = api.hubs.iter().flat_map(Client::shortages);
    // Shortages of the hubs were checked above.
    let shortages = shortages.filter(|shortage| shortage.resource.is_of_process());
    let mut lacks: Vec<String> = shortages
        .map(|shortage| shortage.resource.to_string())
        .collect();
    lacks.dedup();
    if !lacks.is_empty() {
        let message = format!("the host lacks {}\n", lacks.join(", "));
        return text(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    text(StatusCode::OK, "ready\n")
}

fn text(status: StatusCode, message: &str) -> Response {
    let mut response = Response::new(Body::from(message.to_owned()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
