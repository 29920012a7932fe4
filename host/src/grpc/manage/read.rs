//! GetInstance, WaitForInstanceStart and WaitForInstanceCompletion.

use std::time::Duration;

use perennial_core::{Quarantine, Status as Runs};
use tonic::Status;

use crate::client::{Client, InstanceStatus};
use crate::grpc::generated::{
    GetInstanceRequest, GetInstanceResponse, OrchestrationState, OrchestrationStatus,
    TaskFailureDetails,
};
use crate::grpc::manage::named;
use crate::grpc::status::status;
use crate::grpc::{failure, payload, time};

/// Who calls ends a wait, by a deadline or by leaving.
const NO_LIMIT: Duration = Duration::MAX;

pub(in crate::grpc) async fn get(
    client: &Client,
    request: GetInstanceRequest,
) -> Result<GetInstanceResponse, Status> {
    named(&request.instance_id)?;
    let payloads = request.get_inputs_and_outputs;
    read(client, request.instance_id, payloads).await
}

pub(in crate::grpc) async fn wait_for_start(
    client: &Client,
    request: GetInstanceRequest,
) -> Result<GetInstanceResponse, Status> {
    named(&request.instance_id)?;
    let waited = client.wait_for_start(&request.instance_id, NO_LIMIT).await;
    waited_for(client, request, waited).await
}

pub(in crate::grpc) async fn wait_for_completion(
    client: &Client,
    request: GetInstanceRequest,
) -> Result<GetInstanceResponse, Status> {
    named(&request.instance_id)?;
    let waited = client.wait_for_completion(&request.instance_id, NO_LIMIT);
    let waited = waited.await;
    waited_for(client, request, waited).await
}

async fn waited_for(
    client: &Client,
    request: GetInstanceRequest,
    waited: crate::client::Result<crate::client::Waited>,
) -> Result<GetInstanceResponse, Status> {
    match waited {
        // The input is not part of what a wait returns.
        Ok(_) if request.get_inputs_and_outputs => read(client, request.instance_id, true).await,
        Ok(waited) => Ok(found(Some(waited.status().clone()), false)),
        Err(error) if error.is_not_found_instance() => Ok(found(None, false)),
        Err(error) => Err(status(&error)),
    }
}

async fn read(client: &Client, id: String, payloads: bool) -> Result<GetInstanceResponse, Status> {
    let mut query = client.status(id);
    if payloads {
        query = query.show_input();
    }
    match query.await {
        Ok(status) => Ok(found(status, payloads)),
        Err(error) if error.is_not_found_instance() => Ok(found(None, payloads)),
        Err(error) => Err(status(&error)),
    }
}

fn found(status: Option<InstanceStatus>, payloads: bool) -> GetInstanceResponse {
    GetInstanceResponse {
        exists: status.is_some(),
        orchestration_state: status.map(|status| state(status, payloads)),
    }
}

/// A status of the protocol.
pub(in crate::grpc) fn runs(status: Runs) -> OrchestrationStatus {
    match status {
        Runs::Pending => OrchestrationStatus::Pending,
        Runs::Running => OrchestrationStatus::Running,
        Runs::Suspended => OrchestrationStatus::Suspended,
        Runs::Completed => OrchestrationStatus::Completed,
        Runs::Failed => OrchestrationStatus::Failed,
        Runs::Terminated => OrchestrationStatus::Terminated,
    }
}

/// Why the host cannot go on with an instance, which is suspended until it is resumed.
fn quarantined(why: &Quarantine) -> TaskFailureDetails {
    TaskFailureDetails {
        error_type: "Quarantined".to_owned(),
        error_message: format!(
            "the host does not go on with the instance: {}; resume it once that is mended",
            why.reason
        ),
        ..TaskFailureDetails::default()
    }
}

/// The state of an instance, with its payloads if they are wanted.
pub(in crate::grpc) fn state(status: InstanceStatus, payloads: bool) -> OrchestrationState {
    let ended = status.is_ended().then_some(status.last_updated_at);
    let text = |json: &perennial_core::Json| payload::to_text(json);
    let output = match status.runtime_status {
        // What the hub shows there is the reason of the suspension.
        Runs::Suspended => None,
        Runs::Terminated => status.output.as_ref().map(|reason| {
            match serde_json::from_str::<String>(reason.as_str()) {
                Ok(reason) => payload::reason_to_text(&reason),
                Err(_) => text(reason),
            }
        }),
        Runs::Pending | Runs::Running | Runs::Completed | Runs::Failed => {
            status.output.as_ref().map(text)
        }
    };
    let shown = |payload: Option<String>| payload.filter(|_| payloads);
    OrchestrationState {
        orchestration_status: runs(status.runtime_status).into(),
        instance_id: status.instance_id,
        name: status.name,
        version: status.version,
        scheduled_start_timestamp: status.scheduled_for.map(time::to_wire),
        created_timestamp: Some(time::to_wire(status.created_at)),
        last_updated_timestamp: Some(time::to_wire(status.last_updated_at)),
        input: shown(status.input.as_ref().map(text)),
        output: shown(output),
        custom_status: shown(status.custom_status.as_ref().map(text)),
        failure_details: status
            .failure
            .as_ref()
            .map(failure::to_wire)
            .or_else(|| status.quarantine.as_ref().map(quarantined)),
        execution_id: Some(status.execution_id),
        completed_timestamp: ended.map(time::to_wire),
        parent_instance_id: status.parent_instance_id,
        tags: status.tags.into_iter().collect(),
    }
}
