//! A small SDK for workers, written from the protocol alone: orchestrators are futures that are replayed with each turn.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::generated as wire;
use crate::generated::history_event::EventType;
use crate::generated::orchestrator_action::OrchestratorActionType as Asked;

/// How the SDKs of the languages differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// Ids begin at 1.
    Python,
    /// Sends an empty custom status if there is none, and leaves the ids of children to the host.
    Java,
    /// Streams long histories, and derives the ids of children from the id of the execution.
    DotNet,
}

/// How an orchestrator ends.
#[derive(Debug)]
pub(crate) enum End {
    Done(Option<String>),
    Failed(wire::TaskFailureDetails),
    Again {
        input: Option<String>,
        version: Option<String>,
        carry: bool,
    },
}

type Outcome = Result<Option<String>, wire::TaskFailureDetails>;

/// An orchestrator of the SDK.
pub(crate) type Orchestrator = fn(Ctx) -> Pin<Box<dyn Future<Output = End>>>;

/// What an orchestrator sees.
#[derive(Clone)]
pub(crate) struct Ctx(Rc<RefCell<Inner>>);

struct Inner {
    language: Language,
    next_id: i32,
    now: prost_types::Timestamp,
    started: wire::ExecutionStartedEvent,
    /// What was asked for and is not in the history yet.
    actions: BTreeMap<i32, Asked>,
    outcomes: HashMap<i32, Outcome>,
    events: HashMap<String, VecDeque<(String, Option<String>)>>,
    custom_status: Option<String>,
}

/// A task that was asked for. Its id is known before it ends.
pub(crate) struct Task {
    ctx: Ctx,
    pub(crate) id: i32,
}

