//! Random answers of a worker through the core and back: each later turn tells the worker exactly what it asked for and what came of it.

use std::collections::{BTreeMap, HashMap};

use perennial_core::{
    AttemptRun, Digest, Failure, Json, Limits, Message, Names, Resolved, SEMANTICS_VERSION, Start,
    State, TaskId, TaskRef, Timestamp, Turn, TurnContext, TurnStep, begin_turn,
};
use proptest::prelude::*;

use super::*;
use crate::engine::remote::{ActivityItem, OrchestrationItem};
use crate::grpc::generated::history_event::EventType;
use crate::grpc::generated::orchestrator_action::OrchestratorActionType as Asked;
use crate::grpc::{payload, time};

struct Everywhere;

impl Names for Everywhere {
    fn activity(&self, _: Option<Digest>, _: &str) -> Resolved {
        Resolved::Remote
    }

    fn orchestration(&self, _: Option<Digest>, _: &str, _: Option<&str>) -> Resolved {
        Resolved::Remote
    }
}

fn start() -> Message {
    Message::Start(Box::new(Start {
        instance_id: "order".to_owned(),
        execution_id: "e0".to_owned(),
        execution: 0,
        name: "Order".to_owned(),
        version: Some("2".to_owned()),
        input: Some(payload::from_text("no JSON".to_owned())),
        parent: None,
        tags: vec![("a".to_owned(), "b".to_owned())],
        trace_parent: None,
        seed: 1,
        module: None,
        limits: Limits::default(),
        next_external: 0,
        semantics: SEMANTICS_VERSION,
        accepted_at: Timestamp(900),
        scheduled_for: None,
    }))
}

fn payloads() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(prop_oneof![
        Just(String::new()),
        Just("null".to_owned()),
        Just("{\"a\":[1]}".to_owned()),
        Just("\"\\u0000\"".to_owned()),
        ".{0,8}",
    ])
}

fn tags() -> impl Strategy<Value = HashMap<String, String>> {
    proptest::collection::hash_map("[a-c]{1,2}", "[x-z]{0,2}", 0..3)
}

fn actions() -> impl Strategy<Value = Asked> {
    let version = || proptest::option::of("[1-3]");
    prop_oneof![
        ("[A-C]", version(), payloads(), tags()).prop_map(|(name, version, input, tags)| {
            Asked::ScheduleTask(wire::ScheduleTaskAction {
                name,
                version,
                input,
                tags,
                parent_trace_context: None,
            })
        }),
        ("[A-C]", version(), payloads(), tags(), "[k-m]{0,3}").prop_map(
            |(name, version, input, tags, instance_id)| {
                Asked::CreateSubOrchestration(wire::CreateSubOrchestrationAction {
                    instance_id,
                    name,
                    version,
                    input,
                    parent_trace_context: None,
                    tags,
                })
            }
        ),
        (0_i64..10, 0_i32..1_000).prop_map(|(seconds, ms)| {
            let nanos = ms * 1_000_000;
            let fire_at = Some(prost_types::Timestamp { seconds, nanos });
            Asked::CreateTimer(wire::CreateTimerAction { fire_at })
        }),
        ("[A-C]", payloads()).prop_map(|(name, data)| {
            let instance = Some(wire::OrchestrationInstance {
                instance_id: "other".to_owned(),
                execution_id: None,
            });
            Asked::SendEvent(wire::SendEventAction {
                instance,
                name,
                data,
            })
        }),
    ]
}

/// What a turn asks for, with gaps between the ids; what comes of an open task; an event from outside.
type Step = (
    Vec<(i32, Asked)>,
    Vec<(usize, Result<Option<String>, String>)>,
    Option<Option<String>>,
);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let asked = proptest::collection::vec((0..3, actions()), 0..4);
    let outcome = prop_oneof![payloads().prop_map(Ok), "[a-z]{1,4}".prop_map(Err)];
    let ends = proptest::collection::vec((0_usize..8, outcome), 0..3);
    let raised = proptest::option::weighted(0.3, payloads());
    proptest::collection::vec((asked, ends, raised), 1..7)
}

