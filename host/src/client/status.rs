//! The status of an instance.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::{Digest, Event, Failure, Json, Message, Quarantine, Status, Tags, Timestamp};
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::client::history::{FailureJson, HistoryEvent, events_of, raw, rfc3339};
use crate::client::history_query::hide;
use crate::client::waits::{self, Wait};
use crate::client::{Client, Result};
use crate::store::{InstanceRow, Reader, StoreError};

/// Turns in which it is looked for events that led to nothing: a person asks soon after sending one.
const TURNS_LOOKED_AT: u32 = 16;

/// Such events that are named.
const EVENTS_MAX: u32 = 100;

/// Turns read at once.
const TURNS_PAGE: u32 = 512;

/// What is known about an instance.
///
/// As JSON: `instanceId`, `name`, `runtimeStatus`, `createdTime`, `startedTime`, `lastUpdatedTime` (RFC 3339), `executionId`, `version`,
/// `module`, `input`, `customStatus`, `output`, `failure`, `parentInstanceId`, `tags`, `quarantine`, `waitsFor`, `waitsForMore`,
/// `eventsWithoutEffect`, `stillRuns`, `historyEvents`, `historyBytes`, `history`; what is absent is left out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// Its id.
    pub instance_id: String,
    /// Its orchestration.
    pub name: String,
    /// Its status.
    pub runtime_status: Status,
    /// When its start was accepted.
    pub created_at: Timestamp,
    /// When its first turn ran.
    pub started_at: Option<Timestamp>,
    /// When it may begin, where its start was scheduled for later.
    pub scheduled_for: Option<Timestamp>,
    /// When a turn or a command of it was last committed.
    pub last_updated_at: Timestamp,
    /// This run of it.
    pub execution_id: String,
    /// Version of the orchestration.
    pub version: Option<String>,
    /// The module that it is pinned to.
    pub module: Option<Digest>,
    /// Its input, where that was asked for.
    pub input: Option<Json>,
    /// What the orchestration shows.
    pub custom_status: Option<Json>,
    /// What it returned, or the reason for which it was terminated.
    pub output: Option<Json>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Whose child it is.
    pub parent_instance_id: Option<String>,
    /// Its labels.
    pub tags: Tags,
    /// Why the host cannot go on with it, where it cannot.
    pub quarantine: Option<Quarantine>,
    /// The rewinds of this execution, in order. Empty in lists.
    pub rewinds: Vec<RewindRecord>,
    /// Why it does not go on right now: what it waits for, up to a hundred tasks and a hundred children. Empty in lists.
    pub waits_for: Vec<Wait>,
    /// Tasks and children that it waits for too, beyond those that are named.
    pub waits_for_more: u64,
    /// What still runs though it has ended, and nobody waits for: attempts of activities, each of which keeps a place until it ends, and
    /// children. A recursive termination stops it. Empty in lists.
    pub still_runs: Vec<Wait>,
    /// Names of external events that it was sent and that led to nothing so far: it is suspended, or waits for others. One that it does not
    /// wait for is kept until it does, and one whose name is misspelt is seen here. Up to a hundred, of the latest turns. Empty in lists.
    pub events_without_effect: Vec<String>,
    /// Events in its history.
    pub history_events: u64,
    /// Their size in bytes, roughly.
    pub history_bytes: u64,
    /// Its history, where that was asked for.
    pub history: Option<Vec<HistoryEvent>>,
}

/// A rewind that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RewindRecord {
    /// When.
    pub at: Timestamp,
    /// Why, where that was said.
    pub reason: Option<String>,
}

impl InstanceStatus {
    /// Whether nothing runs any more.
    pub fn is_ended(&self) -> bool {
        self.runtime_status.is_end()
    }

    /// Differs whenever the instance changed.
    pub(crate) fn stamp(&self) -> String {
        let (at, events) = (self.last_updated_at.0, self.history_events);
        format!("{at:x}-{events:x}-{}", self.runtime_status)
    }

    /// Reads the output as a value; an absent one as `null`.
    ///
    /// # Errors
    /// [`Error::is_invalid`](crate::Error::is_invalid) if it is something else.
    pub fn output_as<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let text = self.output.as_ref().map_or("null", Json::as_str);
        serde_json::from_str(text).map_err(|error| crate::Error::json("the output", &error))
    }
}

