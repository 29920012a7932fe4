//! Events and commands.

use perennial::Status as Runs;
use tonic::Code;

use crate::generated as wire;
use crate::generated::OrchestrationStatus;
use crate::see::{Server, code, create, raise};

fn terminate(id: &str, output: Option<&str>, recursive: bool) -> wire::TerminateRequest {
    wire::TerminateRequest {
        instance_id: id.to_owned(),
        output: output.map(str::to_owned),
        recursive,
    }
}

fn suspend(id: &str, reason: Option<&str>) -> wire::SuspendRequest {
    wire::SuspendRequest {
        instance_id: id.to_owned(),
        reason: reason.map(str::to_owned),
    }
}

fn resume(id: &str) -> wire::ResumeRequest {
    let instance_id = id.to_owned();
    wire::ResumeRequest {
        instance_id,
        reason: None,
    }
}

fn rewind(id: &str) -> wire::RewindInstanceRequest {
    wire::RewindInstanceRequest {
        instance_id: id.to_owned(),
        reason: Some("mended".to_owned()),
    }
}

fn restart(id: &str, new: bool) -> wire::RestartInstanceRequest {
    wire::RestartInstanceRequest {
        instance_id: id.to_owned(),
        restart_with_new_instance_id: new,
    }
}

#[tokio::test]
async fn commands_to_nothing_are_not_found() {
    let mut server = Server::new().await;
    let stub = &mut server.stub;
    let codes = [
        code(stub.raise_event(raise("none", "Go", None)).await),
        code(
            stub.terminate_instance(terminate("none", None, false))
                .await,
        ),
        code(stub.terminate_instance(terminate("none", None, true)).await),
        code(stub.suspend_instance(suspend("none", None)).await),
        code(stub.resume_instance(resume("none")).await),
        code(stub.rewind_instance(rewind("none")).await),
        code(stub.restart_instance(restart("none", false)).await),
        code(stub.restart_instance(restart("none", true)).await),
    ];
    assert_eq!(codes, [Code::NotFound; 8]);
}

#[tokio::test]
async fn commands_to_an_ended_instance_change_nothing_and_are_no_errors() {
    let mut server = Server::new().await;
    server.start("HelloSequence", "a", None).await;
    let end = server.end("a").await;
    let stub = &mut server.stub;
    stub.raise_event(raise("a", "Go", None)).await.unwrap();
    stub.terminate_instance(terminate("a", None, false))
        .await
        .unwrap();
    stub.suspend_instance(suspend("a", None)).await.unwrap();
    stub.resume_instance(resume("a")).await.unwrap();
    assert_eq!(
        code(stub.rewind_instance(rewind("a")).await),
        Code::FailedPrecondition
    );
    assert_eq!(server.see("a").await, end);
}

#[tokio::test]
async fn the_output_of_a_termination_is_the_text_that_was_given() {
    let mut server = Server::new().await;
    for (i, output) in [
        Some("\"some reason\""),
        Some("{\"why\": 1}"),
        Some("\"42\""),
        Some("null"),
        Some(""),
        Some("plain"),
        None,
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("i{i}");
        server.start("Wait", &id, None).await;
        let request = terminate(&id, output, false);
        server.stub.terminate_instance(request).await.unwrap();
        let end = server.end(&id).await;
        assert_eq!(end.orchestration_status(), OrchestrationStatus::Terminated);
        assert_eq!(end.output.as_deref(), output);
    }
}

#[tokio::test]
async fn a_termination_reaches_children_if_it_is_recursive() {
    let mut server = Server::new().await;
    let input = Some("{\"timers\":0,\"children\":2}");
    server.start("WaitsWidely", "a", input).await;
    let client = server.client();
    let lives = |id: String| {
        let client = client.clone();
        async move { !client.status(id).await.unwrap().unwrap().is_ended() }
    };
    // The turn that asks for the children creates them.
    server.until("a", |status| status.history_events >= 4).await;
    let family = client.family("a", 10).await.unwrap().unwrap();
    let children = family.children.into_iter();
    let children: Vec<String> = children.map(|child| child.instance.instance_id).collect();
    assert_eq!(children.len(), 2);
    let request = terminate("a", Some("\"x\""), true);
    server.stub.terminate_instance(request).await.unwrap();
    server.end("a").await;
    for child in children {
        server.end(&child).await;
        assert!(!lives(child).await);
    }
}

