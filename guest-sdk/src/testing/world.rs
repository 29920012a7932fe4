//! The simulated world: instances, the clock, and what is due when.

use std::collections::{BTreeMap, VecDeque};

use perennial_core::{
    CANCELLATION_GRACE, Envelope, Event, Failure, InstanceOptions, Json, Limits, Message,
    SEMANTICS_VERSION, Start, State, TaskId, TaskRef, Timestamp, Turn, TurnContext, replay_turn,
    run_turn, take_batch,
};

use super::environment::{Environment, MODULE};
use super::instance::{Instance, OpenActivity};
use super::report::Report;
use crate::random::SplitMix64;

/// An execution is replayed after each of so many turns, and then after ever fewer.
const REPLAYED_ALWAYS: usize = 64;

/// What happens at its time.
pub(super) enum What {
    /// A message arrives.
    Arrives(Message),
    /// An attempt of an activity begins.
    AttemptBegins(TaskRef),
    /// An attempt of an activity ends.
    AttemptEnds {
        task: TaskRef,
        started_at: Timestamp,
        outcome: Result<Option<Json>, Failure>,
    },
    /// A timer fires.
    Fires(TaskRef),
    /// The next attempt of a child begins.
    ChildBegins(TaskRef, u32),
    /// The time limit of the instance is over.
    LimitIsOver,
    /// The time to clean up is over that a cancellation gave this execution.
    GraceIsOver { execution: u32, generation: u32 },
}

/// What is due, and when.
struct Due {
    at: Timestamp,
    seq: u64,
    instance: String,
    /// Which of the instances that had this id; see [`Instance::serial`].
    serial: u64,
    what: What,
}

pub(super) struct World {
    pub(super) environment: Environment,
    pub(super) now: Timestamp,
    pub(super) instances: BTreeMap<String, Instance>,
    due: Vec<Due>,
    /// Instances with mail.
    ready: VecDeque<String>,
    next_seq: u64,
    /// How many requests of clients there were.
    pub(super) requests: u64,
    pub(super) fresh: Fresh,
    turns: usize,
}

/// Makes the ids and seeds of executions.
pub(super) struct Fresh {
    random: SplitMix64,
    count: u64,
}

impl Fresh {
    pub(super) fn next(&mut self) -> (String, u64) {
        self.count += 1;
        let id = format!("00000000-0000-7000-8000-{:012x}", self.count);
        (id, self.random.next_u64())
    }
}

impl World {
    pub(super) fn new(environment: Environment) -> Self {
        Self {
            now: Timestamp(environment.start.as_unix_millis()),
            fresh: Fresh {
                random: SplitMix64::new(environment.seed),
                count: 0,
            },
            environment,
            instances: BTreeMap::new(),
            due: Vec::new(),
            ready: VecDeque::new(),
            next_seq: 0,
            requests: 0,
            turns: 0,
        }
    }

    /// Starts an instance that nobody calls.
    pub(super) fn start(
        &mut self,
        id: &str,
        (name, version): (&str, Option<String>),
        (input, tags): (Option<Json>, perennial_core::Tags),
        options: InstanceOptions,
    ) {
        let (execution_id, seed) = self.fresh.next();
        let start = Start {
            instance_id: id.to_owned(),
            execution_id,
            execution: 0,
            name: name.to_owned(),
            version,
            input,
            parent: None,
            tags,
            trace_parent: None,
            seed,
            module: Some(MODULE),
            limits: Limits::default(),
            next_external: 0,
            semantics: SEMANTICS_VERSION,
            accepted_at: self.now,
            scheduled_for: None,
        };
        self.add(start, options);
    }

    pub(super) fn add(&mut self, start: Start, options: InstanceOptions) {
        let id = start.instance_id.clone();
        let parent = start.parent.as_ref();
        let parent_serial = parent.and_then(|parent| self.serial(&parent.instance_id));
        let serial = self.next_seq;
        self.next_seq += 1;
        let instance = Instance::new(
            start,
            self.now,
            (serial, parent_serial),
            options.when_dropped,
        );
        self.instances.insert(id.clone(), instance);
        if let Some(limit) = options.execution_timeout {
            // It is that of the instance: its executions come and go.
            self.at(self.now.after(limit), &id, What::LimitIsOver);
        }
        self.ready.push_back(id);
    }