impl From<InstanceRow> for InstanceStatus {
    fn from(row: InstanceRow) -> Self {
        Self {
            instance_id: row.id,
            name: row.name,
            runtime_status: row.status,
            created_at: row.created_at,
            started_at: row.started_at,
            scheduled_for: row.scheduled_for,
            last_updated_at: row.updated_at,
            execution_id: row.execution_id,
            version: row.version,
            module: row.module,
            input: None,
            custom_status: row.custom_status,
            output: row.output,
            failure: row.failure,
            parent_instance_id: row.parent.map(|parent| parent.instance_id),
            tags: row.tags,
            quarantine: row.quarantine,
            rewinds: Vec::new(),
            waits_for: Vec::new(),
            waits_for_more: 0,
            still_runs: Vec::new(),
            events_without_effect: Vec::new(),
            history_events: row.next_event,
            history_bytes: row.history_bytes,
            history: None,
        }
    }
}

/// A question about one instance. Await it.
#[derive(Clone, Debug)]
#[must_use = "a question is asked when it is awaited"]
pub struct StatusQuery {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) show: Show,
}

/// What a status contains beside the row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Show {
    pub(crate) input: bool,
    pub(crate) history: bool,
    pub(crate) history_output: bool,
}

impl StatusQuery {
    /// Asks for the input too.
    pub fn show_input(mut self) -> Self {
        self.show.input = true;
        self
    }

    /// Asks for the history too, without what calls returned and, unless the input is asked for, without what they were given. For a long
    /// one see [`Client::history`], which reads it bit by bit.
    pub fn show_history(mut self) -> Self {
        self.show.history = true;
        self
    }

    /// Asks for the history with what calls returned.
    pub fn show_history_output(mut self) -> Self {
        self.show.history = true;
        self.show.history_output = true;
        self
    }
}

impl IntoFuture for StatusQuery {
    type Output = Result<Option<InstanceStatus>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if let Some(remote) = self.client.remote() {
                return remote.status(&self.id, self.show).await;
            }
            let client = self.client.clone();
            let read = client.read(move |reader| read_status(reader, &self.id, self.show));
            let mut status = read.await?;
            if let Some(status) = &mut status
                && status.waits_for.first() == Some(&Wait::Host)
                && client.is_hosted()
            {
                status.waits_for = vec![Wait::FirstTurn];
            }
            Ok(status)
        })
    }
}

/// Reads everything about one instance.
pub(crate) fn read_status(
    reader: &Reader,
    id: &str,
    show: Show,
) -> Result<Option<InstanceStatus>, StoreError> {
    let Some(row) = reader.instance(id)? else {
        return Ok(None);
    };
    let still_runs = if row.status.is_end() {
        waits::still_runs(reader, &row)?
    } else {
        Vec::new()
    };
    let status = complete(reader, row, show)?;
    Ok(Some(InstanceStatus {
        still_runs,
        ..status
    }))
}

/// Reads what a row does not say, but for what still runs for an instance that has ended: who waits for an end is told of it at once.
pub(crate) fn complete(
    reader: &Reader,
    row: InstanceRow,
    show: Show,
) -> Result<InstanceStatus, StoreError> {
    let (waits_for, waits_for_more) = if row.status.is_end() {
        Default::default()
    } else {
        waits::waits(reader, &row)?
    };
    let events_without_effect = without_effect(reader, &row)?;
    let input = if show.input {
        input(reader, &row)?
    } else {
        None
    };
    let history = if show.history {
        let mut events = history(reader, &row)?;
        for event in &mut events {
            hide(&mut event.event, !show.input, !show.history_output);
        }
        Some(events)
    } else {
        None
    };
    let rewinds = reader.rewinds(&row)?.into_iter();
    Ok(InstanceStatus {
        rewinds: rewinds
            .map(|(at, reason)| RewindRecord { at, reason })
            .collect(),
        waits_for,
        waits_for_more,
        events_without_effect,
        input,
        history,
        ..row.into()
    })
}

/// The input of the current execution: in its history or, before it began, in its inbox.
pub(crate) fn input(reader: &Reader, row: &InstanceRow) -> Result<Option<Json>, StoreError> {
    if let Some(start) = crate::engine::find_start(reader, row)? {
        return Ok(start.input);
    }
    let page = reader.inbox(row.key, 0, 4)?;
    Ok(page
        .envelopes
        .into_iter()
        .find_map(|envelope| match envelope.message {
            Message::Start(start) => start.input,
            _ => None,
        }))
}

/// The whole history of the current execution.
pub(crate) fn history(reader: &Reader, row: &InstanceRow) -> Result<Vec<HistoryEvent>, StoreError> {
    let mut events = Vec::new();
    let mut from = 0;
    loop {
        let turns = reader.turns(row.key, row.execution, from, TURNS_PAGE)?;
        let count = turns.len();
        events.extend(events_of(turns));
        from += TURNS_PAGE;
        if count < TURNS_PAGE as usize {
            return Ok(events);
        }
    }
}