/// What the worker knows: what it asked for, and what it expects to be told in the next turn.
#[derive(Default)]
struct Model {
    next_id: i32,
    asked: BTreeMap<i32, Asked>,
    open: Vec<i32>,
    told: Vec<EventType>,
}

impl Model {
    fn ask(&mut self, actions: &[(i32, Asked)]) -> Vec<wire::OrchestratorAction> {
        let asked = actions.iter().map(|(gap, asked)| {
            let id = self.next_id + gap;
            self.next_id = id + 1;
            self.asked.insert(id, asked.clone());
            if !matches!(asked, Asked::SendEvent(_)) {
                self.open.push(id);
            }
            wire::OrchestratorAction {
                id,
                orchestrator_action_type: Some(asked.clone()),
            }
        });
        // A worker may send them in any order.
        let mut asked: Vec<_> = asked.collect();
        asked.reverse();
        asked
    }

    /// The message that ends an open task, and what the worker is to be told of it.
    fn end(&mut self, which: usize, outcome: &Result<Option<String>, String>) -> Option<Message> {
        let which = which.checked_rem(self.open.len())?;
        let id = self.open.remove(which);
        let task = TaskRef {
            execution: 0,
            generation: 0,
            task: TaskId(id as u32),
        };
        let kept = outcome.clone().map(|text| text.map(payload::from_text));
        let kept = kept.map_err(|kind| Failure::retryable(kind, "m"));
        let details = outcome.as_ref().err().map(|kind| wire::TaskFailureDetails {
            error_type: kind.clone(),
            error_message: "m".to_owned(),
            ..Default::default()
        });
        let result = outcome.clone().ok().flatten();
        let (message, told) = match &self.asked[&id] {
            Asked::ScheduleTask(_) => (
                Message::ActivityEnded {
                    task,
                    outcome: kept,
                    run: AttemptRun::default(),
                },
                match details {
                    None => EventType::TaskCompleted(wire::TaskCompletedEvent {
                        task_scheduled_id: id,
                        result,
                    }),
                    failure_details => EventType::TaskFailed(wire::TaskFailedEvent {
                        task_scheduled_id: id,
                        failure_details,
                    }),
                },
            ),
            Asked::CreateSubOrchestration(_) => (
                Message::ChildEnded {
                    task,
                    attempt: 1,
                    outcome: kept,
                },
                match details {
                    None => EventType::SubOrchestrationInstanceCompleted(
                        wire::SubOrchestrationInstanceCompletedEvent {
                            task_scheduled_id: id,
                            result,
                        },
                    ),
                    failure_details => EventType::SubOrchestrationInstanceFailed(
                        wire::SubOrchestrationInstanceFailedEvent {
                            task_scheduled_id: id,
                            failure_details,
                        },
                    ),
                },
            ),
            Asked::CreateTimer(timer) => (
                Message::TimerFired { task },
                EventType::TimerFired(wire::TimerFiredEvent {
                    fire_at: timer.fire_at,
                    timer_id: id,
                }),
            ),
            other => panic!("{other:?} has no end"),
        };
        self.told.push(told);
        Some(message)
    }

    /// Each action is in the history once, under its id and with everything that was asked for.
    fn check_past(&self, past: &[wire::HistoryEvent]) {
        let mut recorded = BTreeMap::new();
        for event in past {
            let asked = match event.event_type.clone().unwrap() {
                EventType::TaskScheduled(task) => Asked::ScheduleTask(wire::ScheduleTaskAction {
                    name: task.name,
                    version: task.version,
                    input: task.input,
                    tags: task.tags,
                    parent_trace_context: None,
                }),
                EventType::SubOrchestrationInstanceCreated(mut child) => {
                    if child.instance_id == format!("e0:{}", event.event_id) {
                        child.instance_id = String::new();
                    }
                    Asked::CreateSubOrchestration(wire::CreateSubOrchestrationAction {
                        instance_id: child.instance_id,
                        name: child.name,
                        version: child.version,
                        input: child.input,
                        parent_trace_context: None,
                        tags: child.tags,
                    })
                }
                EventType::TimerCreated(timer) => {
                    let fire_at = timer.fire_at;
                    Asked::CreateTimer(wire::CreateTimerAction { fire_at })
                }
                EventType::EventSent(sent) => Asked::SendEvent(wire::SendEventAction {
                    instance: Some(wire::OrchestrationInstance {
                        instance_id: sent.instance_id,
                        execution_id: None,
                    }),
                    name: sent.name,
                    data: sent.input,
                }),
                _ => {
                    assert_eq!(event.event_id, -1, "{event:?}");
                    continue;
                }
            };
            assert!(recorded.insert(event.event_id, asked).is_none());
        }
        assert_eq!(recorded, self.asked);
    }
}

