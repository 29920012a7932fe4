//! A host that serves gRPC, and a client of it.

use std::net::SocketAddr;
use std::time::Duration;

use perennial::http::{Api, serve};
use perennial::{ActivityContext, Client, Failure, Host};
use perennial_tests::{DataDir, module};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::generated as wire;
use crate::generated::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;

/// The client that `tonic` generates.
pub(crate) type Stub = TaskHubSidecarServiceClient<Channel>;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The most bytes of a message.
const MESSAGE: usize = 64 << 20;

/// A hub of a test's own, served on a free port.
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) address: SocketAddr,
    pub(crate) stub: Stub,
    pub(crate) dir: DataDir,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<usize>,
}

impl Server {
    /// With the guests `workloads` and `hello-sequence`.
    pub(crate) async fn new() -> Self {
        Self::with(Api::this_machine_only).await
    }

    pub(crate) async fn with(set_up: impl FnOnce(Api) -> Api) -> Self {
        let dir = DataDir::new();
        let native = |_: ActivityContext, n: u32| async move { Ok::<_, Failure>(n) };
        let host = dir.host().activity("Native", native).start().await.unwrap();
        for name in ["workloads", "hello-sequence"] {
            host.client().deploy(module(name)).await.unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = set_up(Api::new(host.client()));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, api, None, async { drop(stopped.await) }));
        Self {
            stub: connect(address).await,
            host,
            address,
            dir,
            stop,
            task,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.host.client()
    }

    /// Starts an instance with an id and a JSON input.
    pub(crate) async fn start(&mut self, name: &str, id: &str, input: Option<&str>) {
        let request = create(name, id, input);
        let started = self.stub.start_instance(request).await.unwrap();
        assert_eq!(started.into_inner().instance_id, id);
    }

    /// Waits for the end of an instance, with its payloads.
    pub(crate) async fn end(&mut self, id: &str) -> wire::OrchestrationState {
        let waits = self.stub.wait_for_instance_completion(get(id));
        let answer = tokio::time::timeout(LIMIT, waits).await.unwrap().unwrap();
        state(answer)
    }

    /// The state of an instance, with its payloads.
    pub(crate) async fn see(&mut self, id: &str) -> wire::OrchestrationState {
        state(self.stub.get_instance(get(id)).await.unwrap())
    }

    /// Waits until a condition holds for the state of an instance.
    pub(crate) async fn until(
        &mut self,
        id: &str,
        mut is_so: impl FnMut(&perennial::InstanceStatus) -> bool,
    ) {
        let client = self.client();
        let waited = client.wait_until(id, LIMIT, &mut is_so).await.unwrap();
        assert!(is_so(waited.status()), "{waited:?}");
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Stub {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    stub(endpoint.connect().await.unwrap())
}

pub(crate) fn stub(channel: Channel) -> Stub {
    TaskHubSidecarServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE)
}

pub(crate) fn create(name: &str, id: &str, input: Option<&str>) -> wire::CreateInstanceRequest {
    wire::CreateInstanceRequest {
        name: name.to_owned(),
        instance_id: id.to_owned(),
        input: input.map(str::to_owned),
        ..Default::default()
    }
}

pub(crate) fn get(id: &str) -> wire::GetInstanceRequest {
    wire::GetInstanceRequest {
        instance_id: id.to_owned(),
        get_inputs_and_outputs: true,
    }
}

pub(crate) fn raise(id: &str, name: &str, input: Option<&str>) -> wire::RaiseEventRequest {
    wire::RaiseEventRequest {
        instance_id: id.to_owned(),
        name: name.to_owned(),
        input: input.map(str::to_owned),
    }
}

pub(crate) fn state(answer: Response<wire::GetInstanceResponse>) -> wire::OrchestrationState {
    let answer = answer.into_inner();
    assert!(answer.exists);
    answer.orchestration_state.unwrap()
}

/// The code of a call that must have failed, with a text.
#[track_caller]
pub(crate) fn code<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Code {
    let status = answer.unwrap_err();
    assert!(!status.message().is_empty(), "{status:?}");
    status.code()
}

/// A request with metadata.
pub(crate) fn with<T>(request: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(request);
    for (name, value) in metadata {
        let value = value.parse().unwrap();
        request.metadata_mut().insert(*name, value);
    }
    request
}
