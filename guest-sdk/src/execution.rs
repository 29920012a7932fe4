//! State shared by the futures of one execution and the machine that drives them: open tasks, events, requests, and the actions of the
//! turn.
//!
//! Laws: task ids are given out in the order of scheduling, from 0; a task is cancelled at most once, and only while it is open; a request
//! is answered at most once; nothing is asked for after the end.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker};

use uuid::Uuid;

use crate::bindings::orchestrations::{
    Action, Cancellation as WitCancellation, Response, Start, TagChange, TurnStart, Waiting,
};
use crate::bindings::types::{Failure, TaskId};
use crate::kind;
use crate::mailbox::{Mailboxes, Message, Name, Place, Taken, WaiterId};
use crate::random::{self, SplitMix64};

/// The outcome of a task. A timer's is `Ok(None)`.
pub(crate) type Outcome = Result<Option<String>, Failure>;

/// At most this many open tasks are listed as waits, those with the lowest ids. The host knows all of them anyway; the list is for people,
/// and a long one in every turn of a wide fan-out would cost more than the turn.
pub(crate) const TASKS_LISTED_MAX: usize = 100;

/// Finds the name under which a component exports a function, by the function's type.
pub(crate) trait Names {
    fn activity(&self, function: TypeId) -> Option<&'static str>;

    /// The name, and the version.
    fn orchestration(&self, function: TypeId) -> Option<(&'static str, Option<&'static str>)>;
}

pub(crate) struct Execution {
    pub(crate) names: Box<dyn Names>,
    pub(crate) start: Start,
    turn: Cell<TurnStart>,
    state: RefCell<State>,
}

struct State {
    next_task: TaskId,
    /// Tasks whose future lives and that have not ended, with whom to wake. None before the future was first polled.
    open: BTreeMap<TaskId, Option<Waker>>,
    /// Tasks that have ended and whose future has not looked yet.
    done: BTreeMap<TaskId, Outcome>,
    mail: Mailboxes,
    /// The numbers of the requests that reached the orchestration and are not answered.
    unanswered: BTreeSet<u32>,
    actions: Vec<Action>,
    random: SplitMix64,
    uuids: u64,
    note: Option<String>,
    /// The tags of the instance, as far as it knows.
    tags: Vec<(String, String)>,
    cancellation: Option<WitCancellation>,
    /// Who waits for a cancellation, by number.
    cancel_waiters: BTreeMap<u64, Waker>,
    next_cancel_waiter: u64,
    /// How many [shields](crate::Context::shielded) are around what is being polled.
    shields: u32,
    ended: bool,
}

impl Execution {
    pub(crate) fn new(names: Box<dyn Names>, start: Start, turn: TurnStart) -> Self {
        let state = State {
            next_task: 0,
            open: BTreeMap::new(),
            done: BTreeMap::new(),
            mail: Mailboxes::default(),
            unanswered: BTreeSet::new(),
            actions: Vec::new(),
            random: SplitMix64::new(start.seed),
            uuids: 0,
            note: None,
            tags: start.tags.clone(),
            cancellation: None,
            cancel_waiters: BTreeMap::new(),
            next_cancel_waiter: 0,
            shields: 0,
            ended: false,
        };
        Self {
            names,
            start,
            turn: Cell::new(turn),
            state: RefCell::new(state),
        }
    }

    // What the futures and the context call.

    pub(crate) fn turn(&self) -> TurnStart {
        self.turn.get()
    }

    /// Schedules a task, unless the execution is cancelled here: then nothing new begins.
    pub(crate) fn schedule(&self, action: impl FnOnce(TaskId) -> Action) -> Option<TaskId> {
        let mut state = self.state.borrow_mut();
        if state.is_canceled_here() {
            return None;
        }
        let task = state.next_task;
        state.next_task += 1;
        state.act(action(task));
        state.open.insert(task, None);
        Some(task)
    }

    /// The failure of a task that did not begin because the execution was cancelled.
    pub(crate) fn never_began(&self) -> Failure {
        let state = self.state.borrow();
        match &state.cancellation {
            Some(asked) => canceled(asked),
            None => unreachable!("only a cancellation keeps a task from beginning"),
        }
    }

    /// The failure of what is awaited here, if the execution was asked to cancel and no shield is around.
    pub(crate) fn canceled_here(&self) -> Option<Failure> {
        let state = self.state.borrow();
        let asked = state.cancellation.as_ref()?;
        state.is_canceled_here().then(|| canceled(asked))
    }

