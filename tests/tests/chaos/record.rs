//! What was asked of a hub and what was answered; and what the hub has afterwards.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use perennial::{Client, HistoryEvent, InstanceStatus, List};

/// What became of a request, as far as its sender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was acknowledged.
    Done,
    /// The answer says that nothing was changed.
    Refused,
    /// There was no answer, or none that says: it may have happened.
    Unknown,
}

impl Outcome {
    /// What an answer says. Whoever is told that a host is shutting down or that the hub could not be reached may have been heard.
    pub(crate) fn of<T>(answer: &perennial::Result<T>) -> Self {
        match answer {
            Ok(_) => Self::Done,
            Err(error) if error.is_wrong_state() || error.is_not_found() => Self::Refused,
            Err(error) if error.is_overloaded() || error.would_forget() => Self::Refused,
            Err(_) => Self::Unknown,
        }
    }

    pub(crate) fn is_possible(self) -> bool {
        self != Self::Refused
    }
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Start,
    /// An event, with this number as its payload.
    Event(i64),
    Suspend,
    Resume,
    Terminate,
    Rewind,
    Purge,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The instance.
    pub(crate) id: String,
    pub(crate) what: What,
    /// The name of the orchestration that was started; or the reason, which no other request has.
    pub(crate) said: String,
    pub(crate) outcome: Outcome,
    /// When it was sent, in milliseconds since 1970.
    pub(crate) from: u64,
    /// When it was answered, in milliseconds since 1970.
    pub(crate) to: u64,
}

/// All requests, those to one instance in their order; and when a host was stopped that ran on after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) asked: Vec<Asked>,
    /// From when until when, in milliseconds since 1970.
    pub(crate) stalls: Vec<(u64, u64)>,
}

/// An attempt of an activity, as it wrote about itself when it began.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) execution: String,
    pub(crate) task: u32,
    pub(crate) number: u32,
    /// In milliseconds since 1970.
    pub(crate) began: u64,
}

impl Attempt {
    fn read(line: &str) -> Self {
        let mut parts = line.split(' ');
        let mut next = || {
            parts
                .next()
                .unwrap_or_else(|| panic!("no attempt: {line:?}"))
        };
        Self {
            id: next().to_owned(),
            execution: next().to_owned(),
            task: next().parse().unwrap(),
            number: next().parse().unwrap(),
            began: next().parse().unwrap(),
        }
    }
}

/// An instance, as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) status: InstanceStatus,
    pub(crate) history: Vec<HistoryEvent>,
}

/// All of a hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Seen {
    /// Reads a hub whose instances have all ended, and what its attempts wrote.
    pub(crate) async fn read(client: &Client, attempts: &str) -> perennial::Result<Self> {
        let all: List = client.list();
        let listed: Vec<InstanceStatus> = all.stream().try_collect().await?;
        let mut instances = BTreeMap::new();
        for brief in listed {
            let id = brief.instance_id;
            let Some(status) = client.status(&id).show_input().await? else {
                continue;
            };
            let history = client.history(&id).stream().try_collect().await?;
            instances.insert(id, Instance { status, history });
        }
        Ok(Self {
            instances,
            attempts: attempts.lines().map(Attempt::read).collect(),
        })
    }
}
