//! The result of a rewind.

use serde::{Deserialize, Serialize};

use crate::{ChildTask, Json, Message, State, Target, TaskId, Timestamp, Turn};

/// A task that is forgotten because it was asked for after the cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedTask {
    /// Its id. A later task may get the same one.
    pub task: TaskId,
    /// Its kind, with what was known of it.
    pub kind: DroppedKind,
    /// Whether it had completed. Its output is forgotten too.
    pub completed: bool,
}

/// The kind of a [`DroppedTask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DroppedKind {
    /// An activity.
    Activity {
        /// Its name.
        name: String,
    },
    /// A child.
    Child {
        /// Its orchestration's name.
        name: String,
        /// The ids of its attempts' instances.
        instance_ids: Vec<String>,
    },
    /// A timer.
    Timer,
    /// A request to another instance.
    Request {
        /// Its name.
        name: String,
    },
}

impl DroppedKind {
    /// Notes the instance of another attempt, where this is a child.
    pub(crate) fn tried_as(&mut self, instance_id: &str) {
        if let Self::Child { instance_ids, .. } = self {
            instance_ids.push(instance_id.to_owned());
        }
    }
}

impl DroppedTask {
    /// Whether it is work that was done and that the history no longer records.
    pub fn is_work_done(&self) -> bool {
        match self.kind {
            DroppedKind::Activity { .. }
            | DroppedKind::Child { .. }
            | DroppedKind::Request { .. } => self.completed,
            DroppedKind::Timer => false,
        }
    }
}

/// An external event that is not delivered again, because the execution failed on its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedEvent {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
}

/// An activity that runs again from its first attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmedActivity {
    /// Its task.
    pub task: TaskId,
    /// The turn that asked for it.
    pub turn: u32,
    /// Its name.
    pub name: String,
    /// What ran it before the rewind.
    pub target: Target,
}

/// A timer, or the next attempt of a child, that is not due yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmedTimer {
    /// Its task.
    pub task: TaskId,
    /// The turn that asked for it.
    pub turn: u32,
    /// When it comes due.
    pub due: Timestamp,
    /// Whether that is a time by the clock of the host, and not the end of a span.
    pub by_clock: bool,
    /// The attempt of a child that starts then, from 2; `None` for a timer of the guest.
    pub attempt: Option<u32>,
}

/// The result of a rewind.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewind {
    /// The first turn that is cut off.
    pub cut: u32,
    /// The turn that is written in place of those cut off, if any: attempts of children of before the cut, of which the guest is not told.
    pub carried: Option<Turn>,
    /// The state after the rewind. Every open task is of the new generation, so that results of the old one are ignored.
    pub state: State,
    /// The messages that are delivered again, in order.
    pub inbox: Vec<Message>,
    /// The activities that run again from their first attempt.
    pub activities: Vec<ArmedActivity>,
    /// The timers and attempts of children that are still to come due.
    pub timers: Vec<ArmedTimer>,
    /// The children whose outcome is awaited and not in the inbox, each with its task. What becomes of one depends on its status.
    pub children: Vec<(TaskId, ChildTask)>,
    /// The requests whose answer is awaited and not in the inbox.
    pub requests: Vec<TaskId>,
    /// The tasks that are forgotten, in the order of their ids.
    pub dropped: Vec<DroppedTask>,
    /// The external event that is not delivered again.
    pub dropped_event: Option<DroppedEvent>,
    /// The tags that the part cut off has set, each with its value of before the cut, if it had one.
    pub tags: Vec<(String, Option<String>)>,
}

impl Rewind {
    /// Whether the execution begins again from its start.
    pub fn begins_again(&self) -> bool {
        self.state.awaits_start()
    }

    /// The tags as of the cut.
    pub(crate) fn tags_before(&self) -> &[(String, String)] {
        let begins = self.inbox.iter().find_map(|message| {
            let Message::Start(start) = message else {
                return None;
            };
            Some(&start.tags)
        });
        let start = self.state.start();
        start
            .map(|start| &start.tags)
            .or(begins)
            .map_or(&[], |tags| &tags[..])
    }

    /// The named values as of the cut.
    pub fn values(&self) -> Vec<(&str, &Json)> {
        let own = self.state.values.iter();
        let mut values: Vec<_> = own.map(|(name, value)| (name.as_str(), value)).collect();
        for message in &self.inbox {
            if let Message::Values { values: left } = message {
                values.extend(left.iter().map(|(name, value)| (name.as_str(), value)));
            }
        }
        values
    }

    /// What the status of the execution shows until it is set again.
    pub fn custom_status(&self) -> Option<&Json> {
        let left = self.inbox.iter().find_map(Message::custom_status);
        self.state.custom_status.as_ref().or(left)
    }
}
