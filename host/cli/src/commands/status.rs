//! `perennial status`.

use std::collections::BTreeMap;

use perennial::{Client, Failure, InstanceStatus, Json, Timestamp, Wait, closest};

use crate::args::Status;
use crate::error::Exit;
use crate::format::{bytes, count, span, time};
use crate::output::{Output, plain};
use crate::progress::and_more;
use crate::session::Session;

use super::missing::missing;
use super::wait::{GRANT_DIRECTORY, causes, lacks_directory, text_of};

/// Waits shown to people; the others are counted.
const WAITS_SHOWN: usize = 8;

pub(super) async fn status(args: Status, session: &Session) -> anyhow::Result<Exit> {
    if let Some(base) = &args.urls {
        return super::urls::urls(&args.id, base, session).await;
    }
    if args.tree {
        return super::tree::tree(&args.id, session).await;
    }
    let output = session.output();
    let status = read(&session.client()?, &args, session).await?;
    if output.is_json() {
        output.json(&status)?;
        return Ok(Exit::Ok);
    }
    let mut fields = fields(&status, session);
    fields.extend(host_of(&args.id, session).await);
    output.block(&fields)?;
    if let Some(history) = &status.history {
        output.line("")?;
        super::history::print(history, output)?;
    }
    Ok(Exit::Ok)
}

/// The host that runs the instance, where several may; nothing if nobody says so, as a host of an older version.
async fn host_of(id: &str, session: &Session) -> Option<(&'static str, String)> {
    let client = session.client().ok()?;
    if client.hosts().await.ok()?.partitions == 1 {
        return None;
    }
    let host = client.host_of(id).await.ok()?;
    let host = host.map_or_else(|| "none at the moment".to_owned(), |host| host.to_string());
    Some(("host", host))
}

async fn read(client: &Client, args: &Status, session: &Session) -> anyhow::Result<InstanceStatus> {
    let mut query = client.status(&args.id);
    if args.input {
        query = query.show_input();
    }
    if args.history {
        // The history is shown as `perennial history` shows it, with its inputs.
        query = query.show_input().show_history_output();
    }
    let mut status = query.await?.ok_or_else(|| missing(&args.id, session))?;
    status.input = status.input.filter(|_| args.input);
    Ok(status)
}

type Fields = Vec<(&'static str, String)>;

fn fields(status: &InstanceStatus, session: &Session) -> Fields {
    let output = session.output();
    let mut fields = vec![
        ("instance", status.instance_id.clone()),
        (
            "orchestration",
            match &status.version {
                Some(version) => format!("{} {version}", status.name),
                None => status.name.clone(),
            },
        ),
        ("status", output.status(status.runtime_status)),
    ];
    fields.extend(moments(status, output));
    fields.extend(origin(status, output));
    fields.push((
        "history",
        format!(
            "{}, {}",
            count(status.history_events, "event"),
            bytes(status.history_bytes)
        ),
    ));
    fields.extend(payloads(status));
    if !status.values.is_empty() {
        let values = status.values.iter();
        let lines = values.map(|(name, value)| plain(&format!("{name}: {value}")));
        fields.push(("values", lines.collect::<Vec<_>>().join("\n")));
    }
    fields.extend(status.failure.iter().flat_map(failure));
    fields.extend(status.quarantine.iter().flat_map(quarantine));
    fields.extend(open_work(status, output));
    fields
}

/// When it was created, began, and ended or changed last.
fn moments(status: &InstanceStatus, output: &Output) -> Fields {
    let mut fields = vec![("created", moment(status.created_at, output))];
    if let Some(started) = status.started_at {
        let later = later(status.created_at, started);
        fields.push(("started", moment(started, output) + &later));
    }
    let from = status.started_at.unwrap_or(status.created_at);
    let updated = if status.is_ended() {
        "ended"
    } else {
        "updated"
    };
    let later = later(from, status.last_updated_at);
    fields.push((updated, moment(status.last_updated_at, output) + &later));
    fields
}

/// Its module, rewinds, parent and labels.
fn origin(status: &InstanceStatus, output: &Output) -> Fields {
    let mut fields = Vec::new();
    fields.push(match status.module {
        Some(module) => ("module", module.short()),
        None => ("run by", "a worker".to_owned()),
    });
    for rewind in &status.rewinds {
        let reason = rewind.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| plain(&format!(": {reason}")));
        fields.push(("rewound", moment(rewind.at, output) + &reason));
    }
    if let Some(parent) = &status.parent_instance_id {
        fields.push(("parent", parent.clone()));
    }
    if !status.tags.is_empty() {
        let tags = status
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        fields.push(("tags", plain(&tags.collect::<Vec<_>>().join(" "))));
    }
    fields
}

fn payloads(status: &InstanceStatus) -> Fields {
    let result = match status.runtime_status {
        perennial::Status::Completed => ("output", status.output.as_ref().map(Json::to_string)),
        _ => ("reason", status.output.as_ref().map(text_of)),
    };
    let payloads = [
        ("input", status.input.as_ref().map(Json::to_string)),
        (
            "custom status",
            status.custom_status.as_ref().map(Json::to_string),
        ),
        result,
    ];
    payloads
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
}