    /// Lets something happen to an instance at a time.
    pub(super) fn at(&mut self, at: Timestamp, instance: &str, what: What) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let Some(serial) = self.serial(instance) else {
            return;
        };
        let instance = instance.to_owned();
        self.due.push(Due {
            at,
            seq,
            instance,
            serial,
            what,
        });
    }

    pub(super) fn serial(&self, id: &str) -> Option<u64> {
        Some(self.instances.get(id)?.serial)
    }

    /// Puts a message into the mail of a live instance. Whether it is live.
    pub(super) fn deliver(&mut self, id: &str, message: Message) -> bool {
        let now = self.now;
        let live = self.instances.get_mut(id);
        let Some(instance) = live.filter(|instance| !instance.state.has_ended()) else {
            return false;
        };
        instance.mail.push_back(Envelope::came(message, now));
        self.ready.push_back(id.to_owned());
        true
    }

    /// Does everything that can be done without moving the clock.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(id) = self.ready.pop_front() {
                while self.turn(&id) {}
            }
            let now = self.now;
            if self.next_due().is_none_or(|at| at > now) {
                return;
            }
            self.happen();
        }
    }

    /// Moves the clock, without letting anything happen.
    pub(super) fn set_clock(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// When the next thing is due.
    pub(super) fn next_due(&mut self) -> Option<Timestamp> {
        let instances = &self.instances;
        self.due.retain(|due| is_current(instances, due));
        self.due.iter().map(|due| due.at).min()
    }

    /// Lets everything happen that is due by now, in order.
    fn happen(&mut self) {
        let now = self.now;
        let is_due = |due: &mut Due| due.at <= now;
        let mut due: Vec<Due> = self.due.extract_if(.., is_due).collect();
        due.sort_by_key(|due| (due.at, due.seq));
        for due in due {
            if is_current(&self.instances, &due) {
                self.one_happens(due);
            }
        }
    }

    fn one_happens(&mut self, due: Due) {
        let Due {
            at, instance, what, ..
        } = due;
        let message = match what {
            What::Arrives(message @ Message::Request { .. }) => {
                return self.asked(&instance, message);
            }
            What::Arrives(message) => message,
            What::Fires(task) => Message::TimerFired { task },
            What::ChildBegins(task, attempt) => Message::ChildDue { task, attempt },
            What::LimitIsOver => Message::TimeLimit {
                grace: CANCELLATION_GRACE,
            },
            What::GraceIsOver {
                execution,
                generation,
            } => Message::GraceOver {
                execution,
                generation,
            },
            What::AttemptBegins(task) => return self.attempt_begins(&instance, task),
            What::AttemptEnds {
                task,
                started_at,
                outcome,
            } => return self.attempt_ends(&instance, task, started_at, outcome),
        };
        if let Some(to) = self.instances.get_mut(&instance) {
            to.mail.push_back(Envelope::came(message, at));
            self.ready.push_back(instance);
        }
    }

    /// Runs the next turn of an instance. Whether it had messages for one.
    fn turn(&mut self, id: &str) -> bool {
        let (now, environment) = (self.now, &self.environment);
        let Some(instance) = self.instances.get_mut(id) else {
            return false;
        };
        if instance.state.has_ended() {
            instance.mail.clear();
            return false;
        }
        let batch = take_batch(&instance.state, &mut instance.mail, now);
        if batch.envelopes.is_empty() {
            return false;
        }
        let messages = batch.envelopes.into_iter().map(|one| one.message).collect();
        let fresh = &mut self.fresh;
        let mut context = TurnContext {
            now,
            names: environment,
            fresh: &mut || fresh.next(),
        };
        let guest = instance
            .guest
            .get_or_insert_with(|| environment.guest(&instance.name, &instance.log));
        let turn = run_turn(&mut instance.state, messages, &mut context, guest.as_mut());
        let turn = turn.unwrap_or_else(|error| panic!("the test kit made a wrong turn: {error}"));
        let Some(turn) = turn else { return true };
        self.turns += 1;
        instance.turns.push(turn.clone());
        assert!(
            self.turns <= environment.max_turns,
            "instance {id:?} goes on after {} turns; if it is meant to, drive it with `Run::advance`, or set `Environment::max_turns`\n{}",
            environment.max_turns,
            Report::of(&self.instances, id, now),
        );
        self.replay(id);
        self.follow(id, &turn);
        true
    }

    /// Drops the guest of an instance, as a crash would, and restores it by a replay.
    fn replay(&mut self, id: &str) {
        let environment = &self.environment;
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let turns = instance.turns.len();
        let sparse = (turns / REPLAYED_ALWAYS).next_power_of_two();
        let has_ended = instance.state.has_ended();
        if !environment.replays || !(turns.is_multiple_of(sparse) || has_ended) {
            return;
        }
        let mut guest = environment.guest(&instance.name, &instance.log);
        let mut state = State::new(instance.state.generation);
        for turn in &instance.turns {
            if let Err(error) = replay_turn(&mut state, turn, guest.as_mut()) {
                let (name, now) = (instance.name.clone(), self.now);
                panic!(
                    "{name:?} is not deterministic: replayed after turn {}, {error}. An orchestration may only depend on what its `Context` \
                     gives it; natively, the time of the system, random numbers and the order of a `HashMap` differ each time\n{}",
                    turns - 1,
                    Report::of(&self.instances, id, now),
                );
            }
        }
        instance.guest = Some(guest);
        instance.state = state;
    }

    /// Does what follows from a turn, as a host does after its commit.
    fn follow(&mut self, id: &str, turn: &Turn) {
        // First, as on a host: what the turn asks for begins after that.
        let ended = |one: &Instance| one.state.has_ended() && one.state.binds_children;
        if self.instances.get(id).is_some_and(ended) {
            self.release_children(id);
        }
        let next = turn.produced.iter().skip(1).map(Some).chain([None]);
        for (event, next) in turn.produced.iter().zip(next) {
            self.follow_event(id, turn, (event, next));
        }
        for event in &turn.received {
            match event {
                Event::ChildRetryScheduled {
                    task, attempt, at, ..
                } => {
                    if let Some(task) = self.task(id, *task) {
                        self.at(*at, id, What::ChildBegins(task, *attempt));
                    }
                }
                Event::ChildRetried { task, attempt, .. } => {
                    self.start_again(id, *task, *attempt);
                }
                Event::CancellationRequested(asked) => {
                    let state = self.instances.get(id).map(|one| &one.state);
                    let over = state.map(|state| What::GraceIsOver {
                        execution: state.execution(),
                        generation: state.generation,
                    });
                    if let Some(over) = over {
                        self.at(turn.due(asked.deadline), id, over);
                    }
                }
                _ => {}
            }
        }
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if let Some(next) = &turn.next {
            continue_as_new(instance, turn, next, self.now);
            self.ready.push_back(id.to_owned());
        } else if instance.state.has_ended() {
            self.ended(id, turn);
        }
    }

    /// Does what follows from an event that a turn produced, with the event after it, which may say more of the same.
    fn follow_event(&mut self, id: &str, turn: &Turn, (event, next): (&Event, Option<&Event>)) {
        match event {
            Event::ActivityScheduled { task, .. } => {
                let Some(instance) = self.instances.get_mut(id) else {
                    return;
                };
                if instance.schedule(*task, (event, next), turn.at) {
                    let task = instance.task(*task);
                    self.at(turn.at, id, What::AttemptBegins(task));
                }
            }
            Event::TimerSet { task, fire_at } => {
                if let Some(task) = self.task(id, *task) {
                    self.at(turn.due(*fire_at), id, What::Fires(task));
                }
            }
            Event::TimerSetAt { task, at } => {
                if let Some(task) = self.task(id, *task) {
                    self.at(*at, id, What::Fires(task));
                }
            }
            Event::ChildScheduled { .. } | Event::InstanceStarted { .. } => {
                self.start_asked(id, event, next);
            }
            Event::ChildCommanded {
                instance_id,
                command,
                reason,
                ..
            } => {
                let reason = reason.clone();
                let reason =
                    reason.unwrap_or_else(|| format!("its parent {id:?} no longer waits for it"));
                self.command_child(id, instance_id, *command, Some(reason));
            }
            Event::EventSent {
                instance_id,
                name,
                data,
            } => {
                let (name, data) = (name.clone(), data.clone());
                let message = Message::ExternalEvent {
                    number: None,
                    name,
                    data,
                };
                // As on a host, an event for nobody is lost.
                self.deliver(instance_id, message);
            }
            Event::TaskCanceled { task } => {
                if let Some(instance) = self.instances.get_mut(id) {
                    instance.cancel(*task);
                }
            }
            Event::ExecutionReturned { .. } => {
                // No new attempt starts after the return.
                let given_up = self.instances.get_mut(id).map(Instance::give_up_retries);
                for message in given_up.into_iter().flatten() {
                    self.deliver(id, message);
                }
            }
            _ => self.follow_request(id, event),
        }
    }

    pub(super) fn task(&self, id: &str, task: TaskId) -> Option<TaskRef> {
        Some(self.instances.get(id)?.task(task))
    }

    /// Sees to the mail of an instance.
    pub(super) fn wake(&mut self, id: &str) {
        self.ready.push_back(id.to_owned());
    }

    /// The open activity of a task, with its instance.
    pub(super) fn activity(
        &mut self,
        id: &str,
        task: TaskId,
    ) -> Option<(&mut Instance, OpenActivity)> {
        let instance = self.instances.get_mut(id)?;
        let activity = instance.activities.remove(&task)?;
        Some((instance, activity))
    }
}

