//! What an instance asked for and how it ended, with assertions.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use perennial_core::{Event, Failure as CoreFailure, Json, Status, Timestamp as CoreTimestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert;
use super::instance::{CallRecord, Instance, Recorded, outcome_of};
use super::show;
use crate::log::Level;
use crate::{Failure, Timestamp};

/// What happened to an instance. `{}` shows its history, as a failed assertion does.
#[derive(Clone)]
pub struct Report {
    all: Rc<BTreeMap<String, Recorded>>,
    id: String,
    began_at: CoreTimestamp,
    now: CoreTimestamp,
}

/// A call of an activity.
pub struct Call(CallRecord);

/// An external event that an instance sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SentEvent {
    /// The id of the receiving instance.
    pub to: String,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: serde_json::Value,
}

/// An instance that was started, as a child or without waiting for it.
#[derive(Clone, Debug, PartialEq)]
pub struct StartedInstance {
    /// Its id.
    pub id: String,
    /// The name of its orchestration.
    pub orchestration: String,
    /// Its input.
    pub input: serde_json::Value,
    /// Whether the starter waits for it.
    pub child: bool,
}

impl Report {
    pub(super) fn of(instances: &BTreeMap<String, Instance>, id: &str, now: CoreTimestamp) -> Self {
        let all = instances.iter();
        let all = all.map(|(id, instance)| (id.clone(), instance.recorded()));
        let all: BTreeMap<String, Recorded> = all.collect();
        let own = all.get(id).and_then(|one| one.executions.first());
        let began_at = own.and_then(|turns| turns.first()).map(|turn| turn.at);
        Self {
            began_at: began_at.unwrap_or(now),
            all: Rc::new(all),
            id: id.to_owned(),
            now,
        }
    }

    /// Counts times from here.
    pub(super) fn since(mut self, began_at: CoreTimestamp) -> Self {
        self.began_at = began_at;
        self
    }

    pub(super) fn own(&self) -> Option<&Recorded> {
        self.all.get(&self.id)
    }

    pub(super) fn events(&self) -> impl Iterator<Item = (CoreTimestamp, &Event)> {
        self.own().into_iter().flat_map(Recorded::events)
    }

    /// The same of another instance: a child, or one that was started without waiting for it.
    ///
    /// # Panics
    ///
    /// If there is no instance with this id.
    #[must_use]
    #[track_caller]
    pub fn instance(&self, id: &str) -> Self {
        let known: Vec<&String> = self.all.keys().collect();
        assert!(
            self.all.contains_key(id),
            "there is no instance {id:?}; there are {known:?}\n{self}"
        );
        Self {
            id: id.to_owned(),
            ..self.clone()
        }
    }

    // How it ended.

    /// The outcome, as a parent sees it. The failure of an instance that was terminated has the kind `Terminated`, also if it had not
    /// ended when its grace period was over; of one that ended because it was asked to cancel, `Canceled`; and of one whose execution
    /// timeout was over, `Timeout`.
    ///
    /// # Errors
    ///
    /// The failure of the orchestration.
    ///
    /// # Panics
    ///
    /// If it has not ended, or the output is not an `O`.
    #[track_caller]
    pub fn result<O: DeserializeOwned>(&self) -> Result<O, Failure> {
        match self.turns().find_map(outcome_of) {
            Some(Ok(output)) => Ok(self.decoded("the output", output.as_ref())),
            Some(Err(failure)) => Err(failure_of(failure)),
            None => panic!("{}\n{self}", self.why_stuck()),
        }
    }

    /// The output of an orchestration that completed.
    ///
    /// # Panics
    ///
    /// If it did not complete, or its output is not an `O`.
    #[must_use]
    #[track_caller]
    pub fn output<O: DeserializeOwned>(&self) -> O {
        match self.result() {
            Ok(output) => output,
            Err(failure) => panic!("the orchestration failed with {failure:?}\n{self}"),
        }
    }

    /// The failure of an orchestration that failed, was cancelled or was terminated; see [`result`](Self::result).
    ///
    /// # Panics
    ///
    /// If it completed, or has not ended.
    #[must_use]
    #[track_caller]
    pub fn failure(&self) -> Failure {
        match self.result::<serde_json::Value>() {
            Ok(output) => panic!("the orchestration completed with {output}\n{self}"),
            Err(failure) => failure,
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.own().is_some_and(|own| own.status.is_end())
    }

    /// By how much the simulated clock has moved since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now.since(self.began_at).0)
    }

    /// How many executions there were; continue-as-new begins another one.
    #[must_use]
    pub fn executions(&self) -> usize {
        self.own().map_or(0, |own| own.executions.len())
    }

    // What it asked for.