/// The item of a turn, as its worker gets it.
fn told(past: &Arc<Vec<Turn>>, turn: &perennial_core::AskedTurn) -> wire::OrchestratorRequest {
    let item = OrchestrationItem {
        token: "t".to_owned(),
        instance_id: "order".to_owned(),
        execution_id: "e0".to_owned(),
        past: Arc::clone(past),
        at: turn.at(),
        received: turn.received().to_vec(),
    };
    let sent = translated(WorkItem::Orchestration(Box::new(item)), false).unwrap();
    match sent.request {
        Some(Work::OrchestratorRequest(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn runs(steps: Vec<Step>) {
    let (mut state, mut model) = (State::new(0), Model::default());
    let mut past = Arc::new(Vec::new());
    let mut messages = vec![start()];
    for (n, (actions, ends, raised)) in steps.into_iter().enumerate() {
        let now = Timestamp(20_000 + n as u64);
        let mut fresh = || ("e1".to_owned(), 2);
        let mut context = TurnContext {
            now,
            names: &Everywhere,
            fresh: &mut fresh,
        };
        let messages_now = std::mem::take(&mut messages);
        let step = begin_turn(&mut state, messages_now, &mut context).unwrap();
        let TurnStep::Ask(turn) = step else { return };
        let request = told(&past, &turn);
        model.check_past(&request.past_events);
        let new = request.new_events;
        assert!(matches!(
            new[0].event_type,
            Some(EventType::OrchestratorStarted(_))
        ));
        assert_eq!(new[0].timestamp, Some(time::to_wire(now)));
        let skipped = if n == 0 { 2 } else { 1 };
        let new = new.into_iter().skip(skipped);
        let new: Vec<EventType> = new.filter_map(|event| event.event_type).collect();
        assert_eq!(new, std::mem::take(&mut model.told));
        let answer = from_wire::answer(model.ask(&actions), None);
        let turn = turn
            .answered(&mut state, &mut context, Ok(answer.answer))
            .unwrap();
        assert!(state.running().is_some(), "{:?}", state.end());
        Arc::make_mut(&mut past).push(turn);
        messages.extend(
            ends.iter()
                .filter_map(|(which, outcome)| model.end(*which, outcome)),
        );
        if let Some(data) = raised {
            let told = wire::EventRaisedEvent {
                name: "Go".to_owned(),
                input: data.clone(),
            };
            model.told.push(EventType::EventRaised(told));
            messages.push(Message::ExternalEvent {
                number: None,
                name: "Go".to_owned(),
                data: data.map(payload::from_text),
            });
        }
    }
}

proptest! {
    #[test]
    fn a_worker_is_told_what_it_asked_for_and_what_came_of_it(steps in steps()) {
        runs(steps);
    }
}

#[test]
fn an_item_that_no_message_can_hold_fails_what_it_is_about() {
    let item = ActivityItem {
        token: "t".to_owned(),
        name: "Ship".to_owned(),
        version: None,
        input: Some(Json::from_text(format!("\"{}\"", "x".repeat(64 << 20)))),
        instance_id: "order".to_owned(),
        execution_id: "e0".to_owned(),
        task: TaskId(0),
        tags: Vec::new(),
        trace_parent: None,
    };
    let failure = translated(WorkItem::Activity(Box::new(item)), false).unwrap_err();
    assert_eq!(failure.kind, perennial_core::kind::LIMIT_EXCEEDED);
    assert!(
        failure.message.contains("smaller input"),
        "{}",
        failure.message
    );
}
