//! The OpenAPI document, derived from the handlers.
//!
//! Invariants: the body and the answer of an operation are those of its handler's signature, and their schemas derive from the types that
//! are read and written. So the document contains everything that is sent.

use std::sync::Arc;

use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::routing::{self, MethodRouter};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::client::body::{ErrorBody, UploadBody};
use crate::http::Api;
use crate::http::native::extract::{Admin, Ask, Bytes, Component, Failed, Object, Segments};
use crate::http::native::reply::{Nothing, Raw, Reply};

/// The path of named schemas.
const SCHEMAS: &str = "/components/schemas";

/// Generates the schema of a type; named schemas that it refers to are added to the generator.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// An operation: its path, its description, and its handler.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) handler: MethodRouter<Arc<Api>>,
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    /// Request schemas with their media types.
    bodies: Vec<(&'static str, SchemaOf)>,
    /// Whether the body may be absent.
    optional: bool,
    answers: Vec<Answer>,
    /// The answer, from the handler's signature.
    replies: Replies,
}

/// An answer: its status, description and content.
struct Answer {
    status: u16,
    description: &'static str,
    content: Option<(&'static str, SchemaOf)>,
}

/// The kind of answer in a handler's signature.
pub(super) enum Replies {
    /// JSON with this schema.
    Json(SchemaOf),
    /// No body.
    Nothing,
    /// Described by the operation itself.
    Raw,
}

/// A handler with a signature that describes its request and answer.
pub(super) trait Described<X> {
    /// Adds the description of the arguments and the answer.
    fn describe(operation: &mut Operation);
}

/// An argument of a handler.
pub(super) trait Argument {
    /// Adds the parts of the request that it reads.
    fn describe(_: &mut Operation) {}
}

/// The return type of a handler.
pub(super) trait Answers {
    fn replies() -> Replies;
}

impl Argument for Ask {}
impl<T> Argument for Segments<T> {}
impl Argument for HeaderMap {}

impl Argument for Admin {
    fn describe(operation: &mut Operation) {
        operation.fail(403, "It needs an admin key");
    }
}

impl<T: JsonSchema> Argument for Object<T> {
    fn describe(operation: &mut Operation) {
        let schema = |schemas: &mut SchemaGenerator| schemas.subschema_for::<T>();
        operation.bodies.push(("application/json", schema));
    }
}

impl Argument for Bytes {
    fn describe(operation: &mut Operation) {
        let anything = |_: &mut SchemaGenerator| Schema::default();
        operation.bodies.push(("application/json", anything));
        operation.optional = true;
    }
}

impl Argument for Component {
    fn describe(operation: &mut Operation) {
        let component = |_: &mut SchemaGenerator| schemars::json_schema!({ "type": "string", "contentMediaType": "application/wasm" });
        let upload = |schemas: &mut SchemaGenerator| schemas.subschema_for::<UploadBody>();
        operation.bodies.push(("application/wasm", component));
        operation.bodies.push(("application/json", upload));
        operation.fail(413, "The body is larger than its limit");
    }
}

impl<T: JsonSchema> Answers for Reply<T> {
    fn replies() -> Replies {
        Replies::Json(|schemas| schemas.subschema_for::<T>())
    }
}

impl Answers for Nothing {
    fn replies() -> Replies {
        Replies::Nothing
    }
}

impl Answers for Raw {
    fn replies() -> Replies {
        Replies::Raw
    }
}

macro_rules! described {
    ($($argument:ident)*) => {
        impl<F, Fut, A, $($argument),*> Described<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut,
            Fut: Future<Output = Result<A, Failed>>,
            A: Answers,
            $($argument: Argument,)*
        {
            fn describe(operation: &mut Operation) {
                $($argument::describe(operation);)*
                operation.replies = A::replies();
            }
        }
    };
}

described!(A1);
described!(A1 A2);
described!(A1 A2 A3);
described!(A1 A2 A3 A4);

macro_rules! methods {
    ($($function:ident $method:literal)*) => {$(
        /// Declares an operation with its path, id and summary.
        pub(super) fn $function<H, T, X>(
            path: &'static str,
            handler: H,
            id: &'static str,
            summary: &'static str,
        ) -> Operation
        where
            H: Handler<T, Arc<Api>> + Described<X>,
            T: 'static,
        {
            let mut operation = Operation {
                method: $method,
                path,
                handler: routing::$function(handler),
                id,
                summary,
                parameters: Vec::new(),
                bodies: Vec::new(),
                optional: false,
                answers: Vec::new(),
                replies: Replies::Raw,
            };
            H::describe(&mut operation);
            operation
        }
    )*};
}

methods!(get "GET" post "POST" put "PUT" patch "PATCH" delete "DELETE");

/// A reference to a named schema.
pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#{SCHEMAS}/{name}") })
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

/// A number of at least one.
pub(super) fn number() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
}

pub(super) fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

impl Operation {
    /// Adds a query parameter.
    pub(super) fn query(mut self, name: &str, schema: Value, description: &str) -> Self {
        self.parameters.push(
            json!({ "name": name, "in": "query", "schema": schema, "description": description }),
        );
        self
    }

