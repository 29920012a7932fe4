//! External events that an instance has received and not used.

use perennial_core::{Event, Json, Message, Rejection, Status, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::json::{Payload, TimeText};
use crate::client::{Client, Error, Result};
use crate::store::{InstanceRow, Reader, StoreError};

/// The latest turns, in which events without effect are looked for; and of these, how many for a status, which is asked for more often.
const TURNS_LOOKED_AT: u32 = EVENTS_MAX;
const TURNS_OF_A_STATUS: u32 = 16;

/// The most events.
const EVENTS_MAX: u32 = 100;

/// Bytes of payloads after which events have none any more.
const DATA_BYTES_MAX: usize = 4 << 20;

/// An external event that an instance has received and that had no effect so far.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PendingEvent {
    /// Its name.
    pub name: String,
    /// When it arrived; for one that is in the history, when its turn was recorded. `None` if a host of an older version received it.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "receivedTime")]
    pub received_at: Option<Timestamp>,
    /// The number of its event in the history; `None` if no turn has taken it yet.
    pub event_number: Option<u64>,
    /// Its payload; `None` too if the payloads before it have more than 4 MiB together: see `dataBytes`.
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub data: Option<Json>,
    /// The size of its payload in bytes, 0 without one.
    pub data_bytes: u64,
}

impl Client {
    /// The external events that an instance has received and that had no effect so far, the oldest first: it is suspended, or waits for
    /// other events, for example because a name is misspelt. Each is kept until the instance awaits it. At most a hundred are returned,
    /// from the latest turns and those that no turn has taken yet.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// for event in client.pending_events("order-17").await? {
    ///     println!("{} came at {:?}: {:?}", event.name, event.received_at, event.data);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance.
    pub async fn pending_events(&self, id: &str) -> Result<Vec<PendingEvent>> {
        let found = match self.remote() {
            Some(remote) => remote.pending_events(id).await?,
            None => {
                let id = id.to_owned();
                let read = move |reader: &Reader| {
                    let Some(row) = reader.instance(&id)? else {
                        return Ok(None);
                    };
                    without_effect(reader, &row, TURNS_LOOKED_AT).map(Some)
                };
                self.read(read).await?
            }
        };
        found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))
    }
}

/// The names of the events that had no effect.
pub(super) fn names_without_effect(
    reader: &Reader,
    row: &InstanceRow,
) -> Result<Vec<String>, StoreError> {
    let events = without_effect(reader, row, TURNS_OF_A_STATUS)?.into_iter();
    Ok(events.map(|event| event.name).collect())
}

/// External events in the latest turns and the inbox that had no effect. Searched only if the instance waits for events or is suspended, to
/// save reads.
fn without_effect(
    reader: &Reader,
    row: &InstanceRow,
    turns: u32,
) -> Result<Vec<PendingEvent>, StoreError> {
    let is_held = row.status == Status::Suspended;
    if row.status.is_end() || !is_held && row.waiting.events.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Found::default();
    let from = row.turns.saturating_sub(turns);
    for turn in reader.turns(row.key, row.execution, from, turns)? {
        // An awaited event is excluded: an earlier one of that name was used, or the instance would not wait.
        let is_awaited =
            |name: &str| (row.waiting.events.iter()).any(|other| other.eq_ignore_ascii_case(name));
        if !turn.produced.is_empty() {
            continue;
        }
        for (number, event) in (turn.first_event..).zip(turn.received) {
            if let Event::ExternalEventRaised { name, data, .. } = event
                && !is_awaited(&name)
            {
                found.push(name, Some(turn.at), Some(number), data);
            }
        }
    }
    for envelope in reader.inbox(row.key, 0, EVENTS_MAX)?.envelopes {
        if let Message::ExternalEvent { name, data, .. } = envelope.message {
            let at = Some(envelope.at).filter(|at| *at != Timestamp(0));
            found.push(name, at, None, data);
        }
    }
    Ok(found.events)
}

#[derive(Default)]
struct Found {
    events: Vec<PendingEvent>,
    bytes: usize,
}

impl Found {
    fn push(
        &mut self,
        name: String,
        received_at: Option<Timestamp>,
        event_number: Option<u64>,
        data: Option<Json>,
    ) {
        if self.events.len() >= EVENTS_MAX as usize {
            return;
        }
        let size = data.as_ref().map_or(0, Json::size);
        let fits = self.bytes <= DATA_BYTES_MAX;
        self.bytes += size;
        self.events.push(PendingEvent {
            name,
            received_at,
            event_number,
            data: data.filter(|_| fits),
            data_bytes: size as u64,
        });
    }
}
