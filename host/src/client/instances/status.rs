//! The status of an instance.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::{Digest, Failure, Json, Message, Quarantine, Status, Tags, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{FromInto, Map, serde_as, skip_serializing_none};

use crate::client::instances::history::{HistoryEvent, events_of};
use crate::client::instances::history_query::hide;
use crate::client::instances::open_work;
use crate::client::instances::pending::names_without_effect;
use crate::client::instances::waits::{KnownWaits, Wait};
use crate::client::json::{
    FailureJson, HexDigest, Payload, Present, QuarantineJson, StatusName, TimeText,
};
use crate::client::{Client, Result};
use crate::engine::Engine;
use crate::store::{InstanceRow, Reader, Run, StoreError};

/// Turns per read.
const TURNS_PAGE: u32 = 512;

/// The status of an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Instance")]
#[non_exhaustive]
pub struct InstanceStatus {
    /// The id of the instance.
    pub instance_id: String,
    /// The name of its orchestration.
    pub name: String,
    /// The runtime status.
    #[serde_as(as = "StatusName")]
    pub runtime_status: Status,
    /// When its start was accepted.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "createdTime")]
    pub created_at: Timestamp,
    /// When its first turn ran.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "startedTime")]
    pub started_at: Option<Timestamp>,
    /// When it may begin, if its start was scheduled for later.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "scheduledTime")]
    pub scheduled_for: Option<Timestamp>,
    /// When its last turn or command was committed.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "lastUpdatedTime")]
    pub last_updated_at: Timestamp,
    /// The id of its current execution.
    #[serde(default)]
    pub execution_id: String,
    /// Identifies its run: it stays the same when the instance continues as new or is rewound, and is another one when its id is started
    /// again or restarted. A command can be restricted to it: see [`Client::for_run`].
    #[serde(default)]
    pub run: String,
    /// The version of its orchestration.
    pub version: Option<String>,
    /// The SHA-256 of the module that it is pinned to.
    #[serde_as(as = "Option<HexDigest>")]
    pub module: Option<Digest>,
    /// Its input, if requested.
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub input: Option<Json>,
    /// The custom status that the orchestration set.
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub custom_status: Option<Json>,
    /// Its output, or the reason of its termination.
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub output: Option<Json>,
    /// Why it failed.
    #[serde_as(as = "Option<FailureJson>")]
    pub failure: Option<Failure>,
    /// The id of its parent.
    pub parent_instance_id: Option<String>,
    /// Its labels.
    #[serde_as(as = "Map<_, _>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Tags,
    /// The named values that its orchestration has set, with their names, in the order of the names. Empty in lists.
    #[serde_as(as = "Map<_, Present>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, Json)>,
    /// Why it is quarantined.
    #[serde_as(as = "Option<FromInto<QuarantineJson>>")]
    pub quarantine: Option<Quarantine>,
    /// The rewinds of its current execution, in order. Empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewinds: Vec<RewindRecord>,
    /// What the instance waits for: up to a hundred tasks and a hundred children. Empty in lists.
    #[serde_as(as = "KnownWaits")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<Wait>,
    /// The number of tasks and children that it waits for and that `waitsFor` does not list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waits_for_more: u64,
    /// What still runs after its end: attempts of activities, which occupy a slot until they end, and children. A recursive termination
    /// stops both. Empty in lists.
    #[serde_as(as = "KnownWaits")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub still_runs: Vec<Wait>,
    /// Names of external events without effect so far: the instance is suspended, or waits for other events, for example because a name is
    /// misspelt. Such an event is kept until the instance awaits it. Up to a hundred, from the latest turns. Empty in lists.
    /// [`Client::pending_events`] tells more of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events_without_effect: Vec<String>,
    /// A cancellation that it has not been told of, because it is suspended: it is told when it is resumed. Empty in lists.
    pub pending_cancellation: Option<PendingCancellation>,
    /// The number of events in its history.
    pub history_events: u64,
    /// The approximate size of its history in bytes.
    pub history_bytes: u64,
    /// Its history, if requested.
    pub history: Option<Vec<HistoryEvent>>,
}

/// A rewind of an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RewindRecord {
    /// When the rewind was committed.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "time")]
    pub at: Timestamp,
    /// The reason, if one was given.
    pub reason: Option<String>,
    /// The first turn that it cut off. What the history was before is kept: see
    /// [`before_rewind`](crate::HistoryQuery::before_rewind). `None` if a remote host of an older version answered.
    pub turn: Option<u32>,
}

