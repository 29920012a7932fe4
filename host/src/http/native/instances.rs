//! Instances: start, query, wait, list, command.

use std::time::Duration;

use axum::http::{HeaderName, StatusCode};
use perennial_core::bounds::TAGS;
use serde_json::json;

use crate::budget::Permit;
use crate::client::body::{CommandAnswer, CommandBody, Deleted, StartBody, Started};
use crate::client::parse_time as time_of;
use crate::client::{
    Client, Filter, InstanceCommand, InstanceStatus, PAGE_BYTES_MAX, Page, Start, Waited,
    parse_json,
};
use crate::http::body;
use crate::http::native::BASE;
use crate::http::native::again::{self, created};
use crate::http::native::doc::{Operation, delete, flag, get, number, post, schema, text, time};
use crate::http::native::extract::{Ask, Bytes, Failed, Object, Segments};
use crate::http::native::reply::{Nothing, Reply};
use crate::http::query::Query;
use crate::{Order, WaitFilter};

/// The default length of a wait.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn operations() -> Vec<Operation> {
    let mut all = reading();
    all.extend(changing());
    all.extend(again::operations());
    all
}

fn reading() -> Vec<Operation> {
    vec![
        get(
            "/instances/{id}",
            show,
            "showInstance",
            "One instance, and what it waits for",
        )
        .query(
            "input",
            flag(),
            "Includes its input, and the inputs of the calls in its history",
        )
        .query(
            "history",
            flag(),
            "Includes its history, if that is short; /history reads longer ones in pages",
        )
        .query(
            "historyOutput",
            flag(),
            "Includes the results of the calls in its history; true by default",
        )
        .answer(200, "The instance")
        .fails(&[(413, "The history is too long for one answer")]),
        get(
            "/instances/{id}/wait",
            wait,
            "awaitInstance",
            "Waits until an instance has ended or started",
        )
        .query(
            "for",
            json!({ "type": "string", "enum": ["completion", "start", "change"] }),
            "What to wait for",
        )
        .query(
            "since",
            text(),
            "For `change`: the header x-stamp of the last answer",
        )
        .query(
            "timeout",
            json!({ "type": "number", "minimum": 0 }),
            "Seconds, 10 by default",
        )
        .answer(200, "The instance is in the state that was waited for")
        .answer(202, "The timeout passed; the current state of the instance"),
        listing(),
    ]
}

fn listing() -> Operation {
    filtered(get(
        "/instances",
        list,
        "listInstances",
        "Instances, newest first, a page at a time",
    ))
    .query(
        "limit",
        number(),
        "The most instances to return: 100 by default, 1000 at most",
    )
    .query("after", text(), "The token of the page before")
    .query(
        "order",
        json!({ "type": "string", "enum": ["newestFirst", "oldestFirst", "endedFirst"] }),
        "newestFirst by default; endedFirst returns only ended instances, ordered by the time of their end",
    )
    .query("input", flag(), "Includes the input of each")
    .query("output", flag(), "Includes the output of each")
    .answer(200, "A page")
}

/// The description of a parameter.
const WAITS_FOR: &str = "Only live ones that wait for this: event, request, answer, activity, retry, timer, start, child, worker or quarantine; \
    event:NAME, request:NAME or answer:NAME for one of that name";

/// Adds the parameters of the filter.
pub(super) fn filtered(operation: Operation) -> Operation {
    let statuses = json!({ "type": "array", "items": schema("Status") });
    let tags = json!({ "type": "array", "items": text() });
    operation
        .query(
            "status",
            statuses,
            "Only instances in these statuses: separated by commas, or the parameter repeated",
        )
        .query("name", text(), "Only this orchestration")
        .query("version", text(), "Only this version of it")
        .query("tag", tags, "Only those with this label, as KEY=VALUE")
        .query("idPrefix", text(), "Only ids with this prefix")
        .query(
            "createdFrom",
            time(),
            "Only those created at this time or later",
        )
        .query("createdTo", time(), "Only those created before this time")
        .query(
            "endedFrom",
            time(),
            "Only those that ended at this time or later",
        )
        .query("endedTo", time(), "Only those that ended before this time")
        .query(
            "updatedFrom",
            time(),
            "Only those that were last updated at this time or later",
        )
        .query(
            "updatedTo",
            time(),
            "Only those that were last updated before this time",
        )
        .query(
            "failureKind",
            text(),
            "Only failed ones whose failure has this kind",
        )
        .query("waitsFor", text(), WAITS_FOR)
}

