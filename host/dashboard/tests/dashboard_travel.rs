//! Time travel and what-if on a host with a real module.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use perennial::{Client, Collect, Host, Json, Module, RemoveInUse, Waited};
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
        self.what_if_of(&page, path, fields).await
    }

    /// As [`what_if`](Self::what_if), for a page whose form may lack the state.
    async fn what_if_of(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> String {
        let status = path.split('/').nth(4).unwrap();
        let status = self.client().status(status).await.unwrap().unwrap();
        let state = format!("{}.{}", status.execution_id, status.rewinds.len());
        let mut form = encoded(&[("state", &state)]);
        form += &encoded(fields);
        let to = path.split('?').next().unwrap();
        let kind = "application/x-www-form-urlencoded";
        let token = field(page, "token");
        let (status, text) = self.post(to, kind, &token, form.into_bytes()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        text
    }

    /// The digest of the module that an instance runs on.
    async fn own(&self, id: &str) -> String {
        let status = self.client().status(id).await.unwrap().unwrap();
        status.module.unwrap().to_string()
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
    // The hub has its component, so nothing needs to be given.
    let digest = site.own("hello").await;
    let page = site.page(&path).await;
    let own = format!("<option value=\"{digest}\" selected>");
    assert!(
        page.contains(&own) && page.contains("on which the instance runs"),
        "{page}"
    );
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

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_was_deleted_can_be_given() {
    let site = hello().await;
    let own = site.own("hello").await;
    let client = site.client();
    client
        .remove_module("hello-sequence", RemoveInUse::No)
        .await
        .unwrap();
    assert_eq!(
        client.collect_modules(Collect::new()).await.unwrap().len(),
        1
    );
    let path = format!("{HELLO}/what-if");
    let page = site.page(&path).await;
    assert!(page.contains("does not have the module any more"), "{page}");
    let gone = site.what_if_of(&page, &path, &[("module", &own)]).await;
    assert!(gone.contains("The component is no longer there"), "{gone}");
    assert_eq!(site.give(HELLO, "hello-sequence").await, own);
    let same = site.what_if(&path, &[("module", &own)]).await;
    assert!(same.contains("Nothing would differ."), "{same}");
    let summary = site.page(HELLO).await;
    assert!(
        summary.contains("No deployed module defines this orchestration any more"),
        "{summary}"
    );
    site.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_an_instance_says_whether_the_deployed_module_could_take_it_over() {
    let site = Site::with(&[]).await;
    let client = site.client();
    let version = |name| Module::from_bytes("orders", &component(name)).unwrap();
    client.deploy(version("version-one")).await.unwrap();
    let order = Json::from_text("\"a chair\"".to_owned());
    client
        .start("Ship")
        .id("ship")
        .input_json(Some(order))
        .await
        .unwrap();
    client.start("Bill").id("bill").await.unwrap();
    for id in ["ship", "bill"] {
        let limit = Duration::from_secs(30);
        let begun = |status: &perennial::InstanceStatus| status.history_events > 1;
        client.wait_until(id, limit, begun).await.unwrap();
    }
    let page = site.page("/ui/default/instances/ship").await;
    assert!(page.contains("This is what is deployed now as"), "{page}");
    client.deploy(version("version-two")).await.unwrap();
    let page = site.page("/ui/default/instances/ship").await;
    assert!(page.contains("Could it take this instance over?"), "{page}");
    let ask = async |id: &str| {
        let token = field(&page, "token");
        let path = format!("/ui/default/instances/{id}");
        let kind = "application/x-www-form-urlencoded";
        let (status, text) = site.post(&path, kind, &token, Vec::new()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        text
    };
    let ship = ask("ship").await;
    assert!(
        ship.contains("answers differently than is recorded, from turn 0 on"),
        "{ship}"
    );
    assert!(ship.contains("Answered in the replay"), "{ship}");
    let bill = ask("bill").await;
    assert!(
        bill.contains("so it could take this instance over"),
        "{bill}"
    );
    assert!(bill.contains("It goes on with its own module"), "{bill}");
    assert_eq!(
        site.own("bill").await,
        version("version-one").digest().to_string()
    );
    site.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rewind_cut_off_is_shown_and_earlier_executions_are_said_to_be_gone() {
    let site = Site::with(&["workloads"]).await;
    let client = site.client();
    client.start("RunsFailing").id("fails").await.unwrap();
    site.ended("fails").await;
    client.rewind("fails").reason("<b>mended").await.unwrap();
    site.ended("fails").await;
    let path = "/ui/default/instances/fails/turns";
    let now = site.page(&format!("{path}?turn=last")).await;
    assert!(
        now.contains("Before rewind 1") && now.contains("&lt;b&gt;mended"),
        "{now}"
    );
    assert!(!now.contains("This is the history before"), "{now}");
    let before = site.page(&format!("{path}?turn=last&before=0")).await;
    for words in [
        "This is the history before rewind 1",
        "ExecutionFailed",
        "this was the last turn before the rewind",
    ] {
        assert!(before.contains(words), "{words}: {before}");
    }
    // Its events are not those of the history that there is now.
    assert!(!before.contains("What if it were different?"), "{before}");
    assert!(!before.contains("fails/history/"), "{before}");
    for (wrong, status) in [("before=1", 400), ("before=x", 400), ("before=-1", 400)] {
        let (found, text) = site.get(&format!("{path}?{wrong}")).await;
        assert_eq!(found, status, "{wrong}: {text}");
    }

    client
        .start("CountDown")
        .id("down")
        .input(&2)
        .await
        .unwrap();
    site.ended("down").await;
    let down = site.page("/ui/default/instances/down/turns").await;
    assert!(
        down.contains("This is execution 3 of the instance"),
        "{down}"
    );
    assert!(down.contains("the 2 before are not kept"), "{down}");
    site.host.shut_down().await;
}
