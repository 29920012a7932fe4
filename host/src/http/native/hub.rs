//! The task hub: counts, statistics, retention, keys.

use std::time::Duration;

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::HostStats;
use crate::client::body::{NewKeyBody, RetentionBody};
use crate::client::json::Counts;
use crate::client::{AccessKey, HubHosts, HubStats, NewAccessKey, Overview, Retention, Workers};
use crate::http::native::doc::{Operation, delete, get, number, post, put, text, time};
use crate::http::native::extract::{Admin, Ask, Failed, Object, Segments};
use crate::http::native::instances::{filter, filtered};
use crate::http::native::reply::{Nothing, Reply};

pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![
        get(
            "/hub",
            hub,
            "hub",
            "The task hub: its counts, and the work of its host",
        )
        .answer(200, "The task hub"),
        get(
            "/hub/stats",
            stats,
            "hubStats",
            "Statistics of the task hub",
        )
        .answer(200, "The task hub"),
        filtered(get(
            "/counts",
            counts,
            "countInstances",
            "How many instances are in each status",
        ))
        .answer(200, "A number for each status that some instance has"),
        get(
            "/overview",
            overview,
            "showOverview",
            "What the task hub holds now, and what started and ended in a window of time",
        )
        .query(
            "last",
            number(),
            "The window is the time up to now, this many seconds: a day by default",
        )
        .query("from", time(), "The beginning of the window, with `to`")
        .query("to", time(), "The end of the window, with `from`")
        .query(
            "buckets",
            number(),
            "How many parts of the window to count in: 48 by default, 120 at most",
        )
        .answer(200, "The overview"),
        get(
            "/hub/retention",
            retention,
            "showRetention",
            "How long the task hub keeps ended instances",
        )
        .answer(200, "Milliseconds for each status"),
        put(
            "/hub/retention",
            set_retention,
            "setRetention",
            "Says how long the task hub keeps what has ended; what is left out or null is kept for \
             ever",
        )
        .answer(200, "Milliseconds for each status"),
    ];
    all.extend(processes());
    all.extend(keys());
    all
}

/// What runs the hub.
fn processes() -> Vec<Operation> {
    vec![
        get(
            "/hosts",
            hosts,
            "listHosts",
            "The hosts that share the task hub, and how many partitions each has",
        )
        .query(
            "instance",
            text(),
            "Of the hosts, only the one that runs the instance with this id",
        )
        .answer(200, "The hosts"),
        get(
            "/workers",
            workers,
            "listWorkers",
            "The remote workers that are connected to the host, and what waits for one",
        )
        .answer(200, "The workers"),
    ]
}

fn keys() -> Vec<Operation> {
    vec![
        get(
            "/keys",
            list_keys,
            "listKeys",
            "The keys of the task hub, without their secrets",
        )
        .answer(200, "The keys"),
        post("/keys", create_key, "createKey", "Makes a key")
            .answer(201, "The key, which is not shown again"),
        delete("/keys/{id}", revoke_key, "revokeKey", "Revokes a key")
            .answer(204, "The key is refused from the next request on"),
    ]
}

/// General information about a task hub.
#[skip_serializing_none]
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Hub {
    task_hub: String,
    /// Whether a host in the server's process runs it.
    hosted: bool,
    counts: Counts,
    stats: Option<HostStats>,
}

async fn hub(ask: Ask) -> Result<Reply<Hub>, Failed> {
    Ok(Reply::ok(&Hub {
        task_hub: ask.client.task_hub().to_owned(),
        hosted: ask.client.is_hosted(),
        counts: ask.client.list().counts().await?.into(),
        stats: ask.client.host_stats(),
    }))
}

async fn counts(ask: Ask) -> Result<Reply<Counts>, Failed> {
    let counts = match filter(&ask.query)? {
        Some(filter) => ask.client.list().filter(filter).counts().await?,
        None => Vec::new(),
    };
    Ok(Reply::ok(&counts.into()))
}

async fn stats(ask: Ask) -> Result<Reply<HubStats>, Failed> {
    Ok(Reply::ok(&ask.client.stats().await?))
}

async fn overview(ask: Ask) -> Result<Reply<Overview>, Failed> {
    let query = &ask.query;
    let mut overview = ask.client.overview();
    let last = query.count("last")?;
    overview = match (last, query.time("from")?, query.time("to")?) {
        (None, None, None) => overview,
        (Some(seconds), None, None) => overview.last(Duration::from_secs(seconds.into())),
        (None, Some(from), Some(to)) => overview.between(from, to),
        _ => {
            return Err(Failed::invalid(
                "the window is either 'last', or both 'from' and 'to'",
            ));
        }
    };
    if let Some(buckets) = query.count("buckets")? {
        overview = overview.buckets(buckets);
    }
    Ok(Reply::ok(&overview.await?))
}

async fn hosts(ask: Ask) -> Result<Reply<HubHosts>, Failed> {
    let mut found = ask.client.hosts().await?;
    if let Some(id) = ask.query.text("instance") {
        found.hosts = ask.client.host_of(id).await?.into_iter().collect();
    }
    Ok(Reply::ok(&found))
}

async fn workers(ask: Ask) -> Result<Reply<Workers>, Failed> {
    Ok(Reply::ok(&ask.client.workers().await?))
}

async fn retention(ask: Ask) -> Result<Reply<Retention>, Failed> {
    Ok(Reply::ok(&ask.client.retention().await?))
}

async fn set_retention(
    ask: Ask,
    Object(body): Object<RetentionBody>,
) -> Result<Reply<Retention>, Failed> {
    let retention = Retention::from(body);
    ask.client.set_retention(retention).await?;
    Ok(Reply::ok(&retention))
}

async fn list_keys(ask: Ask, _: Admin) -> Result<Reply<Vec<AccessKey>>, Failed> {
    Ok(Reply::ok(&ask.client.keys().await?))
}

async fn create_key(
    ask: Ask,
    _: Admin,
    Object(body): Object<NewKeyBody>,
) -> Result<Reply<NewAccessKey>, Failed> {
    let made = ask.client.create_key(&body.name, body.role).await?;
    Ok(Reply::new(StatusCode::CREATED, &made))
}

async fn revoke_key(ask: Ask, _: Admin, Segments(id): Segments<String>) -> Result<Nothing, Failed> {
    if !ask.client.revoke_key(&id).await? {
        return Err(Failed::not_found(format!("there is no key {id:?}")));
    }
    Ok(Nothing(StatusCode::NO_CONTENT))
}
