//! The OpenAPI document.

use serde_json::{Map, Value, json};

use crate::http::native::schemas;

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

/// How many there may be.
pub(super) fn number() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
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

    /// The parameters of the query, and whether each may be there more than once.
    pub(super) fn query_names(&self) -> Vec<(String, bool)> {
        let named = self.parameters.iter().filter_map(|parameter| {
            let name = parameter["name"].as_str()?.to_owned();
            Some((name, parameter["schema"]["type"] == "array"))
        });
        named.collect()
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
            "schemas": schemas::schemas(),
        },
    })
}
