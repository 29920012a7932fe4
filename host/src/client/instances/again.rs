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

/// A rewind. Await it: it says what is done again and what is forgotten, once it is durable.
#[derive(Clone, Debug)]
#[must_use = "an instance is rewound when its rewind is awaited"]
pub struct Rewind {
    client: Client,
    request: RewindRequest,
    scope: Scope,
    forget_completed: bool,
}

/// What a rewind did.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Rewound {
    /// The activities that run again, with the same idempotency keys, in the order of their tasks.
    pub activities: Vec<RearmedActivity>,
    /// Children that had failed and were rewound first, deepest first.
    pub rewound_children: Vec<String>,
    /// Children that were gone, or ended from outside, and were started again.
    pub restarted_children: Vec<String>,
    /// What was asked for after the failure, and is forgotten. What it did in the world is not undone.
    pub dropped: Vec<DroppedTask>,
    /// Events that were cut off the history. They are archived.
    pub cut_events: u64,
    /// Failures that came in before the cut and stay as they are, the latest of them, and those that come back at once; each says why.
    #[serde(default)]
    pub remaining_failures: Vec<RemainingFailure>,
    /// How many more stay.
    #[serde(default)]
    pub more_remaining: u32,
    /// External events that do not come in again, since an instance failed on their data. They are archived with what was cut off.
    #[serde(default)]
    pub dropped_events: Vec<DroppedEvent>,
}

/// An external event that a rewind puts aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DroppedEvent {
    /// The instance that failed on it: the one that was rewound, or a child that was rewound for it.
    pub instance_id: String,
    /// The number that it had.
    pub number: u32,
    /// Its name.
    pub name: String,
}

/// A failure that a rewind leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RemainingFailure {
    /// The task that failed.
    pub task: u32,
    /// Whether it is an activity or a child.
    pub kind: TaskKind,
    /// The activity or the child's orchestration.
    pub name: String,
    /// The kind of its failure.
    pub failure: String,
    /// The message of its failure, or the beginning of it.
    pub message: String,
    /// Why it stays.
    pub why: String,
}

/// An activity that runs again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RearmedActivity {
    /// Its task.
    pub task: u32,
    /// Its name.
    pub name: String,
}

/// A task that a rewind forgets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DroppedTask {
    /// The task, whose number is given again.
    pub task: u32,
    /// Whether it is an activity, a child or a timer.
    pub kind: TaskKind,
    /// The activity or the child's orchestration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The child's instances, one for each try; those that still run are told to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instance_ids: Vec<String>,
    /// Whether it had ended well.
    pub completed: bool,
}

/// What a task is.
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
}

impl std::fmt::Display for TaskKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Activity => "activity",
            Self::Child => "child",
            Self::Timer => "timer",
        })
    }
}

/// A restart. Await it: it gives the id of the instance that begins, once it is durable.
#[derive(Clone, Debug)]
#[must_use = "an instance is restarted when its restart is awaited"]
pub struct Restart {
    client: Client,
    id: String,
    new_id: Option<String>,
}

impl Client {
    /// Puts an instance that has failed back to before its failure, and lets it go on from there. Await what it returns.
    ///
    /// The history is cut where the failure came in, or the first failure of a task that was asked for in the same turn: what failed
    /// together runs again together. What is before stays and is not run again; tasks that failed run again with the newest code of their
    /// activities; failed children are rewound first, and one that was restarted is taken as it is. A time limit that was over has its whole
    /// span again. External events, fired timers and results that came in after the cut come in again. What was asked for after the cut is
    /// forgotten, and listed in the answer, as are the failures that stay. Where that would forget work that completed, such as what a saga
    /// undid, nothing is done unless [`forget_completed`](Rewind::forget_completed) asks for it. An external event whose data the instance
    /// failed on is put aside, and waited for again, unless it goes on with another [`module`](Rewind::module), which may read it.
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
    /// and nobody's child. Await what it returns.
    ///
    /// It begins at once, also where its start had been scheduled for later. Of an instance that continued as new, earlier executions and
    /// their inputs are not kept: it begins with the input that it continued with last.
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
    /// Why, for those who look at it later.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.request.reason = Some(reason.into());
        self
    }

    /// Goes on with another module, by its name or its digest, of which at least 6 digits are given. Its orchestration must do what the
    /// history says up to the cut: where it does not, the instance is quarantined.
    pub fn module(mut self, name_or_digest: impl Into<String>) -> Self {
        self.request.module = Some(name_or_digest.into());
        self
    }

    /// Goes back to before the first failure of the whole execution, so that none stays: also those that the orchestration had dealt with.
    pub fn all_failures(mut self) -> Self {
        self.scope = Scope::AllFailures;
        self
    }

    /// Rewinds also where work that completed after the failure is forgotten by that. What it did in the world is not undone: an order whose
    /// payment was given back counts as paid again.
    pub fn forget_completed(mut self) -> Self {
        self.forget_completed = true;
        self
    }
}

impl IntoFuture for Rewind {
    /// The error says with [`Error::is_not_found`] that there is no such instance, with [`Error::is_wrong_state`] that it has not failed,
    /// with [`Error::would_forget`] that completed work would be forgotten, with [`Error::is_invalid`] that the module is none that can go on with it.
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
    /// As another instance, with a new id. This one stays as it is, and need not have ended.
    pub fn with_new_id(self) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        self.with_id(id)
    }

    /// As another instance, with this id, which must not be in use.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.new_id = Some(id.into());
        self
    }
}

impl IntoFuture for Restart {
    /// The id of what begins. The error says with [`Error::is_not_found`] that there is no such instance, with [`Error::is_wrong_state`]
    /// that it has not ended, with [`Error::is_already_exists`] that the new id is in use, with [`Error::is_unknown_orchestration`] that
    /// no module defines its orchestration any more.
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
                // It is about the id that is in use.
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
