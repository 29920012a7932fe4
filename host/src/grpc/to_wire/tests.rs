use perennial_core::{
    AttemptRun, Digest, Failure, Limits, Millis, Parent, SEMANTICS_VERSION, Target, TaskRef,
};

use super::*;

fn start() -> Start {
    Start {
        instance_id: "order".to_owned(),
        execution_id: "e1".to_owned(),
        execution: 0,
        name: "Order".to_owned(),
        version: Some("2.0".to_owned()),
        input: Some(Json::from_text("1")),
        parent: Some(Parent {
            instance_id: "shop".to_owned(),
            name: "Shop".to_owned(),
            task: TaskRef {
                execution: 0,
                generation: 0,
                task: TaskId(7),
            },
            attempt: 1,
        }),
        tags: vec![("region".to_owned(), "eu".to_owned())],
        trace_parent: Some("00-aaaa-bbbb-01".to_owned()),
        seed: 1,
        module: Some(Digest([0; 32])),
        limits: Limits::default(),
        next_external: 0,
        semantics: SEMANTICS_VERSION,
        accepted_at: Timestamp(1),
        scheduled_for: Some(Timestamp(2_500)),
    }
}

fn json(text: &str) -> Option<Json> {
    Some(Json::from_text(text))
}

fn translated(events: Vec<Event>) -> Vec<wire::HistoryEvent> {
    let (mut to_wire, mut all) = (ToWire::default(), Vec::new());
    for event in events {
        to_wire.event(Timestamp(9_000), event, &mut all);
    }
    all
}

fn one(event: Event) -> (i32, EventType) {
    let mut all = translated(vec![event]);
    let one = all.pop().unwrap();
    assert!(all.is_empty());
    assert_eq!(one.timestamp, Some(time::to_wire(Timestamp(9_000))));
    (one.event_id, one.event_type.unwrap())
}

fn begun(now: u64) -> Event {
    Event::TurnStarted {
        now: Timestamp(now),
        history_events: 0,
        history_bytes: 0,
    }
}

#[test]
fn a_turn_begins_at_the_time_that_its_orchestrator_sees() {
    let all = translated(vec![begun(8_999)]);
    assert_eq!(all[0].timestamp, Some(time::to_wire(Timestamp(8_999))));
    assert_eq!(all[0].event_id, -1);
    assert!(matches!(
        all[0].event_type,
        Some(EventType::OrchestratorStarted(_))
    ));
}

#[test]
fn a_start_tells_everything_that_the_protocol_has() {
    let (id, started) = one(Event::ExecutionStarted(Box::new(start())));
    let EventType::ExecutionStarted(started) = started else {
        panic!("{started:?}")
    };
    assert_eq!((id, &*started.name), (-1, "Order"));
    assert_eq!(started.version.as_deref(), Some("2.0"));
    assert_eq!(started.input.as_deref(), Some("1"));
    let instance = started.orchestration_instance.unwrap();
    assert_eq!(instance.instance_id, "order");
    assert_eq!(instance.execution_id.as_deref(), Some("e1"));
    let parent = started.parent_instance.unwrap();
    assert_eq!(parent.task_scheduled_id, 7);
    assert_eq!(parent.name.as_deref(), Some("Shop"));
    assert_eq!(parent.orchestration_instance.unwrap().instance_id, "shop");
    assert_eq!(
        started.scheduled_start_timestamp,
        Some(time::to_wire(Timestamp(2_500)))
    );
    let trace = started.parent_trace_context.unwrap();
    assert_eq!(trace.trace_parent, "00-aaaa-bbbb-01");
    assert_eq!(started.tags["region"], "eu");
}

#[test]
fn calls_have_the_ids_of_their_tasks_and_outcomes_refer_to_them() {
    let (id, scheduled) = one(Event::ActivityScheduled {
        task: TaskId(3),
        name: "Ship".to_owned(),
        input: json("\"\\u0000raw\""),
        retry: None,
        attempt_timeout: Some(Millis(1)),
        target: Target::Native,
    });
    let EventType::TaskScheduled(scheduled) = scheduled else {
        panic!("{scheduled:?}")
    };
    assert_eq!((id, &*scheduled.name), (3, "Ship"));
    assert_eq!(scheduled.input.as_deref(), Some("raw"));
    let run = AttemptRun::default();
    let (id, done) = one(Event::ActivityCompleted {
        task: TaskId(3),
        output: json("null"),
        run,
    });
    let EventType::TaskCompleted(done) = done else {
        panic!("{done:?}")
    };
    assert_eq!((id, done.task_scheduled_id), (-1, 3));
    assert_eq!(done.result.as_deref(), Some("null"));
    let (_, failed) = one(Event::ActivityFailed {
        task: TaskId(3),
        failure: Failure::permanent("Declined", "no money"),
        run,
    });
    let EventType::TaskFailed(failed) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(failed.task_scheduled_id, 3);
    assert_eq!(failed.failure_details.unwrap().error_type, "Declined");
}

#[test]
fn details_belong_to_the_call_before_them() {
    let details = |task| Event::CallDetails {
        task: TaskId(task),
        version: Some("1.2".to_owned()),
        tags: vec![("a".to_owned(), "b".to_owned())],
    };
    let all = translated(vec![
        Event::ActivityScheduled {
            task: TaskId(3),
            name: "Ship".to_owned(),
            input: None,
            retry: None,
            attempt_timeout: None,
            target: Target::Remote,
        },
        details(3),
        Event::EventSent {
            instance_id: "b".to_owned(),
            name: "Go".to_owned(),
            data: None,
        },
        details(4),
    ]);
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].event_id, all[1].event_id), (3, 4));
    let Some(EventType::TaskScheduled(scheduled)) = &all[0].event_type else {
        panic!("{all:?}")
    };
    assert_eq!(scheduled.version.as_deref(), Some("1.2"));
    assert_eq!(scheduled.tags["a"], "b");
}

