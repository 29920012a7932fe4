//! The service of the protocol: each call is handed to the function that does it.

use std::sync::Arc;

use perennial_core::Callee;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::engine::Engine;
use crate::grpc::generated as wire;
use crate::grpc::generated::task_hub_sidecar_service_server::TaskHubSidecarService;
use crate::grpc::manage::hub::Hub;
use crate::grpc::manage::{control, history, hub, list, purge, read, start};
use crate::grpc::workers::{self, WorkItems, Workers};

/// Whether a call changes nothing, so that a key that may read permits it.
pub(crate) fn may_read(call: &str) -> bool {
    matches!(
        call,
        "Hello"
            | "GetInstance"
            | "WaitForInstanceStart"
            | "WaitForInstanceCompletion"
            | "QueryInstances"
            | "ListInstanceIds"
            | "StreamInstanceHistory"
            | "GetEntity"
            | "QueryEntities"
    )
}

/// The service for one call.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    hub: Hub,
    workers: Arc<Workers>,
    /// The server stops.
    closes: watch::Receiver<bool>,
}

impl Service {
    pub(crate) fn new(hub: Hub, workers: Arc<Workers>, closes: watch::Receiver<bool>) -> Self {
        Self {
            hub,
            workers,
            closes,
        }
    }

    /// The served hub.
    fn client(&self) -> &Client {
        match &self.hub {
            Hub::Served(client) | Hub::Other { served: client, .. } => client,
        }
    }

    /// The engine that runs the hub.
    fn engine(&self) -> Result<&Arc<Engine>, Status> {
        self.client().engine().ok_or_else(no_engine)
    }
}

/// The answer to calls of workers if the hub is not run in this process.
fn no_engine() -> Status {
    Status::failed_precondition(
        "this server does not run its task hub itself, so it has no work items; connect to the host of the hub",
    )
}

