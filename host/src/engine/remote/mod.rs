//! Remote workers: programs that run orchestrations and activities in their own language, and are connected to this host by a stream.
//!
//! An execution without a module is run by remote workers. No thread waits for them: a turn is begun, its question goes to a worker, and
//! the instance is parked until the answer comes (see [`turn::asked`](crate::engine::turn::asked)). An attempt of an activity is the same without a turn.
//!
//! Invariants: an instance has at most one item out whose answer is waited for. Only the answer with the token of that item counts, once;
//! every other answer changes nothing. A worker that is lost loses nothing: what it had goes to the next one.

pub(crate) mod dispatch;
pub(crate) mod items;
pub(crate) mod lending;
pub(crate) mod messages;
pub(crate) mod report;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use perennial_core::{Callee, Failure, Json, Millis, Timestamp};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::engine::remote::dispatch::{Dispatcher, Sent, StreamId, Token, Wanted, Work};
pub(crate) use crate::engine::remote::items::{
    ActivityItem, Filter, ItemEnd, NameFilter, Offer, OrchestrationItem, RemoteAnswer, WorkItem,
};
use crate::engine::remote::lending::Lending;
use crate::engine::remote::messages::HostMessage;
use crate::engine::remote::report::RemoteWorkers;
use crate::engine::tasks::ready::{AttemptKey, Ready};
use crate::engine::tasks::timers::Due;
use crate::store::{Change, InstanceKey, StoreError, WasRunning, WorkerNames};

/// How long a worker may take for one item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerTimes {
    /// A turn of an orchestration.
    pub(crate) turn: Millis,
    /// An attempt of an activity whose call sets no time limit.
    pub(crate) activity: Millis,
}

impl Default for WorkerTimes {
    fn default() -> Self {
        Self {
            turn: Millis(5 * 60 * 1_000),
            activity: Millis(60 * 60 * 1_000),
        }
    }
}

/// How long a work that a worker abandoned is kept from that worker, for the first time. It doubles up to [`ABANDONED_MAX`].
const ABANDONED: Millis = Millis(1_000);
const ABANDONED_MAX: Millis = Millis(30_000);

/// How far a work of a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No worker has it yet.
    Waits,
    /// A worker has it, since then.
    Runs(Timestamp),
}

impl Progress {
    pub(crate) fn since(self) -> Option<Timestamp> {
        match self {
            Self::Waits => None,
            Self::Runs(since) => Some(since),
        }
    }
}

type Send = mpsc::UnboundedSender<WorkItem>;

/// The remote workers of an engine.
pub(crate) struct Remote {
    state: OrderedMutex<State, { rank::REMOTE }>,
    /// Part of each token, so that no answer to an item of an earlier host is taken for one of this: by what the hub knows this host, if it
    /// knows several.
    host: u64,
}

#[derive(Default)]
struct State {
    dispatcher: Dispatcher<Send>,
    /// Attempts that are out.
    attempts: HashMap<Token, (Ready, Timestamp)>,
    /// Names that workers have run, which the hub has too.
    known: WorkerNames,
    lending: Lending,
}

/// Maximum number of names that are remembered.
const KNOWN_MAX: usize = 10_000;

impl State {
    fn known(&mut self, callee: Callee) -> &mut BTreeSet<String> {
        match callee {
            Callee::Orchestration => &mut self.known.orchestrations,
            Callee::Activity => &mut self.known.activities,
        }
    }

    /// Remembers a name. Returns whether it is new.
    fn learn(&mut self, callee: Callee, name: &str) -> bool {
        let is_full = self.known.orchestrations.len() + self.known.activities.len() >= KNOWN_MAX;
        let known = self.known(callee);
        let name = name.to_ascii_lowercase();
        !is_full && !known.contains(&name) && known.insert(name)
    }
}

impl Remote {
    /// Without workers; of the host that the hub knows by this number, if it knows several.
    pub(in crate::engine) fn new(epoch: Option<i64>) -> Self {
        let random = || uuid::Uuid::new_v4().as_u64_pair().0;
        Self {
            state: OrderedMutex::default(),
            host: epoch.map_or_else(random, i64::cast_unsigned),
        }
    }

    fn state(&self) -> Guard<'_, State, { rank::REMOTE }> {
        self.state.lock()
    }

    /// The text of a token, which only this host accepts.
    pub(crate) fn text(&self, token: Token) -> String {
        format!("{:016x}-{}", self.host, token.0)
    }

    fn token(&self, text: &str) -> Option<Token> {
        let (host, number) = parts(text)?;
        (host == self.host).then_some(Token(number))
    }
}

