//! Everything that comes due: timers, attempts to be tried again, instances whose commit failed.
//!
//! The hub has them all, by time. Memory holds those that come first, up to a bound, and reads on when it has fired them.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial_core::{TaskRef, Timestamp};

use crate::engine::clock::Clock;
use crate::store::{InstanceKey, Reader, StoreError, TaskRow, TaskRowKind};

/// Timers held in memory: about 10 MiB of them. Few in the tests of this crate, so that they go beyond what memory holds.
const HELD_MAX: usize = if cfg!(test) { 40 } else { 50_000 };

/// How many are read at once.
const PAGE: u32 = if cfg!(test) { 16 } else { 10_000 };

/// How long the thread waits before it looks again into a hub that could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Fired at once, so that the thread looks at the clock and at its orders now and then.
const FIRED_AT_ONCE_MAX: usize = 1_000;

/// What comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A timer of the guest.
    Timer(TaskRef),
    /// The next attempt of an activity.
    Activity(TaskRef),
    /// The next try of a child.
    Child(TaskRef, u32),
    /// The start of an instance.
    Start,
    /// An instance that could not go on, for a reason that may have passed.
    Wake,
    /// Instances that have been kept long enough. It belongs to none of them.
    Retain,
}

/// A place in the order in which things come due.
type Place = (Timestamp, InstanceKey, i64);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: BTreeMap<Place, Held>,
    /// Where each is, so that it can be taken out.
    places: BTreeMap<(InstanceKey, i64), Timestamp>,
    /// What comes at this place or later is only in the hub; `None` if memory has everything.
    horizon: Option<Place>,
    stopped: bool,
    jumps: u64,
}

/// Something that memory holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    due: Due,
    /// Whether the hub has it too, at this time.
    in_hub: bool,
}

impl State {
    fn add(&mut self, place: Place, held: Held) {
        if held.in_hub && self.horizon.is_some_and(|horizon| place >= horizon) {
            return;
        }
        if let Some(before) = self.places.insert((place.1, place.2), place.0) {
            self.held.remove(&(before, place.1, place.2));
        }
        self.held.insert(place, held);
        self.keep(HELD_MAX);
    }

    /// Forgets those that come last, beyond so many, and moves the horizon before them.
    fn keep(&mut self, max: usize) {
        while self.held.len() > max
            && let Some((last, _)) = self.held.iter().rev().find(|(_, held)| held.in_hub)
        {
            let last = *last;
            self.held.remove(&last);
            self.places.remove(&(last.1, last.2));
            self.horizon = Some(last);
        }
    }

    /// What comes at this place or later is only in the hub from now on, unless memory already has less.
    fn set_horizon(&mut self, horizon: Place) {
        let horizon = self.horizon.map_or(horizon, |before| before.min(horizon));
        self.horizon = Some(horizon);
        let beyond: Vec<Place> = self
            .held
            .range(horizon..)
            .filter(|(_, held)| held.in_hub)
            .map(|(place, _)| *place)
            .collect();
        for place in beyond {
            self.held.remove(&place);
            self.places.remove(&(place.1, place.2));
        }
    }

    fn remove(&mut self, key: InstanceKey, task: i64) {
        if let Some(at) = self.places.remove(&(key, task)) {
            self.held.remove(&(at, key, task));
        }
    }
}

/// Where a [`Due::Wake`] stands among the tasks of its instance.
const WAKE: i64 = -1;

/// Where a [`Due::Start`] stands among the tasks of its instance.
const START: i64 = u32::MAX as i64;

