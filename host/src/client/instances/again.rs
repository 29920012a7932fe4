//! Rewind and restart.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::{DroppedKind, FailedKind, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::body::RewindBody;
use crate::client::{Client, Error, Result};
use crate::engine::{Request, RestartRequest, RewindRequest};
use crate::store::{self, Reply};

/// A rewind. Await it: it returns once the rewind is durable, and lists what runs again and what is discarded.
#[derive(Clone, Debug)]
#[must_use = "an instance is rewound when its rewind is awaited"]
pub struct Rewind {
    client: Client,
    request: RewindRequest,
    scope: Scope,
    forget_completed: bool,
}

/// The result of a rewind.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Rewound {
    /// The activities that run again, with the same idempotency keys, in the order of their tasks.
    pub activities: Vec<RearmedActivity>,
    /// Failed children that were rewound first, deepest first.
    pub rewound_children: Vec<String>,
    /// Children that were deleted or terminated, and were started again.
    pub restarted_children: Vec<String>,
    /// Tasks that were scheduled after the cut, and are discarded. Their side effects are not undone.
    pub dropped: Vec<DroppedTask>,
    /// The number of events that were cut off the history. They are archived.
    pub cut_events: u64,
    /// The latest failures from before the cut, which stay, and those that are delivered again at once. Each says why it stays.
    #[serde(default)]
    pub remaining_failures: Vec<RemainingFailure>,
    /// The number of staying failures that are not listed.
    #[serde(default)]
    pub more_remaining: u32,
    /// External events that are not delivered again, because an instance failed on their data. They are archived with the cut events.
    #[serde(default)]
    pub dropped_events: Vec<DroppedEvent>,
}

/// An external event that a rewind does not deliver again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DroppedEvent {
    /// The instance that failed on it: the one that was rewound, or a child that was rewound for it.
    pub instance_id: String,
    /// The number of the event among all external events of the instance, from 0.
    pub number: u32,
    /// The name of the event.
    pub name: String,
}

/// A failure that a rewind leaves in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RemainingFailure {
    /// The id of the failed task.
    pub task: u32,
    /// Whether it is an activity or a child.
    pub kind: TaskKind,
    /// The name of the activity or of the child's orchestration.
    pub name: String,
    /// The kind of the failure.
    pub failure: String,
    /// The message of the failure, possibly shortened.
    pub message: String,
    /// Why the failure stays.
    pub why: String,
}

/// An activity that runs again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RearmedActivity {
    /// The id of its task.
    pub task: u32,
    /// The name of the activity.
    pub name: String,
}

/// A task that a rewind discards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DroppedTask {
    /// The id of the task. It will be reused.
    pub task: u32,
    /// Whether it is an activity, a child or a timer.
    pub kind: TaskKind,
    /// The name of the activity or of the child's orchestration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The ids of the child's instances, one for each attempt. Those that still run are terminated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    /// Whether the task had succeeded.
    pub completed: bool,
}

/// The kind of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum TaskKind {
    /// An activity.
    Activity,
    /// A child orchestration.
    Child,
    /// A timer.
    Timer,
    /// A request to another instance.
    Request,
}

impl std::fmt::Display for TaskKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Activity => "activity",
            Self::Child => "child",
            Self::Timer => "timer",
            Self::Request => "request",
        })
    }
}

/// A restart. Await it: it returns the id of the new run once it is durable.
#[derive(Clone, Debug)]
#[must_use = "an instance is restarted when its restart is awaited"]
pub struct Restart {
    client: Client,
    id: String,
    new_id: Option<String>,
}

impl Client {
    /// Rewinds a failed instance to before its failure and continues from there. Await the returned value.
    ///
    /// The history is cut at the turn that delivered the failure, or the first failure among the tasks that were scheduled in the same
    /// turn: what failed together runs again together. Everything before the cut stays and does not run again. Failed tasks run again with
    /// the newest code of their activities. Failed children are rewound first; a child that was restarted already keeps its state. An
    /// expired time limit gets its whole span again. External events, fired timers and results from after the cut are delivered again.
    /// Tasks scheduled after the cut are discarded and listed in the answer, as are the failures that stay. If that would discard completed
    /// work, such as the compensations of a saga, nothing is done unless [`forget_completed`](Rewind::forget_completed) is set. An external
    /// event on whose data the instance failed is set aside, and the instance waits for it again, unless it continues on another
    /// [`module`](Rewind::module), which may be able to read it.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let rewound = client.rewind("order-17").reason("the bank is back").await?;
    /// for task in &rewound.dropped {
    ///     println!("{} {:?} is forgotten", task.kind, task.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn rewind(&self, id: impl Into<String>) -> Rewind {
        Rewind {
            client: self.clone(),
            request: RewindRequest {
                id: id.into(),
                reason: None,
                module: None,
            },
            scope: Scope::Together,
            forget_completed: false,
        }
    }

    /// Runs an instance again from its beginning: the same orchestration in its newest deployed version, with the same input and labels,
    /// but without a parent. Await the returned value.
    ///
    /// It starts at once, even if the original start was scheduled for later. An instance that continued as new does not keep its earlier
    /// executions and inputs: it starts with the input of its last execution.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.restart("order-17").await?;
    /// let copy = client.restart("order-17").with_new_id().await?;
    /// println!("{copy} does the same once more");
    /// # Ok(())
    /// # }
    /// ```
    pub fn restart(&self, id: impl Into<String>) -> Restart {
        Restart {
            client: self.clone(),
            id: id.into(),
            new_id: None,
        }
    }
}

