//! A host with a router over it, and what an HTTP client sees of it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, header};
use expect_test::Expect;
use http_body_util::BodyExt;
use perennial::http::Api;
use perennial::{ActivityContext, Client, Failure, Host, SimClock, Timestamp, Waited};
use perennial_tests::{DataDir, module};
use serde_json::Value;
use tower::ServiceExt;

/// 2030-01-01T00:00:00Z: every time that an answer shows.
pub(crate) const NOW: Timestamp = Timestamp(1_893_456_000_000);

const API: &str = "/api/v1";

const LIMIT: Duration = Duration::from_secs(60);

/// A hub of a test's own, a host, and a router.
pub(crate) struct Wire {
    pub(crate) router: Router,
    pub(crate) host: Host,
    pub(crate) _dir: DataDir,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: String,
}

impl Wire {
    /// With the guests `workloads` and `hello-sequence`.
    pub(crate) async fn new() -> Self {
        Self::with(|api| api).await
    }

    pub(crate) async fn with(set_up: impl FnOnce(Api) -> Api) -> Self {
        let dir = DataDir::new();
        let native = |_: ActivityContext, n: u32| async move { Ok::<_, Failure>(n) };
        let host = dir
            .host()
            .clock(SimClock::new(NOW))
            .activity("Native", native);
        let host = host.start().await.unwrap();
        for name in ["workloads", "hello-sequence"] {
            host.client().deploy(module(name)).await.unwrap();
        }
        Self {
            router: set_up(Api::new(host.client())).into_router(),
            host,
            _dir: dir,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.host.client()
    }

    /// Starts an instance and waits until it has ended.
    pub(crate) async fn ended(&self, name: &str, id: &str, input: impl serde::Serialize) {
        self.client()
            .start(name)
            .id(id)
            .input(&input)
            .await
            .unwrap();
        let waited = self.client().wait_for_completion(id, LIMIT).await.unwrap();
        assert!(matches!(waited, Waited::Reached(_)), "{id} did not end");
    }

    /// Starts an instance and waits until it has begun.
    pub(crate) async fn begun(&self, name: &str, id: &str) {
        self.client().start(name).id(id).await.unwrap();
        self.client().wait_for_start(id, LIMIT).await.unwrap();
    }

    pub(crate) async fn until_ended(&self, id: &str) {
        let waited = self.client().wait_for_completion(id, LIMIT).await.unwrap();
        assert!(matches!(waited, Waited::Reached(_)), "{id} did not end");
    }

    pub(crate) async fn call(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = Answer::read(self.router.clone().oneshot(request).await.unwrap()).await;
        if path.starts_with(API) && !path.ends_with("/openapi.json") {
            self.is_described(&method, &path[API.len()..], &answer)
                .await;
        }
        answer
    }

    /// Every field that an answer has is in the document.
    async fn is_described(&self, method: &Method, path: &str, answer: &Answer) {
        let document = request(&format!("GET {API}/openapi.json"));
        let document = self.router.clone().oneshot(document).await.unwrap();
        let document = Answer::read(document).await.json();
        let fits = |template: &str| {
            let (template, path) = (template.split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template
                    .zip(path)
                    .all(|(t, p)| t == p || (t.starts_with('{') && !p.is_empty()))
        };
        let paths = document["paths"].as_object().unwrap();
        let found = paths.iter().find(|(template, _)| fits(template));
        let method = method.as_str().to_lowercase();
        let Some(operation) = found.and_then(|(_, methods)| methods.get(method)) else {
            return;
        };
        let response = &operation["responses"][answer.status.to_string()];
        let schema = &response["content"]["application/json"]["schema"];
        let kind = answer.header("content-type").unwrap_or_default();
        if !schema.is_null() && kind.starts_with("application/json") {
            describes(&document, schema, &answer.json(), path);
        }
    }

    /// The status alone: a body may go on for ever.
    pub(crate) async fn head_of(&self, request: Request<Body>) -> u16 {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        answer.status().as_u16()
    }

    /// `METHOD path`, a line for each header, and after an empty line the body.
    pub(crate) async fn ask(&self, text: &str) -> Answer {
        self.call(request(text)).await
    }

    pub(crate) async fn check(&self, text: &str, expected: Expect) {
        expected.assert_eq(&self.ask(text).await.told());
    }
}

impl Wire {
    /// Asks, and gets what every start answers: the addresses at which the instance is managed. `id` is `<id>` where it was made up.
    pub(crate) async fn accepts(&self, text: &str, id: &str) {
        let uri = |path: &str, first: &str| {
            let base = "http://localhost:7071/runtime/webhooks/durabletask/instances";
            format!("{base}/{id}{path}?{first}taskHub=default&connection=Storage")
        };
        let reason = "reason={text}&";
        let uris = [
            ("statusQueryGet", uri("", "")),
            ("sendEventPost", uri("/raiseEvent/{eventName}", "")),
            ("terminatePost", uri("/terminate", reason)),
            ("purgeHistoryDelete", uri("", "")),
            ("restartPost", uri("/restart", "")),
            ("suspendPost", uri("/suspend", reason)),
            ("resumePost", uri("/resume", reason)),
        ];
        let uris = uris.map(|(name, uri)| format!(",\n \"{name}Uri\":\"{uri}\""));
        let expected = format!(
            "202\nlocation: {}\nretry-after: 10\n{{\"id\":\"{id}\"{}}}\n",
            uri("", ""),
            uris.concat()
        );
        assert_eq!(self.ask(text).await.told(), expected, "{text}");
    }
}

impl Answer {
    pub(crate) async fn read(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The answer as it goes over the wire, with its body laid out and without what every answer has.
    pub(crate) fn told(&self) -> String {
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        let mut told = format!("{}\n", self.status);
        for (name, value) in &self.headers {
            let value = value.to_str().unwrap();
            let usual = *name == header::CONTENT_TYPE && value == "application/json; charset=utf-8";
            let always = [header::CONTENT_LENGTH, header::X_CONTENT_TYPE_OPTIONS];
            if !usual && !always.contains(name) {
                told.push_str(&format!("{name}: {}\n", mask(value)));
            }
        }
        if !self.body.is_empty() {
            told.push_str(&format!("{}\n", mask(&lay_out(&self.body))));
        }
        told
    }
}

/// See [`Wire::ask`].
pub(crate) fn request(text: &str) -> Request<Body> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines().map(str::trim);
    let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "localhost:7071");
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

/// A line for each field of an object, in the order of the answer: what is inside a field stays on its line.
fn lay_out(body: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::new(), 0, false, false);
    for c in body.chars() {
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            '{' | '[' if !in_text => depth += 1,
            '}' | ']' if !in_text => depth -= 1,
            ',' if !in_text && depth <= 1 => out.push_str("\n "),
            _ => {}
        }
        // Events of a history are long enough for lines of their own.
        if c == ',' && !in_text && depth == 2 && out.ends_with("},") {
            out.push_str("\n   ");
        }
    }
    out
}