fn changing() -> Vec<Operation> {
    vec![
        post(
            "/instances",
            start,
            "startInstance",
            "Starts an instance. The start is on disk before the answer. An ended instance with the same id is replaced, unless `reuse` is `never`",
        )
        .answer(201, "The id of the instance, and its URL as `location`")
        .answer(200, "With `event`: the instance was there, and got the event")
        .fails(&[
            (409, "The id is in use"),
            (413, "The input is larger than its limit"),
        ]),
        post(
            "/instances/{id}/events/{name}",
            raise_event,
            "raiseEvent",
            "Raises an external event to an instance, which keeps it until it waits for an event of that name",
        )
        .for_a_run()
        .body_is_optional()
        .answer(202, "The event is on disk")
        .fails(&[
            (409, "The instance has ended"),
            (413, "The data is larger than its limit"),
        ]),
        delete(
            "/instances/{id}",
            purge,
            "purgeInstance",
            "Deletes an instance that has ended, with its history",
        )
        .query(
            "recursive",
            flag(),
            "Also deletes its descendants, even if the instance itself was deleted before",
        )
        .for_a_run()
        .answer(200, "How many instances were deleted")
        .fails(&[(409, "The instance has not ended")]),
        command(post(
            "/instances/{id}/cancel",
            cancel,
            "cancelInstance",
            "Asks an instance to end in good order",
        )),
        command(post(
            "/instances/{id}/terminate",
            terminate,
            "terminateInstance",
            "Terminates an instance",
        )),
        command(post(
            "/instances/{id}/suspend",
            suspend,
            "suspendInstance",
            "Suspends an instance until it is resumed",
        )),
        command(post(
            "/instances/{id}/resume",
            resume,
            "resumeInstance",
            "Resumes a suspended instance",
        )),
    ]
}

fn command(operation: Operation) -> Operation {
    operation
        .for_a_run()
        .body_is_optional()
        .answer(
            202,
            "The command is on disk and takes effect soon, unless `changed` is false",
        )
        .fails(&[(
            409,
            "The command does not apply to an instance in this status",
        )])
}

async fn show(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<InstanceStatus>, Failed> {
    let mut query = ask.client.status(&id);
    if ask.query.flag("input", false)? {
        query = query.show_input();
    }
    if ask.query.flag("history", false)? {
        query = if ask.query.flag("historyOutput", true)? {
            query.show_history_output()
        } else {
            query.show_history()
        };
    }
    let room = if ask.query.flag("history", false)? {
        Some(room_for_history(&ask, &id).await?)
    } else {
        None
    };
    let status = query.await?.ok_or_else(|| Failed::no_instance(&id))?;
    match room {
        Some(room) => Reply::ok_in(room, &status),
        None => Ok(Reply::ok(&status)),
    }
}

/// Reserves memory for an instance with its history; fails if it never fits, so that the caller reads it in pages.
async fn room_for_history(ask: &Ask, id: &str) -> Result<Permit, Failed> {
    let status = ask.client.status(id).await?;
    let status = status.ok_or_else(|| Failed::no_instance(id))?;
    let room = body::room_for_history(&ask.api, &status).await?;
    room.ok_or_else(|| {
        let message = format!(
            "the history of instance {id:?} has {} events and {} bytes, too many for one answer; {BASE}/instances/{{id}}/history has it in pages",
            status.history_events, status.history_bytes
        );
        Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "limitExceeded", message)
    })
}

