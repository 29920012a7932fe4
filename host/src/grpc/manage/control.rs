//! RaiseEvent, TerminateInstance, SuspendInstance, ResumeInstance, RewindInstance, RestartInstance and
//! SkipGracefulOrchestrationTerminations.

use tonic::Status;

use crate::client::{Client, Error};
use crate::engine::Request;
use crate::grpc::generated as wire;
use crate::grpc::manage::{batch, named, some};
use crate::grpc::payload;
use crate::grpc::status::status;

/// An instance that has ended takes no events and needs no command: clients expect no error.
fn or_ended<T>(done: Result<T, Error>) -> Result<(), Status> {
    match done {
        Err(error) if error.is_wrong_state() => {
            tracing::debug!(%error, "a command came too late");
            Ok(())
        }
        done => done.map(drop).map_err(|error| status(&error)),
    }
}

pub(in crate::grpc) async fn raise_event(
    client: &Client,
    request: wire::RaiseEventRequest,
) -> Result<wire::RaiseEventResponse, Status> {
    named(&request.instance_id)?;
    let id = request.instance_id;
    let event = Request::RaiseEvent {
        id: id.clone(),
        name: request.name,
        data: request.input.map(payload::from_text),
    };
    let raised = client.submit(&id, Request::Remote(Box::new(event)));
    or_ended(raised.await.map(drop))?;
    Ok(wire::RaiseEventResponse {})
}

pub(in crate::grpc) async fn terminate(
    client: &Client,
    request: wire::TerminateRequest,
) -> Result<wire::TerminateResponse, Status> {
    named(&request.instance_id)?;
    let reason = request.output.map(payload::reason_from_text);
    let terminated = client
        .terminate(&request.instance_id, reason.as_deref())
        .recursive_if(request.recursive);
    or_ended(terminated.await)?;
    Ok(wire::TerminateResponse {})
}

pub(in crate::grpc) async fn suspend(
    client: &Client,
    request: wire::SuspendRequest,
) -> Result<wire::SuspendResponse, Status> {
    named(&request.instance_id)?;
    let suspended = client.suspend(&request.instance_id, request.reason.as_deref());
    or_ended(suspended.await)?;
    Ok(wire::SuspendResponse {})
}

pub(in crate::grpc) async fn resume(
    client: &Client,
    request: wire::ResumeRequest,
) -> Result<wire::ResumeResponse, Status> {
    named(&request.instance_id)?;
    let resumed = client.resume(&request.instance_id, request.reason.as_deref());
    or_ended(resumed.await)?;
    Ok(wire::ResumeResponse {})
}

pub(in crate::grpc) async fn rewind(
    client: &Client,
    request: wire::RewindInstanceRequest,
) -> Result<wire::RewindInstanceResponse, Status> {
    named(&request.instance_id)?;
    let mut rewind = client.rewind(request.instance_id);
    if let Some(reason) = some(request.reason) {
        rewind = rewind.reason(reason);
    }
    rewind.await.map_err(|error| status(&error))?;
    Ok(wire::RewindInstanceResponse {})
}

pub(in crate::grpc) async fn restart(
    client: &Client,
    request: wire::RestartInstanceRequest,
) -> Result<wire::RestartInstanceResponse, Status> {
    named(&request.instance_id)?;
    let mut restart = client.restart(request.instance_id);
    if request.restart_with_new_instance_id {
        restart = restart.with_new_id();
    }
    let instance_id = restart.await.map_err(|error| status(&error))?;
    Ok(wire::RestartInstanceResponse { instance_id })
}

/// The host terminates every instance without asking its orchestrator, so this is a termination of each.
pub(in crate::grpc) async fn terminate_batch(
    client: &Client,
    request: wire::SkipGracefulOrchestrationTerminationsRequest,
) -> Result<wire::SkipGracefulOrchestrationTerminationsResponse, Status> {
    let reason = request.reason.map(payload::reason_from_text);
    let mut unterminated_instance_ids = Vec::new();
    for id in batch(request.instance_batch)? {
        match client.terminate(&id, reason.as_deref()).await {
            Ok(_) => {}
            Err(error) if error.is_wrong_state() || error.is_not_found_instance() => {
                unterminated_instance_ids.push(id);
            }
            Err(error) => return Err(status(&error)),
        }
    }
    Ok(wire::SkipGracefulOrchestrationTerminationsResponse {
        unterminated_instance_ids,
    })
}