/// Whether what is due still concerns anybody.
fn is_current(instances: &BTreeMap<String, Instance>, due: &Due) -> bool {
    let Some(instance) = instances.get(&due.instance) else {
        return false;
    };
    if instance.state.has_ended() || instance.serial != due.serial {
        return false;
    }
    match &due.what {
        What::Arrives(_) | What::LimitIsOver => true,
        What::GraceIsOver { execution, .. } => {
            let running = instance.state.running();
            *execution == instance.state.execution()
                && running.is_some_and(|running| running.cancellation.is_some())
        }
        What::Fires(task) => instance.is_open(*task),
        What::ChildBegins(task, attempt) => {
            let child = instance.state.child(task.task);
            instance.is_open(*task)
                && child.is_some_and(|child| child.attempt == *attempt && child.due.is_some())
        }
        What::AttemptBegins(task) | What::AttemptEnds { task, .. } => {
            instance.is_open(*task) && instance.activities.contains_key(&task.task)
        }
    }
}

/// Begins the next execution of an instance, before the messages that wait already.
fn continue_as_new(instance: &mut Instance, turn: &Turn, next: &Start, now: Timestamp) {
    let turns = std::mem::take(&mut instance.turns);
    let status = instance.state.custom_status.clone();
    let mut first = vec![Message::Start(Box::new(next.clone()))];
    first.extend(status.map(|value| Message::CustomStatus { value }));
    if !instance.state.values.is_empty() {
        let values = instance.state.values.clone().into_iter().collect();
        first.push(Message::Values { values });
    }
    if let Some(Event::ContinuedAsNew { carry_over, .. }) = turn.produced.last() {
        let mut carried = BTreeMap::new();
        let received = turns.iter().flat_map(|turn| &turn.received);
        for message in received.filter_map(Message::carried_over) {
            if let Message::ExternalEvent { number, .. } | Message::Request { number, .. } = message
                && number.is_some_and(|number| carry_over.contains(&number))
            {
                carried.insert(number, message);
            }
        }
        first.extend(carried.into_values());
    }
    for message in first.into_iter().rev() {
        instance.mail.push_front(Envelope::came(message, now));
    }
    instance.past.push(turns);
    instance.state = State::new(0);
    instance.guest = None;
    instance.activities.clear();
}
