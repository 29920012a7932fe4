//! Histories as the SDKs have them.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::generated as wire;
use crate::generated::history_event::EventType;
use crate::see::{Server, code};

fn history(id: &str) -> wire::StreamInstanceHistoryRequest {
    wire::StreamInstanceHistoryRequest {
        instance_id: id.to_owned(),
        ..Default::default()
    }
}

impl Server {
    /// The chunks of a history.
    async fn history(&mut self, id: &str) -> Vec<Vec<wire::HistoryEvent>> {
        let stream = self.stub.stream_instance_history(history(id)).await;
        let (mut stream, mut chunks) = (stream.unwrap().into_inner(), Vec::new());
        while let Some(chunk) = stream.message().await.unwrap() {
            chunks.push(chunk.events);
        }
        chunks
    }
}

#[tokio::test]
async fn a_history_is_told_from_its_beginning_to_its_end() {
    let mut server = Server::new().await;
    server.start("HelloSequence", "a", None).await;
    server.end("a").await;
    let events = server.history("a").await.concat();
    let names: Vec<String> = events
        .iter()
        .map(|event| {
            let told = format!("{:?}", event.event_type.as_ref().unwrap());
            format!("{} {}", event.event_id, told.split('(').next().unwrap())
        })
        .collect();
    assert_eq!(
        names,
        [
            "-1 OrchestratorStarted",
            "-1 ExecutionStarted",
            "0 TaskScheduled",
            "-1 OrchestratorStarted",
            "-1 TaskCompleted",
            "1 TaskScheduled",
            "-1 OrchestratorStarted",
            "-1 TaskCompleted",
            "2 TaskScheduled",
            "-1 OrchestratorStarted",
            "-1 TaskCompleted",
            "-1 ExecutionCompleted",
        ]
    );
    let Some(EventType::ExecutionStarted(started)) = &events[1].event_type else {
        panic!("{events:?}")
    };
    let state = server.see("a").await;
    let instance = started.orchestration_instance.clone().unwrap();
    assert_eq!(instance.execution_id, state.execution_id);
    let Some(EventType::ExecutionCompleted(end)) = &events[11].event_type else {
        panic!("{events:?}")
    };
    assert_eq!(end.result, state.output);
    let mut of_execution = history("a");
    of_execution.execution_id = state.execution_id;
    let stream = server.stub.stream_instance_history(of_execution).await;
    assert!(
        stream
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn what_has_no_history_is_not_found() {
    let mut server = Server::new().await;
    let none = server.stub.stream_instance_history(history("none")).await;
    assert_eq!(none.unwrap_err().code(), Code::NotFound);
    server.start("Wait", "a", None).await;
    let mut other = history("a");
    other.execution_id = Some("0".repeat(32));
    let other = server.stub.stream_instance_history(other).await;
    let other = other.unwrap_err();
    assert_eq!(other.code(), Code::NotFound);
    assert!(other.message().contains("not the current one"), "{other}");
    let unnamed = server
        .stub
        .get_instance(wire::GetInstanceRequest::default())
        .await;
    assert_eq!(code(unnamed), Code::InvalidArgument);
}

#[tokio::test]
async fn a_long_history_comes_in_small_chunks_and_soon() {
    let mut server = Server::new().await;
    server.start("NativeChain", "a", Some("3400")).await;
    let end = server.end("a").await;
    assert_eq!(
        end.orchestration_status(),
        wire::OrchestrationStatus::Completed
    );
    let begun = Instant::now();
    let chunks = server.history("a").await;
    let took = begun.elapsed();
    let events: usize = chunks.iter().map(Vec::len).sum();
    assert!(events > 10_000, "{events} events");
    for chunk in &chunks {
        let bytes: usize = chunk.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes < 300 << 10, "{bytes} bytes");
    }
    println!("{events} events in {} chunks took {took:?}", chunks.len());
    // It takes about 50 ms; the rest is for a machine that has much else to do.
    assert!(took < Duration::from_secs(2), "{took:?}");
}