    /// The calls of an activity, in order.
    #[must_use]
    pub fn calls(&self, activity: &str) -> Vec<Call> {
        let calls = self.own().into_iter().flat_map(|own| &own.calls);
        let calls = calls.filter(|call| call.name == activity);
        calls.cloned().map(Call).collect()
    }

    /// The names of all called activities, in order.
    #[must_use]
    pub fn called(&self) -> Vec<&str> {
        let calls = self.own().into_iter().flat_map(|own| &own.calls);
        calls.map(|call| call.name.as_str()).collect()
    }

    /// Checks which activities were called, in which order.
    ///
    /// # Panics
    ///
    /// If others were, with the history.
    #[track_caller]
    pub fn assert_called(&self, activities: &[&str]) {
        let called = self.called();
        assert!(
            called == activities,
            "activities {called:?} were called, not {activities:?}\n{self}"
        );
    }

    /// Checks that an activity was called so often.
    ///
    /// # Panics
    ///
    /// If it was not, with the history.
    #[track_caller]
    pub fn assert_calls(&self, activity: &str, calls: usize) {
        let found = self.calls(activity).len();
        assert!(
            found == calls,
            "activity {activity:?} was called {found} times, not {calls}\n{self}"
        );
    }

    /// The timers that were set: for each, how long after the start it is due.
    #[must_use]
    pub fn timers(&self) -> Vec<Duration> {
        let timers = self.events().filter_map(|(_, event)| match event {
            Event::TimerSet { fire_at, .. } | Event::TimerSetAt { at: fire_at, .. } => {
                Some(fire_at.since(self.began_at))
            }
            _ => None,
        });
        timers.map(|span| Duration::from_millis(span.0)).collect()
    }

    /// The events that it sent to other instances.
    #[must_use]
    pub fn events_sent(&self) -> Vec<SentEvent> {
        let sent = self.events().filter_map(|(_, event)| match event {
            Event::EventSent {
                instance_id,
                name,
                data,
            } => Some(SentEvent {
                to: instance_id.clone(),
                name: name.clone(),
                data: decoded("the data of an event", data.as_ref()),
            }),
            _ => None,
        });
        sent.collect()
    }

    /// The instances that it started: children, and those that it does not wait for.
    #[must_use]
    pub fn instances_started(&self) -> Vec<StartedInstance> {
        let started = self.events().filter_map(|(_, event)| {
            let (id, orchestration, input, child) = match event {
                Event::ChildScheduled {
                    instance_id,
                    name,
                    input,
                    ..
                } => (instance_id, name, input, true),
                Event::InstanceStarted {
                    instance_id,
                    name,
                    input,
                    ..
                } => (instance_id, name, input, false),
                _ => return None,
            };
            Some(StartedInstance {
                id: id.clone(),
                orchestration: orchestration.clone(),
                input: decoded("the input of an instance", input.as_ref()),
                child,
            })
        });
        started.collect()
    }

    /// The values that the custom status had, in order; `None` where it was cleared.
    ///
    /// # Panics
    ///
    /// If one of them is not a `T`.
    #[must_use]
    #[track_caller]
    pub fn custom_statuses<T: DeserializeOwned>(&self) -> Vec<Option<T>> {
        let statuses = self.events().filter_map(|(_, event)| match event {
            Event::CustomStatusSet { value } => Some(value.as_ref()),
            _ => None,
        });
        let decode = |status: &Json| self.decoded("the custom status", Some(status));
        statuses.map(|status| status.map(decode)).collect()
    }

    /// The last custom status, if there is one.
    ///
    /// # Panics
    ///
    /// If it is not a `T`.
    #[must_use]
    #[track_caller]
    pub fn custom_status<T: DeserializeOwned>(&self) -> Option<T> {
        self.custom_statuses().pop().flatten()
    }

    /// The values that a named value had, in order; `None` where it was cleared.
    ///
    /// # Panics
    ///
    /// If one of them is not a `T`.
    #[must_use]
    #[track_caller]
    pub fn values<T: DeserializeOwned>(&self, name: &str) -> Vec<Option<T>> {
        let values = self.events().filter_map(|(_, event)| match event {
            Event::ValueSet { name: of, value } if of == name => Some(value.as_ref()),
            _ => None,
        });
        let decode = |value: &Json| self.decoded("the value", Some(value));
        values.map(|value| value.map(decode)).collect()
    }

