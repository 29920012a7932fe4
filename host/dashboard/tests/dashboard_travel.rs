//! Time travel and what-if on a host with a real module.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use perennial::{Client, Host, Json, Module, Waited};
use tower::ServiceExt as _;

/// A component of the samples.
fn component(name: &str) -> Vec<u8> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let file = target.join("guests").join(format!("{name}.wasm"));
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; `make guests` makes it", file.display()))
}

struct Site {
    host: Host,
    pages: Router,
    _dir: tempfile::TempDir,
}

impl Site {
    async fn with(modules: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
        for name in modules {
            let module = Module::from_bytes(*name, &component(name)).unwrap();
            host.client().deploy(module).await.unwrap();
        }
        let pages = perennial_dashboard::router(host.client());
        Self {
            host,
            pages,
            _dir: dir,
        }
    }

    fn client(&self) -> Client {
        self.host.client()
    }

    async fn ended(&self, id: &str) {
        let waited = self
            .client()
            .wait_for_completion(id, Duration::from_secs(30))
            .await;
        assert!(matches!(waited, Ok(Waited::Reached(_))), "{waited:?}");
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.pages.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::HOST, "127.0.0.1");
        text(self.send(request.body(Body::empty()).unwrap()).await).await
    }

    /// The text of a page that there must be.
    async fn page(&self, path: &str) -> String {
        let (status, text) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    async fn post(
        &self,
        path: &str,
        kind: &str,
        token: &str,
        body: Vec<u8>,
    ) -> (StatusCode, String) {
        let request = Request::post(path)
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, kind)
            .header("x-form-token", token);
        text(self.send(request.body(Body::from(body)).unwrap()).await).await
    }

    /// Sends a form of the page at this path, with other values for some of its fields.
    async fn what_if(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let page = self.page(path).await;
        let mut form = encoded(&[("state", &field(&page, "state"))]);
        form += &encoded(fields);
        let to = path.split('?').next().unwrap();
        let kind = "application/x-www-form-urlencoded";
        let token = field(&page, "token");
        let (status, text) = self.post(to, kind, &token, form.into_bytes()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        text
    }

    /// Gives the component of a module, and returns its digest.
    async fn give(&self, instance: &str, name: &str) -> String {
        let token = field(&self.page(&format!("{instance}/what-if")).await, "token");
        let path = format!("{instance}/what-if/component?name={name}.wasm");
        let (status, digest) = self
            .post(&path, "application/wasm", &token, component(name))
            .await;
        assert_eq!(status, StatusCode::OK, "{digest}");
        digest
    }
}

async fn text(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 64 << 20).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// The value of a hidden field, or of the token for scripts.
fn field(page: &str, name: &str) -> String {
    let hidden = format!("name=\"{name}\" value=\"");
    let meta = "name=\"form-token\" content=\"";
    let mark = if name == "token" { meta } else { &hidden };
    let (_, rest) = page
        .split_once(mark)
        .unwrap_or_else(|| panic!("no {name}: {page}"));
    rest.split('"').next().unwrap().to_owned()
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let escape =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
    fields
        .iter()
        .map(|(name, value)| format!("&{name}={}", escape(value)))
        .collect()
}

/// The number of the first event of a type, of those that the page of a choice lists.
async fn event_of(site: &Site, id: &str, kind: &str) -> u64 {
    let history = site.client().history(id).page(None).await.unwrap();
    let event = history.events.iter().find(|of| of.event.name() == kind);
    event.unwrap_or_else(|| panic!("no {kind}")).number
}

const HELLO: &str = "/ui/default/instances/hello";

