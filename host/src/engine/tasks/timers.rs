//! Everything with a due time: timers, retries of attempts, instances whose commit failed.
//!
//! The hub stores them all. Memory holds the earliest ones, up to a bound, and reads the next page after they have fired.
//!
//! Invariants: a wait for a time span does not become longer if the clock is set back, and ends if the clock is set past its due time. A
//! wait for a date follows the clock alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar};
use std::time::Duration;

use perennial_core::{Millis, Timestamp};

use crate::engine::clock::Clock;
use crate::engine::locks::{Guard, OrderedMutex, rank};
pub(crate) use crate::engine::tasks::due::Due;
use crate::store::{InstanceKey, Reader, StoreError, TaskRow, TaskRowKind};

/// Maximum number of entries in memory, about 10 MiB. Low in the tests of this crate, so that they exceed it.
const HELD_MAX: usize = if cfg!(test) { 40 } else { 50_000 };

/// Number of rows per page.
const PAGE: u32 = if cfg!(test) { 16 } else { 10_000 };

/// The wait after a failed read of the hub before the next try.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Maximum number fired before the thread looks at the clock and at the stop flag again.
const FIRED_AT_ONCE_MAX: usize = 1_000;

/// An entry that came due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fired {
    pub(crate) key: InstanceKey,
    pub(crate) due: Due,
    /// The time at which it came due.
    pub(crate) at: Timestamp,
    /// The due time in the hub. It is later than `at` if the clock was set back since.
    pub(crate) asked: Timestamp,
}

/// The sort key of an entry: time, instance, task.
type DueKey = (Timestamp, InstanceKey, i64);

/// The clock counts as set if it moved by at least this much relative to the elapsed time. The two clocks are not read at the same moment.
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
    /// The time of each entry, to remove it by its key.
    places: BTreeMap<(InstanceKey, i64), Timestamp>,
    /// Entries from this key on are only in the hub; `None` if memory has all entries.
    horizon: Option<DueKey>,
    /// How many pages are being read. Their entries are only in the hub until then, whatever `horizon` says.
    reading: u32,
    /// Entries that were removed to be fired and may not be in the mail yet.
    firing: Vec<Fired>,
    stopped: bool,
    jumps: u64,
    /// The clock minus the elapsed time, in milliseconds. It falls when the clock is set back.
    lead: i64,
    /// Whether the clock was set back, so that the hub may have entries beyond the horizon that are due earlier than stored.
    went_back: bool,
    /// The last reading of a clock that does not report elapsed time.
    seen: Timestamp,
}

/// An entry in memory.
#[derive(Clone, Copy, Debug)]
struct Held {
    due: Due,
    /// The due time that was asked for.
    asked: Timestamp,
    /// The lead of the clock when the entry was armed.
    lead: i64,
    /// Whether the hub has the entry too, with this due time.
    in_hub: bool,
}

impl Held {
    /// The due time by the clock, if the clock's lead is `lead` now. If the clock was set forward, the due time stays: the skipped time
    /// counts as passed.
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
    /// Reads the clock. If it was set, moves all entries to their new due times.
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
                // The known entry has the more exact lead.
                return;
            }
            self.held.remove(&before);
        }
        self.places.insert((key, task), place.0);
        self.held.insert(place, held);
        self.keep(HELD_MAX);
    }

    /// The minimum lead of the clock when it showed `set_at`: if that is later than now, the clock was set back by the difference. It may
    /// have been set forward before, so this says nothing about entries armed earlier.
    fn lead_at(&self, set_at: Timestamp, now: Timestamp) -> i64 {
        self.lead.saturating_add(signed(set_at.since(now).0))
    }

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

    /// Drops the last entries that the hub has too, down to `max`, and moves the horizon before them.
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

    /// Moves the horizon to this key, unless it is already earlier, and drops the entries from it on that the hub has too.
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

impl Timers {
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

    /// Adds an entry that is in the hub and was armed when the clock showed `set_at`.
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

    /// Adds several entries under one lock, so that overdue ones fire in order.
    pub(crate) fn add_all(&self, rows: &[TaskRow]) {
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        rows.iter().for_each(|row| state.add_row(row, now));
        drop(state);
        self.changed.notify_one();
    }