    /// The last value of this name, if there is one.
    ///
    /// # Panics
    ///
    /// If it is not a `T`.
    #[must_use]
    #[track_caller]
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.values(name).pop().flatten()
    }

    /// The log lines of the orchestration and its activities, in order. Those of replays are left out, as on a host.
    #[must_use]
    pub fn log(&self) -> Vec<(Level, String)> {
        self.own().map(|own| own.log.clone()).unwrap_or_default()
    }

    /// All recorded events, as the core has them.
    #[doc(hidden)]
    #[must_use]
    pub fn recorded(&self) -> Vec<Event> {
        self.events().map(|(_, event)| event.clone()).collect()
    }

    /// The recorded turns of all executions, as the core has them.
    #[doc(hidden)]
    pub fn turns(&self) -> impl Iterator<Item = &perennial_core::Turn> {
        let executions = self.own().into_iter().flat_map(|own| &own.executions);
        executions.flatten()
    }

    /// Why the instance does not end.
    pub(super) fn why_stuck(&self) -> String {
        let Some(own) = self.own() else {
            return format!("instance {:?} has not started", self.id);
        };
        let who = format!("{:?} (instance {:?})", own.name, own.id);
        match own.status {
            Status::Suspended => format!(
                "{who} is suspended, and nothing resumes it: plan `Run::resume_after`, or call `give(Input::resume())`"
            ),
            _ if own.waits_for.is_empty() => format!("{who} has not ended"),
            _ => format!(
                "{who} waits for something that nothing is going to bring: {}; nothing else is due. Raise an awaited event with \
                 `Run::raise_when_waiting` or `Run::raise_after`, send a request with `Run::request_when_waiting` or `Run::request_after`",
                self.waits_of(own)
            ),
        }
    }

    /// What an instance waits for, with what its children wait for.
    fn waits_of(&self, own: &Recorded) -> String {
        let mut waits = own.waits_for.clone();
        for child in self.all.values() {
            let is_meant =
                |wait: &&mut String| wait.contains(&format!("(instance {:?})", child.id));
            if let Some(wait) = waits.iter_mut().find(is_meant)
                && child.id != own.id
                && !child.waits_for.is_empty()
            {
                wait.push_str(&format!(
                    ", which waits for {}",
                    child.waits_for.join(" and ")
                ));
            }
        }
        waits.join(" and ")
    }

    #[track_caller]
    fn decoded<T: DeserializeOwned>(&self, what: &str, json: Option<&Json>) -> T {
        let text = json.map_or("null", Json::as_str);
        serde_json::from_str(text).unwrap_or_else(|error| {
            let expected = std::any::type_name::<T>();
            panic!("{what} is {text}, and no `{expected}`: {error}\n{self}")
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.own() {
            Some(own) => show::history(f, own, self.began_at),
            None => write!(f, "instance {:?} has not started", self.id),
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Call {
    /// The name of the activity.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its input.
    ///
    /// # Panics
    ///
    /// If it is not a `T`.
    #[must_use]
    #[track_caller]
    pub fn input<T: DeserializeOwned>(&self) -> T {
        let what = format!("the input of activity {:?}", self.0.name);
        decoded(&what, self.0.input.as_ref())
    }

    /// The number of attempts that have ended.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.0.attempts.len()
    }

    /// The failures of its failed attempts, in order.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let failures = self.0.attempts.iter().filter_map(|one| one.failure.clone());
        failures.map(failure_of).collect()
    }

    /// When it was called.
    #[must_use]
    pub fn called_at(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.scheduled_at.0)
    }

    /// When each of its attempts began.
    #[must_use]
    pub fn attempts_began(&self) -> Vec<Timestamp> {
        let began = self.0.attempts.iter().map(|one| one.started_at.0);
        began.map(Timestamp::from_unix_millis).collect()
    }

    /// Whether the orchestration cancelled it before its end.
    #[must_use]
    pub fn was_canceled(&self) -> bool {
        self.0.canceled
    }

    /// Its outcome; `None` if it has not ended, or was cancelled.
    ///
    /// # Panics
    ///
    /// If its output is not an `O`.
    #[must_use]
    #[track_caller]
    pub fn result<O: DeserializeOwned>(&self) -> Option<Result<O, Failure>> {
        let what = format!("the output of activity {:?}", self.0.name);
        let outcome = self.0.outcome.clone()?;
        Some(match outcome {
            Ok(output) => Ok(decoded(&what, output.as_ref())),
            Err(failure) => Err(failure_of(failure)),
        })
    }
}

pub(super) fn failure_of(failure: CoreFailure) -> Failure {
    Failure::from_wit(convert::to_wit(failure), None)
}

/// A payload as a value of the test.
#[track_caller]
pub(super) fn decoded<T: DeserializeOwned>(what: &str, json: Option<&Json>) -> T {
    let text = json.map_or("null", Json::as_str);
    serde_json::from_str(text).unwrap_or_else(|error| {
        let expected = std::any::type_name::<T>();
        panic!("{what} is {text}, and no `{expected}`: {error}")
    })
}

/// A value of the test as a payload.
#[track_caller]
pub(super) fn encoded(value: &impl Serialize) -> Json {
    let text = serde_json::to_string(value);
    Json::from_text(
        text.unwrap_or_else(|error| {
            panic!("a value of the test cannot be written as JSON: {error}")
        }),
    )
}
