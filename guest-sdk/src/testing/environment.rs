//! The environment of a test: what runs, and how the world around it behaves.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use perennial_core::{Digest, Failure as CoreFailure, Guest, Json, Names, Resolved, kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert;
use super::exported::Exported;
use super::guest::{Log, MachineGuest, Standin, StandinGuest, message_of};
use crate::activity::{self, Heard};
use crate::bindings::activities::Invocation;
use crate::bindings::types as wit;
use crate::definition::Component;
use crate::payload::Payload;
use crate::{ActivityContext, ActivityFn, Failure, Timestamp, export, log};

/// The module that everything in an environment belongs to.
pub(super) const MODULE: Digest = Digest([0x7e; 32]);

type Mock = Rc<dyn Fn(ActivityContext) -> Result<Option<String>, Failure>>;

/// What runs in a test, and how the world around it behaves. See the [module](super).
#[derive(Clone)]
#[must_use = "an environment does nothing before `start`"]
pub struct Environment {
    pub(super) component: Component,
    mocks: BTreeMap<String, Mock>,
    standins: BTreeMap<String, Standin>,
    durations: BTreeMap<String, Duration>,
    failing: BTreeMap<String, (u32, wit::Failure)>,
    pub(super) start: Timestamp,
    pub(super) seed: u64,
    pub(super) replays: bool,
    pub(super) max_turns: usize,
}

impl Environment {
    /// An environment with these definitions: those of `export!` are [`exported!()`](crate::exported), and
    /// [`definitions!`](crate::definitions) lists others.
    pub fn of(exported: Exported) -> Self {
        Self {
            component: exported.component,
            mocks: BTreeMap::new(),
            standins: BTreeMap::new(),
            durations: BTreeMap::new(),
            failing: BTreeMap::new(),
            // 2024-01-01T00:00:00Z
            start: Timestamp::from_unix_millis(1_704_067_200_000),
            seed: 0,
            replays: true,
            max_turns: 10_000,
        }
    }

    /// Runs this closure in place of the activity with this name, which need not be defined. It takes what an exported activity may take:
    /// nothing, an input, an [`ActivityContext`], or both. Its panics are those of the test.
    pub fn activity<F, Args>(mut self, name: &str, mock: F) -> Self
    where
        F: 'static,
        for<'a> &'a F: ActivityFn<Args>,
    {
        let mock = move |context: ActivityContext| (&mock).run(context);
        self.mocks.insert(name.to_owned(), Rc::new(mock));
        self
    }

    /// Ends each instance of the orchestration with this name at once, with what this closure makes of its input. For children of other
    /// modules, and for those that have tests of their own.
    pub fn orchestration<I, O, F>(mut self, name: &str, standin: F) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(I) -> Result<O, Failure> + 'static,
    {
        let called = name.to_owned();
        let standin = move |input: Option<String>| {
            let (of, name) = ("orchestration", called.as_str());
            let input = Payload::Input { of, name }.decode(input.as_deref())?;
            let output = standin(input)?;
            Payload::Output { of, name }.encode(&output).map(Some)
        };
        self.standins.insert(name.to_owned(), Rc::new(standin));
        self
    }

    /// Each attempt of this activity takes so long by the simulated clock; without this, none takes any time. One that takes longer than
    /// its time limit fails with `Timeout`, as on a host, and one that sends no heartbeat for its `heartbeat_timeout` with
    /// `HeartbeatTimeout`. One that sends some is taken to send them in time.
    pub fn takes(mut self, activity: &str, duration: Duration) -> Self {
        self.durations.insert(activity.to_owned(), duration);
        self
    }

    /// The first `attempts` attempts of each call of this activity fail so; later ones run.
    pub fn fails_first(mut self, activity: &str, attempts: u32, failure: Failure) -> Self {
        let failing = (attempts, failure.into_wit());
        self.failing.insert(activity.to_owned(), failing);
        self
    }

    /// The time at which the clock stands at first: 2024-01-01T00:00:00Z unless it is set.
    pub fn starts_at(mut self, time: Timestamp) -> Self {
        self.start = time;
        self
    }

    /// Random numbers and identifiers follow from this; 0 unless it is set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps each execution in memory. Without this, it is dropped after each of its first 64 turns, then after ever fewer, and restored
    /// by a replay on a fresh one; a test fails if the replay asks for anything else than is recorded.
    pub fn without_replay(mut self) -> Self {
        self.replays = false;
        self
    }

    /// A test fails when an environment has run so many turns; 10,000 unless it is set. It has looped then.
    pub fn max_turns(mut self, turns: usize) -> Self {
        self.max_turns = turns;
        self
    }

    /// Makes the guest of an instance.
    pub(super) fn guest(&self, orchestration: &str, log: &Log) -> Box<dyn Guest> {
        match self.standins.get(orchestration) {
            Some(standin) => Box::new(StandinGuest(Rc::clone(standin))),
            None => Box::new(MachineGuest::new(self.component, Rc::clone(log))),
        }
    }

    pub(super) fn duration_of(&self, activity: &str) -> Duration {
        self.durations.get(activity).copied().unwrap_or_default()
    }

    /// Names of the activities, for what was probably meant by another.
    pub(super) fn activity_names(&self) -> impl Iterator<Item = &str> {
        let defined = self.component.activities.iter().map(|known| known.name);
        defined.chain(self.mocks.keys().map(String::as_str))
    }

    /// Names of the orchestrations.
    pub(super) fn orchestration_names(&self) -> impl Iterator<Item = &str> {
        let defined = self.component.orchestrations.iter().map(|known| known.name);
        defined.chain(self.standins.keys().map(String::as_str))
    }

    /// Runs an attempt, and puts what it logs into the log of the instance. Its outcome, and its heartbeats.
    pub(super) fn attempt(
        &self,
        invocation: Invocation,
        log: &Log,
    ) -> (Result<Option<Json>, CoreFailure>, Heard) {
        if let Some((attempts, failure)) = self.failing.get(&invocation.name)
            && invocation.attempt <= *attempts
        {
            return (Err(convert::of_wit(failure.clone())), Heard::Nothing);
        }
        let run = || match self.mocks.get(&invocation.name) {
            Some(mock) => Ok(mock(ActivityContext::new(invocation))),
            None => catch_unwind(AssertUnwindSafe(|| {
                export::run(self.component.activities, invocation)
                    .map_err(|failure| Failure::from_wit(failure, None))
            })),
        };
        let ((outcome, heard), written) = log::collect(|| activity::listen(run));
        log.borrow_mut().extend(written);
        let outcome = match outcome {
            Ok(Ok(output)) => Ok(convert::json(output)),
            Ok(Err(failure)) => Err(convert::of_wit(failure.into_wit())),
            Err(panic) => Err(CoreFailure::retryable(kind::PANIC, message_of(&*panic))),
        };
        (outcome, heard)
    }
}

impl Names for Environment {
    fn can_cancel(&self, _: Option<Digest>) -> bool {
        true
    }

    fn activity(&self, _: Option<Digest>, name: &str) -> Resolved {
        if self.activity_names().any(|known| known == name) {
            Resolved::Module(MODULE, None)
        } else {
            Resolved::Unknown
        }
    }

    fn orchestration(&self, _: Option<Digest>, name: &str, version: Option<&str>) -> Resolved {
        if self.standins.contains_key(name) {
            return Resolved::Module(MODULE, version.map(str::to_owned));
        }
        let mut known = self.component.orchestrations.iter();
        match known.find(|known| known.matches(name, version)) {
            Some(found) => Resolved::Module(MODULE, found.version.map(str::to_owned)),
            None => Resolved::Unknown,
        }
    }
}