#[tokio::test]
async fn a_suspended_instance_holds_events_until_it_is_resumed() {
    let mut server = Server::new().await;
    server.start("CountEvents", "a", Some("2")).await;
    // Not suspended: nothing happens.
    server.stub.resume_instance(resume("a")).await.unwrap();
    for _ in 0..2 {
        let request = suspend("a", Some("a pause"));
        server.stub.suspend_instance(request).await.unwrap();
        server
            .until("a", |status| status.runtime_status == Runs::Suspended)
            .await;
    }
    let seen = server.see("a").await;
    assert_eq!(seen.orchestration_status(), OrchestrationStatus::Suspended);
    assert_eq!(seen.output, None, "a reason is no output");
    for n in ["1", "2"] {
        let event = raise("a", "Go", Some(n));
        server.stub.raise_event(event).await.unwrap();
    }
    server.stub.resume_instance(resume("a")).await.unwrap();
    assert_eq!(server.end("a").await.output.as_deref(), Some("[1,2]"));
}

#[tokio::test]
async fn a_failed_instance_is_rewound_and_goes_on() {
    let mut server = Server::new().await;
    let file = server.dir.path().join("mended");
    let input = serde_json::to_string(file.to_str().unwrap()).unwrap();
    server.start("Mendable", "a", Some(&input)).await;
    let end = server.end("a").await;
    assert_eq!(end.orchestration_status(), OrchestrationStatus::Failed);
    server.stub.rewind_instance(rewind("a")).await.unwrap();
    let rewound = server.client().status("a").await.unwrap().unwrap();
    assert_eq!(rewound.rewinds[0].reason.as_deref(), Some("mended"));
}

#[tokio::test]
async fn an_instance_is_restarted_under_its_id_or_a_new_one() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    let running = server.stub.restart_instance(restart("a", false)).await;
    assert_eq!(code(running), Code::FailedPrecondition);
    let other = server.stub.restart_instance(restart("a", true)).await;
    let other = other.unwrap().into_inner().instance_id;
    assert_ne!(other, "a");
    for id in ["a", &other] {
        let event = raise(id, "Go", Some("\"x\""));
        server.stub.raise_event(event).await.unwrap();
        server.end(id).await;
    }
    let before = server.see("a").await.execution_id;
    let same = server.stub.restart_instance(restart("a", false)).await;
    assert_eq!(same.unwrap().into_inner().instance_id, "a");
    let again = server.see("a").await;
    assert_ne!(again.execution_id, before);
    assert!(again.completed_timestamp.is_none());
}

#[tokio::test]
async fn a_batch_is_terminated_and_what_did_not_end_by_it_is_listed() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    server.start("HelloSequence", "ended", None).await;
    server.end("ended").await;
    let batch = |ids: &[&str]| wire::SkipGracefulOrchestrationTerminationsRequest {
        instance_batch: Some(wire::InstanceBatch {
            instance_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }),
        reason: Some("\"stuck\"".to_owned()),
    };
    let request = batch(&["a", "ended", "none"]);
    let done = server
        .stub
        .skip_graceful_orchestration_terminations(request);
    let left = done.await.unwrap().into_inner().unterminated_instance_ids;
    assert_eq!(left, ["ended", "none"]);
    assert_eq!(server.end("a").await.output.as_deref(), Some("\"stuck\""));
    let too_many = batch(&["x"; 501]);
    let refused = server
        .stub
        .skip_graceful_orchestration_terminations(too_many);
    assert_eq!(code(refused.await), Code::InvalidArgument);
}

#[tokio::test]
async fn entities_are_not_there_and_the_answer_says_so() {
    let mut server = Server::new().await;
    let stub = &mut server.stub;
    let codes = [
        code(
            stub.signal_entity(wire::SignalEntityRequest::default())
                .await,
        ),
        code(stub.get_entity(wire::GetEntityRequest::default()).await),
        code(
            stub.query_entities(wire::QueryEntitiesRequest::default())
                .await,
        ),
        code(
            stub.clean_entity_storage(wire::CleanEntityStorageRequest::default())
                .await,
        ),
        code(
            stub.complete_entity_task(wire::EntityBatchResult::default())
                .await,
        ),
        code(
            stub.abandon_task_entity_work_item(wire::AbandonEntityTaskRequest::default())
                .await,
        ),
    ];
    assert_eq!(codes, [Code::Unimplemented; 6]);
    let entity = stub
        .start_instance(create("Wait", "@counter@1", None))
        .await;
    assert_eq!(code(entity), Code::InvalidArgument);
}
