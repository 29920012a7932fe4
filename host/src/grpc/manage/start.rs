//! StartInstance.

use perennial_core::{Reuse, Status as Runs, StatusSet};
use tonic::Status;

use crate::client::Client;
use crate::grpc::generated::{
    CreateInstanceRequest, CreateInstanceResponse, OrchestrationIdReusePolicy,
};
use crate::grpc::manage::{list, some};
use crate::grpc::status::status;
use crate::grpc::{payload, time};

pub(in crate::grpc) async fn start(
    client: &Client,
    request: CreateInstanceRequest,
) -> Result<CreateInstanceResponse, Status> {
    if request.name.is_empty() {
        return Err(Status::invalid_argument(
            "the request names no orchestration: set name",
        ));
    }
    let at = time::optional("scheduledStartTimestamp", request.scheduled_start_timestamp)?;
    let mut start = client
        .start(request.name)
        .by_sdk()
        .input_json(request.input.map(payload::from_text))
        .reuse(reuse(request.orchestration_id_reuse_policy)?);
    let id = some(Some(request.instance_id));
    if let Some(id) = &id {
        start = start.id(id);
    }
    if let Some(version) = some(request.version) {
        start = start.version(version);
    }
    if let Some(at) = at {
        start = start.at(at);
    }
    if let Some(trace) = request.parent_trace_context
        && !trace.trace_parent.is_empty()
    {
        start = start.trace_parent(trace.trace_parent);
    }
    // The protocol has them in no order.
    let mut tags: Vec<(String, String)> = request.tags.into_iter().collect();
    tags.sort_unstable();
    for (key, value) in tags {
        start = start.tag(key, value);
    }
    match start.await {
        Ok(instance_id) => Ok(CreateInstanceResponse { instance_id }),
        Err(error) if error.is_already_exists() => Err(Status::already_exists(format!(
            "An Orchestration instance with the ID {} already exists.",
            id.unwrap_or_default()
        ))),
        Err(error) => Err(status(&error)),
    }
}

/// Which instances the start may replace. Without a policy, none: clients rely on being told of any id that is in use.
fn reuse(policy: Option<OrchestrationIdReusePolicy>) -> Result<Reuse, Status> {
    let Some(policy) = policy else {
        return Ok(Reuse::Never);
    };
    let these: StatusSet = list::statuses(&policy.replaceable_status)?
        .unwrap_or_default()
        .into_iter()
        .collect();
    // A live instance is terminated before it is replaced.
    let replaces_live = these.iter().any(|status| !status.is_end());
    if replaces_live && !these.contains(Runs::Terminated) {
        return Err(Status::invalid_argument(
            "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances",
        ));
    }
    Ok(Reuse::Among(these))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::generated::OrchestrationStatus as Wire;

    fn policy(statuses: &[Wire]) -> Result<Reuse, Status> {
        let statuses = statuses.iter().map(|status| i32::from(*status));
        reuse(Some(OrchestrationIdReusePolicy {
            replaceable_status: statuses.collect(),
        }))
    }

    #[test]
    fn policies_become_sets_of_statuses() {
        assert_eq!(reuse(None).unwrap(), Reuse::Never);
        let among = |statuses: &[Runs]| Reuse::Among(statuses.iter().copied().collect());
        assert_eq!(policy(&[]).unwrap(), among(&[]));
        assert_eq!(
            policy(&[Wire::Completed, Wire::Canceled]).unwrap(),
            among(&[Runs::Completed])
        );
        assert_eq!(
            policy(&[Wire::Running, Wire::Terminated]).unwrap(),
            among(&[Runs::Running, Runs::Terminated])
        );
    }

    #[test]
    fn a_policy_that_contradicts_itself_is_refused() {
        for live in [Wire::Running, Wire::Pending, Wire::Suspended] {
            let refused = policy(&[live, Wire::Completed]).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
        assert!(
            reuse(Some(OrchestrationIdReusePolicy {
                replaceable_status: vec![99],
            }))
            .is_err()
        );
    }
}
