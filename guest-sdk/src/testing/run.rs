//! Drives an instance: what happens to it when, and how time passes.

use std::time::Duration;

use perennial_core::{
    CANCELLATION_GRACE, InstanceOptions, Json, Message, Millis, Tags, Timestamp as CoreTimestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::environment::Environment;
use super::instance::Instance;
use super::report::{Report, decoded, encoded};
use super::world::{What, World};
use crate::Timestamp;
use crate::time::millis;

/// Something that is done to an instance from outside, as a client does.
#[derive(Clone, Debug)]
pub struct Input(pub(super) Message);

impl Input {
    /// Raises an external event.
    ///
    /// # Panics
    ///
    /// If serde cannot write the data.
    #[must_use]
    pub fn raise(name: impl Into<String>, data: impl Serialize) -> Self {
        Self(Message::ExternalEvent {
            number: None,
            name: name.into(),
            data: Some(encoded(&data)),
        })
    }

    /// Asks the instance to end in good order, for this reason: what it awaits fails with `Canceled`, and it has a
    /// [grace period](Self::grace) to clean up, after which it is terminated.
    #[must_use]
    pub fn cancel(reason: impl Into<String>) -> Self {
        Self(Message::Cancel {
            reason: Some(reason.into()),
            grace: CANCELLATION_GRACE,
            recursive: false,
        })
    }

    /// How long a cancelled instance has to clean up before it is terminated; a minute by default. Means nothing for other inputs.
    #[must_use]
    pub fn grace(mut self, time: Duration) -> Self {
        if let Message::Cancel { grace, .. } = &mut self.0 {
            *grace = Millis(millis(time));
        }
        self
    }

    /// Suspends the instance.
    #[must_use]
    pub fn suspend() -> Self {
        Self(Message::Suspend {
            reason: None,
            recursive: false,
        })
    }

    /// Resumes the instance.
    #[must_use]
    pub fn resume() -> Self {
        Self(Message::Resume {
            reason: None,
            module: None,
            recursive: false,
        })
    }

    /// Terminates the instance, for this reason.
    #[must_use]
    pub fn terminate(reason: impl Into<String>) -> Self {
        Self(Message::Terminate {
            reason: Some(reason.into()),
            recursive: false,
        })
    }
}

type Condition = Box<dyn Fn(&Moment<'_>) -> bool>;

/// An instance that is started in an [`Environment`]. Methods that take `self` plan what happens to it, and [`finish`](Self::finish) runs
/// it to its end; those that take `&mut self` drive it step by step, with the clock in your hands.
#[must_use = "nothing runs before `finish`, `settle` or `advance`"]
pub struct Run {
    pub(super) world: World,
    id: String,
    /// What the start says, until it happens.
    start: Option<PlannedStart>,
    began_at: CoreTimestamp,
    planned: Vec<(Condition, Input)>,
}

struct PlannedStart {
    name: String,
    version: Option<String>,
    input: Json,
    tags: Tags,
    options: InstanceOptions,
    inputs: Vec<(Duration, Input)>,
}

impl Environment {
    /// An instance of the orchestration with this name. It starts when the returned value is driven.
    ///
    /// # Panics
    ///
    /// If serde cannot write the input.
    pub fn start(&self, orchestration: &str, input: impl Serialize) -> Run {
        let world = World::new(self.clone());
        Run {
            began_at: world.now,
            world,
            id: "test".to_owned(),
            start: Some(PlannedStart {
                name: orchestration.to_owned(),
                version: None,
                input: encoded(&input),
                tags: Tags::new(),
                options: InstanceOptions::default(),
                inputs: Vec::new(),
            }),
            planned: Vec::new(),
        }
    }
}

impl Run {
    fn planned_start(&mut self, what: &str) -> &mut PlannedStart {
        let start = self.start.as_mut();
        start.unwrap_or_else(|| panic!("{what} comes too late: the instance has started"))
    }

    /// The id of the instance; `test` unless it is set.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.planned_start("`id`");
        self.id = id.into();
        self
    }

    /// A version of the orchestration, instead of any.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.planned_start("`version`").version = Some(version.into());
        self
    }

    /// A tag of the instance.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let tags = &mut self.planned_start("`tag`").tags;
        tags.push((key.into(), value.into()));
        self
    }

    /// Asks the instance to cancel so long after its start; it then fails with [`Timeout`](crate::kind::TIMEOUT).
    pub fn execution_timeout(mut self, limit: Duration) -> Self {
        let options = &mut self.planned_start("`execution_timeout`").options;
        options.execution_timeout = Some(Millis(millis(limit)));
        self
    }

    /// Does this so long after the start.
    pub fn after(mut self, time: Duration, input: Input) -> Self {
        self.planned_start("`after`").inputs.push((time, input));
        self
    }

    /// Does this once, as soon as the condition holds and nothing else is left to do at that moment.
    pub fn when(mut self, condition: impl Fn(&Moment<'_>) -> bool + 'static, input: Input) -> Self {
        self.planned.push((Box::new(condition), input));
        self
    }

    /// Raises an event so long after the start.
    pub fn raise_after(self, time: Duration, name: &str, data: impl Serialize) -> Self {
        self.after(time, Input::raise(name, data))
    }

    /// Raises an event as soon as the instance waits for one of this name. Given several times, once for each.
    pub fn raise_when_waiting(self, name: &str, data: impl Serialize) -> Self {
        let awaited = name.to_owned();
        self.when(
            move |moment| moment.waits_for(&awaited),
            Input::raise(name, data),
        )
    }

    /// Suspends the instance so long after its start.
    pub fn suspend_after(self, time: Duration) -> Self {
        self.after(time, Input::suspend())
    }

    /// Resumes the instance so long after its start.
    pub fn resume_after(self, time: Duration) -> Self {
        self.after(time, Input::resume())
    }

    /// Asks the instance to cancel so long after its start, with a grace period of a minute; [`Input::grace`] gives it another one.
    pub fn cancel_after(self, time: Duration, reason: &str) -> Self {
        self.after(time, Input::cancel(reason))
    }

    /// Terminates the instance so long after its start.
    pub fn terminate_after(self, time: Duration, reason: &str) -> Self {
        self.after(time, Input::terminate(reason))
    }

    /// Runs the instance to its end; time skips to whatever is due next.
    ///
    /// # Panics
    ///
    /// If it waits for something that can never come, if it does not repeat itself in a replay, or if it goes on for too many turns. The
    /// message has its history.
    #[track_caller]
    pub fn finish(mut self) -> Report {
        self.settle();
        while !self.has_ended() {
            if !self.skip(None) {
                let report = self.report();
                panic!("{}\n{report}", report.why_stuck());
            }
        }
        self.report()
    }

    /// Runs everything that can run without moving the clock.
    pub fn settle(&mut self) {
        self.begin();
        loop {
            self.world.settle();
            let moment = self.moment();
            let next = self.planned.iter().position(|(holds, _)| holds(&moment));
            let Some(next) = next else { return };
            let (_, Input(message)) = self.planned.remove(next);
            self.world.asked(&self.id, message);
        }
    }

    /// Moves the clock by so much, and runs what comes due meanwhile, each at its time.
    pub fn advance(&mut self, time: Duration) {
        self.settle();
        let until = CoreTimestamp(self.world.now.0.saturating_add(millis(time)));
        while self.skip(Some(until)) {}
        self.world.set_clock(until);
        self.settle();
    }

    /// Moves the clock to this time, as [`advance`](Self::advance) does.
    pub fn advance_to(&mut self, time: Timestamp) {
        self.advance(time.since(self.now()));
    }

    /// Does this to the instance now, and runs what follows.
    pub fn give(&mut self, input: Input) {
        let id = self.id.clone();
        self.give_to(&id, input);
    }

    /// Does this to any instance now, such as a child, and runs what follows.
    pub fn give_to(&mut self, id: &str, Input(message): Input) {
        self.settle();
        self.world.asked(id, message);
        self.settle();
    }

    /// Raises an event now, and runs what follows.
    pub fn raise(&mut self, name: &str, data: impl Serialize) {
        self.give(Input::raise(name, data));
    }

    /// Whether the instance has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.moment().has_ended()
    }

    /// Whether it waits for an event with this name.
    #[must_use]
    pub fn waits_for(&self, event: &str) -> bool {
        self.moment().waits_for(event)
    }

    /// The time of the simulated clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.world.now.0)
    }

    /// What has happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::of(&self.world.instances, &self.id, self.world.now).since(self.began_at)
    }

    pub(super) fn moment(&self) -> Moment<'_> {
        Moment {
            instance: self.world.instances.get(&self.id),
            now: self.now(),
        }
    }

    fn begin(&mut self) {
        let Some(start) = self.start.take() else {
            return;
        };
        let called = (start.name.as_str(), start.version);
        let given = (Some(start.input), start.tags);
        self.world.start(&self.id, called, given, start.options);
        for (time, Input(message)) in start.inputs {
            let at = CoreTimestamp(self.world.now.0.saturating_add(millis(time)));
            self.world.at(at, &self.id, What::Arrives(message));
        }
    }

    /// Moves the clock to the next thing that is due, unless that is later than a time, and runs it. Whether there was one.
    fn skip(&mut self, until: Option<CoreTimestamp>) -> bool {
        let next = self.world.next_due();
        let Some(next) = next.filter(|next| until.is_none_or(|until| *next <= until)) else {
            return false;
        };
        self.world.set_clock(next);
        self.settle();
        true
    }
}