impl Rewind {
    /// The reason, which is recorded with the rewind.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.request.reason = Some(reason.into());
        self
    }

    /// Continues on another module, given by its name or at least the first 6 digits of its digest. If the module does not replay the
    /// history up to the cut, the instance is quarantined.
    pub fn module(mut self, name_or_digest: impl Into<String>) -> Self {
        self.request.module = Some(name_or_digest.into());
        self
    }

    /// Goes back to before the first failure of the whole execution, so that no failure stays, not even one that the orchestration handled.
    pub fn all_failures(mut self) -> Self {
        self.scope = Scope::AllFailures;
        self
    }

    /// Rewinds even if that discards work that completed after the failure. Its side effects are not undone: an order whose payment was
    /// refunded counts as paid again.
    pub fn forget_completed(mut self) -> Self {
        self.forget_completed = true;
        self
    }
}

impl IntoFuture for Rewind {
    /// Fails with [`Error::is_not_found`] if the instance does not exist, [`Error::is_wrong_state`] if it has not failed,
    /// [`Error::would_forget`] if completed work would be discarded, and [`Error::is_invalid`] if the module cannot continue the instance.
    type Output = Result<Rewound>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let id = self.request.id.clone();
            let all_failures = self.scope == Scope::AllFailures;
            if let Some(remote) = self.client.remote() {
                let forget_completed = self.forget_completed;
                let body = RewindBody {
                    reason: self.request.reason,
                    module: self.request.module,
                    all_failures,
                    forget_completed,
                };
                return remote.rewind(&id, &body).await;
            }
            let request = match self.scope {
                _ if self.forget_completed => Request::RewindForgetting {
                    rewind: self.request,
                    all_failures,
                },
                Scope::Together => Request::Rewind(self.request),
                Scope::AllFailures => Request::RewindAll(self.request),
            };
            match self.client.submit(&id, request).await? {
                Reply::Rewound(done) => Ok((*done).into()),
                other => Err(Error::unexpected(&other)),
            }
        })
    }
}

impl Restart {
    /// Starts another instance, with a new id. The existing one stays unchanged, and need not have ended.
    pub fn with_new_id(self) -> Self {
        let id = self.client.new_id();
        self.with_id(id)
    }

    /// Starts another instance, with this id, which must not be in use.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.new_id = Some(id.into());
        self
    }
}

impl IntoFuture for Restart {
    /// The id of the new run. Fails with [`Error::is_not_found`] if the instance does not exist, [`Error::is_wrong_state`] if it has not
    /// ended, [`Error::is_already_exists`] if the new id is in use, and [`Error::is_unknown_orchestration`] if no module defines its
    /// orchestration any more.
    type Output = Result<String>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { client, id, new_id } = self;
            let begins = new_id.clone().unwrap_or_else(|| id.clone());
            let request = Request::Restart(RestartRequest {
                id: id.clone(),
                new_id,
            });
            match client.submit(&id, request).await {
                // The error must name the id that is in use.
                Err(error) if error.is_already_exists() => Err(error.about(&begins)),
                done => done.map(|_| begins),
            }
        })
    }
}

impl From<store::Rewound> for Rewound {
    fn from(done: store::Rewound) -> Self {
        let activities = done.activities.into_iter().map(|(task, name)| {
            let task = task.0;
            RearmedActivity { task, name }
        });
        Self {
            activities: activities.collect(),
            rewound_children: done.rewound,
            restarted_children: done.started,
            dropped: done.dropped.into_iter().map(DroppedTask::from).collect(),
            cut_events: done.cut_events,
            remaining_failures: done.remaining.into_iter().map(Into::into).collect(),
            more_remaining: done.more_remaining,
            dropped_events: done
                .dropped_events
                .into_iter()
                .map(|(instance_id, event)| DroppedEvent {
                    instance_id,
                    number: event.number,
                    name: event.name,
                })
                .collect(),
        }
    }
}

impl From<perennial_core::RemainingFailure> for RemainingFailure {
    fn from(remaining: perennial_core::RemainingFailure) -> Self {
        Self {
            task: remaining.task.0,
            kind: match remaining.kind {
                FailedKind::Activity => TaskKind::Activity,
                FailedKind::Child => TaskKind::Child,
                FailedKind::Request => TaskKind::Request,
            },
            name: remaining.name,
            failure: remaining.failure,
            message: remaining.message,
            why: remaining.why,
        }
    }
}

impl From<perennial_core::DroppedTask> for DroppedTask {
    fn from(dropped: perennial_core::DroppedTask) -> Self {
        let (kind, name, instance_ids) = match dropped.kind {
            DroppedKind::Activity { name } => (TaskKind::Activity, Some(name), Vec::new()),
            DroppedKind::Child { name, instance_ids } => {
                (TaskKind::Child, Some(name), instance_ids)
            }
            DroppedKind::Timer => (TaskKind::Timer, None, Vec::new()),
            DroppedKind::Request { name } => (TaskKind::Request, Some(name), Vec::new()),
        };
        Self {
            task: dropped.task.0,
            kind,
            name,
            instance_ids,
            completed: dropped.completed,
        }
    }
}