    /// Lets callers restrict a command to an instance to the run that they have seen; [`Ask`] does it.
    pub(super) fn for_a_run(self) -> Self {
        self.query(
            "ifRun",
            text(),
            "The `run` of the instance as it was shown: if the instance has another run now, the answer is 409 with the code otherRun, \
             and nothing is changed",
        )
    }

    /// Makes the body optional; without one the request means an empty object.
    pub(super) fn body_is_optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Adds the answer of the handler's signature, with this status.
    pub(super) fn answer(mut self, status: u16, description: &'static str) -> Self {
        let content = match &self.replies {
            Replies::Json(schema) => Some(("application/json", *schema)),
            Replies::Nothing | Replies::Raw => None,
        };
        self.answers.push(Answer {
            status,
            description,
            content,
        });
        self
    }

    /// Adds an answer that the handler's signature does not describe.
    pub(super) fn answer_raw(
        mut self,
        status: u16,
        description: &'static str,
        media_type: &'static str,
        schema: SchemaOf,
    ) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: Some((media_type, schema)),
        });
        self
    }

    /// Adds error answers, each with its meaning.
    pub(super) fn fails(mut self, statuses: &[(u16, &'static str)]) -> Self {
        for (status, description) in statuses {
            self.fail(*status, description);
        }
        self
    }

    fn fail(&mut self, status: u16, description: &'static str) {
        self.answers.push(Answer {
            status,
            description,
            content: Some(("application/json", |schemas| {
                schemas.subschema_for::<ErrorBody>()
            })),
        });
    }

    /// The names of the query parameters, and whether each may be repeated.
    pub(super) fn query_names(&self) -> Vec<(String, bool)> {
        let named = self.parameters.iter().filter_map(|parameter| {
            let name = parameter["name"].as_str()?.to_owned();
            Some((name, parameter["schema"]["type"] == "array"))
        });
        named.collect()
    }

    fn value(mut self, schemas: &mut Schemas) -> Value {
        self = self.fails(&[
            (400, "The request is invalid; the message says why"),
            (401, "A key is needed, or the one given is none"),
            (
                403,
                "The key, or the origin of the web page, does not allow this",
            ),
            (
                404,
                "The object does not exist, or the host does not serve the task hub",
            ),
            (
                503,
                "The host is shutting down, overloaded, or cannot read the task hub",
            ),
        ]);
        if self.method != "GET" {
            self = self.fails(&[
                (429, "A quota of the host is exceeded; the message names it"),
                (507, "The disk of the task hub is full"),
            ]);
        }
        if !self.bodies.is_empty() {
            self = self.fails(&[
                (408, "The body did not arrive in time"),
                (413, "The body is larger than its limit"),
            ]);
        }
        let mut parameters: Vec<Value> = self
            .path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
            .collect();
        parameters.append(&mut self.parameters);
        parameters.push(json!({ "$ref": "#/components/parameters/taskHub" }));
        let mut responses = Map::new();
        for answer in self.answers {
            // An answer that the operation describes itself takes precedence.
            let response = responses
                .entry(answer.status.to_string())
                .or_insert_with(|| json!({ "description": answer.description }));
            if let Some((media_type, schema)) = answer.content
                && response["content"][media_type].is_null()
            {
                let schema = schema(&mut schemas.answers);
                response["content"][media_type] = json!({ "schema": schema });
            }
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if !self.bodies.is_empty() {
            let content = self.bodies.iter().map(|(media_type, schema)| {
                let schema = schema(&mut schemas.requests);
                ((*media_type).to_owned(), json!({ "schema": schema }))
            });
            let content: Map<String, Value> = content.collect();
            operation["requestBody"] = json!({ "required": !self.optional, "content": content });
        }
        operation
    }
}

/// Separate schemas for requests and answers: a field may be optional in requests and always present in answers.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        });
        Self {
            requests: settings.clone().for_deserialize().into_generator(),
            answers: settings.for_serialize().into_generator(),
        }
    }

    /// All named schemas.
    fn named(mut self) -> Map<String, Value> {
        let mut named = self.requests.take_definitions(true);
        for (name, mut schema) in self.answers.take_definitions(true) {
            omit_null(&mut schema);
            // What a request may leave out is not required of a type that both use.
            if let (Some(read), Some(schema)) = (named.get(&name), schema.as_object_mut()) {
                match read.get("required") {
                    Some(required) => schema.insert("required".to_owned(), required.clone()),
                    None => schema.remove("required"),
                };
            }
            named.insert(name, schema);
        }
        named
    }
}

/// Removes `null` from optional fields, which answers omit when they are absent.
fn omit_null(schema: &mut Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, property) in properties {
        if required.iter().any(|required| required == name) {
            continue;
        }
        if let Some(types) = property.get_mut("type")
            && let Value::Array(several) = types
        {
            several.retain(|one| one != "null");
            if let [one] = several.as_slice() {
                *types = one.clone();
            }
        }
        if let Some(Value::Array(several)) = property.get_mut("anyOf") {
            several.retain(|one| one["type"] != "null");
        }
    }
}

/// Builds the whole document.
pub(super) fn document(base: &str, operations: Vec<Operation>) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in operations {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        let method = operation.method.to_ascii_lowercase();
        methods[method] = operation.value(&mut schemas);
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
            "schemas": schemas.named(),
        },
    })
}