/// Hides ids that were made up, which are 32 hex digits, and what the guests define.
fn mask(text: &str) -> String {
    let known = text.split_once("; deployed: ").map(|(before, list)| {
        let end = list.find(['"', '\\']).unwrap_or(list.len());
        format!("{before}; deployed: ...{}", &list[end..])
    });
    let text = known.as_deref().unwrap_or(text);
    let mut masked = String::new();
    let mut run = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            run.push(c);
            continue;
        }
        masked.push_str(if run.len() == 32 { "<id>" } else { &run });
        run.clear();
        masked.push(c);
    }
    masked.pop();
    masked
}

/// Sees that a schema of the document has every field of a value, and the value every field that the schema requires.
fn describes(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(&reference[1..]).unwrap();
        return describes(document, schema, value, at);
    }
    match value {
        Value::Object(fields) if schema["type"] == "object" => {
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap();
                assert!(fields.contains_key(name), "{at} has no {name}");
            }
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                let field = schema["properties"].get(name);
                let field = field.or_else(|| schema.get("additionalProperties"));
                let field = field.unwrap_or_else(|| panic!("{at} is not in the document"));
                describes(document, field, value, &at);
            }
        }
        Value::Array(items) if schema["type"] == "array" => {
            for item in items {
                describes(document, &schema["items"], item, at);
            }
        }
        _ => {}
    }
}