/// What it was sent and did nothing about, as far as the latest turns and its inbox tell. Only for those that wait for events or are held:
/// nobody else pays for it.
fn without_effect(reader: &Reader, row: &InstanceRow) -> Result<Vec<String>, StoreError> {
    let is_held = row.status == Status::Suspended;
    if row.status.is_end() || !is_held && row.waiting.events.is_empty() {
        return Ok(Vec::new());
    }
    let from = row.turns.saturating_sub(TURNS_LOOKED_AT);
    let mut names = Vec::new();
    for turn in reader.turns(row.key, row.execution, from, TURNS_LOOKED_AT)? {
        // What is awaited now came to nothing before: it was used, or there would be no waiting for it.
        let is_awaited =
            |name: &str| (row.waiting.events.iter()).any(|other| other.eq_ignore_ascii_case(name));
        if turn.produced.is_empty() {
            names.extend(turn.received.into_iter().filter_map(|event| {
                let Event::ExternalEventRaised { name, .. } = event else {
                    return None;
                };
                (!is_awaited(&name)).then_some(name)
            }));
        }
    }
    let inbox = reader.inbox(row.key, 0, EVENTS_MAX)?.envelopes.into_iter();
    names.extend(inbox.filter_map(|envelope| match envelope.message {
        Message::ExternalEvent { name, .. } => Some(name),
        _ => None,
    }));
    names.truncate(EVENTS_MAX as usize);
    Ok(names)
}

/// What is known of a quarantine, for programs.
#[derive(Serialize)]
struct QuarantineJson<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    host: &'a str,
    time: String,
}

impl<'a> From<&'a Quarantine> for QuarantineJson<'a> {
    fn from(why: &'a Quarantine) -> Self {
        Self {
            reason: &why.reason,
            turn: why.turn,
            event: why.event,
            recorded: why.recorded.as_deref(),
            asked: why.asked.as_deref(),
            module: why.module.map(|digest| digest.to_string()),
            host: &why.host,
            time: rfc3339(why.at),
        }
    }
}

impl Serialize for RewindRecord {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &rfc3339(self.at))?;
        if let Some(reason) = &self.reason {
            map.serialize_entry("reason", reason)?;
        }
        map.end()
    }
}

impl Serialize for InstanceStatus {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("instanceId", &self.instance_id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("runtimeStatus", self.runtime_status.name())?;
        map.serialize_entry("createdTime", &rfc3339(self.created_at))?;
        if let Some(at) = self.scheduled_for {
            map.serialize_entry("scheduledTime", &rfc3339(at))?;
        }
        if let Some(at) = self.started_at {
            map.serialize_entry("startedTime", &rfc3339(at))?;
        }
        map.serialize_entry("lastUpdatedTime", &rfc3339(self.last_updated_at))?;
        map.serialize_entry("executionId", &self.execution_id)?;
        if let Some(version) = &self.version {
            map.serialize_entry("version", version)?;
        }
        if let Some(module) = self.module {
            map.serialize_entry("module", &module.to_string())?;
        }
        for (key, payload) in [
            ("input", &self.input),
            ("customStatus", &self.custom_status),
            ("output", &self.output),
        ] {
            if let Some(payload) = payload {
                map.serialize_entry(key, &raw(payload))?;
            }
        }
        if let Some(failure) = &self.failure {
            map.serialize_entry("failure", &FailureJson::from(failure))?;
        }
        if let Some(parent) = &self.parent_instance_id {
            map.serialize_entry("parentInstanceId", parent)?;
        }
        if !self.tags.is_empty() {
            map.serialize_entry(
                "tags",
                &self
                    .tags
                    .iter()
                    .map(|(k, v)| (k, v))
                    .collect::<std::collections::BTreeMap<_, _>>(),
            )?;
        }
        if let Some(why) = &self.quarantine {
            map.serialize_entry("quarantine", &QuarantineJson::from(why))?;
        }
        if !self.rewinds.is_empty() {
            map.serialize_entry("rewinds", &self.rewinds)?;
        }
        if !self.waits_for.is_empty() {
            map.serialize_entry("waitsFor", &self.waits_for)?;
        }
        if self.waits_for_more > 0 {
            map.serialize_entry("waitsForMore", &self.waits_for_more)?;
        }
        if !self.still_runs.is_empty() {
            map.serialize_entry("stillRuns", &self.still_runs)?;
        }
        if !self.events_without_effect.is_empty() {
            map.serialize_entry("eventsWithoutEffect", &self.events_without_effect)?;
        }
        map.serialize_entry("historyEvents", &self.history_events)?;
        map.serialize_entry("historyBytes", &self.history_bytes)?;
        if let Some(history) = &self.history {
            map.serialize_entry("history", history)?;
        }
        map.end()
    }
}
