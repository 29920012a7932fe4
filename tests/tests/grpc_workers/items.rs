//! Work items that a test answers itself: given back, lost, answered twice, in parts, wrongly, or not at all.

use tonic::Code;

use crate::generated as wire;
use crate::generated::history_event::EventType;
use crate::generated::orchestrator_action::OrchestratorActionType as Asked;
use crate::sdk::failure;
use crate::see::{Server, answer, call, complete, outcome};

fn everything() -> wire::GetWorkItemsRequest {
    wire::GetWorkItemsRequest::default()
}

fn one_at_a_time() -> wire::GetWorkItemsRequest {
    wire::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 1,
        max_concurrent_activity_work_items: 1,
        ..Default::default()
    }
}

fn only(activity: &str, version: &str) -> wire::GetWorkItemsRequest {
    wire::GetWorkItemsRequest {
        work_item_filters: Some(wire::WorkItemFilters {
            activities: vec![wire::ActivityFilter {
                name: activity.to_owned(),
                versions: vec![version.to_owned()],
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Starts an instance without waiting for the answer, which may wait for a worker.
async fn starts(server: &mut Server, name: &str, id: &str, version: Option<&str>) {
    let request = wire::CreateInstanceRequest {
        name: name.to_owned(),
        instance_id: id.to_owned(),
        version: version.map(str::to_owned),
        ..Default::default()
    };
    server.stub.start_instance(request).await.unwrap();
}

/// A server with a stream that has the first turn of the instance `a`.
async fn first_turn() -> (Server, crate::see::Items, String, wire::OrchestratorRequest) {
    let mut server = Server::new().await;
    starts(&mut server, "Order", "a", None).await;
    let mut items = server.items(everything()).await;
    let (token, request) = items.turn().await;
    (server, items, token, request)
}

async fn completes(server: &mut Server, response: wire::OrchestratorResponse) {
    let accepted = server.stub.complete_orchestrator_task(response);
    accepted.await.unwrap();
}

#[tokio::test]
async fn a_turn_tells_what_the_protocol_asks_for() {
    let (mut server, mut items, token, request) = first_turn().await;
    assert_eq!(request.instance_id, "a");
    assert!(!request.requires_history_streaming && request.past_events.is_empty());
    let [began, started] = &request.new_events[..] else {
        panic!("{request:?}")
    };
    assert!(matches!(
        began.event_type,
        Some(EventType::OrchestratorStarted(_))
    ));
    assert_eq!(began.event_id, -1);
    let Some(EventType::ExecutionStarted(start)) = &started.event_type else {
        panic!("{started:?}")
    };
    assert_eq!(start.name, "Order");
    let instance = start.orchestration_instance.clone().unwrap();
    assert_eq!(instance.execution_id, request.execution_id);
    completes(
        &mut server,
        answer(&token, vec![call(3, "Ship", Some("1"))]),
    )
    .await;
    let (token, ship) = items.activity().await;
    assert_eq!((&*ship.name, ship.task_id), ("Ship", 3));
    assert_eq!(ship.input.as_deref(), Some("1"));
    let response = outcome(token, &ship, Ok(None));
    server.stub.complete_activity_task(response).await.unwrap();
    let (token, request) = items.turn().await;
    let ids: Vec<i32> = request
        .past_events
        .iter()
        .map(|event| event.event_id)
        .collect();
    assert_eq!(ids, [-1, -1, 3]);
    let Some(EventType::TaskCompleted(done)) = &request.new_events[1].event_type else {
        panic!("{request:?}")
    };
    assert_eq!((done.task_scheduled_id, done.result.clone()), (3, None));
    completes(&mut server, answer(&token, vec![complete("2")])).await;
    assert_eq!(server.output("a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_turn_that_is_given_back_goes_to_another_worker() {
    let (mut server, _first, token, _) = first_turn().await;
    let abandon = wire::AbandonOrchestrationTaskRequest {
        completion_token: token.clone(),
    };
    let mut second = server.items(everything()).await;
    let given_back = server.stub.abandon_task_orchestrator_work_item(abandon);
    given_back.await.unwrap();
    let (again, request) = second.turn().await;
    assert_ne!(token, again);
    assert_eq!(request.instance_id, "a");
    completes(&mut server, answer(&token, vec![complete("1")])).await;
    completes(&mut server, answer(&again, vec![complete("2")])).await;
    assert_eq!(server.output("a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn an_activity_that_is_given_back_goes_to_another_worker() {
    let (mut server, mut first, token, _) = first_turn().await;
    let mut second = server.items(only("Ship", "1")).await;
    let mut ship = call(0, "Ship", None);
    if let Some(Asked::ScheduleTask(call)) = &mut ship.orchestrator_action_type {
        call.version = Some("1".to_owned());
    }
    completes(&mut server, answer(&token, vec![ship])).await;
    // Whichever gets it gives it back; then the other one does it.
    let (token, ship) = tokio::select! {
        got = first.activity() => got,
        got = second.activity() => got,
    };
    let abandon = wire::AbandonActivityTaskRequest {
        completion_token: token.clone(),
    };
    let given_back = server.stub.abandon_task_activity_work_item(abandon);
    given_back.await.unwrap();
    let (again, _) = tokio::select! {
        got = first.activity() => got,
        got = second.activity() => got,
    };
    for (token, result) in [(token, "1"), (again, "2")] {
        let response = outcome(token, &ship, Ok(Some(result.to_owned())));
        server.stub.complete_activity_task(response).await.unwrap();
    }
    let (_, request) = first.turn().await;
    let Some(EventType::TaskCompleted(done)) = &request.new_events[1].event_type else {
        panic!("{request:?}")
    };
    assert_eq!(done.result.as_deref(), Some("2"));
}

#[tokio::test]
async fn what_a_lost_stream_had_goes_to_the_next_one() {
    let (mut server, items, token, _) = first_turn().await;
    drop(items);
    let mut next = server.items(everything()).await;
    let (again, _) = next.turn().await;
    assert_ne!(token, again);
    completes(&mut server, answer(&again, vec![complete("1")])).await;
    assert_eq!(server.output("a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn answers_that_nothing_waits_for_are_accepted_and_change_nothing() {
    let (mut server, mut items, token, _) = first_turn().await;
    for foreign in ["", "x", "0-1", "ffffffffffffffff-1"] {
        completes(&mut server, answer(foreign, vec![complete("9")])).await;
        let response = wire::ActivityResponse {
            completion_token: foreign.to_owned(),
            ..Default::default()
        };
        server.stub.complete_activity_task(response).await.unwrap();
    }
    // The token of a turn is none of an activity.
    let response = wire::ActivityResponse {
        completion_token: token.clone(),
        ..Default::default()
    };
    server.stub.complete_activity_task(response).await.unwrap();
    completes(&mut server, answer(&token, vec![call(0, "Ship", None)])).await;
    completes(&mut server, answer(&token, vec![complete("9")])).await;
    let (ship_token, ship) = items.activity().await;
    let done = outcome(ship_token.clone(), &ship, Ok(Some("1".to_owned())));
    let late = outcome(ship_token, &ship, Err(Box::new(failure("Late", "", None))));
    server.stub.complete_activity_task(done).await.unwrap();
    server.stub.complete_activity_task(late).await.unwrap();
    let (token, request) = items.turn().await;
    assert_eq!(request.new_events.len(), 2);
    completes(&mut server, answer(&token, vec![complete("2")])).await;
    assert_eq!(server.output("a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_fails_its_orchestration() {
    let empty = wire::OrchestratorAction {
        id: 1,
        orchestrator_action_type: None,
    };
    let entity = wire::OrchestratorAction {
        id: 1,
        orchestrator_action_type: Some(Asked::SendEntityMessage(Default::default())),
    };
    let cases = [
        (vec![call(-3, "Ship", None)], "negative id"),
        (vec![call(1, "a", None), call(1, "b", None)], "two actions"),
        (vec![complete("1"), complete("2")], "twice"),
        (vec![empty], "no content"),
        (vec![entity], "no entities"),
    ];
    for (actions, says) in cases {
        let (mut server, _items, token, _) = first_turn().await;
        completes(&mut server, answer(&token, actions)).await;
        let failed = server.failure("a").await;
        assert_eq!(failed.error_type, "InvalidAnswer");
        assert!(failed.error_message.contains(says), "{failed:?}");
    }
}

#[tokio::test]
async fn an_answer_may_come_in_parts() {
    let (mut server, mut items, token, _) = first_turn().await;
    for n in 0..3 {
        #[expect(deprecated, reason = "workers of some versions send parts")]
        let part = wire::OrchestratorResponse {
            is_partial: n < 2,
            chunk_index: Some(n),
            ..answer(&token, vec![call(n, "Ship", None)])
        };
        completes(&mut server, part).await;
    }
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(items.activity().await.1.task_id);
    }
    tasks.sort_unstable();
    assert_eq!(tasks, [0, 1, 2]);
}

#[tokio::test]
async fn an_activity_without_a_version_needs_that_of_its_orchestration() {
    let mut server = Server::new().await;
    let mut other = server.items(only("Ship", "2.0.0")).await;
    let mut items = server.items(only("Ship", "3.0.0")).await;
    starts(&mut server, "Order", "a", Some("3.0.0")).await;
    let turns = wire::GetWorkItemsRequest {
        work_item_filters: Some(wire::WorkItemFilters {
            orchestrations: vec![wire::OrchestrationFilter {
                name: "order".to_owned(),
                versions: Vec::new(),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut turns = server.items(turns).await;
    let (token, _) = turns.turn().await;
    completes(&mut server, answer(&token, vec![call(0, "Ship", None)])).await;
    let (_, ship) = tokio::select! {
        got = items.activity() => got,
        wrong = other.next() => panic!("{wrong:?}"),
    };
    assert_eq!((&*ship.name, ship.version), ("Ship", None));
}

#[tokio::test]
async fn a_worker_gets_no_more_than_it_takes() {
    let mut server = Server::new().await;
    for id in ["a", "b", "c"] {
        starts(&mut server, "Order", id, None).await;
    }
    let mut items = server.items(one_at_a_time()).await;
    let mut seen = Vec::new();
    for n in 0..3 {
        let (token, request) = items.turn().await;
        // A ping or an item that came now would be one too many.
        let more = futures::poll!(Box::pin(items.0.message()));
        assert!(more.is_pending(), "{more:?}");
        seen.push(request.instance_id);
        completes(&mut server, answer(&token, vec![complete(&n.to_string())])).await;
    }
    seen.sort();
    assert_eq!(seen, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops_and_what_was_out_is_there_again() {
    let (server, mut items, _, _) = first_turn().await;
    let Server {
        host, stop, task, ..
    } = server;
    stop.send(()).unwrap();
    let end = tokio::time::timeout(crate::see::LIMIT, items.0.message()).await;
    assert_eq!(end.unwrap().unwrap_err().code(), Code::Unavailable);
    task.await.unwrap();
    let status = host.client().status("a").await.unwrap().unwrap();
    assert_eq!(status.runtime_status, perennial::Status::Pending);
    host.shut_down().await;
}
