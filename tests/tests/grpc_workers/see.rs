//! A host that serves gRPC, clients of it, and workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perennial::http::{Api, serve};
use perennial::{Client, Host};
use perennial_tests::DataDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::generated as wire;
use crate::generated::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use crate::generated::work_item::Request as Work;
use crate::sdk::{self, Language, Orchestrator};

pub(crate) type Stub = TaskHubSidecarServiceClient<Channel>;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the largest message.
const MESSAGE: usize = 64 << 20;

/// A hub of a test's own, served on a free port.
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) address: SocketAddr,
    pub(crate) stub: Stub,
    _dir: DataDir,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<usize>,
}

impl Server {
    pub(crate) async fn new() -> Self {
        let dir = DataDir::new();
        let host = dir.host().start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Api::new(host.client()).this_machine_only();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, api, None, async { drop(stopped.await) }));
        Self {
            stub: connect(address).await,
            host,
            address,
            _dir: dir,
            stop,
            task,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.host.client()
    }

    pub(crate) async fn start(&mut self, name: &str, id: &str, input: Option<&str>) {
        let request = wire::CreateInstanceRequest {
            name: name.to_owned(),
            instance_id: id.to_owned(),
            input: input.map(str::to_owned),
            ..Default::default()
        };
        self.stub.start_instance(request).await.unwrap();
    }

    pub(crate) async fn raise(&mut self, id: &str, name: &str, input: Option<&str>) {
        let request = wire::RaiseEventRequest {
            instance_id: id.to_owned(),
            name: name.to_owned(),
            input: input.map(str::to_owned),
        };
        self.stub.raise_event(request).await.unwrap();
    }

    /// Waits for the end of an instance.
    pub(crate) async fn end(&mut self, id: &str) -> wire::OrchestrationState {
        let request = wire::GetInstanceRequest {
            instance_id: id.to_owned(),
            get_inputs_and_outputs: true,
        };
        let waits = self.stub.wait_for_instance_completion(request);
        let answer = tokio::time::timeout(LIMIT, waits).await.unwrap().unwrap();
        answer.into_inner().orchestration_state.unwrap()
    }

    /// The output of an instance that completes.
    pub(crate) async fn output(&mut self, id: &str) -> Option<String> {
        let state = self.end(id).await;
        assert_eq!(
            state.orchestration_status(),
            wire::OrchestrationStatus::Completed,
            "{state:?}"
        );
        state.output
    }

    /// The failure of an instance that fails.
    pub(crate) async fn failure(&mut self, id: &str) -> wire::TaskFailureDetails {
        let state = self.end(id).await;
        assert_eq!(
            state.orchestration_status(),
            wire::OrchestrationStatus::Failed,
            "{state:?}"
        );
        state.failure_details.unwrap()
    }

    /// The history of an instance, as a client or a worker reads it.
    pub(crate) async fn history(&mut self, id: &str, for_worker: bool) -> Vec<wire::HistoryEvent> {
        history(&mut self.stub, id, for_worker).await
    }

    /// A stream of work items that a test answers itself.
    pub(crate) async fn items(&mut self, request: wire::GetWorkItemsRequest) -> Items {
        Items(
            self.stub
                .get_work_items(request)
                .await
                .unwrap()
                .into_inner(),
        )
    }
}

async fn history(stub: &mut Stub, id: &str, for_worker: bool) -> Vec<wire::HistoryEvent> {
    let request = wire::StreamInstanceHistoryRequest {
        instance_id: id.to_owned(),
        execution_id: None,
        for_work_item_processing: for_worker,
    };
    let mut chunks = stub
        .stream_instance_history(request)
        .await
        .unwrap()
        .into_inner();
    let mut events = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        events.extend(chunk.events);
    }
    events
}

pub(crate) async fn connect(address: SocketAddr) -> Stub {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    TaskHubSidecarServiceClient::new(endpoint.connect().await.unwrap())
        .max_decoding_message_size(MESSAGE)
        .max_encoding_message_size(MESSAGE)
}

/// A stream of work items.
pub(crate) struct Items(pub(crate) Streaming<wire::WorkItem>);

impl Items {
    pub(crate) async fn next(&mut self) -> wire::WorkItem {
        let next = tokio::time::timeout(LIMIT, self.0.message()).await;
        next.unwrap().unwrap().unwrap()
    }

