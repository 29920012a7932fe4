//! The remote workers of a task hub: who is connected, what each runs, and what waits for one.

use perennial_core::{TaskId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::json::TimeText;
use crate::client::{Backend, Client, Error, Result};
use crate::engine::Request;
use crate::engine::remote::NameFilter;
use crate::engine::remote::report::{RemoteItem, RemoteWaiting, RemoteWorker, RemoteWorkers};
use crate::store::{DefinitionKind, Reader, Reply};

/// The remote workers of a task hub: programs that run orchestrations and activities and are connected to its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Workers {
    /// The workers that are connected, in the order in which they connected.
    pub connected: Vec<Worker>,
    /// What waits for a worker, by name.
    pub waiting: Vec<WaitingWork>,
}

/// A connected worker.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Worker {
    /// Its name, or its address if it has none.
    pub name: String,
    /// When it connected.
    #[serde_as(as = "TimeText")]
    #[serde(rename = "connectedTime")]
    pub connected_at: Timestamp,
    /// The orchestrations that it runs; `None` for all.
    pub orchestrations: Option<Vec<WorkerName>>,
    /// The activities that it runs; `None` for all.
    pub activities: Option<Vec<WorkerName>>,
    /// The number of turns that it runs at once.
    pub orchestrations_max: u32,
    /// The number of activities that it runs at once.
    pub activities_max: u32,
    /// The number of turns and activities that it has answered since it connected.
    pub answered: u64,
    /// What it runs now, oldest first.
    pub running: Vec<WorkerItem>,
}

/// An orchestration or activity that a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WorkerName {
    /// The name; its case does not matter.
    pub name: String,
    /// The versions that it runs; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
}

/// A turn or an activity that a worker runs now.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkerItem {
    /// Whether it is a turn of an orchestration or an activity.
    pub kind: DefinitionKind,
    /// The name of the orchestration or activity.
    pub name: String,
    /// The version that was asked for.
    pub version: Option<String>,
    /// The id of the instance.
    pub instance_id: String,
    /// The task of the activity; `None` for a turn.
    #[schemars(with = "Option<u32>")]
    pub task: Option<TaskId>,
    /// When the worker got it.
    #[serde_as(as = "TimeText")]
    pub running_since: Timestamp,
}

/// Turns or activities of one name that wait for a worker.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WaitingWork {
    /// Whether turns of an orchestration or activities wait.
    pub kind: DefinitionKind,
    /// The name that a worker must have.
    pub name: String,
    /// The version that it must have for that name.
    pub version: Option<String>,
    /// The number of turns or activities that wait.
    pub count: u64,
}

impl Client {
    /// The remote workers that are connected to the hosts of the task hub, and what waits for one. Without a host no worker is connected, and
    /// nothing is known of what waits. A host that does not answer within three seconds is left out.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// for waiting in client.workers().await?.waiting {
    ///     println!("no worker runs {:?} {}", waiting.kind, waiting.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub does not exist, or its host does not answer.
    pub async fn workers(&self) -> Result<Workers> {
        let found = match &self.backend {
            Backend::Engine(engine) if engine.is_shared() => {
                all_told(engine.ask_hosts(Request::Workers).await.0)?
            }
            Backend::Engine(engine) => engine.remote_workers(),
            Backend::Remote(remote) => return remote.workers().await,
            Backend::Outside(hub) => {
                // A hub that does not exist is an error, as for other reads.
                self.read(|_| Ok(())).await?;
                if !hub.is_owned() {
                    return Ok(Workers::default());
                }
                let replies = match self.read(Reader::sharing).await? {
                    Some(sharing) => {
                        let owners = sharing.owners.iter();
                        let owners = owners.filter_map(|of| of.partitions.first().copied());
                        hub.ask_each(owners.collect(), &Request::Workers).await
                    }
                    None => vec![self.submit("", Request::Workers).await?],
                };
                all_told(replies)?
            }
        };
        Ok(found.into())
    }
}

/// The workers of all hosts.
fn all_told(replies: Vec<Reply>) -> Result<RemoteWorkers> {
    let mut all = RemoteWorkers::default();
    for reply in replies {
        if let Reply::Workers(text) = reply {
            let of_one = RemoteWorkers::from_text(&text);
            all.extend(
                of_one.map_err(|error| Error::json("a host's answer about its workers", &error))?,
            );
        }
    }
    Ok(all)
}

fn kind(is_orchestration: bool) -> DefinitionKind {
    if is_orchestration {
        DefinitionKind::Orchestration
    } else {
        DefinitionKind::Activity
    }
}

impl From<RemoteWorkers> for Workers {
    fn from(found: RemoteWorkers) -> Self {
        Self {
            connected: found.connected.into_iter().map(Worker::from).collect(),
            waiting: found.waiting.into_iter().map(WaitingWork::from).collect(),
        }
    }
}

impl From<RemoteWorker> for Worker {
    fn from(worker: RemoteWorker) -> Self {
        let names = |names: Vec<NameFilter>| names.into_iter().map(WorkerName::from).collect();
        Self {
            name: worker.name,
            connected_at: worker.connected_at,
            orchestrations: worker.orchestrations.map(names),
            activities: worker.activities.map(names),
            orchestrations_max: worker.orchestrations_max,
            activities_max: worker.activities_max,
            answered: worker.answered,
            running: worker.items.into_iter().map(WorkerItem::from).collect(),
        }
    }
}

impl From<NameFilter> for WorkerName {
    fn from(filter: NameFilter) -> Self {
        Self {
            name: filter.name,
            versions: filter.versions,
        }
    }
}

impl From<RemoteItem> for WorkerItem {
    fn from(item: RemoteItem) -> Self {
        Self {
            kind: kind(item.task.is_none()),
            name: item.name,
            version: item.version,
            instance_id: item.instance_id,
            task: item.task,
            running_since: item.since,
        }
    }
}

impl From<RemoteWaiting> for WaitingWork {
    fn from(waiting: RemoteWaiting) -> Self {
        Self {
            kind: kind(waiting.is_orchestration),
            name: waiting.name,
            version: waiting.version,
            count: waiting.count as u64,
        }
    }
}