impl Future for Task {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Outcome> {
        match self.ctx.0.borrow_mut().outcomes.remove(&self.id) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl Ctx {
    fn ask(&self, id: Option<i32>, asked: Asked) -> Task {
        let mut inner = self.0.borrow_mut();
        let id = id.unwrap_or_else(|| {
            inner.next_id += 1;
            inner.next_id - 1
        });
        inner.actions.insert(id, asked);
        let ctx = self.clone();
        Task { ctx, id }
    }

    pub(crate) fn input(&self) -> Option<String> {
        self.0.borrow().started.input.clone()
    }

    pub(crate) fn started(&self) -> wire::ExecutionStartedEvent {
        self.0.borrow().started.clone()
    }

    pub(crate) fn instance(&self) -> wire::OrchestrationInstance {
        self.started().orchestration_instance.unwrap()
    }

    pub(crate) fn activity(&self, name: &str, input: Option<&str>) -> Task {
        self.activity_again(None, name, input)
    }

    /// Calls an activity under an id that was used before, as some SDKs do for a retry.
    pub(crate) fn activity_again(&self, id: Option<i32>, name: &str, input: Option<&str>) -> Task {
        let call = wire::ScheduleTaskAction {
            name: name.to_owned(),
            input: input.map(str::to_owned),
            ..Default::default()
        };
        self.ask(id, Asked::ScheduleTask(call))
    }

    pub(crate) fn child(&self, name: &str, input: Option<&str>) -> Task {
        let instance = self.instance();
        let next = self.0.borrow().next_id;
        let instance_id = match self.0.borrow().language {
            Language::Python => format!("{}:{next:04x}", instance.instance_id),
            Language::Java => String::new(),
            Language::DotNet => format!("{}:{next}", instance.execution_id.unwrap()),
        };
        let call = wire::CreateSubOrchestrationAction {
            instance_id,
            name: name.to_owned(),
            input: input.map(str::to_owned),
            ..Default::default()
        };
        self.ask(None, Asked::CreateSubOrchestration(call))
    }

    /// A timer that fires so many milliseconds from now.
    pub(crate) fn timer(&self, ms: i64) -> Task {
        let now = self.0.borrow().now;
        let nanos = i64::from(now.nanos) + ms * 1_000_000;
        let fire_at = prost_types::Timestamp {
            seconds: now.seconds + nanos.div_euclid(1_000_000_000),
            nanos: nanos.rem_euclid(1_000_000_000) as i32,
        };
        let fire_at = Some(fire_at);
        self.ask(
            None,
            Asked::CreateTimer(wire::CreateTimerAction { fire_at }),
        )
    }

    pub(crate) fn send(&self, to: &str, name: &str, data: Option<&str>) {
        let event = wire::SendEventAction {
            instance: Some(wire::OrchestrationInstance {
                instance_id: to.to_owned(),
                execution_id: None,
            }),
            name: name.to_owned(),
            data: data.map(str::to_owned),
        };
        self.ask(None, Asked::SendEvent(event));
    }

    pub(crate) async fn event(&self, name: &str) -> Option<String> {
        let name = name.to_lowercase();
        std::future::poll_fn(|_| {
            let mut inner = self.0.borrow_mut();
            let queue = inner.events.entry(name.clone()).or_default();
            queue
                .pop_front()
                .map_or(Poll::Pending, |(_, data)| Poll::Ready(data))
        })
        .await
    }

    pub(crate) fn show(&self, status: &str) {
        self.0.borrow_mut().custom_status = Some(status.to_owned());
    }
}

/// A failure of the SDK's own, with another one inside.
pub(crate) fn failure(
    kind: &str,
    message: &str,
    inner: Option<wire::TaskFailureDetails>,
) -> wire::TaskFailureDetails {
    wire::TaskFailureDetails {
        error_type: kind.to_owned(),
        error_message: message.to_owned(),
        stack_trace: Some(format!("at {kind}")),
        inner_failure: inner.map(Box::new),
        ..Default::default()
    }
}

/// What a turn comes to.
pub(crate) struct Turn {
    pub(crate) actions: Vec<wire::OrchestratorAction>,
    pub(crate) custom_status: Option<String>,
}

/// Replays the events of the past, handles the new ones, and answers.
///
/// # Panics
/// If the history is not that of this orchestrator.
pub(crate) fn run(
    language: Language,
    find: impl Fn(&str) -> Orchestrator,
    past: Vec<wire::HistoryEvent>,
    new: Vec<wire::HistoryEvent>,
) -> Turn {
    assert!(
        matches!(new[0].event_type, Some(EventType::OrchestratorStarted(_))),
        "{new:?}"
    );
    let ctx = Ctx(Rc::new(RefCell::new(Inner {
        language,
        next_id: i32::from(language == Language::Python),
        now: prost_types::Timestamp::default(),
        started: wire::ExecutionStartedEvent::default(),
        actions: BTreeMap::new(),
        outcomes: HashMap::new(),
        events: HashMap::new(),
        custom_status: None,
    })));
    let mut running: Option<Pin<Box<dyn Future<Output = End>>>> = None;
    let mut end = None;
    for event in past.into_iter().chain(new) {
        if let Some(EventType::ExecutionStarted(started)) = &event.event_type {
            assert!(running.is_none(), "it starts once");
            ctx.0.borrow_mut().started = started.clone();
            running = Some(find(&started.name)(ctx.clone()));
        } else {
            take(&ctx, event);
        }
        if let (Some(future), None) = (&mut running, &end)
            && let Poll::Ready(ends) = future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        {
            end = Some(ends);
        }
    }
    answer(&ctx, end)
}

fn take(ctx: &Ctx, event: wire::HistoryEvent) {
    let mut inner = ctx.0.borrow_mut();
    let id = event.event_id;
    let mut asked = || inner.actions.remove(&id);
    match event.event_type.unwrap() {
        EventType::OrchestratorStarted(_) => inner.now = event.timestamp.unwrap(),
        EventType::TaskScheduled(scheduled) => match asked() {
            Some(Asked::ScheduleTask(call)) => {
                assert_eq!((call.name, call.input), (scheduled.name, scheduled.input));
                assert_eq!(
                    (call.version, call.tags),
                    (scheduled.version, scheduled.tags)
                );
            }
            other => panic!("{id}: {other:?} is no {scheduled:?}"),
        },
        EventType::SubOrchestrationInstanceCreated(created) => match asked() {
            Some(Asked::CreateSubOrchestration(call)) => {
                assert_eq!((call.name, call.input), (created.name, created.input));
                assert!(!created.instance_id.is_empty());
                assert!(call.instance_id.is_empty() || call.instance_id == created.instance_id);
            }
            other => panic!("{id}: {other:?} is no {created:?}"),
        },
        EventType::TimerCreated(created) => match asked() {
            Some(Asked::CreateTimer(timer)) => assert_eq!(timer.fire_at, created.fire_at),
            other => panic!("{id}: {other:?} is no {created:?}"),
        },
        EventType::EventSent(sent) => match asked() {
            Some(Asked::SendEvent(event)) => {
                assert_eq!((event.name, event.data), (sent.name, sent.input));
                assert_eq!(event.instance.unwrap().instance_id, sent.instance_id);
            }
            other => panic!("{id}: {other:?} is no {sent:?}"),
        },
        EventType::TaskCompleted(done) => {
            inner
                .outcomes
                .insert(done.task_scheduled_id, Ok(done.result));
        }
        EventType::TaskFailed(failed) => {
            let failure = failed.failure_details.unwrap();
            inner
                .outcomes
                .insert(failed.task_scheduled_id, Err(failure));
        }
        EventType::SubOrchestrationInstanceCompleted(done) => {
            inner
                .outcomes
                .insert(done.task_scheduled_id, Ok(done.result));
        }
        EventType::SubOrchestrationInstanceFailed(failed) => {
            let failure = failed.failure_details.unwrap();
            inner
                .outcomes
                .insert(failed.task_scheduled_id, Err(failure));
        }
        EventType::TimerFired(fired) => {
            assert!(fired.fire_at.is_some());
            inner.outcomes.insert(fired.timer_id, Ok(None));
        }
        EventType::EventRaised(raised) => {
            let key = raised.name.to_lowercase();
            let queue = inner.events.entry(key).or_default();
            queue.push_back((raised.name, raised.input));
        }
        other => panic!("workers are not told of {other:?}"),
    }
}

fn answer(ctx: &Ctx, end: Option<End>) -> Turn {
    let mut inner = ctx.0.borrow_mut();
    if let Some(end) = end {
        let carried = std::mem::take(&mut inner.events);
        let id = inner.next_id;
        let complete = completed(end, carried);
        inner
            .actions
            .insert(id, Asked::CompleteOrchestration(complete));
    }
    let actions = std::mem::take(&mut inner.actions);
    let actions = actions
        .into_iter()
        .map(|(id, asked)| wire::OrchestratorAction {
            id,
            orchestrator_action_type: Some(asked),
        });
    let mut custom_status = inner.custom_status.take();
    if inner.language == Language::Java {
        custom_status = Some(custom_status.unwrap_or_default());
    }
    Turn {
        actions: actions.collect(),
        custom_status,
    }
}

fn completed(
    end: End,
    events: HashMap<String, VecDeque<(String, Option<String>)>>,
) -> wire::CompleteOrchestrationAction {
    let status = |status: wire::OrchestrationStatus| wire::CompleteOrchestrationAction {
        orchestration_status: status.into(),
        ..Default::default()
    };
    match end {
        End::Done(result) => wire::CompleteOrchestrationAction {
            result,
            ..status(wire::OrchestrationStatus::Completed)
        },
        End::Failed(failure) => wire::CompleteOrchestrationAction {
            failure_details: Some(failure),
            ..status(wire::OrchestrationStatus::Failed)
        },
        End::Again {
            input,
            version,
            carry,
        } => {
            let events = events.into_values().flatten().filter(|_| carry);
            let events = events.map(|(name, input)| wire::HistoryEvent {
                event_id: -1,
                timestamp: None,
                event_type: Some(EventType::EventRaised(wire::EventRaisedEvent {
                    name,
                    input,
                })),
            });
            wire::CompleteOrchestrationAction {
                result: input,
                new_version: version,
                carryover_events: events.collect(),
                ..status(wire::OrchestrationStatus::ContinuedAsNew)
            }
        }
    }
}