/// A cancellation of which the instance has not been told.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PendingCancellation {
    /// When it was asked for.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "time")]
    pub at: Timestamp,
    /// The reason, if one was given.
    pub reason: Option<String>,
    /// How long the instance will have to clean up once it is told, in milliseconds.
    pub grace_millis: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl InstanceStatus {
    /// Whether it has completed, failed or been terminated.
    pub fn is_ended(&self) -> bool {
        self.runtime_status.is_end()
    }

    /// Differs after each change of the instance.
    pub(crate) fn stamp(&self) -> String {
        let (at, events) = (self.last_updated_at.0, self.history_events);
        format!("{at:x}-{events:x}-{}", self.runtime_status)
    }

    /// Deserializes the output; an absent one counts as `null`.
    ///
    /// # Errors
    /// [`Error::is_invalid`](crate::Error::is_invalid) if the output has another type.
    pub fn output_as<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let text = self.output.as_ref().map_or("null", Json::as_str);
        serde_json::from_str(text).map_err(|error| crate::Error::json("the output", &error))
    }
}

impl From<InstanceRow> for InstanceStatus {
    fn from(row: InstanceRow) -> Self {
        Self {
            run: Run::of(&row).to_string(),
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
            values: Vec::new(),
            quarantine: row.quarantine,
            rewinds: Vec::new(),
            waits_for: Vec::new(),
            waits_for_more: 0,
            still_runs: Vec::new(),
            events_without_effect: Vec::new(),
            pending_cancellation: None,
            history_events: row.next_event,
            history_bytes: row.history_bytes,
            history: None,
        }
    }
}

/// A query for the status of an instance. Await it.
#[derive(Clone, Debug)]
#[must_use = "a question is asked when it is awaited"]
pub struct StatusQuery {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) show: Show,
}

/// Optional parts of a status.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Show {
    pub(crate) input: bool,
    pub(crate) history: bool,
    pub(crate) history_output: bool,
}

impl StatusQuery {
    /// Includes the input.
    pub fn show_input(mut self) -> Self {
        self.show.input = true;
        self
    }

    /// Includes the history without results of calls and, unless the input is requested too, without their inputs. Read a long history with
    /// [`Client::history`], in pages.
    pub fn show_history(mut self) -> Self {
        self.show.history = true;
        self
    }

    /// Includes the history with the results of calls.
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
            let host = client.engine().cloned();
            let read = client.read(move |reader| {
                let host = host.as_deref();
                read_status(reader, &self.id, self.show, host)
            });
            let mut status = read.await?;
            if let Some(status) = &mut status
                && status.waits_for.contains(&Wait::Host)
                && client.is_hosted()
            {
                open_work::is_hosted(&mut status.waits_for);
            }
            Ok(status)
        })
    }
}

/// Reads the full status of an instance. `host` is the engine that runs it, in the host's process.
pub(crate) fn read_status(
    reader: &Reader,
    id: &str,
    show: Show,
    host: Option<&Engine>,
) -> Result<Option<InstanceStatus>, StoreError> {
    let Some(row) = reader.instance(id)? else {
        return Ok(None);
    };
    let still_runs = if row.status.is_end() {
        open_work::still_runs(reader, &row)?
    } else {
        Vec::new()
    };
    let status = complete(reader, row, show, host)?;
    Ok(Some(InstanceStatus {
        still_runs,
        ..status
    }))
}

/// Completes a row to a status, except `still_runs`: clients that wait for the end are answered without it.
pub(crate) fn complete(
    reader: &Reader,
    row: InstanceRow,
    show: Show,
    host: Option<&Engine>,
) -> Result<InstanceStatus, StoreError> {
    let (waits_for, waits_for_more) = if row.status.is_end() {
        Default::default()
    } else {
        open_work::waits(reader, &row, host)?
    };
    let events_without_effect = names_without_effect(reader, &row)?;
    let pending_cancellation = pending_cancellation(reader, &row)?;
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
    let values = match row.value_count {
        0 => Vec::new(),
        _ => reader.values(row.key)?,
    };
    let rewinds = reader.rewinds(&row)?.into_iter();
    Ok(InstanceStatus {
        rewinds: rewinds
            .map(|row| RewindRecord {
                at: row.at,
                reason: row.reason,
                turn: Some(row.turn),
            })
            .collect(),
        values: (values.into_iter())
            .map(|row| (row.name, row.value))
            .collect(),
        waits_for,
        waits_for_more,
        events_without_effect,
        pending_cancellation,
        input,
        history,
        ..row.into()
    })
}

/// A cancellation in the inbox of a suspended instance. All others are told of it at once.
fn pending_cancellation(
    reader: &Reader,
    row: &InstanceRow,
) -> Result<Option<PendingCancellation>, StoreError> {
    if row.status != Status::Suspended {
        return Ok(None);
    }
    let Some(envelope) = reader.cancel_in(row.key)? else {
        return Ok(None);
    };
    let Message::Cancel { reason, grace, .. } = envelope.message else {
        return Ok(None);
    };
    Ok(Some(PendingCancellation {
        at: envelope.at,
        reason,
        grace_millis: grace.0,
    }))
}

/// The input of the current execution: from its history or, before its first turn, from its inbox.
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