/// The host and the number of a token.
fn parts(token: &str) -> Option<(u64, u64)> {
    let (host, number) = token.split_once('-')?;
    Some((u64::from_str_radix(host, 16).ok()?, number.parse().ok()?))
}

/// A connected worker. Dropping it is the loss of the worker.
pub(crate) struct Connection {
    engine: Arc<Engine>,
    id: StreamId,
}

impl Connection {
    /// Gives up on items whose time is over. To be called from time to time.
    pub(crate) fn expire(&self) {
        self.engine.expire(self.id);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.engine.disconnect(self.id);
        self.engine.pace.soon();
    }
}

impl Engine {
    /// Connects a worker, which gets items from the receiver.
    pub(crate) fn connect(
        self: &Arc<Self>,
        offer: Offer,
    ) -> (Connection, mpsc::UnboundedReceiver<WorkItem>) {
        // Bounded by the credits of the worker.
        let (send, receive) = mpsc::unbounded_channel();
        let now = self.clock.now();
        tracing::info!(worker = offer.worker, "a worker is connected");
        for (callee, filter) in [
            (Callee::Orchestration, &offer.orchestrations),
            (Callee::Activity, &offer.activities),
        ] {
            if let Filter::Only(names) = filter {
                self.learn_names(callee, names.iter().map(|one| one.name.as_str()));
            }
        }
        let mut state = self.remote.state();
        let id = state.dispatcher.connect(offer, true, send, now);
        drop(state);
        self.fill_workers();
        // The other hosts learn of it.
        self.pace.soon();
        let connection = Connection {
            engine: Arc::clone(self),
            id,
        };
        (connection, receive)
    }

    /// Removes a worker, and loses what it had.
    fn disconnect(self: &Arc<Self>, id: StreamId) {
        let lost = self.remote.state().dispatcher.disconnect(id);
        for (token, work) in lost {
            self.item_lost(token, work);
        }
    }

    /// Gives up on items of a worker whose time is over.
    fn expire(self: &Arc<Self>, id: StreamId) {
        let now = self.clock.now();
        let overdue = self.remote.state().dispatcher.overdue(id, now);
        for token in overdue {
            self.item_overdue(token);
        }
    }

    /// The workers that are connected here, and what waits for one.
    pub(crate) fn remote_workers(&self) -> RemoteWorkers {
        let state = self.remote.state();
        RemoteWorkers::new(state.dispatcher.streams(), state.dispatcher.waiting())
    }

    /// How many workers this host may send items to.
    #[cfg(test)]
    pub(in crate::engine) fn known_workers(&self) -> usize {
        self.remote.state().dispatcher.streams().len()
    }

    /// The numbers of connected workers, of items that they have, and of works that wait for one.
    pub(crate) fn remote_counts(&self) -> (usize, usize, usize) {
        self.remote.state().dispatcher.counts()
    }

    /// Whether a worker runs this name: one that is connected, or one that was and may come back.
    pub(crate) fn is_served(&self, callee: Callee, name: &str, version: Option<&str>) -> bool {
        let mut state = self.remote.state();
        state.dispatcher.serves(callee, name, version)
            || state.known(callee).contains(&name.to_ascii_lowercase())
    }

    /// Loads the names that workers have run.
    pub(in crate::engine) fn load_worker_names(&self) -> Result<(), StoreError> {
        self.remote.state().known = self.hub.reader.worker_names()?;
        Ok(())
    }

