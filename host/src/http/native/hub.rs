//! The task hub: counts, statistics, retention, keys.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{List, Retention, Role};
use crate::http::native::Operation;
use crate::http::native::doc::{doc, schema};
use crate::http::native::extract::{Admin, Ask, Failed, Object, Segments};
use crate::http::native::instances::{filter, filtered};
use crate::http::wire;

type Answer = Result<Response, Failed>;

pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![
        Operation {
            method: "GET",
            path: "/hub",
            doc: doc(
                "hub",
                "The task hub: its counts, and what its host has done",
            )
            .answer(200, "The task hub", schema("Hub")),
            handler: get(hub),
        },
        Operation {
            method: "GET",
            path: "/hub/stats",
            doc: doc("hubStats", "What the task hub holds").answer(
                200,
                "The task hub",
                schema("HubStats"),
            ),
            handler: get(stats),
        },
        Operation {
            method: "GET",
            path: "/counts",
            doc: filtered(doc(
                "countInstances",
                "How many instances are in each status",
            ))
            .answer(
                200,
                "A number for each status that some instance has",
                schema("Counts"),
            ),
            handler: get(counts),
        },
        Operation {
            method: "GET",
            path: "/hub/retention",
            doc: doc(
                "showRetention",
                "How long the task hub keeps what has ended",
            )
            .answer(200, "Milliseconds by status", schema("Retention")),
            handler: get(retention),
        },
        Operation {
            method: "PUT",
            path: "/hub/retention",
            doc: doc(
                "setRetention",
                "Says how long the task hub keeps what has ended; what is left out or null is kept for ever",
            )
            .body("application/json", schema("Retention"), true)
            .answer(200, "Milliseconds by status", schema("Retention")),
            handler: put(set_retention),
        },
    ];
    all.extend(keys());
    all
}

fn keys() -> Vec<Operation> {
    const ADMIN: (u16, &str) = (403, "It needs a key that may do everything");
    vec![
        Operation {
            method: "GET",
            path: "/keys",
            doc: doc(
                "listKeys",
                "The keys of the task hub, without what callers send",
            )
            .answer(
                200,
                "The keys",
                json!({ "type": "array", "items": schema("Key") }),
            )
            .fails(&[ADMIN]),
            handler: get(list_keys),
        },
        Operation {
            method: "POST",
            path: "/keys",
            doc: doc("createKey", "Makes a key")
                .body("application/json", schema("NewKey"), true)
                .answer(201, "The key, which is not shown again", schema("Key"))
                .fails(&[ADMIN]),
            handler: post(create_key),
        },
        Operation {
            method: "DELETE",
            path: "/keys/{id}",
            doc: doc("revokeKey", "Makes a key worthless")
                .empty(204, "It is, from the next request on")
                .fails(&[ADMIN]),
            handler: delete(revoke_key),
        },
    ]
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HubWire<'a> {
    task_hub: &'a str,
    hosted: bool,
    counts: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<crate::HostStats>,
}

async fn hub(ask: Ask) -> Answer {
    let hub = HubWire {
        task_hub: ask.client.task_hub(),
        hosted: ask.client.is_hosted(),
        counts: by_status(ask.client.list()).await?,
        stats: ask.client.host_stats(),
    };
    Ok(wire::json(StatusCode::OK, &hub))
}

async fn counts(ask: Ask) -> Answer {
    let counts = match filter(&ask.query)? {
        Some(filter) => by_status(ask.client.list().filter(filter)).await?,
        None => BTreeMap::new(),
    };
    Ok(wire::json(StatusCode::OK, &counts))
}

async fn by_status(list: List) -> Result<BTreeMap<&'static str, u64>, Failed> {
    let counts = list.counts().await?;
    Ok(counts
        .into_iter()
        .map(|(status, n)| (status.name(), n))
        .collect())
}

async fn stats(ask: Ask) -> Answer {
    Ok(wire::json(StatusCode::OK, &ask.client.stats().await?))
}

async fn retention(ask: Ask) -> Answer {
    Ok(wire::json(StatusCode::OK, &ask.client.retention().await?))
}

/// Milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetentionBody {
    completed: Option<u64>,
    failed: Option<u64>,
    terminated: Option<u64>,
}

async fn set_retention(ask: Ask, Object(body): Object<RetentionBody>) -> Answer {
    let retention = Retention {
        completed: body.completed.map(Duration::from_millis),
        failed: body.failed.map(Duration::from_millis),
        terminated: body.terminated.map(Duration::from_millis),
    };
    ask.client.set_retention(retention).await?;
    Ok(wire::json(StatusCode::OK, &retention))
}

async fn list_keys(ask: Ask, _: Admin) -> Answer {
    Ok(wire::json(StatusCode::OK, &ask.client.keys().await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewKeyBody {
    name: String,
    role: RoleBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RoleBody {
    ReadOnly,
    Admin,
}

async fn create_key(ask: Ask, _: Admin, Object(body): Object<NewKeyBody>) -> Answer {
    let role = match body.role {
        RoleBody::ReadOnly => Role::ReadOnly,
        RoleBody::Admin => Role::Admin,
    };
    let made = ask.client.create_key(&body.name, role).await?;
    Ok(wire::json(StatusCode::CREATED, &made))
}

async fn revoke_key(ask: Ask, _: Admin, Segments(id): Segments<String>) -> Answer {
    if !ask.client.revoke_key(&id).await? {
        return Err(Failed::not_found(format!("there is no key {id:?}")));
    }
    Ok(wire::empty(StatusCode::NO_CONTENT))
}
