//! Bulk commands over a filter.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::stream::{self, Stream};
use serde_json::json;
use tokio::sync::watch;

use crate::client::body::{BulkStep, ReasonBody};
use crate::client::{Bulk, BulkProgress, Error};
use crate::http::native::doc::{Operation, flag, post, time};
use crate::http::native::extract::{Ask, Failed, Object, Segments};
use crate::http::native::instances::{filter, filtered};
use crate::http::native::reply::Raw;
use crate::http::wire;

/// The media type of one JSON line for each step, and a last one with the result.
pub(crate) const LINES: &str = "application/x-ndjson";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        filtered(post(
            "/bulk/{action}",
            bulk,
            "changeInstances",
            "Does cancel, terminate, suspend, resume, restart or purge to all instances that fit a filter; \
         with Accept: application/x-ndjson it says how far it is, a line for each step, \
         the last one as {over} or {error}",
        ))
        .query(
            "all",
            flag(),
            "Required without a filter: the command then applies to every instance",
        )
        .query("dryRun", flag(), "Only counts the matching instances")
        .query("recursive", flag(), "Also applies to their descendants")
        .query(
            "asOf",
            time(),
            "Leaves out instances that were created after this time and, to restart or purge, those that were changed after it: \
             the asOf of a dry run, so that the command is for what that counted",
        )
        .body_is_optional()
        .answer_raw(
            200,
            "How many instances matched and were changed",
            "application/json",
            |schemas| schemas.subschema_for::<BulkProgress>(),
        )
        .answer_raw(
            200,
            "How many instances matched and were changed",
            LINES,
            |schemas| schemas.subschema_for::<BulkStep>(),
        ),
    ]
}

/// An empty filter needs `all=true`, so that a mistake does not change every instance.
async fn bulk(
    ask: Ask,
    Segments(action): Segments<String>,
    headers: HeaderMap,
    Object(body): Object<ReasonBody>,
) -> Result<Raw, Failed> {
    let Some(filter) = filter(&ask.query)? else {
        return Ok(Raw(wire::json(StatusCode::OK, &BulkProgress::default())));
    };
    let dry_run = ask.query.flag("dryRun", false)?;
    if filter.is_empty() && !dry_run && !ask.query.flag("all", false)? {
        return Err(Failed::invalid(
            "without a filter the command applies to every instance; if you mean that, add all=true",
        ));
    }
    let mut bulk = match action.as_str() {
        "cancel" => ask.client.cancel_where(filter),
        "terminate" => ask.client.terminate_where(filter),
        "suspend" => ask.client.suspend_where(filter),
        "resume" => ask.client.resume_where(filter),
        "restart" => ask.client.restart_where(filter),
        "purge" => ask.client.purge_where(filter),
        _ => {
            return Err(Failed::not_found(format!(
                "there is no bulk operation {action:?}; there are cancel, terminate, suspend, resume, restart and purge"
            )));
        }
    };
    if dry_run {
        bulk = bulk.dry_run();
    }
    if ask.query.flag("recursive", false)? {
        bulk = bulk.recursive();
    }
    if let Some(moment) = ask.query.time("asOf")? {
        bulk = bulk.as_of(moment);
    }
    if let Some(reason) = body.reason {
        bulk = bulk.reason(reason);
    }
    let accept = headers.get(header::ACCEPT);
    if accept.is_some_and(|accept| accept == LINES) {
        let mut response = Response::new(Body::from_stream(steps(bulk)));
        let kind = HeaderValue::from_static(LINES);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Ok(Raw(response));
    }
    Ok(Raw(wire::json(StatusCode::OK, &bulk.await?)))
}

/// A running operation and its progress. A slow reader gets only the latest progress, and the operation does not wait for it.
struct Steps {
    done: Pin<Box<dyn Future<Output = Result<BulkProgress, Error>> + Send>>,
    told: watch::Receiver<BulkProgress>,
    /// Keeps the channel open, so that the last progress is not lost when the operation ends.
    _tell: Arc<watch::Sender<BulkProgress>>,
}

fn steps(bulk: Bulk) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let (tell, told) = watch::channel(BulkProgress::default());
    let tell = Arc::new(tell);
    let tells = Arc::clone(&tell);
    let bulk = bulk.on_progress(move |progress| {
        tells.send_replace(progress);
    });
    let steps = Steps {
        done: bulk.into_future(),
        told,
        _tell: tell,
    };
    stream::unfold(Some(steps), |steps: Option<Steps>| async move {
        let mut steps = steps?;
        let done = tokio::select! {
            biased;
            Ok(()) = steps.told.changed() => None,
            done = &mut steps.done => Some(done),
        };
        // The operation may finish right after a step.
        let is_new = done.is_none() || steps.told.has_changed().is_ok_and(|changed| changed);
        let step = is_new.then(|| *steps.told.borrow_and_update());
        let mut text = step.map_or_else(String::new, |step| line(&BulkStep::Step(step)));
        let Some(done) = done else {
            return Some((Ok(text.into()), Some(steps)));
        };
        text += &last(done);
        Some((Ok(text.into()), None))
    })
}

fn last(done: Result<BulkProgress, Error>) -> String {
    match done {
        Ok(progress) => line(&BulkStep::Over { over: progress }),
        Err(error) => line(&BulkStep::Error((&Failed::from(error)).into())),
    }
}

fn line(step: &BulkStep) -> String {
    format!("{}\n", json!(step))
}
