//! Workers of the Durable Task SDKs: a small one written from the protocol runs orchestrations, and tests answer work items themselves.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[rustfmt::skip]
#[path = "grpc/generated.rs"]
#[allow(
    clippy::all,
    clippy::use_self,
    dead_code,
    missing_docs,
    unused_qualifications,
    reason = "generated code"
)]
mod generated;
#[path = "grpc_workers/items.rs"]
mod items;
#[path = "grpc_workers/sdk.rs"]
mod sdk;
#[path = "grpc_workers/see.rs"]
mod see;

use std::pin::Pin;

use perennial_tests::module;

use crate::generated as wire;
use crate::generated::history_event::EventType;
use crate::sdk::{Ctx, End, Language, Orchestrator, failure};
use crate::see::{Activity, Did, Server, Worker};

const LANGUAGES: [Language; 3] = [Language::Python, Language::Java, Language::DotNet];

type Running = Pin<Box<dyn Future<Output = End>>>;

fn done(result: impl Into<String>) -> End {
    End::Done(Some(result.into()))
}

fn sequence(ctx: Ctx) -> Running {
    Box::pin(async move {
        let mut all = Vec::new();
        for city in ["\"Tokyo\"", "\"Seattle\"", "\"London\""] {
            all.push(ctx.activity("Hello", Some(city)).await.unwrap().unwrap());
        }
        done(format!("[{}]", all.join(",")))
    })
}

fn fan_out(ctx: Ctx) -> Running {
    Box::pin(async move {
        let n: u32 = ctx.input().unwrap().parse().unwrap();
        let tasks: Vec<_> = (0..n)
            .map(|i| ctx.activity("Double", Some(&i.to_string())))
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap().unwrap().parse::<u32>().unwrap();
        }
        done(sum.to_string())
    })
}

/// A timer, an event, another event that may have come before, and a message to another instance.
fn waits(ctx: Ctx) -> Running {
    Box::pin(async move {
        ctx.show("\"waiting\"");
        ctx.timer(5).await.unwrap();
        let go = ctx.event("Go").await.unwrap();
        ctx.show(&format!("{{\"got\":{go}}}"));
        let stop = ctx.event("STOP").await;
        if let Some(to) = ctx.input() {
            ctx.send(&to, "go", Some("7"));
            ctx.send(&to, "stop", None);
            ctx.timer(1).await.unwrap();
        }
        done(format!(
            "[{go},{}]",
            stop.unwrap_or_else(|| "\"nothing\"".to_owned())
        ))
    })
}

fn parent(ctx: Ctx) -> Running {
    Box::pin(async move {
        let children: Vec<_> = (1..4)
            .map(|n| ctx.child("Kid", Some(&n.to_string())))
            .collect();
        let mut all = Vec::new();
        for child in children {
            all.push(child.await.unwrap().unwrap());
        }
        done(format!("[{}]", all.join(",")))
    })
}

/// A child that knows its parent.
fn kid(ctx: Ctx) -> Running {
    Box::pin(async move {
        let started = ctx.started();
        let parent = started.parent_instance.unwrap();
        assert_eq!(parent.name.as_deref(), Some("Parent"));
        let doubled = ctx.activity("Double", ctx.input().as_deref()).await;
        let id = parent.orchestration_instance.unwrap().instance_id;
        done(format!("[\"{id}\",{}]", doubled.unwrap().unwrap()))
    })
}

/// Counts its executions, each with an id of its own, and takes the events along.
fn counts(ctx: Ctx) -> Running {
    Box::pin(async move {
        let id = ctx.instance().execution_id.unwrap();
        assert!(
            id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "{id}"
        );
        let input = ctx.input().unwrap();
        let (n, before) = input.split_once(' ').unwrap_or((&input, ""));
        assert_ne!(before, id);
        let n: u32 = n.parse().unwrap();
        ctx.timer(1).await.unwrap();
        if n < 3 {
            return End::Again {
                input: Some(format!("{} {id}", n + 1)),
                version: Some(format!("{n}.0")),
                carry: true,
            };
        }
        let version = ctx.started().version.unwrap();
        done(format!(
            "[\"{version}\",{}]",
            ctx.event("late").await.unwrap()
        ))
    })
}

fn fails(ctx: Ctx) -> Running {
    Box::pin(async move {
        let reported = ctx.activity("Broken", None).await.unwrap_err();
        End::Failed(failure("Outermost", "it went wrong", Some(reported)))
    })
}

/// A parent that tells what it was told of its child's failure.
fn tells(ctx: Ctx) -> Running {
    Box::pin(async move { End::Failed(ctx.child("Fails", None).await.unwrap_err()) })
}

/// Tries an activity until it works, each time under the same id.
fn retries(ctx: Ctx) -> Running {
    Box::pin(async move {
        let first = ctx.activity("Flaky", Some("1"));
        let id = first.id;
        let mut outcome = first.await;
        let mut attempt = 1;
        while outcome.is_err() {
            ctx.timer(1).await.unwrap();
            attempt += 1;
            let again = ctx.activity_again(Some(id), "Flaky", Some(&attempt.to_string()));
            outcome = again.await;
        }
        let after = ctx.activity("Double", Some("4")).await.unwrap();
        done(format!("[{attempt},{}]", after.unwrap()))
    })
}

