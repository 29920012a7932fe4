//! Everything that comes due: timers, attempts to be tried again, instances whose commit failed.
//!
//! The hub has them all, by time. Memory holds those that come first, up to a bound, and reads on when it has fired them.
//!
//! Laws: what waits for a span of time waits for no longer because the clock is set back, and is due where the clock is set past it; what
//! waits for a date goes by the clock alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar};
use std::time::Duration;

use perennial_core::{Millis, TaskRef, Timestamp};

use crate::engine::clock::Clock;
use crate::engine::locks::{Guard, OrderedMutex, rank};
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

impl Due {
    /// Whether it waits for a span of time to pass, and not for a date: then it comes no later because the clock was set back.
    fn is_span(self) -> bool {
        match self {
            Self::Timer(_) | Self::Activity(_) | Self::Child(..) | Self::Wake => true,
            Self::Start | Self::Retain => false,
        }
    }
}

/// Something that came due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fired {
    pub(crate) key: InstanceKey,
    pub(crate) due: Due,
    /// When it came due.
    pub(crate) at: Timestamp,
    /// The time that the hub has for it: later, where the clock was set back since.
    pub(crate) asked: Timestamp,
}

/// A place in the order in which things come due.
type DueKey = (Timestamp, InstanceKey, i64);

/// The clock is taken to have been set where it moved by so much against the time that passed; it is not read at one moment.
const SET_MIN_MS: i64 = 1_000;

/// See the [module](self).
pub(crate) struct Timers {
    clock: Arc<dyn Clock>,
    state: OrderedMutex<State, { rank::TIMERS }>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: BTreeMap<DueKey, Held>,
    /// Where each is, so that it can be taken out.
    places: BTreeMap<(InstanceKey, i64), Timestamp>,
    /// What comes at this place or later is only in the hub; `None` if memory has everything.
    horizon: Option<DueKey>,
    /// Whether a page is being read, or could not be: what is on it is only in the hub, wherever the horizon is.
    reading: bool,
    /// What was taken out to be fired, and may not be in the mail yet.
    firing: Vec<Fired>,
    stopped: bool,
    jumps: u64,
    /// By how much the clock leads the time that has passed, in milliseconds: it is less when the clock was set back.
    lead: i64,
    /// Whether it was set back, and the hub may have what comes earlier than where it stands there.
    went_back: bool,
    /// The last time that a clock showed which says nothing of the time that has passed.
    seen: Timestamp,
}

/// Something that memory holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    due: Due,
    /// The time that it was armed for.
    asked: Timestamp,
    /// What the clock led by then.
    lead: i64,
    /// Whether the hub has it too, at this time.
    in_hub: bool,
}

impl Held {
    /// When the clock shows that it is due, where the clock leads by so much now. No earlier than asked for because the clock was set
    /// forward: as far as anybody knows, that time has passed.
    fn comes(&self, lead: i64) -> Timestamp {
        let set_back = self.lead.saturating_sub(lead);
        if self.due.is_span() && set_back >= SET_MIN_MS {
            Timestamp(self.asked.0.saturating_sub(set_back.unsigned_abs()))
        } else {
            self.asked
        }
    }
}

