//! The OpenAPI document.

use serde_json::{Map, Value, json};

/// What is said of one operation.
pub(super) struct Doc {
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
}

/// Begins to describe an operation.
pub(super) fn doc(id: &'static str, summary: &'static str) -> Doc {
    Doc {
        id,
        summary,
        parameters: Vec::new(),
        body: None,
        responses: Map::new(),
    }
}

/// The schema with a name.
pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

pub(super) fn number() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
}

pub(super) fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

impl Doc {
    pub(super) fn query(mut self, name: &str, schema: Value, description: &str) -> Self {
        self.parameters.push(
            json!({ "name": name, "in": "query", "schema": schema, "description": description }),
        );
        self
    }

    pub(super) fn body(mut self, media_type: &str, schema: Value, required: bool) -> Self {
        self.body =
            Some(json!({ "required": required, "content": { media_type: { "schema": schema } } }));
        self
    }

    /// The body in another form.
    pub(super) fn body_or(mut self, media_type: &str, schema: Value) -> Self {
        if let Some(body) = &mut self.body {
            body["content"][media_type] = json!({ "schema": schema });
        }
        self
    }

    pub(super) fn answer(mut self, status: u16, description: &str, schema: Value) -> Self {
        let content = json!({ "application/json": { "schema": schema } });
        let response = json!({ "description": description, "content": content });
        self.responses.insert(status.to_string(), response);
        self
    }

    pub(super) fn empty(mut self, status: u16, description: &str) -> Self {
        let response = json!({ "description": description });
        self.responses.insert(status.to_string(), response);
        self
    }

    pub(super) fn stream(mut self, description: &str) -> Self {
        let content = json!({ "text/event-stream": { "schema": { "type": "string" } } });
        let response = json!({ "description": description, "content": content });
        self.responses.insert("200".to_owned(), response);
        self
    }

    /// Answers that say why not.
    pub(super) fn fails(mut self, statuses: &[(u16, &str)]) -> Self {
        for (status, description) in statuses {
            self = self.answer(*status, description, schema("Error"));
        }
        self
    }

    fn value(&self, path: &str) -> Value {
        let mut parameters: Vec<Value> = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
            .collect();
        parameters.extend(self.parameters.iter().cloned());
        parameters.push(json!({ "$ref": "#/components/parameters/taskHub" }));
        let mut responses = self.responses.clone();
        for (status, description) in [
            ("400", "The request cannot be; the message says why"),
            ("401", "A key is needed, or the one given is none"),
            ("403", "The key, or the page, may not do this"),
            ("404", "There is no such thing, or no such task hub here"),
            (
                "503",
                "The host is shutting down, or cannot read the task hub",
            ),
        ] {
            let content = json!({ "application/json": { "schema": schema("Error") } });
            let response = json!({ "description": description, "content": content });
            responses.entry(status).or_insert(response);
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = &self.body {
            operation["requestBody"] = body.clone();
        }
        operation
    }
}

/// The whole document.
pub(super) fn document<'a>(
    base: &str,
    operations: impl Iterator<Item = (&'static str, &'static str, &'a Doc)>,
) -> Value {
    let mut paths = Map::new();
    for (method, path, doc) in operations {
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method.to_ascii_lowercase()] = doc.value(path);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Perennial",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Durable workflows: instances, their histories, and the modules that they run.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": base }],
        "security": [{}, { "key": [] }, { "code": [] }, { "bearer": [] }],
        "paths": paths,
        "components": {
            "parameters": { "taskHub": {
                "name": "taskHub", "in": "query", "schema": { "type": "string" },
                "description": "The task hub; the first one that is served, where none is named",
            } },
            "securitySchemes": {
                "key": { "type": "apiKey", "in": "header", "name": "x-functions-key" },
                "code": { "type": "apiKey", "in": "query", "name": "code" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
            "schemas": schemas(),
        },
    })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn age() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0 })
}

fn role() -> Value {
    json!({ "type": "string", "enum": ["admin", "read-only"] })
}

