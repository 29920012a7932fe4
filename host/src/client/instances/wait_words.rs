//! What an instance waits for, in words: one sentence, whose parts programs show in their own way.

use std::fmt;

use perennial_core::text::shortened;
use perennial_core::{Failure, Json, Status, Timestamp};

use crate::client::instances::waits::{AtWorker, Heartbeat, Wait};

/// Bytes of the details of a heartbeat that a text shows.
const DETAILS_SHOWN: usize = 200;

/// A part of what a [`Wait`] says. Parts that the host supplies are plain text; all others may contain anything.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum WaitWord<'a> {
    /// Words of the sentence, with the spaces around other parts.
    Words(&'static str),
    /// A number.
    Number(u32),
    /// The name of an activity, an event, a request or an orchestration.
    Name(&'a str),
    /// The id of another instance.
    Instance(&'a str),
    /// A status.
    Status(Status),
    /// A time.
    Time(Timestamp),
    /// Details of a heartbeat.
    Details(&'a Json),
    /// A failure.
    Failure(&'a Failure),
    /// A text of the orchestration, or a reason.
    Text(&'a str),
}

impl fmt::Display for WaitWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Number(number) => number.fmt(f),
            Self::Name(text) | Self::Instance(text) => write!(f, "{text:?}"),
            Self::Status(status) => status.fmt(f),
            Self::Time(at) => at.fmt(f),
            Self::Details(json) => f.write_str(&shortened(json.as_str(), DETAILS_SHOWN)),
            Self::Failure(failure) => failure.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words().iter().try_for_each(|word| word.fmt(f))
    }
}

impl Wait {
    /// The parts of the sentence that [`Display`](fmt::Display) writes, in order.
    pub fn words(&self) -> Vec<WaitWord<'_>> {
        use WaitWord::{Instance, Name, Number, Text, Time, Words};
        match self {
            Self::ExternalEvent { name } => vec![Words("external event "), Name(name)],
            Self::Request { name } => vec![Words("request "), Name(name)],
            Self::Answer {
                task,
                name,
                instance_id,
            } => vec![
                Words("the answer of instance "),
                Instance(instance_id),
                Words(" to request "),
                Name(name),
                Words(" (task "),
                Number(task.0),
                Words(")"),
            ],
            Self::Activity { .. } => self.activity_words(true),
            Self::Worker {
                name,
                running_since,
            } => {
                let mut words = vec![Words("a worker that runs orchestration "), Name(name)];
                if let Some(at) = running_since {
                    words.extend([Words("; one has its turn since "), Time(*at)]);
                }
                words
            }
            Self::Timer { task, due } => vec![
                Words("timer (task "),
                Number(task.0),
                Words(") due "),
                Time(*due),
            ],
            Self::Start { due } => vec![Words("its start, scheduled for "), Time(*due)],
            Self::Child {
                instance_id,
                status,
                ..
            } => vec![
                Words("child "),
                Instance(instance_id),
                Words(", which is "),
                WaitWord::Status(*status),
            ],
            Self::Resume { reason } => {
                let mut words = vec![Words("its resumption: it is suspended")];
                if let Some(reason) = reason {
                    words.extend([Words(" ("), Text(reason), Words(")")]);
                }
                words.push(Words(", and nothing goes on until it is resumed"));
                words
            }
            Self::Note(note) => vec![Text(note)],
            Self::Quarantine(why) => vec![Words("quarantined: "), Text(&why.reason)],
            Self::Host => vec![Words("a host that runs it")],
            Self::FirstTurn => vec![Words("its first turn, which the host has not come to")],
            Self::Nothing => vec![Words(
                "nothing that it names: no activity, timer, child or event; only an event or a command from outside can move it on",
            )],
        }
    }

    /// As [`words`](Self::words), without the number of a task, its heartbeats, and what failed before.
    pub fn short_words(&self) -> Vec<WaitWord<'_>> {
        match self {
            Self::Activity { .. } => self.activity_words(false),
            _ => self.words(),
        }
    }

    fn activity_words(&self, in_full: bool) -> Vec<WaitWord<'_>> {
        use WaitWord::{Details, Name, Number, Time, Words};
        let Self::Activity {
            task,
            name,
            attempt,
            attempts_max,
            running_since,
            queued_since,
            next_attempt_at,
            heartbeat,
            last_failure,
            failed_attempts,
            at_worker,
        } = self
        else {
            return Vec::new();
        };
        let mut words = vec![Words("activity "), Name(name), Words(" (")];
        if in_full {
            words.extend([Words("task "), Number(task.0), Words(", ")]);
        }
        words.extend([Words("attempt "), Number(*attempt)]);
        if let Some(most) = attempts_max.filter(|most| (2..u32::MAX).contains(most)) {
            words.extend([Words(" of "), Number(most)]);
        }
        match (running_since, next_attempt_at, at_worker) {
            (Some(at), _, None) => words.extend([Words(", running since "), Time(*at)]),
            (Some(at), _, Some(_)) => words.extend([Words(", at a worker since "), Time(*at)]),
            (None, Some(at), _) => words.extend([Words(" at "), Time(*at)]),
            (None, None, None) => words.push(Words(", queued")),
            (None, None, Some(AtWorker::Waits)) => words.push(Words(", waits for a worker")),
            (None, None, Some(_)) => words.push(Words(", for a worker")),
        }
        if let Some(at) = queued_since {
            words.extend([Words(" since "), Time(*at)]);
        }
        if !in_full {
            words.push(Words(")"));
            return words;
        }
        if let Some(Heartbeat { at, details }) = heartbeat {
            words.extend([Words("; last heartbeat "), Time(*at)]);
            if let Some(details) = details {
                words.extend([Words(": "), Details(details)]);
            }
        }
        // A cut-off attempt is not a failure of the activity.
        let last = failed_attempts.last().map(|last| &last.failure);
        if let Some(failure) = last.or(last_failure.as_ref()) {
            words.push(Words("; the last one failed with "));
            words.push(WaitWord::Failure(failure));
        }
        words.push(Words(")"));
        words
    }
}
