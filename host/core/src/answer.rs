//! The fixed hash of a guest's answer, stored with its turn: a replay compares it before it looks at anything else.
//!
//! It covers the whole identity of what was asked for: kinds, names, versions, targets, payloads, and how the guest ended. What a guest
//! says it waits for is for people, is not recorded, and is not covered.

use crate::xxh64::xxh64;
use crate::{
    Action, Answer, ChildCommand, ChildPolicy, Ending, Failure, IdReuse, InstanceOptions, Json,
    RetryPolicy, TimerDue, Timestamp,
};

/// Hashes an answer that was given at `now`, in the guest's time. The same answer has the same hash in every version of this crate.
///
/// Timers count by when they come due, however that was said: a module that is built for another contract answers the same.
pub fn answer_hash(answer: &Answer, now: Timestamp) -> u64 {
    let mut bytes = Bytes {
        bytes: Vec::with_capacity(256),
        now,
    };
    bytes.number(answer.actions.len() as u64);
    for action in &answer.actions {
        bytes.action(action);
    }
    match &answer.ending {
        Ending::Waiting(_) => bytes.tag(0),
        Ending::Completed(output) => {
            bytes.tag(1);
            bytes.payload(output.as_ref());
        }
        Ending::Failed { failure, cause } => {
            bytes.tag(2);
            bytes.failure(failure);
            bytes.optional(cause.map(|task| u64::from(task.0)));
        }
        Ending::ContinuedAsNew {
            input,
            version,
            carry_over,
        } => {
            bytes.tag(3);
            bytes.payload(input.as_ref());
            bytes.optional_text(version.as_deref());
            bytes.number(carry_over.len() as u64);
            carry_over
                .iter()
                .for_each(|number| bytes.number(u64::from(*number)));
        }
        Ending::Canceled => bytes.tag(4),
    }
    xxh64(&bytes.bytes)
}

/// A canonical encoding: every field with its length or presence before it, so that no two answers share one.
struct Bytes {
    bytes: Vec<u8>,
    now: Timestamp,
}

