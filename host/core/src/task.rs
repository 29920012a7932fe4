//! Open tasks of an execution.

use crate::{ChildCommand, Failure, InstanceOptions, Json, RetryPolicy, Tags, Target, Timestamp};

/// A task that is scheduled and not yet ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The generation in which it was scheduled, or armed again.
    pub generation: u32,
    /// Its kind, with what the core needs of it.
    pub kind: TaskKind,
}

/// The kind of a task, with what the core needs of it.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskKind {
    /// An activity.
    Activity {
        /// Its name.
        name: String,
    },
    /// A child orchestration.
    Child(Box<ChildTask>),
    /// A timer.
    Timer {
        /// When it comes due: in the guest's time, or by the clock of the host.
        fire_at: Timestamp,
    },
    /// A request to another instance.
    Request,
}

/// The kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskType {
    /// An activity.
    Activity,
    /// A child orchestration.
    Child,
    /// A timer.
    Timer,
    /// A request to another instance.
    Request,
}

impl std::fmt::Display for TaskType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Activity => "activity",
            Self::Child => "child",
            Self::Timer => "timer",
            Self::Request => "request",
        })
    }
}

impl Task {
    /// The child that it is, if it is one.
    pub fn child(&self) -> Option<&ChildTask> {
        match &self.kind {
            TaskKind::Child(child) => Some(child),
            TaskKind::Activity { .. } | TaskKind::Timer { .. } | TaskKind::Request => None,
        }
    }
}

impl TaskKind {
    /// The kind of task that it is, without its data.
    pub fn of_type(&self) -> TaskType {
        match self {
            Self::Activity { .. } => TaskType::Activity,
            Self::Child(_) => TaskType::Child,
            Self::Timer { .. } => TaskType::Timer,
            Self::Request => TaskType::Request,
        }
    }
}

/// A child, with all that another attempt needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildTask {
    /// Its orchestration's name.
    pub name: String,
    /// Its version, if one is known.
    pub version: Option<String>,
    /// The id of the first attempt's instance.
    pub instance_id: String,
    /// Its input.
    pub input: Option<Json>,
    /// Its tags.
    pub tags: Tags,
    /// Its retry policy.
    pub retry: Option<RetryPolicy>,
    /// What runs it.
    pub target: Target,
    /// What else was said of its instances.
    pub options: InstanceOptions,
    /// What it was told last, if it was told to end.
    pub commanded: Option<ChildCommand>,
    /// The current attempt, running or waiting for its time; from 1.
    pub attempt: u32,
    /// When the current attempt starts; `None` once it has.
    pub due: Option<Timestamp>,
    /// The failure of the attempt before, if there was one.
    pub last_failure: Option<Failure>,
    /// When the first attempt was scheduled.
    pub scheduled_at: Timestamp,
}

impl ChildTask {
    /// The instance of an attempt: the first one's id, with the number of the attempt where it is a later one.
    pub fn attempt_instance_id(&self, attempt: u32) -> String {
        attempt_id(&self.instance_id, attempt)
    }
}

/// See [`ChildTask::attempt_instance_id`].
pub(crate) fn attempt_id(instance_id: &str, attempt: u32) -> String {
    if attempt <= 1 {
        instance_id.to_owned()
    } else {
        format!("{instance_id}:{attempt}")
    }
}