    pub(crate) fn act(&self, action: Action) {
        self.state.borrow_mut().act(action);
    }

    pub(crate) fn tags(&self) -> Vec<(String, String)> {
        self.state.borrow().tags.clone()
    }

    pub(crate) fn set_tag(&self, key: String, value: Option<String>) {
        let mut state = self.state.borrow_mut();
        let known = state.tags.iter_mut().find(|(other, _)| *other == key);
        match (known, value.clone()) {
            (Some((_, old)), Some(value)) => *old = value,
            (Some(_), None) => state.tags.retain(|(other, _)| *other != key),
            (None, Some(value)) => state.tags.push((key.clone(), value)),
            (None, None) => {}
        }
        state.act(Action::SetTag(TagChange { key, value }));
    }

    pub(crate) fn poll_task(&self, task: TaskId, cx: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.state.borrow_mut();
        if state.is_canceled_here() && state.open.remove(&task).is_some() {
            state.act(Action::CancelTask(task));
            drop(state);
            return Poll::Ready(Err(self
                .canceled_here()
                .unwrap_or_else(|| unreachable!("it was just looked at"))));
        }
        if let Some(waker) = state.open.get_mut(&task) {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        match state.done.remove(&task) {
            Some(outcome) => Poll::Ready(outcome),
            None => panic!("task {task} was polled after it had given its result"),
        }
    }

    /// The future of a task is gone: what is still open is cancelled.
    pub(crate) fn abandon_task(&self, task: TaskId) {
        let mut state = self.state.borrow_mut();
        if state.open.remove(&task).is_some() {
            state.act(Action::CancelTask(task));
        } else {
            state.done.remove(&task);
        }
    }

    /// The future of a task is gone, and the task goes on.
    pub(crate) fn detach_task(&self, task: TaskId) {
        let mut state = self.state.borrow_mut();
        state.open.remove(&task);
        state.done.remove(&task);
    }

    pub(crate) fn poll_message<M: Message>(
        &self,
        place: &mut Place,
        name: &Name,
        cx: &Context<'_>,
    ) -> Poll<Taken<M>> {
        let mut state = self.state.borrow_mut();
        match M::mailbox(&mut state.mail).poll(place, name, cx.waker()) {
            Some(taken) => Poll::Ready(taken),
            None => Poll::Pending,
        }
    }

    pub(crate) fn give_back<M: Message>(&self, taken: Taken<M>) {
        let woken = M::mailbox(&mut self.state.borrow_mut().mail).give_back(taken);
        wake(woken);
    }

    pub(crate) fn abandon_waiter<M: Message>(&self, waiter: WaiterId) {
        let woken = M::mailbox(&mut self.state.borrow_mut().mail).abandon(waiter);
        wake(woken);
    }

    pub(crate) fn unconsumed_events(&self) -> Vec<u32> {
        self.state.borrow().mail.events.unconsumed()
    }

    pub(crate) fn unconsumed_requests(&self) -> Vec<u32> {
        self.state.borrow().mail.requests.unconsumed()
    }

    /// A request has reached the orchestration, which is to [answer](Self::answer) it.
    pub(crate) fn open_request(&self, number: u32) {
        self.state.borrow_mut().unanswered.insert(number);
    }

    /// Answers a request that was opened, unless it is answered.
    pub(crate) fn answer(&self, number: u32, outcome: Outcome) {
        if self.state.borrow_mut().unanswered.remove(&number) {
            self.respond(number, outcome);
        }
    }

    /// Answers a request that the orchestration does not get to see.
    pub(crate) fn respond(&self, number: u32, outcome: Outcome) {
        self.act(Action::Respond(Response { number, outcome }));
    }

    /// The numbers of the requests that were opened and not answered, in order.
    pub(crate) fn unanswered_requests(&self) -> Vec<u32> {
        self.state.borrow().unanswered.iter().copied().collect()
    }

    pub(crate) fn random_u64(&self) -> u64 {
        self.state.borrow_mut().random.next_u64()
    }

    pub(crate) fn random_f64(&self) -> f64 {
        self.state.borrow_mut().random.next_f64()
    }

    pub(crate) fn uuid(&self) -> Uuid {
        let mut state = self.state.borrow_mut();
        let ordinal = state.uuids;
        state.uuids += 1;
        random::uuid(&self.start.instance_id, &self.start.execution_id, ordinal)
    }

    pub(crate) fn note(&self, note: String) {
        self.state.borrow_mut().note = (!note.is_empty()).then_some(note);
    }

    // What the machine calls.

    pub(crate) fn begin_turn(&self, turn: TurnStart) {
        self.turn.set(turn);
    }

    /// Records the end of a task. Ignored if no future waits for it any more.
    pub(crate) fn complete_task(&self, task: TaskId, outcome: Outcome) {
        let mut state = self.state.borrow_mut();
        let Some(woken) = state.open.remove(&task) else {
            return;
        };
        state.done.insert(task, outcome);
        drop(state);
        wake(woken);
    }

    /// Takes in an external event or a request.
    pub(crate) fn deliver<M: Message>(&self, message: M) {
        let now = self.turn().now;
        let woken = M::mailbox(&mut self.state.borrow_mut().mail).deliver(message, now);
        wake(woken);
    }

    /// Takes in the request to cancel, and wakes all that waits.
    pub(crate) fn request_cancellation(&self, asked: WitCancellation) {
        let mut state = self.state.borrow_mut();
        state.cancellation = Some(asked);
        let mut woken: Vec<Waker> = state.open.values().flatten().cloned().collect();
        woken.extend(std::mem::take(&mut state.cancel_waiters).into_values());
        woken.extend(state.mail.events.idle_wakers());
        woken.extend(state.mail.requests.idle_wakers());
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The request to cancel, if there was one.
    pub(crate) fn cancellation(&self) -> Option<WitCancellation> {
        self.state.borrow().cancellation.clone()
    }

    /// Waits for the request to cancel.
    pub(crate) fn poll_cancellation(
        &self,
        waiter: &mut Option<u64>,
        cx: &Context<'_>,
    ) -> Poll<WitCancellation> {
        let mut state = self.state.borrow_mut();
        if let Some(asked) = &state.cancellation {
            return Poll::Ready(asked.clone());
        }
        let number = *waiter.get_or_insert(state.next_cancel_waiter);
        state.next_cancel_waiter = state.next_cancel_waiter.max(number + 1);
        state.cancel_waiters.insert(number, cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn forget_cancel_waiter(&self, waiter: u64) {
        self.state.borrow_mut().cancel_waiters.remove(&waiter);
    }

    /// Enters or leaves a shield.
    pub(crate) fn shield(&self, enters: bool) {
        let mut state = self.state.borrow_mut();
        state.shields = if enters {
            state.shields + 1
        } else {
            state.shields.saturating_sub(1)
        };
    }

    /// Whether any event could wake the orchestration.
    pub(crate) fn can_be_woken(&self) -> bool {
        let state = self.state.borrow();
        !state.open.is_empty()
            || state.mail.events.has_idle_waiters()
            || state.mail.requests.has_idle_waiters()
            || !state.cancel_waiters.is_empty()
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let state = self.state.borrow();
        Waiting {
            events: state.mail.events.awaited(),
            requests: state.mail.requests.awaited(),
            tasks: state.open.keys().copied().take(TASKS_LISTED_MAX).collect(),
            note: state.note.clone(),
        }
    }

    /// From now on nothing is asked for, whatever the orchestration's values do when they are dropped.
    pub(crate) fn end(&self) {
        self.state.borrow_mut().ended = true;
    }

    pub(crate) fn take_actions(&self) -> Vec<Action> {
        std::mem::take(&mut self.state.borrow_mut().actions)
    }
}

impl State {
    fn is_canceled_here(&self) -> bool {
        self.cancellation.is_some() && self.shields == 0
    }

    fn act(&mut self, action: Action) {
        if !self.ended {
            self.actions.push(action);
        }
    }
}

/// The failure of what is awaited when an execution is asked to cancel.
fn canceled(asked: &WitCancellation) -> Failure {
    let why = match &asked.reason {
        Some(reason) => format!("the instance was asked to cancel: {reason}"),
        None => "the instance was asked to cancel".to_owned(),
    };
    Failure {
        kind: kind::CANCELED.to_owned(),
        message: why,
        details: None,
        retryable: false,
        trace: None,
        causes: Vec::new(),
    }
}

/// The failure of a request that gets no answer, for this reason.
pub(crate) fn not_answered(why: &str) -> Failure {
    Failure {
        kind: kind::NOT_ANSWERED.to_owned(),
        message: format!("the request is not answered: {why}"),
        details: None,
        retryable: false,
        trace: None,
        causes: Vec::new(),
    }
}

// Called without a borrow of the state: a waker may be anybody's.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
