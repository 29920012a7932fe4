//! Starts, states, waits, and payloads.

use perennial::Status as Runs;
use prost::Message as _;
use tonic::Code;
use tower::ServiceExt as _;

use crate::generated as wire;
use crate::generated::OrchestrationStatus;
use crate::see::{Server, code, create, get, raise};

/// A time that never comes.
const FAR: prost_types::Timestamp = prost_types::Timestamp {
    seconds: 32_503_680_000,
    nanos: 0,
};

#[tokio::test]
async fn an_instance_is_started_and_seen_until_its_end() {
    let mut server = Server::new().await;
    server.stub.hello(()).await.unwrap();
    let mut request = create("HelloSequence", "", None);
    request.tags.insert("region".to_owned(), "eu".to_owned());
    let started = server.stub.start_instance(request).await.unwrap();
    let id = started.into_inner().instance_id;
    let started = server.stub.wait_for_instance_start(get(&id)).await.unwrap();
    assert_ne!(
        started
            .into_inner()
            .orchestration_state
            .unwrap()
            .orchestration_status(),
        OrchestrationStatus::Pending
    );
    let end = server.end(&id).await;
    assert_eq!(end.orchestration_status(), OrchestrationStatus::Completed);
    assert_eq!((&*end.instance_id, &*end.name), (&*id, "HelloSequence"));
    assert_eq!(
        end.output.as_deref(),
        Some("[\"Hello Tokyo!\",\"Hello Seattle!\",\"Hello London!\"]")
    );
    assert_eq!(end.tags["region"], "eu");
    assert_eq!((end.input, end.failure_details), (None, None));
    let execution = end.execution_id.unwrap();
    assert!(
        execution.len() == 32 && execution.bytes().all(|b| b.is_ascii_hexdigit()),
        "{execution}"
    );
    let (created, ended) = (
        end.created_timestamp.unwrap(),
        end.completed_timestamp.unwrap(),
    );
    assert!((created.seconds, created.nanos) <= (ended.seconds, ended.nanos));
    let mut request = get(&id);
    request.get_inputs_and_outputs = false;
    let brief = server.stub.get_instance(request).await.unwrap();
    assert_eq!(brief.into_inner().orchestration_state.unwrap().output, None);
}

#[tokio::test]
async fn what_is_not_there_is_no_error() {
    let mut server = Server::new().await;
    let answers = [
        server.stub.get_instance(get("none")).await,
        server.stub.wait_for_instance_start(get("none")).await,
        server.stub.wait_for_instance_completion(get("none")).await,
    ];
    for answer in answers {
        let answer = answer.unwrap().into_inner();
        assert!(!answer.exists && answer.orchestration_state.is_none());
    }
}

#[tokio::test]
async fn each_text_comes_back_as_it_was_sent() {
    let mut server = Server::new().await;
    let texts = [
        Some(""),
        Some("null"),
        Some("0"),
        Some("\"\""),
        Some("false"),
        Some(" {\"b\" : 1.0, \"a\": \"\\u00e9\"} "),
        Some("not JSON"),
        Some("\"\\u0000\""),
        None,
    ];
    for (i, text) in texts.into_iter().enumerate() {
        let id = format!("i{i}");
        let mut request = create("OfAWorker", &id, text);
        request.scheduled_start_timestamp = Some(FAR);
        server.stub.start_instance(request).await.unwrap();
        let seen = server.see(&id).await;
        assert_eq!(seen.input.as_deref(), text, "{text:?}");
        assert_eq!(seen.orchestration_status(), OrchestrationStatus::Pending);
        assert_eq!(seen.scheduled_start_timestamp, Some(FAR));
        assert_eq!(seen.completed_timestamp, None);
    }
}