fn large(ctx: Ctx) -> Running {
    Box::pin(async move {
        let echoed = ctx.activity("Same", ctx.input().as_deref()).await;
        End::Done(echoed.unwrap())
    })
}

/// Many steps with large results, so that the history is long.
fn long(ctx: Ctx) -> Running {
    Box::pin(async move {
        for _ in 0..4 {
            let many: Vec<_> = (0..5).map(|_| ctx.activity("Much", None)).collect();
            for one in many {
                one.await.unwrap();
            }
            ctx.timer(1).await.unwrap();
        }
        ctx.send("nobody", "Go", None);
        ctx.timer(1).await.unwrap();
        done("1")
    })
}

/// Calls what a component has: an activity, and an orchestration.
fn calls_component(ctx: Ctx) -> Running {
    Box::pin(async move {
        let echoed = ctx.activity("Echo", Some("41")).await.unwrap().unwrap();
        let chain = ctx.child("Chain", Some("3")).await.unwrap().unwrap();
        done(format!("[{echoed},{chain}]"))
    })
}

const ALL: &[(&str, Orchestrator)] = &[
    ("Sequence", sequence),
    ("FanOut", fan_out),
    ("Waits", waits),
    ("Parent", parent),
    ("Kid", kid),
    ("Counts", counts),
    ("Fails", fails),
    ("Tells", tells),
    ("Retries", retries),
    ("Large", large),
    ("Long", long),
    ("CallsComponent", calls_component),
];

fn hello(request: wire::ActivityRequest) -> Did {
    let name = request.input.unwrap();
    Ok(Some(format!("\"Hello {}!\"", name.trim_matches('"'))))
}

fn double(request: wire::ActivityRequest) -> Did {
    let n: u32 = request.input.unwrap().parse().unwrap();
    Ok(Some((2 * n).to_string()))
}

fn same(request: wire::ActivityRequest) -> Did {
    Ok(request.input)
}

fn much(_: wire::ActivityRequest) -> Did {
    Ok(Some(format!("\"{}\"", "x".repeat(100_000))))
}

fn broken(_: wire::ActivityRequest) -> Did {
    let mut cause = failure("Cause", "the disk is full", None);
    cause.is_non_retriable = true;
    let at = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue("sda".to_owned())),
    };
    cause.properties.insert("disk".to_owned(), at);
    Err(Box::new(failure("Broken", "could not write", Some(cause))))
}

fn flaky(request: wire::ActivityRequest) -> Did {
    match request.input.as_deref() {
        Some("3") => Ok(Some("3".to_owned())),
        _ => Err(Box::new(failure("Busy", "try again", None))),
    }
}

const ACTIVITIES: &[(&str, Activity)] = &[
    ("Hello", hello),
    ("Double", double),
    ("Same", same),
    ("Much", much),
    ("Broken", broken),
    ("Flaky", flaky),
    ("Native", same),
];

async fn with_worker(language: Language) -> (Server, Worker) {
    let server = Server::new().await;
    let worker = Worker::new(&server, language, ALL, ACTIVITIES).await;
    (server, worker)
}