async fn hello() -> Site {
    let site = Site::with(&["hello-sequence"]).await;
    site.client()
        .start("HelloSequence")
        .id("hello")
        .await
        .unwrap();
    site.ended("hello").await;
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn each_turn_shows_what_came_in_what_was_answered_and_what_was_open() {
    let site = hello().await;
    let first = site.page(&format!("{HELLO}/turns?turn=0")).await;
    for part in [
        "ExecutionStarted",
        "ActivityScheduled",
        "the activity",
        "Turn 0",
        "data-turn=\"after\"",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(!first.contains("data-turn=\"before\""));
    let last = site.page(&format!("{HELLO}/turns?turn=last")).await;
    // An instance that has ended is looked at from its end.
    let shown = site.page(&format!("{HELLO}/turns")).await;
    let title = |page: &str| {
        let rest = page.split("id=\"turn-title\">").nth(1);
        rest.map(|rest| rest[..12].to_owned())
    };
    assert_eq!(title(&shown), title(&last));
    for part in [
        "ExecutionCompleted",
        "Nothing: it had completed.",
        "this is the last turn so far",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
    assert!(!last.contains("data-turn=\"after\""));
    assert!(
        site.page(&format!("{HELLO}/turns?turn=999"))
            .await
            .contains("There is no such turn")
    );
    assert_eq!(
        site.get(&format!("{HELLO}/turns?turn=x")).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        site.get("/ui/default/instances/nobody/turns").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        site.get("/ui/default/instances/nobody/what-if").await.0,
        StatusCode::NOT_FOUND
    );
    site.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_result_shows_from_where_on_the_orchestration_differs() {
    let site = hello().await;
    let before = site.client().export("hello").await.unwrap();
    let event = event_of(&site, "hello", "ActivityCompleted")
        .await
        .to_string();
    let path = format!("{HELLO}/what-if?event={event}");
    assert!(site.page(&path).await.contains("Give the component first"));
    let digest = site.give(HELLO, "hello-sequence").await;
    let same = site.what_if(&path, &[("module", &digest)]).await;
    assert!(same.contains("Nothing would differ."), "{same}");

    let event = &*event;
    let other = [("module", &*digest), ("event", event), ("as", "value")];
    let changed = site
        .what_if(
            &path,
            &[&other[..], &[("value", "\"Hallo <Tokyo>!\"")]].concat(),
        )
        .await;
    assert!(changed.contains("It would differ from turn"), "{changed}");
    assert!(changed.contains("Recorded") && changed.contains("Answered in the replay"));
    assert!(!changed.contains("<Tokyo>"), "it is escaped");

    let failed = [
        ("module", &*digest),
        ("event", event),
        ("as", "failure"),
        ("kind", "Closed"),
        ("message", "no"),
    ];
    let failed = site.what_if(&path, &failed).await;
    assert!(
        failed.contains("It would differ from turn 1 on"),
        "{failed}"
    );
    let unchanged = site
        .what_if(
            &path,
            &[&other[..], &[("value", " \"Hello Tokyo!\" ")]].concat(),
        )
        .await;
    assert!(
        unchanged.contains("This is what is recorded"),
        "{unchanged}"
    );
    let broken = site
        .what_if(&path, &[&other[..], &[("value", "{")]].concat())
        .await;
    assert!(broken.contains("not valid JSON"), "{broken}");
    assert_eq!(
        site.client().export("hello").await.unwrap(),
        before,
        "nothing is written"
    );
    site.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_fit_is_told_apart_from_a_change() {
    let site = hello().await;
    let digest = site.give(HELLO, "saga-trip").await;
    let path = format!("{HELLO}/what-if");
    let other = site.what_if(&path, &[("module", &digest)]).await;
    assert!(
        other.contains("does not define the orchestration"),
        "{other}"
    );
    let token = field(&site.page(&path).await, "token");
    let to = format!("{path}/component?name=x");
    let (status, why) = site
        .post(&to, "application/wasm", &token, b"no wasm".to_vec())
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{why}");
    let (status, _) = site
        .post(&to, "application/wasm", "forged", b"no wasm".to_vec())
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    site.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_makes_small_pages_in_little_time() {
    let site = Site::with(&["human-approval"]).await;
    let hostile = format!("\"</script><img src=x>{}\"", "y".repeat(200_000));
    site.client()
        .start("Approve")
        .id("long")
        .input_json(Some(Json::from_text(hostile)))
        .await
        .unwrap();
    site.ended("long").await;
    let started = Instant::now();
    for below in ["/turns", "/turns?turn=last", "/what-if", "/what-if?event=1"] {
        let text = site
            .page(&format!("/ui/default/instances/long{below}"))
            .await;
        assert!(!text.contains("<img src=x"), "{below}");
        assert!(text.len() < 200_000, "{below}: {} bytes", text.len());
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    site.host.shut_down().await;
}