    /// Adds the timers of one turn under one lock, so that overdue ones fire in the order of their times, not of their tasks. `set_at` is
    /// the clock's time in that turn.
    pub(crate) fn add_turn(
        &self,
        key: InstanceKey,
        set_at: Timestamp,
        timers: &[(Timestamp, Due)],
    ) {
        if timers.is_empty() {
            return;
        }
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        let lead = state.lead_at(set_at, now);
        for (asked, due) in timers {
            let held = Held {
                due: *due,
                asked: *asked,
                lead,
                in_hub: true,
            };
            state.add(key, due.place(), held);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Adds an entry that the hub does not have, or has with another time. It is due after `span`.
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

    /// As [`again_in`](Self::again_in), due at a time of a clock that showed `set_at` when it was armed.
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
        let task = held.due.place();
        let first = |state: &State| state.held.first_key_value().map(|(place, _)| *place);
        let before = first(&state);
        state.add(key, task, held);
        let is_first = first(&state) != before;
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// Removes the overdue timers and child retries of an instance, so that a turn takes them before messages that arrived later. Also
    /// returns whether the hub may have more of them.
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
                let is_task = |held: &&Held| {
                    matches!(held.due, Due::Timer(_) | Due::TimerAt(_) | Due::Child(..))
                };
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
        let is_hidden = state.reading > 0 || state.horizon.is_some_and(|horizon| is_late(&horizon));
        (due, is_hidden)
    }

    /// Removes a cancelled task.
    pub(crate) fn remove(&self, key: InstanceKey, task: perennial_core::TaskId) {
        self.state().remove(key, i64::from(task.0));
    }

    /// Removes all entries of an instance.
    pub(crate) fn remove_instance(&self, key: InstanceKey) {
        let mut state = self.state();
        let tasks: Vec<i64> = state
            .places
            .range((key, i64::MIN)..=(key, i64::MAX))
            .map(|((_, task), _)| *task)
            .collect();
        tasks.into_iter().for_each(|task| state.remove(key, task));
    }

    /// Removes all entries of the instances with these keys. Those that belong to no instance stay.
    pub(crate) fn remove_all(&self, of: impl Fn(InstanceKey) -> bool) {
        let mut state = self.state();
        let gone: Vec<(InstanceKey, i64)> = state
            .held
            .iter()
            .filter(|((_, key, _), held)| held.due.is_of_instance() && of(*key))
            .map(|((_, key, task), _)| (*key, *task))
            .collect();
        gone.into_iter()
            .for_each(|(key, task)| state.remove(key, task));
        state
            .firing
            .retain(|fired| !(fired.due.is_of_instance() && of(fired.key)));
    }

    /// Removes all entries of an execution. The time limit of its instance stays.
    pub(crate) fn remove_execution(&self, key: InstanceKey) {
        let mut state = self.state();
        let tasks: Vec<i64> = state
            .places
            .range((key, i64::MIN)..=(key, i64::MAX))
            .filter(|((_, task), at)| {
                let held = state.held.get(&(**at, key, *task));
                !held.is_some_and(|held| matches!(held.due, Due::Limit(_)))
            })
            .map(|((_, task), _)| *task)
            .collect();
        tasks.into_iter().for_each(|task| state.remove(key, task));
    }

    /// Called when the clock jumped.
    pub(crate) fn jumped(&self) {
        self.state().jumps += 1;
        self.changed.notify_one();
    }

    /// Whether something is due that is not in the mail yet.
    #[cfg(test)]
    pub(crate) fn has_due(&self) -> bool {
        let mut state = self.state();
        let now = state.look(self.clock.as_ref());
        let is_due = |place: &DueKey| place.0 <= now;
        !state.firing.is_empty()
            || state.held.keys().next().is_some_and(is_due)
            || state.horizon.as_ref().is_some_and(is_due)
    }

    /// Stops [`run`](Self::run).
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_one();
    }