fn failure(failure: &Failure) -> Fields {
    let mut fields = vec![("failure", failure.to_string())];
    fields.extend(causes(failure).into_iter().map(|cause| ("because", cause)));
    fields.extend(failure.trace.clone().map(|trace| ("trace", trace)));
    if lacks_directory(failure) {
        fields.push(("hint", GRANT_DIRECTORY.to_owned()));
    }
    let details = failure.details.iter();
    fields.extend(details.map(|details| ("details", details.to_string())));
    fields
}

/// What it waits for, what still runs after its end, and the events that led to nothing.
fn open_work(status: &InstanceStatus, output: &Output) -> Fields {
    let mut fields = Vec::new();
    if let Some(asked) = &status.pending_cancellation {
        fields.push(("cancelled", pending_cancellation(asked, output)));
    }
    if !status.waits_for.is_empty() {
        fields.push(("waits for", waits(status, output)));
    }
    if !status.still_runs.is_empty() {
        let left = status.still_runs.iter().take(WAITS_SHOWN);
        let lines: Vec<String> = left.map(|wait| plain(&wait.to_string())).collect();
        fields.push(("still runs", lines.join("\n")));
    }
    if !status.events_without_effect.is_empty() {
        fields.push(("was sent", without_effect(status)));
    }
    fields
}

/// That it will be told to end once it is resumed.
fn pending_cancellation(asked: &perennial::PendingCancellation, output: &Output) -> String {
    let reason = asked.reason.as_ref();
    let reason = reason.map_or_else(String::new, |reason| plain(&format!(" ({reason})")));
    format!(
        "asked for {}{reason}; it is told when it is resumed, and has {} to end then",
        moment(asked.at, output),
        span(asked.grace_millis)
    )
}

/// The events without effect, each name once, with a suggestion for a misspelt one.
fn without_effect(status: &InstanceStatus) -> String {
    let awaited = status.waits_for.iter().filter_map(|wait| match wait {
        Wait::ExternalEvent { name } => Some(name.as_str()),
        _ => None,
    });
    let awaited: Vec<&str> = awaited.collect();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in &status.events_without_effect {
        *counts.entry(name).or_default() += 1;
    }
    let lines = counts.into_iter().map(|(name, number)| {
        let times = if number > 1 {
            format!(" ({number} times)")
        } else {
            String::new()
        };
        let meant = match closest(name, awaited.iter().copied()) {
            Some(meant) if !awaited.contains(&name) => format!("; did you mean {meant:?}?"),
            _ => String::new(),
        };
        plain(&format!(
            "external event {name:?}{times}, which led to nothing so far{meant}"
        ))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// How the replay differs from the history, and which host found that when.
fn quarantine(why: &perennial::Quarantine) -> Fields {
    let place = match (why.turn, why.event) {
        (Some(turn), Some(event)) => format!("at event {event} of turn {turn}"),
        (Some(turn), None) => format!("in turn {turn}"),
        (None, Some(event)) => format!("at event {event}"),
        (None, None) => plain(&why.reason),
    };
    let module = why
        .module
        .map(|module| format!(", with module {}", module.short()));
    let mut fields = vec![(
        "quarantined",
        format!("{place}{}", module.unwrap_or_default()),
    )];
    let texts = [("recorded", &why.recorded), ("asked", &why.asked)];
    fields.extend(
        texts
            .into_iter()
            .filter_map(|(name, text)| Some((name, plain(text.as_ref()?)))),
    );
    fields.push(("found by", format!("{}, {} UTC", why.host, time(why.at))));
    fields
}

/// A time in UTC and, on a terminal, how long ago it is.
fn moment(at: Timestamp, output: &Output) -> String {
    let utc = format!("{} UTC", time(at));
    if output.is_terminal() {
        format!("{utc}, {}", output.when(at))
    } else {
        utc
    }
}

fn later(from: Timestamp, to: Timestamp) -> String {
    match to.since(from).0 {
        0 => String::new(),
        ms => format!(" ({} later)", span(ms)),
    }
}

/// On a terminal, when a timer or the next attempt is due.
fn soon(wait: &Wait, output: &Output) -> String {
    let at = match wait {
        Wait::Timer { due, .. } => Some(*due),
        Wait::Activity {
            next_attempt_at, ..
        } => *next_attempt_at,
        _ => None,
    };
    match at {
        Some(at) if output.is_terminal() => format!(", {}", output.when(at)),
        _ => String::new(),
    }
}

fn waits(status: &InstanceStatus, output: &Output) -> String {
    let mut lines: Vec<String> = status
        .waits_for
        .iter()
        .take(WAITS_SHOWN)
        .map(|wait| plain(&wait.to_string()) + &soon(wait, output))
        .collect();
    let more = and_more(status, lines.len());
    if !more.is_empty() {
        lines.push(more.trim_start().to_owned());
    }
    lines.join("\n")
}
