//! What hosts of a hub tell each other about items for workers.

use perennial_core::{Callee, Event, Failure, Json, Millis, Timestamp, Turn};
use serde::{Deserialize, Serialize};

use crate::engine::remote::dispatch::Sent;
use crate::engine::remote::items::{ActivityItem, RemoteAnswer, WorkItem};
use crate::store::{Reader, StoreError};

/// What a host tells another one about items for workers. Stored as a command: the order of variants and fields is a format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ToHost {
    /// By what the hub knows the other one. Whoever has its partition by then and is another one does nothing.
    pub(crate) host: i64,
    pub(super) message: HostMessage,
}

/// See [`ToHost`]. The tokens are those of the host that is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum HostMessage {
    /// An item for a worker that is connected there.
    Item { from: i64, item: Box<LentItem> },
    TurnAnswered {
        token: String,
        answer: Box<RemoteAnswer>,
    },
    ActivityAnswered {
        token: String,
        outcome: Result<Option<Json>, Failure>,
    },
    /// A worker gave the item back.
    GivenBack { token: String },
    /// The worker that had the item was lost, or took too long.
    Lost { token: String },
}

/// An item of another host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LentItem {
    pub(super) token: String,
    pub(super) name: String,
    pub(super) version: Option<String>,
    /// How long a worker may take for it.
    pub(super) within: Millis,
    pub(super) work: LentWork,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum LentWork {
    Turn {
        instance_id: String,
        execution_id: String,
        /// The number of turns before, which are in the hub.
        past: u32,
        at: Timestamp,
        received: Vec<Event>,
    },
    Activity(ActivityItem),
}

impl LentItem {
    pub(super) fn callee(&self) -> Callee {
        match self.work {
            LentWork::Turn { .. } => Callee::Orchestration,
            LentWork::Activity(_) => Callee::Activity,
        }
    }

    pub(super) fn of(item: WorkItem, sent: &Sent, within: Millis) -> Self {
        let (token, work) = match item {
            WorkItem::Orchestration(item) => (
                item.token.clone(),
                LentWork::Turn {
                    past: u32::try_from(item.past.len()).unwrap_or(u32::MAX),
                    instance_id: item.instance_id,
                    execution_id: item.execution_id,
                    at: item.at,
                    received: item.received,
                },
            ),
            WorkItem::Activity(item) => (item.token.clone(), LentWork::Activity(*item)),
        };
        Self {
            token,
            name: sent.name.clone(),
            version: sent.version.clone(),
            within,
            work,
        }
    }

    /// The turns before, from the hub; `None` if the instance is not there any more.
    pub(super) fn past(&self, reader: &Reader) -> Result<Option<Vec<Turn>>, StoreError> {
        let LentWork::Turn {
            instance_id,
            execution_id,
            past,
            ..
        } = &self.work
        else {
            return Ok(Some(Vec::new()));
        };
        if *past == 0 {
            return Ok(Some(Vec::new()));
        }
        match reader.instance(instance_id)? {
            Some(row) if row.execution_id == *execution_id => {
                reader.turns(row.key, row.execution, 0, *past).map(Some)
            }
            _ => Ok(None),
        }
    }
}