/// What a condition sees of an instance; see [`Run::when`].
pub struct Moment<'a> {
    pub(super) instance: Option<&'a Instance>,
    now: Timestamp,
}

impl Moment<'_> {
    /// The time of the simulated clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether it waits for an event with this name.
    #[must_use]
    pub fn waits_for(&self, event: &str) -> bool {
        self.instance
            .is_some_and(|instance| instance.waits_for_event(event))
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.instance
            .is_some_and(|instance| instance.state.has_ended())
    }

    /// How often it has called this activity.
    #[must_use]
    pub fn calls(&self, activity: &str) -> usize {
        let calls = self.instance.into_iter().flat_map(|one| &one.calls);
        calls.filter(|call| call.name == activity).count()
    }

    /// Its custom status, if there is one.
    ///
    /// # Panics
    ///
    /// If it is not a `T`.
    #[must_use]
    pub fn custom_status<T: DeserializeOwned>(&self) -> Option<T> {
        let status = self.instance?.state.custom_status.as_ref()?;
        Some(decoded("the custom status", Some(status)))
    }

    /// Its value of this name, if there is one.
    ///
    /// # Panics
    ///
    /// If it is not a `T`.
    #[must_use]
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.instance?.state.values.get(name)?;
        Some(decoded("the value", Some(value)))
    }
}