    /// Remembers names that a worker runs, beyond its connection and the life of this host: what calls them while it is away waits for it.
    pub(in crate::engine) fn learn_names<'a>(
        self: &Arc<Self>,
        callee: Callee,
        names: impl IntoIterator<Item = &'a str>,
    ) {
        let mut state = self.remote.state();
        let mut is_new = false;
        for name in names {
            is_new |= state.learn(callee, name);
        }
        if !is_new {
            return;
        }
        let known = state.known.clone();
        drop(state);
        self.write_soon(Change::KnowNames(known), |_, result| {
            if let Err(error) = result {
                tracing::warn!(%error, "could not record the names that workers run");
            }
        });
    }

    /// Takes the answer of a worker to a turn. Returns false, and changes nothing, if no such answer is waited for.
    pub(crate) fn orchestration_answered(
        self: &Arc<Self>,
        token: &str,
        answer: RemoteAnswer,
    ) -> bool {
        self.turn_over(token, ItemEnd::Answered(Box::new(answer)))
    }

    fn turn_over(self: &Arc<Self>, token: &str, end: ItemEnd) -> bool {
        let Some(token) = self.remote.token(token) else {
            return false;
        };
        let mut state = self.remote.state();
        let out = state.dispatcher.answered(token, Callee::Orchestration);
        drop(state);
        let counts = match out {
            Some(out) if out.wanted => {
                match (out.work, end) {
                    (Work::Turn(key), end) => self.put_item_end(key, token, end),
                    (Work::Lent(_, number), ItemEnd::Answered(answer)) => {
                        self.lent_is_over(number, |token| HostMessage::TurnAnswered {
                            token,
                            answer,
                        });
                    }
                    (Work::Lent(..) | Work::Activity(_), _) => {}
                }
                true
            }
            Some(_) | None => false,
        };
        self.fill_workers();
        counts
    }

    /// Takes the outcome of an attempt. Returns false, and changes nothing, if no such outcome is waited for.
    pub(crate) fn activity_answered(
        self: &Arc<Self>,
        token: &str,
        outcome: Result<Option<Json>, Failure>,
    ) -> bool {
        let Some(token) = self.remote.token(token) else {
            return false;
        };
        let mut state = self.remote.state();
        let out = state.dispatcher.answered(token, Callee::Activity);
        let attempt = state.attempts.remove(&token);
        drop(state);
        let counts = match (out, attempt) {
            (Some(out), _) if let (Work::Lent(_, number), true) = (out.work, out.wanted) => {
                self.lent_is_over(number, |token| HostMessage::ActivityAnswered {
                    token,
                    outcome,
                });
                true
            }
            (Some(out), Some((ready, started_at))) if out.wanted => {
                if outcome.is_ok() {
                    self.learn_names(Callee::Activity, [ready.name.as_str()]);
                }
                self.attempt_answered(ready, started_at, outcome);
                true
            }
            _ => false,
        };
        self.fill_workers();
        counts
    }

    /// A worker gives an item back. Other workers get it at once; the same worker gets it again after a while.
    pub(crate) fn abandoned(self: &Arc<Self>, token: &str) -> bool {
        let Some(token) = self.remote.token(token) else {
            return false;
        };
        let now = self.clock.now();
        let mut state = self.remote.state();
        let Some(out) = state.dispatcher.give_back(token) else {
            return false;
        };
        let attempt = state.attempts.remove(&token);
        if let (Work::Lent(_, number), true) = (out.work, out.wanted) {
            drop(state);
            self.lent_is_over(number, |token| HostMessage::GivenBack { token });
        } else if out.wanted {
            let spans = (ABANDONED, ABANDONED_MAX);
            let wait = state.dispatcher.abandoned(out.work, out.stream, now, spans);
            drop(state);
            match (out.work, attempt) {
                (Work::Turn(key), _) => {
                    self.put_item_end(key, token, ItemEnd::Lost);
                    self.timers.again_in(wait, key, Due::Wake);
                }
                (Work::Activity((key, task)), Some((ready, _))) => {
                    self.activities.is_given_back((key, task));
                    self.push_remote(ready);
                    self.timers.again_in(wait, key, Due::Activity(task));
                }
                (Work::Activity(_), None) | (Work::Lent(..), _) => {}
            }
        } else {
            drop(state);
        }
        self.fill_workers();
        out.wanted
    }

    /// Gives up on an item whose time is over.
    fn item_overdue(self: &Arc<Self>, token: Token) {
        let mut state = self.remote.state();
        let Some(work) = state.dispatcher.give_up(token) else {
            return;
        };
        let attempt = state.attempts.remove(&token);
        drop(state);
        match attempt {
            Some((ready, started_at)) if ready.timeout.is_some() => {
                self.attempt_timed_out(ready, started_at);
            }
            _ => {
                tracing::warn!(item = ?work, "a worker does not answer; its item goes to another");
                self.item_lost(token, work);
            }
        }
    }

    /// A worker was lost with an item, or took too long for it. The loss is counted, so that what takes its workers down ends some time.
    fn item_lost(self: &Arc<Self>, token: Token, work: Work) {
        self.remote.state().attempts.remove(&token);
        let (key, task) = match work {
            Work::Turn(key) => (key, None),
            Work::Activity((key, task)) => (key, Some(task)),
            // Its host counts it.
            Work::Lent(_, number) => {
                return self.lent_is_over(number, |token| HostMessage::Lost { token });
            }
        };
        let was = WasRunning {
            key,
            task: task.map(|task| task.task),
            started_at: None,
            attempt: None,
        };
        let engine = Arc::clone(self);
        self.write_soon(Change::CountDeliveries(vec![was]), move |_, result| {
            if let Err(error) = result {
                tracing::warn!(%error, "could not count the loss of a worker");
            }
            match task {
                None => engine.put_item_end(key, token, ItemEnd::Lost),
                Some(task) => {
                    engine.activities.is_given_back((key, task));
                    engine.timers.again_in(Millis(0), key, Due::Activity(task));
                }
            }
        });
    }

    /// Puts the end of an item into the mailbox of its instance, which goes on with it. The loss of an item is told late, when it is counted:
    /// it must not take the place of the answer to a later one.
    pub(in crate::engine) fn put_item_end(&self, key: InstanceKey, token: Token, end: ItemEnd) {
        self.put(key, |mailbox| {
            let last = mailbox.item_end.as_ref();
            if last.is_none_or(|(last, _)| *last < token) {
                mailbox.item_end = Some((token, end));
            }
        });
    }

    /// Wakes works that waited for a worker, as many as there are credits.
    pub(crate) fn fill_workers(self: &Arc<Self>) {
        let now = self.clock.now();
        let filled = self.remote.state().dispatcher.fill(now);
        for work in filled {
            match work {
                Work::Turn(key) => self.wake(key),
                Work::Activity(place) => self.start_remote(place),
                Work::Lent(_, number) => self.start_lent(number),
            }
        }
    }

    /// Takes a credit of a worker for a turn. If there is none, the instance waits, and is woken when there is.
    pub(in crate::engine) fn take_worker(
        &self,
        work: Work,
        name: &str,
        version: Option<&str>,
    ) -> Option<(Token, Send)> {
        let wanted = Wanted::of(work, name, version);
        let now = self.clock.now();
        self.remote.state().dispatcher.take(work, &wanted, now)
    }

    /// Notes that an item is sent. The host gives up on it after this span.
    pub(in crate::engine) fn item_is_sent(&self, token: Token, sent: Sent, after: Millis) {
        let deadline = sent.at.after(after);
        let mut state = self.remote.state();
        state.dispatcher.is_sent(token, sent, deadline);
    }

    /// Whether a worker has, or is about to get, the item of this token.
    pub(in crate::engine) fn is_out(&self, token: Token) -> bool {
        self.remote.state().dispatcher.is_out(token)
    }

    /// Keeps an attempt until its item is answered.
    pub(in crate::engine) fn keep_attempt(&self, token: Token, ready: Ready, at: Timestamp) {
        self.remote.state().attempts.insert(token, (ready, at));
    }

    /// Gives a credit back that was taken for nothing.
    pub(in crate::engine) fn give_worker_back(self: &Arc<Self>, token: Token) {
        let mut state = self.remote.state();
        state.attempts.remove(&token);
        state.dispatcher.give_back(token);
        drop(state);
        self.fill_workers();
    }

    /// The instances with these keys are not run here any more: their turns wait for no worker, and what workers have room for is free for
    /// others.
    pub(in crate::engine) fn forget_turns(self: &Arc<Self>, of: impl Fn(InstanceKey) -> bool) {
        self.remote.state().dispatcher.forget_turns(of);
        self.fill_workers();
    }

    /// Gives back the credit that was kept for a turn or an attempt which did not happen.
    pub(in crate::engine) fn release_unused(self: &Arc<Self>, work: Work) {
        let state = self.remote.state();
        if !state.dispatcher.keeps_any() {
            return;
        }
        let kept = state.dispatcher.kept(work);
        drop(state);
        if let Some(token) = kept {
            self.give_worker_back(token);
        }
    }

    /// The answer to an item is of no use any more: its instance was terminated, say.
    pub(in crate::engine) fn disown_item(&self, token: Token) {
        self.remote.state().dispatcher.disown(token);
    }

    /// A turn of this instance was committed, or the instance is over.
    pub(in crate::engine) fn turn_done(&self, key: InstanceKey) {
        self.remote.state().dispatcher.forget(Work::Turn(key));
    }

    /// These attempts are over or were cancelled.
    pub(in crate::engine) fn attempts_done(&self, places: &[AttemptKey]) {
        if places.is_empty() {
            return;
        }
        let mut state = self.remote.state();
        for place in places {
            state.dispatcher.forget(Work::Activity(*place));
        }
    }

    /// Whether a work waits for a worker, or since when a worker has it.
    pub(crate) fn progress_of(&self, work: Work) -> Option<Progress> {
        let state = self.remote.state();
        let since = state.dispatcher.running_since(work).map(Progress::Runs);
        since.or_else(|| state.dispatcher.waits(work).then_some(Progress::Waits))
    }
}
