//! The machine that turns events into actions: it polls one orchestration to quiescence after each event.
//!
//! Laws: the answer depends on the events alone; each event is handled to quiescence before the next; whatever the orchestration
//! awaits, a turn ends, and an orchestration that nothing can wake any more fails instead of waiting for ever.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll, Wake, Waker};

use crate::bindings::orchestrations::{
    Continuation, Ended, Event, Request, Start, State, Turn, TurnStart,
};
use crate::bindings::types;
use crate::definition::{Component, OrchestrationFuture};
use crate::execution::{Execution, not_answered};
use crate::failure::{Continued, End, Failure};
use crate::validator::judge;
use crate::{Context, Validator, kind};

/// One execution of one of a component's orchestrations.
pub(crate) struct Machine {
    component: Component,
    signal: Arc<Signal>,
    waker: Waker,
    progress: Progress,
}

enum Progress {
    Fresh,
    Running(Running),
    Ended,
}

struct Running {
    execution: Rc<Execution>,
    validators: &'static [Validator],
    root: OrchestrationFuture,
}

/// Remembers that somebody woke the orchestration. Atomic because a waker must be; a component has one thread.
struct Signal(AtomicBool);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Machine {
    pub(crate) fn new(component: Component) -> Self {
        let signal = Arc::new(Signal(AtomicBool::new(false)));
        Self {
            component,
            waker: Waker::from(Arc::clone(&signal)),
            signal,
            progress: Progress::Fresh,
        }
    }

    /// Handles the events of the next turn. After one that ends the execution it ignores the rest.
    ///
    /// # Panics
    ///
    /// If the contract is broken: the first event is not the start of a turn, the second of the first turn not the start of the
    /// execution, either of them comes again, or the execution has ended.
    pub(crate) fn advance(&mut self, events: Vec<Event>) -> Turn {
        let mut events = events.into_iter();
        let Some(Event::TurnStarted(turn)) = events.next() else {
            panic!("contract broken: the first event of a turn is `turn-started`");
        };
        let mut end = match &self.progress {
            Progress::Ended => panic!("contract broken: the execution has ended"),
            Progress::Running(running) => {
                running.execution.begin_turn(turn);
                None
            }
            Progress::Fresh => {
                let Some(Event::ExecutionStarted(start)) = events.next() else {
                    panic!(
                        "contract broken: the second event of the first turn is `execution-started`"
                    );
                };
                self.start(start, turn)
            }
        };
        let Progress::Running(running) = &mut self.progress else {
            unreachable!("it was running or has just started")
        };
        while end.is_none() {
            let Some(event) = events.next() else { break };
            running.take_in(event);
            end = running.settle(&self.signal, &self.waker);
        }
        if let Some(State::ContinuedAsNew(continuation)) = &mut end {
            // They were given to this execution, so nobody else moves them over: how events are batched must not matter.
            let rest = events.filter_map(|event| match event {
                Event::ExternalEventRaised(event) => Some(event.number),
                Event::RequestReceived(request) => Some(request.number),
                Event::TurnStarted(_)
                | Event::ExecutionStarted(_)
                | Event::TaskCompleted(_)
                | Event::TimerFired(_)
                | Event::CancellationRequested(_) => None,
            });
            continuation.carry_over.extend(rest);
        }
        let actions = running.execution.take_actions();
        let state = match end {
            None => State::Waiting(running.execution.waiting()),
            Some(state) => {
                running.execution.end();
                self.progress = Progress::Ended;
                state
            }
        };
        Turn { actions, state }
    }

    fn start(&mut self, start: Start, turn: TurnStart) -> Option<State> {
        let found = self
            .component
            .orchestrations
            .iter()
            .find(|orchestration| orchestration.matches(&start.name, start.version.as_deref()));
        let execution = Rc::new(Execution::new(Box::new(self.component), start, turn));
        let context = Context::new(Rc::clone(&execution));
        let root = match found {
            Some(orchestration) => (orchestration.start)(context),
            None => Box::pin(std::future::ready(Err(unknown(&execution.start)))),
        };
        self.signal.0.store(true, Ordering::Relaxed);
        let running = Running {
            execution,
            validators: found.map_or(&[], |orchestration| orchestration.validators),
            root,
        };
        self.progress = Progress::Running(running);
        let Progress::Running(running) = &mut self.progress else {
            unreachable!("it was just set")
        };
        running.settle(&self.signal, &self.waker)
    }
}

