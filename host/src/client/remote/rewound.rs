//! Parses the result of a rewind that a remote host sends.

use perennial_core::{
    DroppedEvent, DroppedKind, DroppedTask, FailedKind, RemainingFailure, TaskId,
};
use serde::Deserialize;

use crate::store;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DroppedWire {
    task: TaskId,
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    instance_ids: Vec<String>,
    completed: bool,
}

#[derive(Deserialize)]
struct RearmedWire {
    task: TaskId,
    name: String,
}

#[derive(Deserialize)]
struct RemainingWire {
    task: TaskId,
    kind: String,
    name: String,
    failure: String,
    message: String,
    why: String,
}

impl From<RemainingWire> for RemainingFailure {
    fn from(wire: RemainingWire) -> Self {
        Self {
            task: wire.task,
            kind: match wire.kind.as_str() {
                "child" => FailedKind::Child,
                _ => FailedKind::Activity,
            },
            name: wire.name,
            failure: wire.failure,
            message: wire.message,
            why: wire.why,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DroppedEventWire {
    instance_id: String,
    number: u32,
    name: String,
}

/// What a rewind did.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RewoundWire {
    activities: Vec<RearmedWire>,
    rewound_children: Vec<String>,
    restarted_children: Vec<String>,
    dropped: Vec<DroppedWire>,
    cut_events: u64,
    // Older hosts know nothing of them.
    #[serde(default)]
    remaining_failures: Vec<RemainingWire>,
    #[serde(default)]
    more_remaining: u32,
    #[serde(default)]
    dropped_events: Vec<DroppedEventWire>,
}

impl From<RewoundWire> for store::Rewound {
    fn from(wire: RewoundWire) -> Self {
        let activities = wire.activities.into_iter();
        let dropped = wire.dropped.into_iter().map(|dropped| {
            let (name, instance_ids) = (dropped.name, dropped.instance_ids);
            DroppedTask {
                task: dropped.task,
                kind: match dropped.kind.as_str() {
                    "activity" => DroppedKind::Activity { name },
                    "child" => DroppedKind::Child { name, instance_ids },
                    _ => DroppedKind::Timer,
                },
                completed: dropped.completed,
            }
        });
        Self {
            activities: activities.map(|task| (task.task, task.name)).collect(),
            rewound: wire.rewound_children,
            started: wire.restarted_children,
            dropped: dropped.collect(),
            cut_events: wire.cut_events,
            remaining: wire
                .remaining_failures
                .into_iter()
                .map(Into::into)
                .collect(),
            more_remaining: wire.more_remaining,
            dropped_events: wire
                .dropped_events
                .into_iter()
                .map(|event| {
                    let (number, name) = (event.number, event.name);
                    (event.instance_id, DroppedEvent { number, name })
                })
                .collect(),
        }
    }
}