impl State {
    /// Looks at the clock. Where it was set, everything moves to the place where it comes due now.
    fn look(&mut self, clock: &dyn Clock) -> Timestamp {
        let now = clock.now();
        let lead = match clock.passed() {
            Some(passed) => {
                signed(now.0).saturating_sub(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX))
            }
            None => {
                let back = signed(self.seen.since(now).0);
                if back >= SET_MIN_MS {
                    self.seen = now;
                    self.lead.saturating_sub(back)
                } else {
                    self.seen = self.seen.max(now);
                    self.lead
                }
            }
        };
        if lead.abs_diff(self.lead) >= SET_MIN_MS.unsigned_abs() {
            self.went_back |= lead < self.lead;
            self.lead = lead;
            self.places.clear();
            for ((_, key, task), held) in std::mem::take(&mut self.held) {
                let at = held.comes(lead);
                self.places.insert((key, task), at);
                self.held.insert((at, key, task), held);
            }
        }
        now
    }

    fn add(&mut self, key: InstanceKey, task: i64, held: Held) {
        let place = (held.comes(self.lead), key, task);
        if held.in_hub && self.horizon.is_some_and(|horizon| place >= horizon) {
            return;
        }
        if let Some(at) = self.places.get(&(key, task)).copied() {
            let before = (at, key, task);
            let same = |had: &&Held| had.due == held.due && had.asked == held.asked;
            if self.held.get(&before).filter(same).is_some() {
                // It knows better what the clock led by when it was armed.
                return;
            }
            self.held.remove(&before);
        }
        self.places.insert((key, task), place.0);
        self.held.insert(place, held);
        self.keep(HELD_MAX);
    }

    /// What the clock led by, at least, when it showed `set_at`: where that is later than now, it was set back by so much since. Before that
    /// it may have been set forward, so that this says nothing about what was armed earlier.
    fn lead_at(&self, set_at: Timestamp, now: Timestamp) -> i64 {
        self.lead.saturating_add(signed(set_at.since(now).0))
    }

    /// Adds a row of the hub.
    fn add_row(&mut self, row: &TaskRow, now: Timestamp) {
        let (Some(asked), Some(due)) = (row.due, due_of(row)) else {
            return;
        };
        let held = Held {
            due,
            asked,
            lead: self.lead_at(row.set_at, now),
            in_hub: true,
        };
        self.add(row.key, i64::from(row.task.task.0), held);
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
    fn set_horizon(&mut self, horizon: DueKey) {
        let horizon = self.horizon.map_or(horizon, |before| before.min(horizon));
        self.horizon = Some(horizon);
        let beyond: Vec<DueKey> = self
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
    /// Timers by this clock.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let mut state = State::default();
        state.look(clock.as_ref());
        Self {
            clock,
            state: OrderedMutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> Guard<'_, State, { rank::TIMERS }> {
        self.state.lock()
    }

    /// Adds something that is in the hub, and was armed when the clock showed `set_at`.
    pub(crate) fn add(&self, at: Timestamp, set_at: Timestamp, key: InstanceKey, due: Due) {
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        let held = Held {
            due,
            asked: at,
            lead: state.lead_at(set_at, now),
            in_hub: true,
        };
        self.hold(state, key, held);
    }

    /// Adds several at once: those that are due already fire in their order too.
    pub(crate) fn add_all(&self, rows: &[TaskRow]) {
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        rows.iter().for_each(|row| state.add_row(row, now));
        drop(state);
        self.changed.notify_one();
    }

    /// Adds the timers of one turn together, so that those that are due already fire in their order, and not in that of their tasks. The
    /// clock showed `set_at` in that turn.
    pub(crate) fn add_turn(
        &self,
        key: InstanceKey,
        set_at: Timestamp,
        timers: &[(Timestamp, TaskRef)],
    ) {
        if timers.is_empty() {
            return;
        }
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        let lead = state.lead_at(set_at, now);
        for (asked, task) in timers {
            let held = Held {
                due: Due::Timer(*task),
                asked: *asked,
                lead,
                in_hub: true,
            };
            state.add(key, i64::from(task.task.0), held);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Adds something of which the hub knows nothing, or another time: it comes when this span has passed.
    pub(crate) fn again_in(&self, span: Millis, key: InstanceKey, due: Due) {
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        let held = Held {
            due,
            asked: now.after(span),
            lead: state.lead,
            in_hub: false,
        };
        self.hold(state, key, held);
    }

    /// As [`again_in`](Self::again_in), at a time by a clock that showed `set_at` then.
    pub(crate) fn again_at(&self, at: Timestamp, set_at: Timestamp, key: InstanceKey, due: Due) {
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        let held = Held {
            due,
            asked: at,
            lead: state.lead_at(set_at, now),
            in_hub: false,
        };
        self.hold(state, key, held);
    }

    fn hold(&self, mut state: Guard<'_, State, { rank::TIMERS }>, key: InstanceKey, held: Held) {
        let task = match held.due {
            Due::Timer(task) | Due::Activity(task) | Due::Child(task, _) => i64::from(task.task.0),
            Due::Start => START,
            Due::Wake | Due::Retain => WAKE,
        };
        let first = |state: &State| state.held.first_key_value().map(|(place, _)| *place);
        let before = first(&state);
        state.add(key, task, held);
        let is_first = first(&state) != before;
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Takes out what an instance waited for and is due: messages that came in later come after it. Whether memory may not have all of it.
    pub(crate) fn take_due(&self, key: InstanceKey) -> (Vec<Fired>, bool) {
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        let mut due: Vec<Fired> = state
            .firing
            .extract_if(.., |fired| fired.key == key)
            .collect();
        let is_late = |place: &DueKey| place.0 <= now;
        if state
            .held
            .first_key_value()
            .is_some_and(|(first, _)| is_late(first))
        {
            let late = state.places.range((key, i64::MIN)..=(key, i64::MAX));
            let late = late.map(|((key, task), at)| (*at, *key, *task));
            let late: Vec<DueKey> = late.filter(is_late).collect();
            for place in late {
                let is_task = |held: &&Held| matches!(held.due, Due::Timer(_) | Due::Child(..));
                if let Some(held) = state.held.get(&place).filter(is_task).copied() {
                    state.remove(key, place.2);
                    due.push(Fired {
                        key,
                        due: held.due,
                        at: place.0,
                        asked: held.asked,
                    });
                }
            }
        }
        let is_hidden = state.reading || state.horizon.is_some_and(|horizon| is_late(&horizon));
        (due, is_hidden)
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

    /// Reads the first page. `seen` is the latest time that the hub knows of: where the clock shows an earlier one it was set back, and what
    /// was armed in between comes before its time in the hub.
    pub(crate) fn load(&self, reader: &Reader, seen: Timestamp) -> Result<(), StoreError> {
        self.read_on(reader, (Timestamp(0), InstanceKey(i64::MIN), i64::MIN))?;
        let now = self.clock.now();
        if seen > now {
            self.add_all(&reader.tasks_set_after(now)?);
        }
        self.changed.notify_one();
        Ok(())
    }

    fn read_on(&self, reader: &Reader, after: DueKey) -> Result<(), StoreError> {
        // What is added meanwhile beyond the new horizon is in the hub, and what is added before it goes into memory: the horizon is
        // moved before the page is read.
        {
            let mut state = self.state();
            (state.horizon, state.reading) = (None, true);
        }
        let rows = reader.due_tasks(after, PAGE)?;
        let mut state = self.state();
        state.reading = false;
        let now = state.look(self.clock.as_ref());
        let full = rows.len() >= PAGE as usize;
        let last = rows.last().and_then(place_of);
        rows.iter().for_each(|row| state.add_row(row, now));
        if full && let Some((at, key, task)) = last {
            // What was added meanwhile beyond this page would hide what the hub has before it.
            state.set_horizon((at, key, task + 1));
        }
        Ok(())
    }

    /// Fires what comes due, in order, until stopped. `fire` is called on this thread without any lock.
    pub(crate) fn run(&self, reader: &Reader, mut fire: impl FnMut(Fired)) {
        loop {
            let mut due = Vec::new();
            let mut state = self.state();
            // What was fired last is in the mail.
            state.firing.clear();
            if state.stopped {
                return;
            }
            let now = state.look(self.clock.as_ref());
            if std::mem::take(&mut state.went_back) && state.horizon.is_some() {
                drop(state);
                match reader.tasks_set_after(now) {
                    Ok(rows) => self.add_all(&rows),
                    Err(error) => {
                        tracing::warn!(%error, "could not read what was armed before the clock was set back; it goes by the clock");
                    }
                }
                continue;
            }
            while due.len() < FIRED_AT_ONCE_MAX
                && let Some(first) = state.held.first_entry()
                && first.key().0 <= now
            {
                let ((at, key, task), held) = first.remove_entry();
                state.places.remove(&(key, task));
                due.push(Fired {
                    key,
                    due: held.due,
                    at,
                    asked: held.asked,
                });
            }
            if !due.is_empty() {
                state.firing.clone_from(&due);
                drop(state);
                due.into_iter().for_each(&mut fire);
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
                        drop(state.wait_timeout(&self.changed, LOOK_AGAIN));
                    }
                }
                (Some(next), _) => match self.clock.sleep_until(next.0) {
                    Some(span) => drop(state.wait_timeout(&self.changed, span)),
                    None => self.wait(state),
                },
                (None, _) => self.wait(state),
            }
        }
    }

    /// Waits until something is added, the clock jumps, or it is stopped.
    fn wait(&self, mut state: Guard<'_, State, { rank::TIMERS }>) {
        let (jumps, first) = (
            state.jumps,
            state.held.first_key_value().map(|(place, _)| *place),
        );
        let same = |state: &State| {
            !state.stopped
                && state.jumps == jumps
                && state.held.first_key_value().map(|(place, _)| *place) == first
        };
        while same(&state) {
            state = state.wait(&self.changed);
        }
    }
}

fn place_of(row: &TaskRow) -> Option<DueKey> {
    Some((row.due?, row.key, i64::from(row.task.task.0)))
}

/// Times as differences are taken of them: those that matter are far from the end of either.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
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

/// A row that is due.
pub(crate) fn late(row: &TaskRow, now: Timestamp) -> Option<Fired> {
    let (due, asked) = (due_of(row)?, row.due?);
    let at = Timestamp(asked.0.saturating_sub(row.set_at.since(now).0));
    (at <= now).then_some(Fired {
        key: row.key,
        due,
        at,
        asked,
    })
}