    /// Reads the first page of partitions that this host begins to run. `seen` is the latest time in the hub. If the clock shows an earlier
    /// time, it was set back, and entries armed in between are due earlier than stored.
    pub(crate) fn load(&self, reader: &Reader, seen: Timestamp) -> Result<(), StoreError> {
        self.state().reading += 1;
        self.read_page(reader, (Timestamp(0), InstanceKey(i64::MIN), i64::MIN))?;
        let now = self.clock.now();
        if seen > now {
            self.add_all(&reader.tasks_set_after(now)?);
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Reads the next page. `reader` makes a reader of the partitions that this host runs at that moment.
    fn read_on(&self, reader: &impl Fn() -> Reader, after: DueKey) -> Result<(), StoreError> {
        // Reset the horizon before the page is read: meanwhile new entries go into memory, and those beyond the new horizon are also in the
        // hub.
        {
            let mut state = self.state();
            state.horizon = None;
            state.reading += 1;
        }
        self.read_page(&reader(), after)
    }

    /// Adds a page. All entries of the reader beyond it are beyond the horizon.
    fn read_page(&self, reader: &Reader, after: DueKey) -> Result<(), StoreError> {
        let rows = reader.due_tasks(after, PAGE);
        let mut state = self.state();
        state.reading -= 1;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                state.set_horizon((after.0, after.1, after.2 + 1));
                return Err(error);
            }
        };
        let now = state.look(self.clock.as_ref());
        let full = rows.len() >= PAGE as usize;
        let last = rows.last().and_then(place_of);
        rows.iter().for_each(|row| state.add_row(row, now));
        if full && let Some((at, key, task)) = last {
            // Entries that were added meanwhile beyond this page would hide earlier ones that only the hub has.
            state.set_horizon((at, key, task + 1));
        }
        Ok(())
    }

    /// Fires due entries in order until stopped. Calls `fire` on this thread without holding a lock.
    pub(crate) fn run(&self, reader: impl Fn() -> Reader, mut fire: impl FnMut(Fired)) {
        loop {
            let mut due = Vec::new();
            let mut state = self.state();
            // The entries fired last are in the mail now.
            state.firing.clear();
            if state.stopped {
                return;
            }
            let now = state.look(self.clock.as_ref());
            if std::mem::take(&mut state.went_back) && state.horizon.is_some() {
                drop(state);
                match reader().tasks_set_after(now) {
                    Ok(rows) => self.add_all(&rows),
                    Err(error) => {
                        tracing::warn!(%error, "could not read the timers armed before the clock was set back; they follow the clock");
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
                    if let Err(error) = self.read_on(&reader, before) {
                        tracing::warn!(%error, "could not read the next timers; trying again");
                        let state = self.state();
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

    /// Waits until the first entry changes, the clock jumps, or the thread is stopped.
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

/// Converts times to take differences of them. Realistic times are far from the limits of `i64`.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The kind of a row that has a due time.
fn due_of(row: &TaskRow) -> Option<Due> {
    row.due.map(|_| match row.kind {
        TaskRowKind::Activity => Due::Activity(row.task),
        TaskRowKind::Timer => Due::Timer(row.task),
        TaskRowKind::ChildRetry => Due::Child(row.task, row.attempt),
        TaskRowKind::Start => Due::Start,
        TaskRowKind::TimerAt => Due::TimerAt(row.task),
        TaskRowKind::Grace => Due::Grace(row.task),
        TaskRowKind::Limit => Due::Limit(row.task),
    })
}

/// The row as a fired entry, if it is due.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::SimClock;

    #[test]
    fn what_belongs_to_no_instance_stays_when_all_instances_go() {
        let clock = SimClock::new(Timestamp(1_000));
        let timers = Timers::new(Arc::new(clock.clone()));
        let key = InstanceKey(0);
        timers.again_in(Millis(10), key, Due::Wake);
        timers.again_in(Millis(10), key, Due::Receive);
        timers.again_in(Millis(10), InstanceKey(i64::MIN), Due::Retain);
        timers.remove_all(|_| true);
        let held: Vec<Due> = timers.state().held.values().map(|held| held.due).collect();
        assert!(matches!(held[..], [Due::Retain, Due::Receive]), "{held:?}");
    }
}