impl Running {
    fn take_in(&self, event: Event) {
        match event {
            Event::TaskCompleted(result) => {
                self.execution.complete_task(result.task, result.outcome)
            }
            Event::TimerFired(task) => self.execution.complete_task(task, Ok(None)),
            Event::ExternalEventRaised(event) => self.execution.deliver(event),
            Event::RequestReceived(request) => self.receive(request),
            Event::CancellationRequested(asked) => self.execution.request_cancellation(asked),
            Event::TurnStarted(_) => {
                panic!("contract broken: `turn-started` is only the first event of a turn")
            }
            Event::ExecutionStarted(_) => {
                panic!("contract broken: the execution has started already")
            }
        }
    }

    /// Takes in a request, unless its validator rejects it: the host cannot always ask before.
    fn receive(&self, request: Request) {
        match judge(self.validators, &request.name, request.input.as_deref()) {
            Ok(()) => self.execution.deliver(request),
            Err(failure) => (self.execution).respond(request.number, Err(failure.into_wit())),
        }
    }

    /// Polls until no wake-up is pending. Returns the orchestration's end, if it is reached.
    fn settle(&mut self, signal: &Signal, waker: &Waker) -> Option<State> {
        let mut cx = task::Context::from_waker(waker);
        while signal.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(result) = Pin::as_mut(&mut self.root).poll(&mut cx) {
                return Some(self.end_state(result));
            }
        }
        if self.execution.can_be_woken() {
            return None;
        }
        Some(self.end_state(Err(foreign_await())))
    }

    fn end_state(&self, result: Result<Option<String>, Failure>) -> State {
        match result.map_err(Failure::into_end) {
            Ok(output) => State::Completed(output),
            Err(End::Continued(Continued {
                input,
                version,
                keep_events,
            })) => State::ContinuedAsNew(Continuation {
                input,
                version,
                carry_over: self.carry_over(keep_events),
            }),
            Err(End::Failed { failure, .. })
                if self.execution.cancellation().is_some() && is_cancellation(&failure) =>
            {
                State::Canceled
            }
            Err(End::Failed { failure, origin }) => State::Failed(Ended {
                failure,
                cause: origin,
            }),
        }
    }

    /// What moves over to the next execution: each request that nobody has taken, since somebody waits for its answer, and events if they
    /// are kept. A request that was taken nobody could answer later, so it is rejected now.
    fn carry_over(&self, keep_events: bool) -> Vec<u32> {
        for number in self.execution.unanswered_requests() {
            let failure = not_answered("the orchestration has continued as new without an answer");
            self.execution.answer(number, Err(failure));
        }
        let mut numbers = self.execution.unconsumed_requests();
        if keep_events {
            numbers.extend(self.execution.unconsumed_events());
        }
        numbers.sort_unstable();
        numbers
    }
}

/// Whether this is how a cancellation unwinds. One whose compensations failed is a failure.
fn is_cancellation(failure: &types::Failure) -> bool {
    let mut causes = failure.causes.iter();
    failure.kind == kind::CANCELED && !causes.any(|cause| cause.kind == kind::COMPENSATION_FAILED)
}

fn unknown(start: &Start) -> Failure {
    let version = start
        .version
        .as_deref()
        .map(|version| format!(" version {version:?}"))
        .unwrap_or_default();
    Failure::new(
        kind::UNKNOWN_ORCHESTRATION,
        format!(
            "this component defines no orchestration {:?}{version}",
            start.name
        ),
    )
    .not_retryable()
}

fn foreign_await() -> Failure {
    Failure::new(
        kind::FOREIGN_AWAIT,
        "the orchestration awaits something that can never happen: no activity, child, timer, external event or request is open that could \
         wake it. An orchestration can only await what its `Context` makes, and combinations of that; sleep with `ctx.timer`, and do input \
         and output in an activity",
    )
    .not_retryable()
}
