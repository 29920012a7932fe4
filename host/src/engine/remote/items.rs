//! What workers offer, what they are sent, and what they answer.

use std::sync::Arc;

use perennial_core::{Answer, Event, Json, Tags, TaskId, Timestamp, Turn};
use serde::{Deserialize, Serialize};

/// How the SDKs' empty text is stored, which is no JSON.
pub(crate) const EMPTY_TEXT: &str = r#""\u0000""#;

/// An input for code that expects JSON. Some SDKs send an empty text where there is no input.
pub(in crate::engine) fn as_json(input: Option<Json>) -> Option<Json> {
    input.filter(|input| input.as_str() != EMPTY_TEXT)
}

/// What a worker offers to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Its name, for people.
    pub(crate) worker: String,
    pub(crate) orchestrations: Filter,
    pub(crate) activities: Filter,
    /// Maximum number of turns that it runs at once.
    pub(crate) orchestrations_max: u32,
    /// Maximum number of activities that it runs at once.
    pub(crate) activities_max: u32,
    /// Whether it reads a long history in a stream of its own.
    pub(crate) streams_history: bool,
}

/// Which names a worker runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Filter {
    /// Every name.
    All,
    /// These names.
    Only(Vec<NameFilter>),
}

/// A name that a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameFilter {
    pub(crate) name: String,
    /// The versions that it runs; empty for all.
    pub(crate) versions: Vec<String>,
}

impl Filter {
    /// Whether this name and version is run. Names are compared without regard to case, as the SDKs do.
    pub(crate) fn matches(&self, name: &str, version: Option<&str>) -> bool {
        let Self::Only(names) = self else {
            return true;
        };
        names.iter().any(|one| {
            one.name.eq_ignore_ascii_case(name)
                && (one.versions.is_empty()
                    || one
                        .versions
                        .iter()
                        .any(|v| v == version.unwrap_or_default()))
        })
    }
}

/// What a worker is sent.
#[derive(Debug)]
pub(crate) enum WorkItem {
    Orchestration(Box<OrchestrationItem>),
    Activity(Box<ActivityItem>),
}

/// A turn of an orchestration.
#[derive(Debug)]
pub(crate) struct OrchestrationItem {
    pub(crate) token: String,
    pub(crate) instance_id: String,
    pub(crate) execution_id: String,
    /// The turns before.
    pub(crate) past: Arc<Vec<Turn>>,
    /// The host's time.
    pub(crate) at: Timestamp,
    /// The events of this turn, with [`Event::TurnStarted`] first.
    pub(crate) received: Vec<Event>,
}

/// An attempt of an activity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ActivityItem {
    pub(crate) token: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) input: Option<Json>,
    pub(crate) instance_id: String,
    pub(crate) execution_id: String,
    pub(crate) task: TaskId,
    pub(crate) tags: Tags,
    pub(crate) trace_parent: Option<String>,
}

/// The answer of a worker to a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemoteAnswer {
    pub(crate) answer: Answer,
    /// External events that continue-as-new carries over, by name and payload. The engine finds their numbers.
    pub(crate) carried: Vec<(String, Option<Json>)>,
}

/// What became of an item.
#[derive(Debug)]
pub(crate) enum ItemEnd {
    Answered(Box<RemoteAnswer>),
    /// The worker is lost, took too long, or gave the item back.
    Lost,
}