fn schemas() -> Value {
    let statuses = [
        "Pending",
        "Running",
        "Suspended",
        "Completed",
        "Failed",
        "Terminated",
    ];
    let list = |name: &str| json!({ "type": "array", "items": schema(name) });
    json!({
        "Status": { "type": "string", "enum": statuses },
        "Error": object(&["error"], json!({
            "error": object(&["code", "message"], json!({ "code": text(), "message": text() })),
        })),
        "Failure": object(&["kind", "message", "retryable"], json!({
            "kind": text(), "message": text(), "retryable": flag(), "details": {}, "trace": text(), "causes": { "type": "array" },
        })),
        "Instance": object(&["instanceId", "name", "runtimeStatus", "createdTime", "lastUpdatedTime"], json!({
            "instanceId": text(), "name": text(), "runtimeStatus": schema("Status"), "createdTime": time(), "startedTime": time(),
            "lastUpdatedTime": time(), "executionId": text(), "version": text(), "module": text(), "input": {}, "customStatus": {},
            "output": {}, "failure": schema("Failure"), "parentInstanceId": text(),
            "tags": { "type": "object", "additionalProperties": text() },
            "waitsFor": { "type": "array", "items": object(&["kind"], json!({ "kind": text() })) },
            "historyEvents": { "type": "integer" }, "historyBytes": { "type": "integer" }, "history": list("HistoryEvent"),
        })),
        "HistoryEvent": object(&["number", "turn", "at", "event"], json!({
            "number": { "type": "integer" }, "turn": { "type": "integer" }, "at": time(), "event": text(),
        })),
        "Page": object(&["instances"], json!({ "instances": list("Instance"), "continuationToken": text() })),
        "Start": {
            "type": "object", "additionalProperties": false, "required": ["orchestration"],
            "properties": {
                "orchestration": text(), "id": text(), "version": text(), "input": {},
                "tags": { "type": "object", "additionalProperties": text() },
                "reuse": { "type": "string", "enum": ["ended", "never", "any"] },
                "scheduledTime": time(), "traceParent": text(),
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
            "type": "object", "additionalProperties": false, "properties": { "reason": text(), "module": text() },
        },
        "Rewound": object(&["activities", "rewoundChildren", "restartedChildren", "dropped", "cutEvents"], json!({
            "activities": { "type": "array" }, "rewoundChildren": { "type": "array", "items": text() },
            "restartedChildren": { "type": "array", "items": text() }, "dropped": { "type": "array" }, "cutEvents": { "type": "integer" },
        })),
        "Restart": { "type": "object", "additionalProperties": false, "properties": { "id": text() } },
        "Counts": { "type": "object", "additionalProperties": { "type": "integer" } },
        "Definition": object(&["kind", "name"], json!({
            "kind": { "type": "string", "enum": ["orchestration", "activity"] }, "name": text(), "version": text(), "description": text(),
            "inputSchema": text(),
        })),
        "Module": object(&["name", "digest", "definitions", "imports"], json!({
            "name": text(), "digest": text(), "definitions": list("Definition"),
            "imports": { "type": "array", "items": text() }, "size": { "type": "integer" }, "deployedTime": time(), "grants": { "type": "object" },
        })),
        "Deployment": object(&["name", "digest", "names"], json!({
            "name": text(), "digest": text(),
            "names": { "type": "array", "items": object(&["kind", "name", "changed"], json!({ "kind": text(), "name": text(), "changed": flag() })) },
        })),
        "Hub": object(&["taskHub", "hosted", "counts"], json!({
            "taskHub": text(), "hosted": flag(), "counts": schema("Counts"), "stats": { "type": "object" },
        })),
        "HubStats": object(&["taskHub", "bytes", "instances"], json!({
            "taskHub": text(), "file": text(), "bytes": { "type": "integer" }, "createdTime": time(), "owner": text(),
            "instances": schema("Counts"), "historyTurns": { "type": "integer" }, "historyEvents": { "type": "integer" },
            "historyBytes": { "type": "integer" }, "modules": { "type": "integer" }, "storedModules": { "type": "integer" },
            "moduleBytes": { "type": "integer" }, "hasGarbage": flag(),
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
            "properties": { "component": { "type": "string", "contentEncoding": "base64" }, "grants": schema("Grants") },
        },
        "CollectedModule": object(&["digest", "size"], json!({ "digest": text(), "size": { "type": "integer" } })),
        "Grants": {
            "type": "object", "additionalProperties": false,
            "properties": {
                "dirs": { "type": "array", "items": object(&["host", "guest"], json!({ "host": text(), "guest": text(), "writable": flag() })) },
                "env": { "type": "array", "items": { "type": "array", "items": text() } },
                "http_hosts": { "type": "array", "items": text() },
            },
        },
        "HistoryPage": object(&["events"], json!({ "events": list("HistoryEvent"), "continuationToken": text() })),
        "Family": object(&["instance", "children", "more"], json!({
            "instance": schema("Instance"), "children": list("Family"), "more": flag(),
        })),
    })
}
