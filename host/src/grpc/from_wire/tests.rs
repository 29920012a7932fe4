use std::collections::HashMap;

use perennial_core::InstanceOptions;

use super::*;

fn action(id: i32, what: Asked) -> wire::OrchestratorAction {
    wire::OrchestratorAction {
        id,
        orchestrator_action_type: Some(what),
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn json(text: &str) -> Option<Json> {
    Some(payload::from_text(text.to_owned()))
}

fn call(id: i32, name: &str) -> wire::OrchestratorAction {
    let call = wire::ScheduleTaskAction {
        name: name.to_owned(),
        input: text("[1]"),
        ..Default::default()
    };
    action(id, Asked::ScheduleTask(call))
}

fn complete(
    status: wire::OrchestrationStatus,
    result: Option<&str>,
) -> wire::CompleteOrchestrationAction {
    wire::CompleteOrchestrationAction {
        orchestration_status: status.into(),
        result: result.map(str::to_owned),
        ..Default::default()
    }
}

fn ends(complete: wire::CompleteOrchestrationAction) -> RemoteAnswer {
    answer(
        vec![action(-1, Asked::CompleteOrchestration(complete))],
        None,
    )
}

fn failed(answer: RemoteAnswer) -> Failure {
    match answer.answer.ending {
        Ending::Failed {
            failure,
            cause: None,
        } => failure,
        other => panic!("{other:?}"),
    }
}

/// The problem of an answer that is refused; none of its actions is taken.
fn problem(actions: Vec<wire::OrchestratorAction>) -> String {
    let refused = answer(actions, text("1"));
    assert_eq!(refused.answer.actions, []);
    let failure = failed(refused);
    assert_eq!(failure.kind, kind::INVALID_ANSWER);
    assert!(!failure.retryable);
    failure.message
}

/// Actions of each kind, out of order.
fn unordered() -> Vec<wire::OrchestratorAction> {
    let child = wire::CreateSubOrchestrationAction {
        instance_id: "child".to_owned(),
        name: "Pay".to_owned(),
        version: text("2"),
        input: text("not JSON"),
        tags: HashMap::from([
            ("b".to_owned(), "2".to_owned()),
            ("a".to_owned(), "1".to_owned()),
        ]),
        ..Default::default()
    };
    let fire_at = Some(prost_types::Timestamp {
        seconds: 5,
        nanos: 1,
    });
    let event = wire::SendEventAction {
        instance: Some(wire::OrchestrationInstance {
            instance_id: "other".to_owned(),
            execution_id: None,
        }),
        name: "Go".to_owned(),
        data: text(""),
    };
    vec![
        action(7, Asked::SendEvent(event)),
        action(6, Asked::CreateTimer(wire::CreateTimerAction { fire_at })),
        call(3, "Ship"),
        action(4, Asked::CreateSubOrchestration(child)),
    ]
}

#[test]
fn actions_are_taken_in_the_order_of_their_ids() {
    let answer = answer(unordered(), text("{\"at\":1}"));
    let described = |task: u32| {
        Action::Describe(CallDetails {
            task: TaskId(task),
            version: None,
            tags: Vec::new(),
        })
    };
    assert_eq!(
        answer.answer.actions,
        [
            Action::CallActivity(ActivityCall {
                task: TaskId(3),
                name: "Ship".to_owned(),
                input: json("[1]"),
                retry: None,
                attempt_timeout: None,
                options: CallOptions::default(),
            }),
            Action::CallChild(ChildCall {
                task: TaskId(4),
                name: "Pay".to_owned(),
                version: text("2"),
                instance_id: text("child"),
                input: json("not JSON"),
                tags: vec![
                    ("a".to_owned(), "1".to_owned()),
                    ("b".to_owned(), "2".to_owned())
                ],
                retry: None,
                options: InstanceOptions::default(),
            }),
            Action::SetTimer {
                task: TaskId(6),
                due: TimerDue::GuestTime(Timestamp(5_001)),
            },
            Action::SendEvent(OutgoingEvent {
                instance_id: "other".to_owned(),
                name: "Go".to_owned(),
                data: json(""),
            }),
            described(7),
            Action::SetCustomStatus(json("{\"at\":1}")),
        ]
    );
    assert_eq!(answer.answer.ending, Ending::Waiting(Waiting::default()));
}

#[test]
fn a_version_and_tags_of_an_activity_follow_its_call() {
    let call = wire::ScheduleTaskAction {
        name: "Ship".to_owned(),
        version: text("3.0.0"),
        tags: HashMap::from([("region".to_owned(), "eu".to_owned())]),
        ..Default::default()
    };
    let answer = answer(vec![action(0, Asked::ScheduleTask(call))], None);
    assert_eq!(answer.answer.actions.len(), 2);
    assert_eq!(
        answer.answer.actions[1],
        Action::Describe(CallDetails {
            task: TaskId(0),
            version: text("3.0.0"),
            tags: vec![("region".to_owned(), "eu".to_owned())],
        })
    );
}

#[test]
fn a_child_without_an_id_gets_one_from_the_engine() {
    let child = wire::CreateSubOrchestrationAction {
        name: "Pay".to_owned(),
        version: text(""),
        ..Default::default()
    };
    let answer = answer(vec![action(1, Asked::CreateSubOrchestration(child))], None);
    let [Action::CallChild(child)] = &answer.answer.actions[..] else {
        panic!("{answer:?}")
    };
    assert_eq!((&child.instance_id, &child.version), (&None, &None));
}

#[test]
fn timers_in_the_past_and_absurd_ones_are_clamped() {
    let at = |seconds, nanos| clamped(prost_types::Timestamp { seconds, nanos }).0;
    assert_eq!(at(-62_135_596_800, 0), 0, "the year 1");
    assert_eq!(at(-1, 999_999_999), 0);
    assert_eq!(at(0, 1), 1, "never early");
    assert_eq!(at(1, 1_000_000), 1_001);
    assert_eq!(at(i64::MAX, i32::MAX), 253_402_300_799_000 + 1_000);
    assert_eq!(at(i64::MIN, i32::MIN), 0);
    assert_eq!(at(1, -5), 1_000);
}

#[test]
fn an_orchestration_ends_as_its_worker_says() {
    use wire::OrchestrationStatus as Status;
    let done = ends(complete(Status::Completed, Some("null")));
    assert_eq!(done.answer.ending, Ending::Completed(json("null")));
    let done = ends(complete(Status::Completed, None));
    assert_eq!(done.answer.ending, Ending::Completed(None));

    let details = wire::TaskFailureDetails {
        error_type: "Declined".to_owned(),
        error_message: "no money".to_owned(),
        is_non_retriable: true,
        ..Default::default()
    };
    let reported = failed(ends(wire::CompleteOrchestrationAction {
        failure_details: Some(details),
        ..complete(Status::Failed, Some("ignored"))
    }));
    assert_eq!(reported, Failure::permanent("Declined", "no money"));
    let bare = failed(ends(complete(Status::Failed, None)));
    assert_eq!(bare.kind, "OrchestrationFailed");
    let told = failed(ends(complete(Status::Failed, Some("no money"))));
    assert_eq!(told.message, "no money");
    let itself = failed(ends(complete(Status::Terminated, None)));
    assert_eq!(itself.kind, kind::TERMINATED);
    let itself = failed(ends(complete(Status::Canceled, Some("\"enough\""))));
    assert_eq!(
        (&*itself.kind, &*itself.message),
        (kind::CANCELED, "\"enough\"")
    );
}

#[test]
fn the_next_execution_gets_its_input_its_version_and_the_events_that_it_takes_along() {
    let raised = |name: &str, input: Option<&str>| wire::HistoryEvent {
        event_id: -1,
        timestamp: None,
        event_type: Some(EventType::EventRaised(wire::EventRaisedEvent {
            name: name.to_owned(),
            input: input.map(str::to_owned),
        })),
    };
    let next = wire::CompleteOrchestrationAction {
        new_version: text("2"),
        carryover_events: vec![raised("Go", Some("1")), raised("Stop", None)],
        ..complete(wire::OrchestrationStatus::ContinuedAsNew, Some("5"))
    };
    let answer = ends(next.clone());
    assert_eq!(
        answer.answer.ending,
        Ending::ContinuedAsNew {
            input: json("5"),
            version: text("2"),
            carry_over: Vec::new(),
        }
    );
    assert_eq!(
        answer.carried,
        [("Go".to_owned(), json("1")), ("Stop".to_owned(), None)]
    );
    let mut wrong = next;
    wrong.carryover_events.push(wire::HistoryEvent::default());
    let problem = problem(vec![action(0, Asked::CompleteOrchestration(wrong))]);
    assert!(problem.contains("not an external event"), "{problem}");
}

#[test]
fn an_empty_custom_status_is_none_and_an_absent_one_changes_nothing() {
    let status = |status| answer(Vec::new(), status).answer.actions;
    assert_eq!(status(None), []);
    assert_eq!(status(text("")), [Action::SetCustomStatus(None)]);
    assert_eq!(
        status(text("\"\"")),
        [Action::SetCustomStatus(json("\"\""))]
    );
}

#[test]
fn answers_that_break_the_protocol_fail_the_orchestration_and_say_why() {
    use wire::OrchestrationStatus as Status;
    let end = |status: Status| Asked::CompleteOrchestration(complete(status, None));
    let nobody = wire::SendEventAction {
        name: "Go".to_owned(),
        ..Default::default()
    };
    let unknown = Asked::CompleteOrchestration(wire::CompleteOrchestrationAction {
        orchestration_status: 99,
        ..Default::default()
    });
    let empty = wire::OrchestratorAction {
        id: 4,
        orchestrator_action_type: None,
    };
    let cases = [
        (vec![call(-1, "Ship")], "action -1 has a negative id"),
        (vec![call(i32::MIN, "Ship")], "has a negative id"),
        (
            vec![call(2, "a"), call(2, "b")],
            "two actions have the id 2",
        ),
        (vec![empty], "action 4 has no content"),
        (
            vec![
                action(1, end(Status::Completed)),
                action(2, end(Status::Failed)),
            ],
            "completes the orchestration twice",
        ),
        (
            vec![action(1, end(Status::Running))],
            "ORCHESTRATION_STATUS_RUNNING",
        ),
        (vec![action(1, end(Status::Suspended))], "which is no end"),
        (vec![action(1, unknown)], "the status 99"),
        (
            vec![action(
                1,
                Asked::CreateTimer(wire::CreateTimerAction { fire_at: None }),
            )],
            "set fireAt",
        ),
        (
            vec![action(1, Asked::SendEvent(nobody))],
            "sent to no instance",
        ),
        (
            vec![action(1, Asked::SendEntityMessage(Default::default()))],
            "no entities",
        ),
        (
            vec![action(1, Asked::TerminateOrchestration(Default::default()))],
            "terminate it with a client",
        ),
        (
            vec![action(1, Asked::RewindOrchestration(Default::default()))],
            "rewind it with a client",
        ),
    ];
    for (actions, says) in cases {
        let problem = problem(actions);
        assert!(problem.contains(says), "{problem}");
    }
}

#[test]
fn an_activity_failed_only_if_its_worker_reports_a_failure() {
    let response = |failure| wire::ActivityResponse {
        result: text("1"),
        failure_details: failure,
        ..Default::default()
    };
    assert_eq!(outcome(response(None)), Ok(json("1")));
    let bare = outcome(response(Some(wire::TaskFailureDetails::default())));
    assert_eq!(bare.map_err(|failure| failure.kind), Err(String::new()));
    let nothing = wire::ActivityResponse::default();
    assert_eq!(outcome(nothing), Ok(None));
}