#[tokio::test]
async fn an_id_in_use_is_refused_unless_the_policy_allows_it() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    server
        .until("a", |status| status.runtime_status == Runs::Running)
        .await;
    let refused = server.stub.start_instance(create("Wait", "a", None)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(
        refused.message(),
        "An Orchestration instance with the ID a already exists."
    );
    let again = |statuses: &[OrchestrationStatus]| {
        let mut request = create("Wait", "a", None);
        let statuses = statuses.iter().map(|status| i32::from(*status));
        request.orchestration_id_reuse_policy = Some(wire::OrchestrationIdReusePolicy {
            replaceable_status: statuses.collect(),
        });
        request
    };
    let ended = again(&[OrchestrationStatus::Completed]);
    assert_eq!(
        code(server.stub.start_instance(ended.clone()).await),
        Code::AlreadyExists
    );
    let wrong = again(&[OrchestrationStatus::Running]);
    let wrong = server.stub.start_instance(wrong).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert_eq!(
        wrong.message(),
        "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances"
    );
    let first = server.see("a").await.execution_id;
    let any = again(&[
        OrchestrationStatus::Running,
        OrchestrationStatus::Terminated,
    ]);
    server.stub.start_instance(any).await.unwrap();
    assert_ne!(server.see("a").await.execution_id, first);
    let event = raise("a", "Go", Some("\"x\""));
    server.stub.raise_event(event).await.unwrap();
    assert_eq!(server.end("a").await.output.as_deref(), Some("\"x\""));
    // Without a policy an ended instance is in use too.
    assert_eq!(
        code(server.stub.start_instance(create("Wait", "a", None)).await),
        Code::AlreadyExists
    );
    server.stub.start_instance(ended).await.unwrap();
}

#[tokio::test]
async fn arguments_that_cannot_be_are_refused_with_a_text() {
    let mut server = Server::new().await;
    let mut starts = vec![create("", "a", None)];
    for id in ["@counter@1", "a/b", "..", &"x".repeat(257)] {
        starts.push(create("Wait", id, None));
    }
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, i32::MAX)] {
        let mut request = create("Wait", "a", None);
        request.scheduled_start_timestamp = Some(prost_types::Timestamp { seconds, nanos });
        starts.push(request);
    }
    let mut request = create("Wait", "a", None);
    request.orchestration_id_reuse_policy = Some(wire::OrchestrationIdReusePolicy {
        replaceable_status: vec![-1],
    });
    starts.push(request);
    for request in starts {
        let told = format!("{request:?}");
        let refused = server.stub.start_instance(request).await;
        assert_eq!(code(refused), Code::InvalidArgument, "{told}");
    }
    assert_eq!(
        code(server.stub.get_instance(get("")).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(server.stub.wait_for_instance_completion(get("")).await),
        Code::InvalidArgument
    );
    let no_name = server.stub.raise_event(raise("a", "", None)).await;
    assert_eq!(code(no_name), Code::InvalidArgument);
}

#[tokio::test]
async fn a_start_in_the_past_begins_at_once() {
    let mut server = Server::new().await;
    let mut request = create("HelloSequence", "a", None);
    request.scheduled_start_timestamp = Some(prost_types::Timestamp::default());
    server.stub.start_instance(request).await.unwrap();
    let end = server.end("a").await;
    assert_eq!(end.orchestration_status(), OrchestrationStatus::Completed);
}

#[tokio::test]
async fn a_wait_has_the_time_that_its_caller_gives_it() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    // `tonic` would give up by itself: this is the router, as a program mounts it.
    let mut message = vec![0];
    let request = get("a").encode_to_vec();
    message.extend(u32::try_from(request.len()).unwrap().to_be_bytes());
    message.extend(request);
    let request = axum::http::Request::post("/TaskHubSidecarService/WaitForInstanceCompletion")
        .version(axum::http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "100m")
        .body(axum::body::Body::from(message));
    let router = perennial::http::router(server.client());
    let late = router.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(late.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
    let mut waiting = server.stub.clone();
    let waits = tokio::spawn(async move { waiting.wait_for_instance_completion(get("a")).await });
    let event = raise("a", "go", Some("\"in any case of letters\""));
    server.stub.raise_event(event).await.unwrap();
    let end = crate::see::state(waits.await.unwrap().unwrap());
    assert_eq!(end.output.as_deref(), Some("\"in any case of letters\""));
}

#[tokio::test]
async fn a_failure_is_told_whole() {
    let mut server = Server::new().await;
    server.start("RunsFailing", "a", None).await;
    let end = server.end("a").await;
    assert_eq!(end.orchestration_status(), OrchestrationStatus::Failed);
    let failure = end.failure_details.unwrap();
    assert!(!failure.error_type.is_empty() && !failure.error_message.is_empty());
}

#[tokio::test]
async fn a_name_that_nothing_defines_waits_for_a_worker() {
    let mut server = Server::new().await;
    server.start("NobodyRunsThis", "a", Some("1")).await;
    let seen = server.see("a").await;
    assert_eq!(seen.orchestration_status(), OrchestrationStatus::Pending);
    assert_eq!(seen.input.as_deref(), Some("1"));
}