impl Bytes {
    fn tag(&mut self, tag: u8) {
        self.bytes.push(tag);
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn optional(&mut self, number: Option<u64>) {
        self.tag(u8::from(number.is_some()));
        self.number(number.unwrap_or(0));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.tag(u8::from(text.is_some()));
        self.text(text.unwrap_or(""));
    }

    fn payload(&mut self, payload: Option<&Json>) {
        self.optional_text(payload.map(Json::as_str));
    }

    fn tags(&mut self, tags: &[(String, String)]) {
        self.number(tags.len() as u64);
        for (key, value) in tags {
            self.text(key);
            self.text(value);
        }
    }

    fn failure(&mut self, failure: &Failure) {
        self.text(&failure.kind);
        self.text(&failure.message);
        self.payload(failure.details.as_ref());
        self.tag(u8::from(failure.retryable));
        self.optional_text(failure.trace.as_deref());
        self.number(failure.causes.len() as u64);
        for cause in &failure.causes {
            self.text(&cause.kind);
            self.text(&cause.message);
            self.optional_text(cause.trace.as_deref());
        }
    }

    fn retry(&mut self, retry: Option<&RetryPolicy>) {
        let Some(retry) = retry else {
            return self.tag(0);
        };
        self.tag(1);
        self.number(u64::from(retry.max_attempts));
        self.number(retry.first_delay.0);
        self.number(retry.backoff.to_bits());
        self.optional(retry.max_delay.map(|d| d.0));
        self.optional(retry.jitter.map(f64::to_bits));
        self.optional(retry.give_up_after.map(|d| d.0));
    }

    /// Nothing for the default, which is all that older guests can say: their answers keep their hashes.
    fn options(&mut self, options: &InstanceOptions) {
        if *options == InstanceOptions::default() {
            return;
        }
        let InstanceOptions {
            reuse,
            when_dropped,
            execution_timeout,
        } = options;
        self.tag(11);
        self.tag(match reuse {
            IdReuse::Ended => 0,
            IdReuse::Never => 1,
        });
        self.tag(match when_dropped {
            ChildPolicy::Abandon => 0,
            ChildPolicy::Cancel => 1,
            ChildPolicy::Terminate => 2,
        });
        self.optional(execution_timeout.map(|limit| limit.0));
    }

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each action"
    )]
    fn action(&mut self, action: &Action) {
        match action {
            Action::CallActivity(call) => {
                self.tag(0);
                self.number(u64::from(call.task.0));
                self.text(&call.name);
                self.payload(call.input.as_ref());
                self.retry(call.retry.as_ref());
                self.optional(call.attempt_timeout.map(|d| d.0));
                // Hashes of answers without options are older than options.
                if !call.options.is_default() {
                    self.tag(22);
                    self.optional(call.options.heartbeat_timeout.map(|d| d.0));
                    self.tag(u8::from(call.options.at_most_once));
                }
            }
            Action::CallChild(call) => {
                self.tag(1);
                self.number(u64::from(call.task.0));
                self.text(&call.name);
                self.optional_text(call.version.as_deref());
                self.optional_text(call.instance_id.as_deref());
                self.payload(call.input.as_ref());
                self.tags(&call.tags);
                self.retry(call.retry.as_ref());
                self.options(&call.options);
            }
            Action::SetTimer { task, due } => {
                let at = match due {
                    TimerDue::GuestTime(at) | TimerDue::At(at) => *at,
                    TimerDue::After(span) => self.now.after(*span),
                };
                self.tag(2);
                self.number(u64::from(task.0));
                self.number(at.0);
            }
            Action::CommandChild {
                task,
                command,
                reason,
            } => {
                self.tag(10);
                self.number(u64::from(task.0));
                self.tag(match command {
                    ChildCommand::Cancel => 0,
                    ChildCommand::Terminate => 1,
                });
                self.optional_text(reason.as_deref());
            }
            Action::CancelTask(task) => {
                self.tag(3);
                self.number(u64::from(task.0));
            }
            Action::SendEvent(event) => {
                self.tag(4);
                self.text(&event.instance_id);
                self.text(&event.name);
                self.payload(event.data.as_ref());
            }
            Action::StartInstance {
                instance_id,
                name,
                version,
                input,
                tags,
                options,
            } => {
                self.tag(5);
                self.text(instance_id);
                self.text(name);
                self.optional_text(version.as_deref());
                self.payload(input.as_ref());
                self.tags(tags);
                self.options(options);
            }
            Action::SetCustomStatus(value) => {
                self.tag(6);
                self.payload(value.as_ref());
            }
            Action::Describe(details) => {
                self.tag(7);
                self.number(u64::from(details.task.0));
                self.optional_text(details.version.as_deref());
                self.tags(&details.tags);
            }
            Action::SetValue { name, value } => {
                self.tag(20);
                self.text(name);
                self.payload(value.as_ref());
            }
            Action::SetTag { key, value } => {
                self.tag(21);
                self.text(key);
                self.optional_text(value.as_deref());
            }
            Action::SendRequest(request) => {
                self.tag(23);
                self.number(u64::from(request.task.0));
                self.text(&request.instance_id);
                self.text(&request.name);
                self.payload(request.input.as_ref());
            }
            Action::Respond { number, outcome } => {
                self.tag(24);
                self.number(u64::from(*number));
                match outcome {
                    Ok(output) => {
                        self.tag(0);
                        self.payload(output.as_ref());
                    }
                    Err(failure) => {
                        self.tag(1);
                        self.failure(failure);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActivityCall, CallOptions, Millis, TaskId, Waiting};

    fn call(name: &str, input: Option<&str>) -> Answer {
        Answer {
            actions: vec![Action::CallActivity(ActivityCall {
                task: TaskId(0),
                name: name.to_owned(),
                input: input.map(Json::from_text),
                retry: None,
                attempt_timeout: None,
                options: CallOptions::default(),
            })],
            ending: Ending::Waiting(Waiting::default()),
        }
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(
            answer_hash(&call("Pay", Some("1")), Timestamp(0)),
            7_934_455_129_576_692_981
        );
    }

    #[test]
    fn each_option_counts() {
        let mut hashes: Vec<u64> = [
            (None, false),
            (Some(1), false),
            (None, true),
            (Some(1), true),
            (Some(2), true),
        ]
        .map(|(heartbeat, at_most_once)| {
            let mut answer = call("Pay", None);
            if let [Action::CallActivity(call)] = &mut answer.actions[..] {
                call.options = CallOptions {
                    heartbeat_timeout: heartbeat.map(Millis),
                    at_most_once,
                };
            }
            answer_hash(&answer, Timestamp(0))
        })
        .to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 5);
    }

    #[test]
    fn absent_empty_and_null_are_three_things() {
        let hashes = [None, Some("\"\""), Some("null")]
            .map(|input| answer_hash(&call("Pay", input), Timestamp(0)));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    }

    #[test]
    fn what_it_waits_for_does_not_count() {
        let mut answer = call("Pay", None);
        let before = answer_hash(&answer, Timestamp(0));
        answer.ending = Ending::Waiting(Waiting {
            note: Some("the bank".to_owned()),
            ..Waiting::default()
        });
        assert_eq!(answer_hash(&answer, Timestamp(0)), before);
    }
}
