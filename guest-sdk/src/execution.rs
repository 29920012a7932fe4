//! State shared by the futures of one execution and the machine that drives them: open tasks, events, and the actions of the turn.
//!
//! Laws: task ids are given out in the order of scheduling, from 0; a task is cancelled at most once, and only while it is open; nothing
//! is asked for after the end.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use uuid::Uuid;

use crate::bindings::orchestrations::{Action, ExternalEvent, Start, TurnStart, Waiting};
use crate::bindings::types::{Failure, TaskId};
use crate::mailbox::{EventName, Mailbox, Taken, WaiterId};
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
    mailbox: Mailbox,
    actions: Vec<Action>,
    random: SplitMix64,
    uuids: u64,
    note: Option<String>,
    ended: bool,
}

impl Execution {
    pub(crate) fn new(names: Box<dyn Names>, start: Start, turn: TurnStart) -> Self {
        let state = State {
            next_task: 0,
            open: BTreeMap::new(),
            done: BTreeMap::new(),
            mailbox: Mailbox::default(),
            actions: Vec::new(),
            random: SplitMix64::new(start.seed),
            uuids: 0,
            note: None,
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

    pub(crate) fn schedule(&self, action: impl FnOnce(TaskId) -> Action) -> TaskId {
        let mut state = self.state.borrow_mut();
        let task = state.next_task;
        state.next_task += 1;
        state.act(action(task));
        state.open.insert(task, None);
        task
    }

    pub(crate) fn act(&self, action: Action) {
        self.state.borrow_mut().act(action);
    }

    pub(crate) fn poll_task(&self, task: TaskId, cx: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.state.borrow_mut();
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

    pub(crate) fn poll_event(
        &self,
        waiter: &mut Option<WaiterId>,
        name: &EventName,
        cx: &Context<'_>,
    ) -> Poll<Taken> {
        match self
            .state
            .borrow_mut()
            .mailbox
            .poll(waiter, name, cx.waker())
        {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }

    pub(crate) fn give_back(&self, taken: Taken) {
        let woken = self.state.borrow_mut().mailbox.give_back(taken);
        wake(woken);
    }

    pub(crate) fn abandon_waiter(&self, waiter: WaiterId) {
        let woken = self.state.borrow_mut().mailbox.abandon(waiter);
        wake(woken);
    }

    pub(crate) fn unconsumed_events(&self) -> Vec<u32> {
        self.state.borrow().mailbox.unconsumed()
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

    pub(crate) fn raise_event(&self, event: ExternalEvent) {
        let now = self.turn().now;
        let woken = self.state.borrow_mut().mailbox.deliver(event, now);
        wake(woken);
    }

    /// Whether any event could wake the orchestration.
    pub(crate) fn can_be_woken(&self) -> bool {
        let state = self.state.borrow();
        !state.open.is_empty() || state.mailbox.has_idle_waiters()
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let state = self.state.borrow();
        Waiting {
            events: state.mailbox.awaited(),
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
    fn act(&mut self, action: Action) {
        if !self.ended {
            self.actions.push(action);
        }
    }
}

// Called without a borrow of the state: a waker may be anybody's.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