    pub(crate) async fn turn(&mut self) -> (String, wire::OrchestratorRequest) {
        let item = self.next().await;
        match item.request.unwrap() {
            Work::OrchestratorRequest(request) => (item.completion_token, request),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn activity(&mut self) -> (String, wire::ActivityRequest) {
        let item = self.next().await;
        match item.request.unwrap() {
            Work::ActivityRequest(request) => (item.completion_token, request),
            other => panic!("{other:?}"),
        }
    }
}

/// The outcome of an activity.
pub(crate) type Did = Result<Option<String>, Box<wire::TaskFailureDetails>>;

/// An activity of the SDK.
pub(crate) type Activity = fn(wire::ActivityRequest) -> Did;

/// A worker that runs until it is dropped.
pub(crate) struct Worker {
    task: JoinHandle<()>,
    turns: Arc<AtomicUsize>,
    streamed: Arc<AtomicUsize>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// Connects, and runs these orchestrators and activities.
    pub(crate) async fn new(
        server: &Server,
        language: Language,
        orchestrators: &'static [(&'static str, Orchestrator)],
        activities: &'static [(&'static str, Activity)],
    ) -> Self {
        let filters = wire::WorkItemFilters {
            orchestrations: (orchestrators.iter())
                .map(|(name, _)| wire::OrchestrationFilter {
                    name: (*name).to_owned(),
                    versions: Vec::new(),
                })
                .collect(),
            activities: (activities.iter())
                .map(|(name, _)| wire::ActivityFilter {
                    name: (*name).to_owned(),
                    versions: Vec::new(),
                })
                .collect(),
            entities: Vec::new(),
        };
        let streams = wire::WorkerCapability::HistoryStreaming.into();
        let request = wire::GetWorkItemsRequest {
            capabilities: if language == Language::DotNet {
                vec![streams]
            } else {
                vec![]
            },
            work_item_filters: Some(filters),
            ..Default::default()
        };
        let mut stub = connect(server.address).await;
        let mut items = stub.get_work_items(request).await.unwrap().into_inner();
        let (turns, streamed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&turns), Arc::clone(&streamed));
        let task = tokio::spawn(async move {
            while let Ok(Some(item)) = items.message().await {
                let token = item.completion_token;
                match item.request.unwrap() {
                    Work::OrchestratorRequest(request) => {
                        counts.0.fetch_add(1, Ordering::Relaxed);
                        let id = request.instance_id;
                        let mut past = request.past_events;
                        if request.requires_history_streaming {
                            counts.1.fetch_add(1, Ordering::Relaxed);
                            assert!(past.is_empty());
                            past = history(&mut stub, &id, true).await;
                        }
                        let find = |name: &str| {
                            let mut all = orchestrators.iter();
                            all.find(|(one, _)| *one == name).unwrap().1
                        };
                        let turn = sdk::run(language, find, past, request.new_events);
                        let response = wire::OrchestratorResponse {
                            instance_id: id,
                            actions: turn.actions,
                            custom_status: turn.custom_status,
                            completion_token: token,
                            ..Default::default()
                        };
                        stub.complete_orchestrator_task(response).await.unwrap();
                    }
                    Work::ActivityRequest(request) => {
                        let mut all = activities.iter();
                        let run = all.find(|(name, _)| *name == request.name).unwrap().1;
                        let response = outcome(token, &request.clone(), run(request));
                        stub.complete_activity_task(response).await.unwrap();
                    }
                    Work::HealthPing(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        Self {
            task,
            turns,
            streamed,
        }
    }

    /// How many turns it ran.
    pub(crate) fn turns(&self) -> usize {
        self.turns.load(Ordering::Relaxed)
    }

    /// How many histories it read as a stream.
    pub(crate) fn streamed(&self) -> usize {
        self.streamed.load(Ordering::Relaxed)
    }
}

pub(crate) fn outcome(
    token: String,
    request: &wire::ActivityRequest,
    outcome: Did,
) -> wire::ActivityResponse {
    let instance = request.orchestration_instance.clone().unwrap_or_default();
    let (result, failure_details) = match outcome {
        Ok(result) => (result, None),
        Err(failure) => (None, Some(*failure)),
    };
    wire::ActivityResponse {
        instance_id: instance.instance_id,
        task_id: request.task_id,
        result,
        failure_details,
        completion_token: token,
    }
}

/// An answer to a turn.
pub(crate) fn answer(
    token: &str,
    actions: Vec<wire::OrchestratorAction>,
) -> wire::OrchestratorResponse {
    wire::OrchestratorResponse {
        actions,
        completion_token: token.to_owned(),
        ..Default::default()
    }
}

pub(crate) fn complete(result: &str) -> wire::OrchestratorAction {
    let done = wire::CompleteOrchestrationAction {
        orchestration_status: wire::OrchestrationStatus::Completed.into(),
        result: Some(result.to_owned()),
        ..Default::default()
    };
    action(9, done)
}

fn action(id: i32, done: wire::CompleteOrchestrationAction) -> wire::OrchestratorAction {
    use crate::generated::orchestrator_action::OrchestratorActionType as Asked;
    wire::OrchestratorAction {
        id,
        orchestrator_action_type: Some(Asked::CompleteOrchestration(done)),
    }
}

pub(crate) fn call(id: i32, name: &str, input: Option<&str>) -> wire::OrchestratorAction {
    use crate::generated::orchestrator_action::OrchestratorActionType as Asked;
    let call = wire::ScheduleTaskAction {
        name: name.to_owned(),
        input: input.map(str::to_owned),
        ..Default::default()
    };
    wire::OrchestratorAction {
        id,
        orchestrator_action_type: Some(Asked::ScheduleTask(call)),
    }
}
