//! The state of the remote workers, as another process reads it in the answer to a command.

use perennial_core::{Callee, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::remote::dispatch::{Sent, StreamInfo, Wanted};
use crate::engine::remote::{Filter, NameFilter};

/// The workers of a hub. Serialized as JSON, so that hosts and clients of different versions understand each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteWorkers {
    pub(crate) connected: Vec<RemoteWorker>,
    pub(crate) waiting: Vec<RemoteWaiting>,
}

/// A connected worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteWorker {
    pub(crate) name: String,
    pub(crate) connected_at: Timestamp,
    /// The orchestrations that it runs; `None` for all.
    pub(crate) orchestrations: Option<Vec<NameFilter>>,
    /// The activities that it runs; `None` for all.
    pub(crate) activities: Option<Vec<NameFilter>>,
    pub(crate) orchestrations_max: u32,
    pub(crate) activities_max: u32,
    pub(crate) answered: u64,
    pub(crate) items: Vec<RemoteItem>,
}

/// An item that a worker has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteItem {
    pub(crate) instance_id: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// The task of an activity; `None` for a turn.
    pub(crate) task: Option<TaskId>,
    pub(crate) since: Timestamp,
}

/// Turns or activities of one name that wait for a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteWaiting {
    pub(crate) is_orchestration: bool,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) count: usize,
}

impl RemoteWorkers {
    pub(crate) fn new(streams: Vec<StreamInfo>, waiting: Vec<(Wanted, usize)>) -> Self {
        let waiting = waiting.into_iter().map(|(wanted, count)| RemoteWaiting {
            is_orchestration: wanted.callee == Callee::Orchestration,
            name: wanted.name,
            version: wanted.version,
            count,
        });
        // The other hosts tell of theirs.
        let here = streams.into_iter().filter(|stream| stream.is_here);
        Self {
            connected: here.map(RemoteWorker::from).collect(),
            waiting: waiting.collect(),
        }
    }

    /// Adds those of another host.
    pub(crate) fn extend(&mut self, other: Self) {
        self.connected.extend(other.connected);
        for waiting in other.waiting {
            let same = |one: &&mut RemoteWaiting| {
                (one.is_orchestration, &one.name, &one.version)
                    == (waiting.is_orchestration, &waiting.name, &waiting.version)
            };
            match self.waiting.iter_mut().find(same) {
                Some(one) => one.count += waiting.count,
                None => self.waiting.push(waiting),
            }
        }
    }

    /// As JSON text; [`from_text`](Self::from_text) reads it.
    pub(crate) fn to_text(&self) -> String {
        // Texts and numbers are always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn from_text(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl From<StreamInfo> for RemoteWorker {
    fn from(stream: StreamInfo) -> Self {
        let offer = stream.offer;
        let names = |filter| match filter {
            Filter::All => None,
            Filter::Only(names) => Some(names),
        };
        Self {
            name: offer.worker,
            connected_at: stream.connected_at,
            orchestrations: names(offer.orchestrations),
            activities: names(offer.activities),
            orchestrations_max: offer.orchestrations_max,
            activities_max: offer.activities_max,
            answered: stream.done,
            items: stream.items.into_iter().map(RemoteItem::from).collect(),
        }
    }
}

impl From<Sent> for RemoteItem {
    fn from(sent: Sent) -> Self {
        Self {
            instance_id: sent.instance_id,
            name: sent.name,
            version: sent.version,
            task: sent.task,
            since: sent.at,
        }
    }
}