impl Timers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something that is in the hub, at this time.
    pub(crate) fn add(&self, at: Timestamp, key: InstanceKey, due: Due) {
        self.hold(at, key, due, true);
    }

    /// Adds several at once: those that are due already fire in their order too.
    pub(crate) fn add_all(&self, rows: &[TaskRow]) {
        let mut state = self.state();
        for row in rows {
            if let (Some(place), Some(due)) = (place_of(row), due_of(row)) {
                state.add(place, Held { due, in_hub: true });
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Adds the timers of one turn together, so that those that are due already fire in their order, and not in that of their tasks.
    pub(crate) fn add_turn(&self, key: InstanceKey, timers: &[(Timestamp, TaskRef)]) {
        if timers.is_empty() {
            return;
        }
        let mut state = self.state();
        for (at, task) in timers {
            let due = Due::Timer(*task);
            let place = (*at, key, i64::from(task.task.0));
            state.add(place, Held { due, in_hub: true });
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Adds something of which the hub knows nothing, or another time.
    pub(crate) fn try_again(&self, at: Timestamp, key: InstanceKey, due: Due) {
        self.hold(at, key, due, false);
    }

    fn hold(&self, at: Timestamp, key: InstanceKey, due: Due, in_hub: bool) {
        let task = match due {
            Due::Timer(task) | Due::Activity(task) | Due::Child(task, _) => i64::from(task.task.0),
            Due::Start => START,
            Due::Wake | Due::Retain => WAKE,
        };
        let mut state = self.state();
        let place = (at, key, task);
        let is_first = state
            .held
            .first_key_value()
            .is_none_or(|(first, _)| place < *first);
        state.add(place, Held { due, in_hub });
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Takes out a task that was cancelled.
    pub(crate) fn remove(&self, key: InstanceKey, task: perennial_core::TaskId) {
        self.state().remove(key, i64::from(task.0));
    }

    /// Takes out everything of an instance.
    pub(crate) fn remove_instance(&self, key: InstanceKey) {
        let mut state = self.state();
        let tasks: Vec<i64> = state
            .places
            .range((key, i64::MIN)..=(key, i64::MAX))
            .map(|((_, task), _)| *task)
            .collect();
        tasks.into_iter().for_each(|task| state.remove(key, task));
    }

    /// The clock jumped.
    pub(crate) fn jumped(&self) {
        self.state().jumps += 1;
        self.changed.notify_one();
    }

    /// Ends [`run`](Self::run).
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_one();
    }

    /// Reads the first page.
    pub(crate) fn load(&self, reader: &Reader) -> Result<(), StoreError> {
        self.read_on(reader, (Timestamp(0), InstanceKey(i64::MIN), i64::MIN))?;
        self.changed.notify_one();
        Ok(())
    }

    fn read_on(&self, reader: &Reader, after: Place) -> Result<(), StoreError> {
        // What is added meanwhile beyond the new horizon is in the hub, and what is added before it goes into memory: the horizon is
        // moved before the page is read.
        self.state().horizon = None;
        let rows = reader.due_tasks(after, PAGE)?;
        let mut state = self.state();
        let full = rows.len() >= PAGE as usize;
        let last = rows.last().and_then(place_of);
        for row in &rows {
            if let (Some(place), Some(due)) = (place_of(row), due_of(row)) {
                state.add(place, Held { due, in_hub: true });
            }
        }
        if full && let Some((at, key, task)) = last {
            // What was added meanwhile beyond this page would hide what the hub has before it.
            state.set_horizon((at, key, task + 1));
        }
        Ok(())
    }

    /// Fires what comes due, in order, until stopped. `fire` is called on this thread without any lock.
    pub(crate) fn run(
        &self,
        clock: &dyn Clock,
        reader: &Reader,
        mut fire: impl FnMut(InstanceKey, Due),
    ) {
        loop {
            let mut due = Vec::new();
            let mut state = self.state();
            if state.stopped {
                return;
            }
            let now = clock.now();
            while due.len() < FIRED_AT_ONCE_MAX
                && let Some(first) = state.held.first_entry()
                && first.key().0 <= now
            {
                let ((_, key, task), what) = first.remove_entry();
                state.places.remove(&(key, task));
                due.push((key, what.due));
            }
            if !due.is_empty() {
                drop(state);
                due.into_iter().for_each(|(key, what)| fire(key, what));
                continue;
            }
            let first = state.held.first_key_value().map(|(first, _)| *first);
            match (first, state.horizon) {
                (first, Some(horizon)) if first.is_none_or(|first| first >= horizon) => {
                    drop(state);
                    let before = (horizon.0, horizon.1, horizon.2 - 1);
                    if let Err(error) = self.read_on(reader, before) {
                        tracing::warn!(%error, "could not read what comes due next; trying again");
                        let mut state = self.state();
                        state.set_horizon(horizon);
                        drop(self.changed.wait_timeout(state, LOOK_AGAIN));
                    }
                }
                (Some(next), _) => match clock.sleep_until(next.0) {
                    Some(span) => drop(self.changed.wait_timeout(state, span)),
                    None => self.wait(state),
                },
                (None, _) => self.wait(state),
            }
        }
    }

    /// Waits until something is added, the clock jumps, or it is stopped.
    fn wait(&self, state: MutexGuard<'_, State>) {
        let (jumps, first) = (
            state.jumps,
            state.held.first_key_value().map(|(place, _)| *place),
        );
        let same = |state: &mut State| {
            !state.stopped
                && state.jumps == jumps
                && state.held.first_key_value().map(|(place, _)| *place) == first
        };
        drop(self.changed.wait_while(state, same));
    }
}

fn place_of(row: &TaskRow) -> Option<Place> {
    Some((row.due?, row.key, i64::from(row.task.task.0)))
}

/// What a row with a due time is.
fn due_of(row: &TaskRow) -> Option<Due> {
    row.due.map(|_| match row.kind {
        TaskRowKind::Activity => Due::Activity(row.task),
        TaskRowKind::Timer => Due::Timer(row.task),
        TaskRowKind::ChildRetry => Due::Child(row.task, row.attempt),
        TaskRowKind::Start => Due::Start,
    })
}
