//! A history as `func durable` prints one: the events of the Durable Task Framework.
//!
//! What has no counterpart there, such as a custom status that was set, is a `GenericEvent` whose data says what it is.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use perennial::{Event, HistoryEvent, Json, Status, TaskId, Timestamp};
use perennial_core::Start;
use serde_json::{Value, json};

use super::state::{FailureDetails, iso};

/// One event, its fields in the order in which they are printed.
pub(super) struct Line(Vec<(&'static str, Value)>);

impl serde::Serialize for Line {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The events of a history, each turn of the orchestration between an `OrchestratorStarted` and an `OrchestratorCompleted`.
pub(super) fn events(history: &[HistoryEvent]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut due = BTreeMap::new();
    let mut open: Option<(u32, Timestamp)> = None;
    for event in history {
        if let Some((_, at)) = open.take_if(|(turn, _)| *turn != event.turn) {
            lines.push(line("OrchestratorCompleted", at, None, Vec::new()));
        }
        if matches!(event.event, Event::TurnStarted { .. }) {
            open = Some((event.turn, event.at));
        }
        if let Event::TimerSet { task, fire_at } | Event::TimerSetAt { task, at: fire_at } =
            &event.event
        {
            due.insert(*task, *fire_at);
        }
        let fields = fields(&event.event, &due);
        lines.push(line(
            kind(&event.event),
            event.at,
            task(&event.event),
            fields,
        ));
    }
    if let Some((_, at)) = open {
        lines.push(line("OrchestratorCompleted", at, None, Vec::new()));
    }
    lines
}

type Fields = Vec<(&'static str, Value)>;

fn line(kind: &'static str, at: Timestamp, task: Option<TaskId>, fields: Fields) -> Line {
    let id = task.map_or_else(|| json!(-1), |task| json!(task));
    let mut line = vec![("EventType", json!(kind)), ("EventId", id)];
    line.extend(fields);
    line.push(("IsPlayed", json!(false)));
    line.push(("Timestamp", json!(iso(at))));
    Line(line)
}

fn text(json: &Option<Json>) -> Value {
    json.as_ref()
        .map_or(Value::Null, |json| json!(json.as_str()))
}

fn failed(failure: &perennial::Failure) -> Fields {
    let details = failure.details.as_ref().map(|details| details.as_str());
    vec![
        ("Reason", json!(failure.message)),
        ("Details", json!(details)),
        ("FailureDetails", json!(FailureDetails::from(failure))),
    ]
}

fn failed_task(task: TaskId, failure: &perennial::Failure) -> Fields {
    let mut fields = vec![("TaskScheduledId", json!(task))];
    fields.extend(failed(failure));
    fields
}

/// The type of the Durable Task Framework's event that an event is printed as.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::TurnStarted { .. } => "OrchestratorStarted",
        Event::ExecutionStarted(_) => "ExecutionStarted",
        Event::ActivityScheduled { .. } => "TaskScheduled",
        Event::ActivityCompleted { .. } => "TaskCompleted",
        Event::ActivityFailed { .. } => "TaskFailed",
        Event::ChildScheduled { .. } => "SubOrchestrationInstanceCreated",
        Event::ChildCompleted { .. } => "SubOrchestrationInstanceCompleted",
        Event::ChildFailed { .. } => "SubOrchestrationInstanceFailed",
        Event::TimerSet { .. } | Event::TimerSetAt { .. } => "TimerCreated",
        Event::TimerFired { .. } => "TimerFired",
        Event::ExternalEventRaised { .. } => "EventRaised",
        Event::EventSent { .. } => "EventSent",
        Event::ExecutionCompleted { .. }
        | Event::ExecutionFailed { .. }
        | Event::ExecutionTimedOut { .. } => "ExecutionCompleted",
        Event::ExecutionTerminated { .. } => "ExecutionTerminated",
        Event::ExecutionSuspended { .. } => "ExecutionSuspended",
        Event::ExecutionResumed { .. } => "ExecutionResumed",
        Event::ContinuedAsNew { .. } => "ContinueAsNew",
        Event::AttemptFailed { .. }
        | Event::CallDetails { .. }
        | Event::ActivityOptions { .. }
        | Event::InstanceOptions { .. }
        | Event::ChildCommanded { .. }
        | Event::CancellationRequested(_)
        | Event::ChildRetryScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::TaskCanceled { .. }
        | Event::InstanceStarted { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::CustomStatusSet { .. }
        | Event::ValueSet { .. }
        | Event::TagSet { .. }
        | Event::RequestReceived { .. }
        | Event::RequestAnswered { .. }
        | Event::RequestSent { .. }
        | Event::RequestCompleted { .. }
        | Event::RequestFailed { .. }
        | Event::ExecutionReturned { .. } => "GenericEvent",
    }
}

/// The id of an event: that of the task that it schedules.
fn task(event: &Event) -> Option<TaskId> {
    if let Event::ActivityScheduled { task, .. }
    | Event::ChildScheduled { task, .. }
    | Event::TimerSet { task, .. }
    | Event::TimerSetAt { task, .. } = event
    {
        return Some(*task);
    }
    None
}

#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
fn fields(event: &Event, due: &BTreeMap<TaskId, Timestamp>) -> Fields {
    let generic = |what: &str| vec![("Data", json!(format!("{}: {what}", event.name())))];
    match event {
        Event::TurnStarted { .. } => Vec::new(),
        Event::ExecutionStarted(start) => started(start),
        Event::ActivityScheduled { name, input, .. } => vec![
            ("Name", json!(name)),
            ("Version", json!("")),
            ("Input", text(input)),
        ],
        Event::ChildScheduled {
            name,
            version,
            instance_id,
            input,
            ..
        } => vec![
            ("Name", json!(name)),
            ("Version", json!(version)),
            ("InstanceId", json!(instance_id)),
            ("Input", text(input)),
        ],
        Event::ActivityCompleted { task, output, .. } | Event::ChildCompleted { task, output } => {
            vec![("TaskScheduledId", json!(task)), ("Result", text(output))]
        }
        Event::ActivityFailed { task, failure, .. } | Event::ChildFailed { task, failure } => {
            failed_task(*task, failure)
        }
        Event::TimerSet { fire_at, .. } | Event::TimerSetAt { at: fire_at, .. } => {
            vec![("FireAt", json!(iso(*fire_at)))]
        }
        Event::TimerFired { task } => {
            let fire_at = due.get(task).map(|at| iso(*at));
            vec![("TimerId", json!(task)), ("FireAt", json!(fire_at))]
        }
        Event::ExternalEventRaised { name, data, .. } => {
            vec![("Name", json!(name)), ("Input", text(data))]
        }
        Event::EventSent {
            instance_id,
            name,
            data,
        } => vec![
            ("InstanceId", json!(instance_id)),
            ("Name", json!(name)),
            ("Input", text(data)),
        ],
        Event::ExecutionCompleted { output } => ended(Status::Completed, text(output)),
        Event::ExecutionFailed { failure, .. } | Event::ExecutionTimedOut { failure } => {
            let mut fields = ended(Status::Failed, json!(failure.message));
            fields.push(("FailureDetails", json!(FailureDetails::from(failure))));
            fields
        }
        Event::ExecutionTerminated { reason } => vec![("Input", json!(reason))],
        Event::ExecutionSuspended { reason } | Event::ExecutionResumed { reason } => {
            vec![("Reason", json!(reason))]
        }
        Event::ContinuedAsNew { input, .. } => vec![("Result", text(input))],
        Event::TaskCanceled { task } => generic(&format!("task {task}")),
        Event::InstanceStarted {
            instance_id, name, ..
        } => generic(&format!("{name} as {instance_id}")),
        Event::CustomStatusSet { value } => generic(value.as_ref().map_or("none", Json::as_str)),
        Event::ValueSet { name, value } => {
            let value = value.as_ref().map_or("none", Json::as_str);
            generic(&format!("{name}: {value}"))
        }
        Event::TagSet { key, value } => {
            let value = value.as_deref().unwrap_or("none");
            generic(&format!("{key}: {value}"))
        }
        Event::ChildCommanded {
            instance_id,
            command,
            ..
        } => generic(&format!("{command} {instance_id}")),
        Event::RequestReceived { name, id, .. } => generic(&format!("{name} ({id})")),
        Event::RequestAnswered { id, .. } => generic(id),
        Event::RequestSent {
            name, instance_id, ..
        } => generic(&format!("{name} to {instance_id}")),
        Event::RequestCompleted { task, .. } | Event::RequestFailed { task, .. } => {
            generic(&format!("task {task}"))
        }
        Event::CancellationRequested(asked) => generic(asked.reason.as_deref().unwrap_or("")),
        Event::AttemptFailed { .. }
        | Event::CallDetails { .. }
        | Event::ActivityOptions { .. }
        | Event::InstanceOptions { .. }
        | Event::ChildRetryScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::ExecutionReturned { .. } => generic(""),
    }
}

fn started(start: &Start) -> Fields {
    let instance = json!({ "InstanceId": start.instance_id, "ExecutionId": start.execution_id });
    let parent = start
        .parent
        .as_ref()
        .map(|parent| json!({ "OrchestrationInstance": { "InstanceId": parent.instance_id } }));
    let tags: BTreeMap<&String, &String> =
        start.tags.iter().map(|(key, value)| (key, value)).collect();
    vec![
        ("OrchestrationInstance", instance),
        ("ParentInstance", json!(parent)),
        ("Name", json!(start.name)),
        ("Version", json!(start.version.as_deref().unwrap_or(""))),
        ("Input", text(&start.input)),
        ("Tags", json!(tags)),
    ]
}

fn ended(status: Status, result: Value) -> Fields {
    vec![
        ("OrchestrationStatus", json!(status.name())),
        ("Result", result),
    ]
}
