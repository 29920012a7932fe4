//! A history as `func durable` prints one: the events of the Durable Task Framework.
//!
//! What has no counterpart there, such as a custom status that was set, is a `GenericEvent` whose data says what it is.

use std::collections::BTreeMap;

use perennial::{Event, HistoryEvent, Json, Status, TaskId, Timestamp};
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
        let (kind, task, fields) = describe(&event.event, &mut due);
        lines.push(line(kind, event.at, task, fields));
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

fn generic(event: &Event, what: &str) -> (&'static str, Option<TaskId>, Fields) {
    let data = format!("{}: {what}", event.name());
    ("GenericEvent", None, vec![("Data", json!(data))])
}

fn describe(
    event: &Event,
    due: &mut BTreeMap<TaskId, Timestamp>,
) -> (&'static str, Option<TaskId>, Fields) {
    match event {
        Event::TurnStarted { .. } => ("OrchestratorStarted", None, Vec::new()),
        Event::ExecutionStarted(start) => {
            let instance =
                json!({ "InstanceId": start.instance_id, "ExecutionId": start.execution_id });
            let parent = start.parent.as_ref().map(
                |parent| json!({ "OrchestrationInstance": { "InstanceId": parent.instance_id } }),
            );
            let tags: BTreeMap<&String, &String> =
                start.tags.iter().map(|(key, value)| (key, value)).collect();
            let fields = vec![
                ("OrchestrationInstance", instance),
                ("ParentInstance", json!(parent)),
                ("Name", json!(start.name)),
                ("Version", json!(start.version.as_deref().unwrap_or(""))),
                ("Input", text(&start.input)),
                ("Tags", json!(tags)),
            ];
            ("ExecutionStarted", None, fields)
        }
        Event::ActivityScheduled {
            task, name, input, ..
        } => (
            "TaskScheduled",
            Some(*task),
            vec![
                ("Name", json!(name)),
                ("Version", json!("")),
                ("Input", text(input)),
            ],
        ),
        Event::ActivityCompleted { task, output, .. } => (
            "TaskCompleted",
            None,
            vec![("TaskScheduledId", json!(task)), ("Result", text(output))],
        ),
        Event::ActivityFailed { task, failure, .. } => {
            let mut fields = vec![("TaskScheduledId", json!(task))];
            fields.extend(failed(failure));
            ("TaskFailed", None, fields)
        }
        Event::ChildScheduled {
            task,
            name,
            version,
            instance_id,
            input,
            ..
        } => (
            "SubOrchestrationInstanceCreated",
            Some(*task),
            vec![
                ("Name", json!(name)),
                ("Version", json!(version)),
                ("InstanceId", json!(instance_id)),
                ("Input", text(input)),
            ],
        ),
        Event::ChildCompleted { task, output } => (
            "SubOrchestrationInstanceCompleted",
            None,
            vec![("TaskScheduledId", json!(task)), ("Result", text(output))],
        ),
        Event::ChildFailed { task, failure } => {
            let mut fields = vec![("TaskScheduledId", json!(task))];
            fields.extend(failed(failure));
            ("SubOrchestrationInstanceFailed", None, fields)
        }
        Event::TimerSet { task, fire_at } => {
            due.insert(*task, *fire_at);
            (
                "TimerCreated",
                Some(*task),
                vec![("FireAt", json!(iso(*fire_at)))],
            )
        }
        Event::TimerFired { task } => {
            let fire_at = due.get(task).map(|at| iso(*at));
            (
                "TimerFired",
                None,
                vec![("TimerId", json!(task)), ("FireAt", json!(fire_at))],
            )
        }
        Event::ExternalEventRaised { name, data, .. } => (
            "EventRaised",
            None,
            vec![("Name", json!(name)), ("Input", text(data))],
        ),
        Event::EventSent {
            instance_id,
            name,
            data,
        } => (
            "EventSent",
            None,
            vec![
                ("InstanceId", json!(instance_id)),
                ("Name", json!(name)),
                ("Input", text(data)),
            ],
        ),
        other => describe_end(other),
    }
}

fn ended(status: Status, result: Value) -> (&'static str, Option<TaskId>, Fields) {
    let fields = vec![
        ("OrchestrationStatus", json!(status.name())),
        ("Result", result),
    ];
    ("ExecutionCompleted", None, fields)
}

/// The events that end, hold or renew an execution, and those that other engines do not have.
fn describe_end(event: &Event) -> (&'static str, Option<TaskId>, Fields) {
    match event {
        Event::ExecutionCompleted { output } => ended(Status::Completed, text(output)),
        Event::ExecutionFailed { failure, .. } => {
            let (kind, task, mut fields) = ended(Status::Failed, json!(failure.message));
            fields.push(("FailureDetails", json!(FailureDetails::from(failure))));
            (kind, task, fields)
        }
        Event::ExecutionTerminated { reason } => {
            ("ExecutionTerminated", None, vec![("Input", json!(reason))])
        }
        Event::ContinuedAsNew { input, .. } => {
            ("ContinueAsNew", None, vec![("Result", text(input))])
        }
        Event::ExecutionSuspended { reason } => {
            ("ExecutionSuspended", None, vec![("Reason", json!(reason))])
        }
        Event::ExecutionResumed { reason } => {
            ("ExecutionResumed", None, vec![("Reason", json!(reason))])
        }
        Event::TaskCanceled { task } => generic(event, &format!("task {task}")),
        Event::InstanceStarted {
            instance_id, name, ..
        } => generic(event, &format!("{name} as {instance_id}")),
        Event::CustomStatusSet { value } => {
            generic(event, value.as_ref().map_or("none", |value| value.as_str()))
        }
        other => generic(other, ""),
    }
}