#[test]
fn children_are_told_like_calls() {
    let (id, created) = one(Event::ChildScheduled {
        task: TaskId(5),
        name: "Pay".to_owned(),
        version: None,
        instance_id: "pay".to_owned(),
        input: None,
        tags: vec![("a".to_owned(), "b".to_owned())],
        retry: None,
        target: Target::Unknown,
    });
    let EventType::SubOrchestrationInstanceCreated(created) = created else {
        panic!("{created:?}")
    };
    assert_eq!((id, &*created.instance_id, created.input), (5, "pay", None));
    assert_eq!(created.tags["a"], "b");
    let ended = |outcome: Result<Option<Json>, Failure>| {
        let task = TaskId(5);
        one(match outcome {
            Ok(output) => Event::ChildCompleted { task, output },
            Err(failure) => Event::ChildFailed { task, failure },
        })
    };
    let (_, EventType::SubOrchestrationInstanceCompleted(done)) = ended(Ok(None)) else {
        panic!("a child completed")
    };
    assert_eq!((done.task_scheduled_id, done.result), (5, None));
    let (_, EventType::SubOrchestrationInstanceFailed(done)) =
        ended(Err(Failure::retryable("Terminated", "from outside")))
    else {
        panic!("a child failed")
    };
    assert!(!done.failure_details.unwrap().is_non_retriable);
}

#[test]
fn a_timer_fires_with_the_time_that_it_was_set_for() {
    let task = TaskId(2);
    let all = translated(vec![
        Event::TimerSet {
            task,
            fire_at: Timestamp(20_000),
        },
        Event::TimerFired { task },
    ]);
    let due = Some(time::to_wire(Timestamp(20_000)));
    assert_eq!((all[0].event_id, all[1].event_id), (2, -1));
    let Some(EventType::TimerCreated(created)) = &all[0].event_type else {
        panic!("{all:?}")
    };
    assert_eq!(created.fire_at, due);
    let Some(EventType::TimerFired(fired)) = &all[1].event_type else {
        panic!("{all:?}")
    };
    assert_eq!((fired.fire_at, fired.timer_id), (due, 2));
}

#[test]
fn each_end_is_told_with_its_status() {
    let ends = [
        (
            Event::ExecutionCompleted { output: json("1") },
            wire::OrchestrationStatus::Completed,
            Some("1"),
        ),
        (
            Event::ExecutionFailed {
                failure: Failure::permanent("a", "b"),
                cause: None,
            },
            wire::OrchestrationStatus::Failed,
            None,
        ),
        (
            Event::ExecutionTerminated {
                reason: Some("enough".to_owned()),
            },
            wire::OrchestrationStatus::Terminated,
            Some("\"enough\""),
        ),
    ];
    for (event, status, result) in ends {
        let last = translated(vec![event]).pop().unwrap();
        let Some(EventType::ExecutionCompleted(end)) = last.event_type else {
            panic!("{last:?}")
        };
        assert_eq!(end.orchestration_status(), status);
        assert_eq!(end.result.as_deref(), result);
        let failed = status == wire::OrchestrationStatus::Failed;
        assert_eq!(end.failure_details.is_some(), failed);
    }
}

#[test]
fn commands_and_messages_are_told_and_the_rest_is_left_out() {
    let reason = || Some("because".to_owned());
    let told = translated(vec![
        Event::ExecutionSuspended { reason: reason() },
        Event::ExecutionResumed { reason: reason() },
        Event::ExternalEventRaised {
            number: 0,
            name: "Go".to_owned(),
            data: json("1"),
        },
        Event::EventSent {
            instance_id: "b".to_owned(),
            name: "Go".to_owned(),
            data: None,
        },
        Event::ContinuedAsNew {
            input: json("2"),
            version: None,
            carry_over: Vec::new(),
            execution_id: "e2".to_owned(),
        },
        Event::InstanceStartSkipped {
            instance_id: "c".to_owned(),
            reason: "in use".to_owned(),
        },
        Event::CustomStatusSet { value: json("1") },
        Event::TaskCanceled { task: TaskId(1) },
        Event::ExecutionReturned { output: None },
    ]);
    let told: Vec<EventType> = told.into_iter().filter_map(|e| e.event_type).collect();
    let input = |text: &str| Some(text.to_owned());
    let generic = "did not start instance \"c\": in use";
    assert_eq!(
        told,
        [
            EventType::ExecutionSuspended(wire::ExecutionSuspendedEvent {
                input: input("because")
            }),
            EventType::ExecutionResumed(wire::ExecutionResumedEvent {
                input: input("because")
            }),
            EventType::EventRaised(wire::EventRaisedEvent {
                name: "Go".to_owned(),
                input: input("1")
            }),
            EventType::EventSent(wire::EventSentEvent {
                instance_id: "b".to_owned(),
                name: "Go".to_owned(),
                input: None
            }),
            EventType::ContinueAsNew(wire::ContinueAsNewEvent { input: input("2") }),
            EventType::GenericEvent(wire::GenericEvent {
                data: input(generic)
            }),
        ]
    );
}
