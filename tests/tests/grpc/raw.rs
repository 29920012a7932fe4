//! What no SDK sends: broken messages, unknown calls, abandoned calls, and a server that stops meanwhile.

use std::time::Duration;

use prost::Message as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Bytes;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::see::{LIMIT, Server, code, connect, create, get, raise};

/// Messages as bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let rest = prost::bytes::Buf::remaining(buffer);
        Ok(Some(prost::bytes::Buf::copy_to_bytes(buffer, rest)))
    }
}

impl Server {
    /// Calls with a message of any bytes.
    async fn raw(&self, path: &'static str, message: Vec<u8>) -> Result<Bytes, Status> {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", self.address));
        let channel = endpoint.unwrap().connect().await.unwrap();
        let mut grpc = tonic::client::Grpc::new(channel).max_encoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(Request::new(Bytes::from(message)), path, Raw);
        answer.await.map(tonic::Response::into_inner)
    }
}

#[tokio::test]
async fn broken_messages_and_unknown_calls_are_refused() {
    let mut server = Server::new().await;
    let start = "/TaskHubSidecarService/StartInstance";
    for message in [
        vec![0xff; 100],
        vec![0x0a, 0x7f],
        vec![0x0a, 0x02, 0xc3, 0x28],
        vec![0x42; 10_000],
    ] {
        let refused = server.raw(start, message).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    for path in [
        "/TaskHubSidecarService/NoSuchCall",
        "/other.Service/Hello",
        "/grpc.health.v1.Health/Check",
    ] {
        let refused = server.raw(path, Vec::new()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{path}: {refused}");
    }
    server.stub.hello(()).await.unwrap();
}

#[tokio::test]
async fn fields_of_a_newer_protocol_are_ignored() {
    let server = Server::new().await;
    let mut message = create("Wait", "a", None).encode_to_vec();
    // Field 1000 with a text, field 1001 with a number.
    message.extend([0xc2, 0x3e, 0x03, b'n', b'e', b'w', 0xc8, 0x3e, 0x01]);
    let answer = server.raw("/TaskHubSidecarService/StartInstance", message);
    let answer = crate::generated::CreateInstanceResponse::decode(answer.await.unwrap());
    assert_eq!(answer.unwrap().instance_id, "a");
}

#[tokio::test]
async fn large_payloads_come_and_go_and_larger_messages_are_refused() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    let text = format!("\"{}\"", "x".repeat(900_000));
    let event = raise("a", "Go", Some(&text));
    server.stub.raise_event(event).await.unwrap();
    assert_eq!(server.end("a").await.output.as_deref(), Some(&*text));
    let huge = create("Wait", "b", Some(&"1".repeat(65 << 20))).encode_to_vec();
    let refused = server.raw("/TaskHubSidecarService/StartInstance", huge);
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let too_large = raise("a", &"n".repeat(10_000), None);
    let refused = server.stub.raise_event(too_large).await;
    assert_eq!(code(refused), Code::InvalidArgument);
}

#[tokio::test]
async fn thousands_of_abandoned_calls_leave_nothing_behind() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    for _ in 0..40 {
        let stub = connect(server.address).await;
        let calls = (0..500).map(|_| {
            let mut stub = stub.clone();
            async move { stub.wait_for_instance_completion(get("a")).await }
        });
        let all = futures::future::join_all(calls);
        // Long enough that most of them have arrived.
        let abandoned = tokio::time::timeout(Duration::from_millis(50), all).await;
        assert!(abandoned.is_err(), "nothing ends");
    }
    // More calls were made than a server takes at once: it has let go of those before.
    let mut stub = connect(server.address).await;
    stub.hello(()).await.unwrap();
    let event = raise("a", "Go", Some("\"x\""));
    stub.raise_event(event).await.unwrap();
    assert_eq!(server.end("a").await.output.as_deref(), Some("\"x\""));
}

#[tokio::test]
async fn waits_end_when_the_server_stops() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    let mut waiting = server.stub.clone();
    let waits = tokio::spawn(async move { waiting.wait_for_instance_completion(get("a")).await });
    let follower = server.stub.wait_for_instance_start(get("a"));
    follower.await.unwrap();
    server.stop.send(()).unwrap();
    let ended = tokio::time::timeout(LIMIT, waits).await.unwrap().unwrap();
    assert_eq!(code(ended), Code::Unavailable);
    assert_eq!(server.task.await.unwrap(), 0, "nothing was cut off");
}