#[tokio::test]
async fn orchestrations_of_each_language_run() {
    for language in LANGUAGES {
        let (mut server, _worker) = with_worker(language).await;
        server.start("Sequence", "a", None).await;
        assert_eq!(
            server.output("a").await.as_deref(),
            Some(r#"["Hello Tokyo!","Hello Seattle!","Hello London!"]"#)
        );
        server.start("FanOut", "b", Some("50")).await;
        assert_eq!(server.output("b").await.as_deref(), Some("2450"));
        server.start("Parent", "c", None).await;
        assert_eq!(
            server.output("c").await.as_deref(),
            Some(r#"[["c",2],["c",4],["c",6]]"#)
        );
        server.start("Retries", "d", None).await;
        assert_eq!(server.output("d").await.as_deref(), Some("[3,8]"));
    }
}

#[tokio::test]
async fn timers_events_and_the_custom_status_work() {
    for language in LANGUAGES {
        let (mut server, _worker) = with_worker(language).await;
        server.start("Waits", "b", None).await;
        server.start("Waits", "a", Some("b")).await;
        server.raise("a", "stop", None).await;
        server.raise("a", "GO", Some("{\"n\":1}")).await;
        let state = server.end("a").await;
        assert_eq!(state.output.as_deref(), Some(r#"[{"n":1},"nothing"]"#));
        assert_eq!(state.custom_status.as_deref(), Some(r#"{"got":{"n":1}}"#));
        assert_eq!(
            server.output("b").await.as_deref(),
            Some(r#"[7,"nothing"]"#)
        );
    }
}

#[tokio::test]
async fn an_execution_goes_on_as_new_with_its_events() {
    for language in LANGUAGES {
        let (mut server, _worker) = with_worker(language).await;
        server.start("Counts", "a", Some("0")).await;
        server.raise("a", "Late", Some("5")).await;
        assert_eq!(server.output("a").await.as_deref(), Some(r#"["2.0",5]"#));
    }
}

/// The failure of the activity, as it goes through the host.
fn reported() -> wire::TaskFailureDetails {
    failure(
        "Outermost",
        "it went wrong",
        broken(wire::ActivityRequest::default()).err().map(|it| *it),
    )
}

#[tokio::test]
async fn failures_keep_their_whole_chain() {
    let (mut server, _worker) = with_worker(Language::DotNet).await;
    server.start("Fails", "a", None).await;
    assert_eq!(server.failure("a").await, reported());
    server.start("Tells", "b", None).await;
    assert_eq!(server.failure("b").await, reported(), "also from a child");
}

#[tokio::test]
async fn payloads_of_20_megabytes_go_both_ways() {
    let (mut server, _worker) = with_worker(Language::DotNet).await;
    let payload = format!("\"{}\"", "é".repeat(10 << 20));
    server.start("Large", "a", Some(&payload)).await;
    let output = server.output("a").await.unwrap();
    assert!(output == payload, "{} bytes", output.len());
}

#[tokio::test]
async fn texts_that_are_no_json_come_back_as_they_were() {
    let (mut server, _worker) = with_worker(Language::Python).await;
    for (n, text) in ["", "not JSON", "null", "\"\\u0000\"", " 1 "]
        .iter()
        .enumerate()
    {
        let id = format!("a{n}");
        server.start("Large", &id, Some(text)).await;
        assert_eq!(server.output(&id).await.as_deref(), Some(*text));
    }
    server.start("Large", "b", None).await;
    assert_eq!(server.output("b").await, None);
}

#[tokio::test]
async fn a_long_history_is_read_as_a_stream() {
    let (mut server, worker) = with_worker(Language::DotNet).await;
    server.start("Long", "a", None).await;
    assert_eq!(server.output("a").await.as_deref(), Some("1"));
    assert!(worker.streamed() > 0);
    drop(worker);
    let worker = Worker::new(&server, Language::Java, ALL, ACTIVITIES).await;
    server.start("Long", "b", None).await;
    assert_eq!(server.output("b").await.as_deref(), Some("1"));
    assert_eq!(worker.streamed(), 0, "only for those that can");
}

#[tokio::test]
async fn a_component_calls_an_activity_of_a_worker() {
    let mut server = Server::new().await;
    server.client().deploy(module("workloads")).await.unwrap();
    let _worker = Worker::new(&server, Language::Java, &[], ACTIVITIES).await;
    server.start("NativeChain", "a", Some("4")).await;
    assert_eq!(server.output("a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_worker_calls_what_a_component_has() {
    let mut server = Server::new().await;
    server.client().deploy(module("workloads")).await.unwrap();
    let _worker = Worker::new(&server, Language::Python, ALL, &[]).await;
    server.start("CallsComponent", "a", None).await;
    assert_eq!(server.output("a").await.as_deref(), Some("[41,1]"));
}

#[tokio::test]
async fn two_workers_share_the_turns() {
    let mut server = Server::new().await;
    let first = Worker::new(&server, Language::Python, ALL, ACTIVITIES).await;
    let second = Worker::new(&server, Language::Python, ALL, ACTIVITIES).await;
    for n in 0..40 {
        server.start("FanOut", &format!("a{n}"), Some("3")).await;
    }
    for n in 0..40 {
        assert_eq!(server.output(&format!("a{n}")).await.as_deref(), Some("6"));
    }
    assert!(first.turns() > 0 && second.turns() > 0);
}

#[tokio::test]
async fn workers_are_not_told_what_the_host_does_itself() {
    let (mut server, _worker) = with_worker(Language::Python).await;
    server.start("Waits", "a", None).await;
    let client = server.client();
    client.suspend("a", Some("a while")).await.unwrap();
    server.raise("a", "Go", Some("1")).await;
    client.resume("a", None).await.unwrap();
    server.raise("a", "Stop", Some("2")).await;
    // The worker refuses a history with an event that it does not know.
    assert_eq!(server.output("a").await.as_deref(), Some("[1,2]"));
    let suspended = |events: &[wire::HistoryEvent]| {
        (events.iter())
            .any(|event| matches!(event.event_type, Some(EventType::ExecutionSuspended(_))))
    };
    assert!(suspended(&server.history("a", false).await));
    assert!(!suspended(&server.history("a", true).await));
}

#[tokio::test]
async fn a_terminated_instance_is_over_at_once() {
    let (mut server, _worker) = with_worker(Language::Python).await;
    server.start("Waits", "a", None).await;
    let request = wire::TerminateRequest {
        instance_id: "a".to_owned(),
        output: Some("\"enough\"".to_owned()),
        recursive: true,
    };
    server.stub.terminate_instance(request).await.unwrap();
    let state = server.end("a").await;
    assert_eq!(
        state.orchestration_status(),
        wire::OrchestrationStatus::Terminated
    );
    assert_eq!(state.output.as_deref(), Some("\"enough\""));
}
