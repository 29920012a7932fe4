//! Schemas of requests and answers for the OpenAPI document.

use serde_json::{Value, json};

use crate::http::native::doc::{flag, schema, text, time};

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn age() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0 })
}

fn role() -> Value {
    json!({ "type": "string", "enum": ["admin", "read-only"] })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn tags() -> Value {
    json!({ "type": "object", "additionalProperties": text() })
}

pub(super) fn schemas() -> Value {
    let mut all = of_instances();
    if let (Value::Object(all), Value::Object(others)) = (&mut all, of_hubs()) {
        all.extend(others);
    }
    all
}

fn list(name: &str) -> Value {
    json!({ "type": "array", "items": schema(name) })
}

fn of_instances() -> Value {
    let statuses = [
        "Pending",
        "Running",
        "Suspended",
        "Completed",
        "Failed",
        "Terminated",
    ];
    json!({
        "Status": { "type": "string", "enum": statuses },
        "Error": object(&["error"], json!({
            "error": object(&["code", "message"], json!({ "code": text(), "message": text() })),
        })),
        "Failure": object(&["kind", "message", "retryable"], json!({
            "kind": text(), "message": text(), "retryable": flag(), "details": {}, "trace": text(), "causes": list("Cause"),
        })),
        "Cause": object(&["kind", "message"], json!({ "kind": text(), "message": text(), "trace": { "type": ["string", "null"] } })),
        "Instance": object(&["instanceId", "name", "runtimeStatus", "createdTime", "lastUpdatedTime"], json!({
            "instanceId": text(), "name": text(), "runtimeStatus": schema("Status"), "createdTime": time(), "scheduledTime": time(),
            "startedTime": time(), "lastUpdatedTime": time(), "executionId": text(), "version": text(), "module": text(), "input": {},
            "customStatus": {}, "output": {}, "failure": schema("Failure"), "parentInstanceId": text(), "tags": tags(),
            "quarantine": schema("Quarantine"), "rewinds": list("RewindRecord"), "waitsFor": list("Wait"), "waitsForMore": count(), "eventsWithoutEffect": { "type": "array", "items": text() },
            "stillRuns": list("Wait"),
            "historyEvents": count(), "historyBytes": count(), "history": list("HistoryEvent"),
        })),
        "Quarantine": object(&["reason", "host", "time"], json!({
            "reason": text(), "turn": count(), "event": count(), "recorded": text(), "asked": text(), "module": text(), "host": text(),
            "time": time(),
        })),
        "RewindRecord": object(&["time"], json!({ "time": time(), "reason": text() })),
        "Wait": object(&["kind"], json!({
            "kind": text(), "name": text(), "task": count(), "attempt": count(), "nextAttemptTime": time(), "lastFailure": schema("Failure"),
            "state": { "type": "string", "enum": ["running", "queued", "waiting"] }, "runningSince": time(),
            "failedAttempts": list("FailedAttempt"), "due": time(), "instanceId": text(), "runtimeStatus": schema("Status"), "note": text(), "reason": text(),
        })),
        "FailedAttempt": object(&["attempt", "startedAt", "endedAt", "failure"], json!({
            "attempt": count(), "startedAt": time(), "endedAt": time(), "failure": schema("Failure"),
        })),
        "HistoryEvent": object(&["number", "turn", "at", "event"], json!({
            "number": count(), "turn": count(), "at": time(), "event": text(),
            "now": time(), "instanceId": text(), "executionId": text(), "name": text(), "version": text(), "input": {},
            "parentInstanceId": text(), "module": text(), "tags": tags(), "task": count(), "output": {}, "failure": schema("Failure"),
            "attempt": count(), "startedAt": time(), "endedAt": time(), "eventNumber": count(), "data": {}, "fireAt": time(), "value": {},
            "cause": count(), "reason": text(), "due": time(),
        })),
        "Page": object(&["instances"], json!({ "instances": list("Instance"), "continuationToken": text() })),
        "Start": {
            "type": "object", "additionalProperties": false, "required": ["orchestration"],
            "properties": {
                "orchestration": text(), "id": text(), "version": text(), "input": {},
                "tags": tags(),
                "reuse": { "type": "string", "enum": ["ended", "never", "any"] },
                "scheduledTime": time(), "startAfterMs": { "type": "integer", "minimum": 0 }, "traceParent": text(),
            },
        },
        "Started": object(&["instanceId"], json!({ "instanceId": text() })),
        "Reason": { "type": "object", "additionalProperties": false, "properties": { "reason": text() } },
        "Command": {
            "type": "object", "additionalProperties": false,
            "properties": { "reason": text(), "recursive": flag(), "module": text() },
        },
        "Deleted": object(&["deleted"], json!({ "deleted": { "type": "integer" } })),
        "Bulk": object(&["matched", "done", "skipped", "dryRun"], json!({
            "matched": { "type": "integer" }, "done": { "type": "integer" }, "skipped": { "type": "integer" }, "dryRun": flag(),
        })),
        "Rewind": {
            "type": "object", "additionalProperties": false, "properties": { "reason": text(), "module": text(), "allFailures": flag(), "forgetCompleted": flag() },
        },
        "Rewound": object(&["activities", "rewoundChildren", "restartedChildren", "dropped", "cutEvents", "remainingFailures", "moreRemaining", "droppedEvents"], json!({
            "activities": list("RearmedActivity"), "rewoundChildren": { "type": "array", "items": text() },
            "restartedChildren": { "type": "array", "items": text() }, "dropped": list("DroppedTask"), "cutEvents": { "type": "integer" },
            "remainingFailures": list("RemainingFailure"), "moreRemaining": count(), "droppedEvents": list("DroppedEvent"),
        })),
        "RemainingFailure": object(&["task", "kind", "name", "failure", "message", "why"], json!({
            "task": count(), "kind": { "type": "string", "enum": ["activity", "child"] }, "name": text(), "failure": text(),
            "message": text(), "why": text(),
        })),
        "RearmedActivity": object(&["task", "name"], json!({ "task": count(), "name": text() })),
        "DroppedTask": object(&["task", "kind", "completed"], json!({
            "task": count(), "kind": text(), "name": text(), "instanceIds": { "type": "array", "items": text() }, "completed": flag(),
        })),
        "DroppedEvent": object(&["instanceId", "number", "name"], json!({ "instanceId": text(), "number": count(), "name": text() })),
        "Restart": { "type": "object", "additionalProperties": false, "properties": { "id": text() } },
    })
}

fn of_hubs() -> Value {
    json!({
        "Counts": { "type": "object", "additionalProperties": { "type": "integer" } },
        "Definition": object(&["kind", "name"], json!({
            "kind": { "type": "string", "enum": ["orchestration", "activity"] }, "name": text(), "version": text(), "description": text(),
            "input_schema": text(),
        })),
        "Module": object(&["name", "digest", "definitions", "imports"], json!({
            "name": text(), "digest": text(), "contract": text(), "definitions": list("Definition"),
            "imports": { "type": "array", "items": text() }, "size": { "type": "integer" }, "deployedTime": time(), "grants": schema("ShownGrants"),
            "limits": schema("ModuleLimits"),
        })),
        "Deployment": object(&["name", "digest", "names"], json!({
            "name": text(), "digest": text(),
            "names": { "type": "array", "items": object(&["kind", "name", "changed"], json!({ "kind": text(), "name": text(), "before": text(), "changed": flag() })) },
        })),
        "Hub": object(&["taskHub", "hosted", "counts"], json!({
            "taskHub": text(), "hosted": flag(), "counts": schema("Counts"), "stats": schema("Counts"),
        })),
        "HubStats": object(&["taskHub", "bytes", "instances"], json!({
            "taskHub": text(), "file": text(), "bytes": { "type": "integer" }, "createdTime": time(), "owner": text(),
            "instances": schema("Counts"), "historyTurns": { "type": "integer" }, "historyEvents": { "type": "integer" },
            "historyBytes": { "type": "integer" }, "modules": { "type": "integer" }, "storedModules": { "type": "integer" },
            "moduleBytes": { "type": "integer" }, "usedBytes": { "type": "integer" }, "freeBytes": { "type": "integer" },
            "hasGarbage": flag(),
        })),
        "Retention": object(&[], json!({ "completed": age(), "failed": age(), "terminated": age() })),
        "Key": object(&["id", "name", "role", "createdTime"], json!({
            "id": text(), "name": text(), "role": role(), "createdTime": time(), "key": text(),
        })),
        "NewKey": {
            "type": "object", "additionalProperties": false, "required": ["name", "role"],
            "properties": { "name": text(), "role": role() },
        },
        "Upload": {
            "type": "object", "additionalProperties": false, "required": ["component"],
            "properties": { "component": { "type": "string", "contentEncoding": "base64" }, "grants": schema("Grants"), "limits": schema("ModuleLimits") },
        },
        "CollectedModule": object(&["digest", "size"], json!({ "digest": text(), "size": { "type": "integer" } })),
        "ModuleLimits": {
            "type": "object", "additionalProperties": false,
            "properties": { "fuel": { "type": "integer" }, "memoryBytes": { "type": "integer" } },
        },
        "Grants": {
            "type": "object", "additionalProperties": false,
            "properties": {
                "dirs": { "type": "array", "items": object(&["host", "guest"], json!({ "host": text(), "guest": text(), "writable": flag() })) },
                "env": { "type": "array", "items": { "type": "array", "items": text() } },
                "http_hosts": { "type": "array", "items": text() },
            },
        },
        "ShownGrants": object(&["dirs", "env", "httpHosts"], json!({
            "dirs": { "type": "array", "items": object(&["host", "guest"], json!({ "host": text(), "guest": text(), "writable": flag() })) },
            "env": { "type": "array", "items": text() }, "httpHosts": { "type": "array", "items": text() },
        })),
        "HistoryPage": object(&["events"], json!({ "events": list("HistoryEvent"), "continuationToken": text() })),
        "Family": object(&["instance", "children", "more"], json!({
            "instance": schema("Instance"), "children": list("Family"), "leftBehind": list("Family"), "more": flag(),
        })),
    })
}