async fn wait(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<InstanceStatus>, Failed> {
    let limit = ask.query.seconds("timeout")?.unwrap_or(TIMEOUT);
    let limit = limit.min(ask.api.wait_max);
    let waiting = async {
        match ask.query.text("for") {
            None | Some("completion") => Ok(ask.client.wait_for_completion(&id, limit).await?),
            Some("start") => Ok(ask.client.wait_for_start(&id, limit).await?),
            Some("change") => {
                let seen = ask.query.text("since").unwrap_or_default();
                let changed = |status: &InstanceStatus| status.stamp() != seen;
                Ok(ask.client.wait_until(&id, limit, changed).await?)
            }
            Some(other) => Err(Failed::invalid(format!(
                "the parameter 'for' must be completion, start or change, not {other:?}"
            ))),
        }
    };
    let waited = tokio::select! {
        waited = waiting => waited?,
        () = ask.api.closing.closed() => {
            let status = ask.client.status(&id).await?;
            Waited::TimedOut(status.ok_or_else(|| Failed::no_instance(&id))?)
        }
    };
    let (code, status): (_, InstanceStatus) = match waited {
        Waited::Reached(status) => (StatusCode::OK, status),
        Waited::TimedOut(status) => (StatusCode::ACCEPTED, status),
    };
    let reply = Reply::new(code, &status);
    if ask.query.text("for") != Some("change") {
        return Ok(reply);
    }
    let stamp = HeaderName::from_static("x-stamp");
    Ok(reply.with_header(stamp, &status.stamp()))
}

/// The filter that the parameters describe; `None` if no instance can match.
pub(super) fn filter(query: &Query) -> Result<Option<Filter>, Failed> {
    let mut filter = Filter::new();
    if let Some(name) = query.text("name") {
        filter = filter.name(name);
    }
    if let Some(version) = query.text("version") {
        filter = filter.version(version);
    }
    if let Some(prefix) = query.text("idPrefix") {
        filter = filter.id_prefix(prefix);
    }
    for (at, tag) in query.values("tag").enumerate() {
        if at >= TAGS {
            return Err(Failed::invalid(format!(
                "a filter has at most {TAGS} tags: leave some out"
            )));
        }
        let (key, value) = tag.split_once('=').ok_or_else(|| {
            Failed::invalid(format!(
                "the parameter 'tag' must be KEY=VALUE, not {tag:?}"
            ))
        })?;
        filter = filter.tag(key, value);
    }
    if let Some(from) = query.time("createdFrom")? {
        filter = filter.created_from(from);
    }
    if let Some(to) = query.time("createdTo")? {
        filter = filter.created_to(to);
    }
    if let Some(from) = query.time("endedFrom")? {
        filter = filter.ended_from(from);
    }
    if let Some(to) = query.time("endedTo")? {
        filter = filter.ended_to(to);
    }
    if let Some(from) = query.time("updatedFrom")? {
        filter = filter.updated_from(from);
    }
    if let Some(to) = query.time("updatedTo")? {
        filter = filter.updated_to(to);
    }
    if let Some(kind) = query.text("failureKind") {
        filter = filter.failure_kind(kind);
    }
    if let Some(text) = query.text("waitsFor") {
        let wait = WaitFilter::parse(text).ok_or_else(|| {
            Failed::invalid(format!(
                "the parameter 'waitsFor' must be a kind of wait, such as retry or event:NAME, not {text:?}"
            ))
        })?;
        filter = filter.waits_for(wait);
    }
    Ok(match query.statuses("status")? {
        Some(statuses) if statuses.is_empty() => None,
        statuses => Some(statuses.into_iter().flatten().fold(filter, Filter::status)),
    })
}

async fn list(ask: Ask) -> Result<Reply<Page>, Failed> {
    let query = &ask.query;
    let Some(filter) = filter(query)? else {
        return Ok(Reply::ok(&Page::default()));
    };
    let mut list = ask.client.list().filter(filter);
    if let Some(limit) = query.count("limit")? {
        list = list.limit(limit);
    }
    if let Some(token) = query.text("after") {
        list = list.continuation_token(token);
    }
    match query.text("order") {
        None | Some("newestFirst") => {}
        Some("oldestFirst") => list = list.order(Order::OldestFirst),
        Some("endedFirst") => list = list.order(Order::EndedFirst),
        Some(other) => {
            return Err(Failed::invalid(format!(
                "the parameter 'order' must be newestFirst, oldestFirst or endedFirst, not {other:?}"
            )));
        }
    }
    if query.flag("input", false)? {
        list = list.show_input();
    }
    if query.flag("output", false)? {
        list = list.show_output();
    }
    let room = body::room_for(&ask.api, PAGE_BYTES_MAX).await?;
    Reply::ok_in(room, &list.await?)
}

async fn purge(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<Deleted>, Failed> {
    let mut purge = ask.client.purge(&id);
    if ask.query.flag("recursive", false)? {
        purge = purge.recursive();
    }
    match purge.await? {
        0 => Err(Failed::no_instance(&id)),
        deleted => Ok(Reply::ok(&Deleted { deleted })),
    }
}

async fn start(ask: Ask, Object(mut body): Object<StartBody>) -> Result<Reply<Started>, Failed> {
    let event = body.event.take();
    let start = start_of(&ask.client, body)?;
    let Some(event) = event else {
        return Ok(created(start.await?));
    };
    let started = start.with_event_json(&event.name, event.data).await?;
    let mut reply = created(started.id);
    if !started.is_new {
        reply = reply.with_status(StatusCode::OK);
    }
    Ok(reply)
}

/// The start that a body describes, without its event.
pub(super) fn start_of(client: &Client, body: StartBody) -> Result<Start, Failed> {
    let start = client.start(body.orchestration);
    let mut start = start.input_json(body.input).reuse(body.reuse.into());
    if let Some(id) = body.id {
        start = start.id(id);
    }
    if let Some(version) = body.version {
        start = start.version(version);
    }
    let is_scheduled = body.scheduled_time.is_some();
    if let Some(text) = body.scheduled_time {
        let time = time_of(&text).ok_or_else(|| {
            Failed::invalid(format!(
                "scheduledTime must be a time, such as 2026-01-31T12:00:00Z, not {text:?}"
            ))
        })?;
        start = start.at(time);
    }
    if let Some(ms) = body.start_after_ms {
        if is_scheduled {
            return Err(Failed::invalid(
                "scheduledTime and startAfterMs both say when it begins: give one of them",
            ));
        }
        start = start.after(Duration::from_millis(ms));
    }
    if let Some(ms) = body.execution_timeout_ms {
        start = start.execution_timeout(Duration::from_millis(ms));
    }
    if let Some(trace) = body.trace_parent {
        start = start.trace_parent(trace);
    }
    for (key, value) in body.tags {
        start = start.tag(key, value);
    }
    Ok(start)
}

async fn raise_event(
    ask: Ask,
    Segments((id, name)): Segments<(String, String)>,
    Bytes(body): Bytes,
) -> Result<Nothing, Failed> {
    let text = std::str::from_utf8(&body).map_err(|_| Failed::invalid("the body is not UTF-8"))?;
    let data = match text.trim() {
        "" => None,
        _ => Some(parse_json(text)?),
    };
    ask.client.raise_event_json(&id, &name, data).await?;
    Ok(Nothing(StatusCode::ACCEPTED))
}

async fn cancel(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(mut body): Object<CommandBody>,
) -> Result<Reply<CommandAnswer>, Failed> {
    let mut command = ask.client.cancel(&id, body.reason.as_deref());
    if let Some(ms) = body.grace_ms.take() {
        command = command.grace(Duration::from_millis(ms));
    }
    accepted(command, &body).await
}

async fn terminate(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(body): Object<CommandBody>,
) -> Result<Reply<CommandAnswer>, Failed> {
    let command = ask.client.terminate(&id, body.reason.as_deref());
    accepted(command, &body).await
}

async fn suspend(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(body): Object<CommandBody>,
) -> Result<Reply<CommandAnswer>, Failed> {
    let command = ask.client.suspend(&id, body.reason.as_deref());
    accepted(command, &body).await
}

async fn accepted(
    command: InstanceCommand,
    body: &CommandBody,
) -> Result<Reply<CommandAnswer>, Failed> {
    if body.module.is_some() {
        return Err(Failed::invalid("only a resume takes a module"));
    }
    if body.grace_ms.is_some() {
        return Err(Failed::invalid("only a cancellation takes a grace period"));
    }
    let outcome = command.recursive_if(body.recursive).await?;
    Ok(answer(outcome.is_changed()))
}

fn answer(changed: bool) -> Reply<CommandAnswer> {
    Reply::new(StatusCode::ACCEPTED, &CommandAnswer { changed })
}

async fn resume(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(body): Object<CommandBody>,
) -> Result<Reply<CommandAnswer>, Failed> {
    let reason = body.reason.as_deref();
    let Some(module) = &body.module else {
        return accepted(ask.client.resume(&id, reason), &body).await;
    };
    if body.recursive {
        return Err(Failed::invalid(
            "a module is for one instance, not for its descendants",
        ));
    }
    ask.client.resume_on(&id, module, reason).await?;
    Ok(answer(true))
}
