//! An instance in the format of `func durable`: an `OrchestrationState`, with payloads as JSON texts and the status as a number.

use std::collections::BTreeMap;

use perennial::{Failure, InstanceStatus, Status, Timestamp};
use serde::Serialize;

/// What .NET writes for a time that there is none of.
const NEVER: &str = "0001-01-01T00:00:00";

/// One instance.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State<'a> {
    completed_time: String,
    compressed_size: u64,
    created_time: String,
    input: Option<&'a str>,
    last_updated_time: String,
    name: &'a str,
    orchestration_instance: Instance<'a>,
    orchestration_status: u8,
    output: Option<&'a str>,
    parent_instance: Option<Parent<'a>>,
    size: u64,
    status: Option<&'a str>,
    tags: Option<BTreeMap<&'a str, &'a str>>,
    version: Option<&'a str>,
    generation: Option<u32>,
    scheduled_start_time: Option<String>,
    failure_details: Option<FailureDetails<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Instance<'a> {
    instance_id: &'a str,
    execution_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Parent<'a> {
    orchestration_instance: Instance<'a>,
}

/// A failure.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FailureDetails<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: Option<&'a str>,
    inner_failure: Option<Box<Self>>,
    is_non_retriable: bool,
}

impl<'a> State<'a> {
    pub(super) fn new(status: &'a InstanceStatus, show_output: bool) -> Self {
        let output = status.output.as_ref().map(|output| output.as_str());
        let tags: BTreeMap<&str, &str> = status
            .tags
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        Self {
            completed_time: if status.is_ended() {
                iso(status.last_updated_at)
            } else {
                NEVER.to_owned()
            },
            compressed_size: 0,
            created_time: iso(status.created_at),
            input: status.input.as_ref().map(|input| input.as_str()),
            last_updated_time: iso(status.last_updated_at),
            name: &status.name,
            orchestration_instance: Instance {
                instance_id: &status.instance_id,
                execution_id: Some(&status.execution_id),
            },
            orchestration_status: number(status.runtime_status),
            output: output.filter(|_| show_output),
            parent_instance: status.parent_instance_id.as_deref().map(|id| Parent {
                orchestration_instance: Instance {
                    instance_id: id,
                    execution_id: None,
                },
            }),
            size: status.history_bytes,
            status: status.custom_status.as_ref().map(|shown| shown.as_str()),
            tags: (!tags.is_empty()).then_some(tags),
            version: status.version.as_deref(),
            generation: None,
            scheduled_start_time: None,
            failure_details: status.failure.as_ref().map(FailureDetails::from),
        }
    }
}

impl<'a> From<&'a Failure> for FailureDetails<'a> {
    fn from(failure: &'a Failure) -> Self {
        let inner = failure.causes.iter().rev().fold(None, |inner, cause| {
            Some(Box::new(Self {
                error_type: &cause.kind,
                error_message: &cause.message,
                stack_trace: cause.trace.as_deref(),
                inner_failure: inner,
                is_non_retriable: false,
            }))
        });
        Self {
            error_type: &failure.kind,
            error_message: &failure.message,
            stack_trace: failure.trace.as_deref(),
            inner_failure: inner,
            is_non_retriable: !failure.retryable,
        }
    }
}

/// The number that a status has in the Durable Task Framework.
fn number(status: Status) -> u8 {
    match status {
        Status::Running => 0,
        Status::Completed => 1,
        Status::Failed => 3,
        Status::Terminated => 5,
        Status::Pending => 6,
        Status::Suspended => 7,
    }
}

/// A time in ISO 8601.
pub(super) fn iso(at: Timestamp) -> String {
    match i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        Some(time) => format!("{time:.3}"),
        None => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}