/// The answer to calls about entities.
fn no_entities<T>() -> Result<T, Status> {
    Err(Status::unimplemented(
        "this host has no entities: use orchestrations and their external events instead",
    ))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl TaskHubSidecarService for Service {
    type GetWorkItemsStream = WorkItems;
    type StreamInstanceHistoryStream = history::Chunks;

    async fn hello(&self, _: Request<()>) -> Answer<()> {
        Ok(Response::new(()))
    }

    async fn start_instance(
        &self,
        request: Request<wire::CreateInstanceRequest>,
    ) -> Answer<wire::CreateInstanceResponse> {
        let answer = start::start(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn get_instance(
        &self,
        request: Request<wire::GetInstanceRequest>,
    ) -> Answer<wire::GetInstanceResponse> {
        let answer = read::get(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn rewind_instance(
        &self,
        request: Request<wire::RewindInstanceRequest>,
    ) -> Answer<wire::RewindInstanceResponse> {
        let answer = control::rewind(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn restart_instance(
        &self,
        request: Request<wire::RestartInstanceRequest>,
    ) -> Answer<wire::RestartInstanceResponse> {
        let answer = control::restart(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn wait_for_instance_start(
        &self,
        request: Request<wire::GetInstanceRequest>,
    ) -> Answer<wire::GetInstanceResponse> {
        let answer = read::wait_for_start(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn wait_for_instance_completion(
        &self,
        request: Request<wire::GetInstanceRequest>,
    ) -> Answer<wire::GetInstanceResponse> {
        let answer = read::wait_for_completion(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn raise_event(
        &self,
        request: Request<wire::RaiseEventRequest>,
    ) -> Answer<wire::RaiseEventResponse> {
        let answer = control::raise_event(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn terminate_instance(
        &self,
        request: Request<wire::TerminateRequest>,
    ) -> Answer<wire::TerminateResponse> {
        let answer = control::terminate(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn suspend_instance(
        &self,
        request: Request<wire::SuspendRequest>,
    ) -> Answer<wire::SuspendResponse> {
        let answer = control::suspend(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn resume_instance(
        &self,
        request: Request<wire::ResumeRequest>,
    ) -> Answer<wire::ResumeResponse> {
        let answer = control::resume(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn query_instances(
        &self,
        request: Request<wire::QueryInstancesRequest>,
    ) -> Answer<wire::QueryInstancesResponse> {
        let answer = list::query(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn list_instance_ids(
        &self,
        request: Request<wire::ListInstanceIdsRequest>,
    ) -> Answer<wire::ListInstanceIdsResponse> {
        let answer = list::list_ids(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn purge_instances(
        &self,
        request: Request<wire::PurgeInstancesRequest>,
    ) -> Answer<wire::PurgeInstancesResponse> {
        let answer = purge::purge(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn skip_graceful_orchestration_terminations(
        &self,
        request: Request<wire::SkipGracefulOrchestrationTerminationsRequest>,
    ) -> Answer<wire::SkipGracefulOrchestrationTerminationsResponse> {
        let answer = control::terminate_batch(self.client(), request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn stream_instance_history(
        &self,
        request: Request<wire::StreamInstanceHistoryRequest>,
    ) -> Answer<history::Chunks> {
        let chunks = history::stream(self.client(), request.into_inner()).await?;
        Ok(Response::new(chunks))
    }

    async fn create_task_hub(
        &self,
        request: Request<wire::CreateTaskHubRequest>,
    ) -> Answer<wire::CreateTaskHubResponse> {
        hub::create(&self.hub, request.into_inner().recreate_if_exists).await?;
        Ok(Response::new(wire::CreateTaskHubResponse {}))
    }

    async fn delete_task_hub(
        &self,
        _: Request<wire::DeleteTaskHubRequest>,
    ) -> Answer<wire::DeleteTaskHubResponse> {
        hub::delete(&self.hub).await?;
        Ok(Response::new(wire::DeleteTaskHubResponse {}))
    }

    async fn get_work_items(
        &self,
        request: Request<wire::GetWorkItemsRequest>,
    ) -> Answer<Self::GetWorkItemsStream> {
        let closes = self.closes.clone();
        let items = workers::connect(self.engine()?, &self.workers, closes, request)?;
        Ok(Response::new(items))
    }

    async fn complete_activity_task(
        &self,
        request: Request<wire::ActivityResponse>,
    ) -> Answer<wire::CompleteTaskResponse> {
        workers::complete_activity(self.engine()?, &self.workers, request.into_inner()).await?;
        Ok(Response::new(wire::CompleteTaskResponse {}))
    }

    async fn complete_orchestrator_task(
        &self,
        request: Request<wire::OrchestratorResponse>,
    ) -> Answer<wire::CompleteTaskResponse> {
        workers::complete_orchestration(self.engine()?, &self.workers, request.into_inner())
            .await?;
        Ok(Response::new(wire::CompleteTaskResponse {}))
    }

    async fn abandon_task_activity_work_item(
        &self,
        request: Request<wire::AbandonActivityTaskRequest>,
    ) -> Answer<wire::AbandonActivityTaskResponse> {
        let token = request.into_inner().completion_token;
        workers::abandon(self.engine()?, &self.workers, Callee::Activity, token).await?;
        Ok(Response::new(wire::AbandonActivityTaskResponse {}))
    }

    async fn abandon_task_orchestrator_work_item(
        &self,
        request: Request<wire::AbandonOrchestrationTaskRequest>,
    ) -> Answer<wire::AbandonOrchestrationTaskResponse> {
        let token = request.into_inner().completion_token;
        workers::abandon(self.engine()?, &self.workers, Callee::Orchestration, token).await?;
        Ok(Response::new(wire::AbandonOrchestrationTaskResponse {}))
    }

    async fn abandon_task_entity_work_item(
        &self,
        _: Request<wire::AbandonEntityTaskRequest>,
    ) -> Answer<wire::AbandonEntityTaskResponse> {
        no_entities()
    }

    async fn complete_entity_task(
        &self,
        _: Request<wire::EntityBatchResult>,
    ) -> Answer<wire::CompleteTaskResponse> {
        no_entities()
    }

    async fn signal_entity(
        &self,
        _: Request<wire::SignalEntityRequest>,
    ) -> Answer<wire::SignalEntityResponse> {
        no_entities()
    }

    async fn get_entity(
        &self,
        _: Request<wire::GetEntityRequest>,
    ) -> Answer<wire::GetEntityResponse> {
        no_entities()
    }

    async fn query_entities(
        &self,
        _: Request<wire::QueryEntitiesRequest>,
    ) -> Answer<wire::QueryEntitiesResponse> {
        no_entities()
    }

    async fn clean_entity_storage(
        &self,
        _: Request<wire::CleanEntityStorageRequest>,
    ) -> Answer<wire::CleanEntityStorageResponse> {
        no_entities()
    }
}
