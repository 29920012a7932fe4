//! The pages of one instance: what they say, what their forms do, and how small they stay.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures::StreamExt;
use http_body_util::BodyExt;
use perennial::{Client, Host, Module, Status};
use tempfile::TempDir;
use tower::ServiceExt;

/// An id that would be markup if it were not escaped.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(target).join(format!("guests/{name}.wasm"))
}

struct World {
    _dir: TempDir,
    host: Host,
    client: Client,
    router: Router,
}

impl World {
    async fn with(guests: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
        let client = host.client();
        for name in guests {
            let file = guest(name);
            let module = Module::from_file(&file);
            let module = module.unwrap_or_else(|error| {
                panic!("{}: {error}; `make guests` makes it", file.display())
            });
            client.deploy(module).await.unwrap();
        }
        let router = perennial_dashboard::router(client.clone());
        Self {
            _dir: dir,
            host,
            client,
            router,
        }
    }

    async fn end(self) {
        self.host.shut_down().await;
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, String, String) {
        let (status, head, body) = self.answer(request).await;
        let to = head.get(header::LOCATION);
        let to = to.map_or("", |to| to.to_str().unwrap());
        (status, to.to_owned(), body)
    }

    async fn answer(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let (head, body) = self
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (head.status, head.headers, body)
    }

    async fn get(&self, id: &str, below: &str) -> (StatusCode, String) {
        let path = format!("/ui/default/instances/{}{below}", escaped(id));
        let request = Request::get(path).header(header::HOST, "localhost");
        let (status, _, body) = self.ask(request.body(Body::empty()).unwrap()).await;
        (status, body)
    }

    async fn page(&self, id: &str, below: &str) -> String {
        let (status, body) = self.get(id, below).await;
        assert_eq!(status, StatusCode::OK, "{below}: {body}");
        body
    }

    /// The form of an action, with what it says of the run that is shown.
    async fn form(&self, id: &str, form: &str) -> String {
        let page = self.page(id, "").await;
        let token = page.split("name=\"form-token\" content=\"").nth(1).unwrap();
        let token = escaped(token.split('"').next().unwrap());
        let run = self.client.status(id).await.unwrap().unwrap().run;
        assert!(
            page.contains(&format!("name=\"run\" value=\"{run}\"")),
            "{page}"
        );
        format!("token={token}&run={run}&{form}")
    }

    async fn send(&self, id: &str, action: &str, form: String) -> (StatusCode, HeaderMap, String) {
        let path = format!("/ui/default/instances/{}/do/{action}", escaped(id));
        let request = Request::post(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.answer(request.body(Body::from(form)).unwrap()).await
    }

    /// Sends a form. Returns where it leads, and what that page says then, once.
    async fn act(&self, id: &str, action: &str, form: &str) -> (String, String) {
        let form = self.form(id, form).await;
        let (status, head, body) = self.send(id, action, form).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{body}");
        let to = head[header::LOCATION].to_str().unwrap().to_owned();
        let cookie = head[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(cookie.contains(&format!("; Path={to};")), "{cookie} {to}");
        let request = Request::get(&to)
            .header(header::HOST, "localhost")
            .header(header::COOKIE, cookie.split(';').next().unwrap());
        let (_, head, page) = self.answer(request.body(Body::empty()).unwrap()).await;
        let gone = head[header::SET_COOKIE].to_str().unwrap();
        assert!(gone.contains("Max-Age=0"), "{gone}");
        (to, page)
    }

    async fn approval(&self, id: &str) {
        let input = serde_json::json!({ "purpose": "<b>bold</b>", "patience_secs": 3_600 });
        self.client
            .start("Approve")
            .id(id)
            .input(&input)
            .tag("team", "<i>")
            .await
            .unwrap();
        let limit = Duration::from_secs(20);
        let waits = |status: &perennial::InstanceStatus| {
            !status.waits_for.is_empty() && status.custom_status.is_some()
        };
        self.client.wait_until(id, limit, waits).await.unwrap();
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_what_an_instance_is_and_waits_for_without_markup_of_others() {
    let world = World::with(&["human-approval"]).await;
    world.approval(HOSTILE).await;
    world
        .client
        .raise_event(HOSTILE, "<script>x</script>", "<script>y</script>")
        .await
        .unwrap();
    let summary = world.page(HOSTILE, "").await;
    for text in [
        "the external event",
        "Decision",
        "Raise an event",
        "Approve",
        "/modules",
    ] {
        assert!(summary.contains(text), "{text}: {summary}");
    }
    assert!(summary.contains("Only an instance that has failed can be rewound."));
    for below in [
        "",
        "/timeline",
        "/history",
        "/history?order=newest&text=%3Cscript%3E",
        "/history/1",
        "/tree",
    ] {
        let page = world.page(HOSTILE, below).await;
        for markup in ["<img", "<script>", "<b>bold", "<i>", " style=", " onclick="] {
            assert!(!page.contains(markup), "{below}: {markup}");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_do_what_they_say_and_lead_back_with_it() {
    let world = World::with(&["human-approval"]).await;
    world.approval("a").await;
    let (to, page) = world.act("a", "suspend", "reason=closed").await;
    assert_eq!(to, "/ui/default/instances/a");
    assert!(
        page.contains("<p class=\"done\" role=\"status\">It is suspended"),
        "{page}"
    );
    assert!(
        !world
            .page("a", "?done=Mine&refused=Mine")
            .await
            .contains("Mine")
    );
    let (_, page) = world.act("a", "resume", "").await;
    assert!(page.contains("It goes on."), "{page}");
    let (_, page) = world.act("a", "event", "name=Decision&data=%7B").await;
    assert!(
        page.contains("<p class=\"error\" role=\"alert\">"),
        "{page}"
    );
    let (_, page) = world.act("a", "purge", "").await;
    assert!(
        page.contains("<p class=\"error\" role=\"alert\">"),
        "{page}"
    );
    world.act("a", "tags", "key=owner&value=alice").await;
    assert!(world.page("a", "").await.contains("owner"));
    let data = escaped(r#"{"approved":true,"by":"me"}"#);
    let event = format!("name=Decision&data={data}");
    let (_, page) = world.act("a", "event", &event).await;
    assert!(page.contains("was raised"), "{page}");
    let ended = world
        .client
        .wait_for_completion("a", Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(ended.status().runtime_status, Status::Completed);
    let (copy, _) = world.act("a", "restart", "as=given&id=b").await;
    assert_eq!(copy, "/ui/default/instances/b");
    world.act("b", "terminate", "reason=enough").await;
    let (to, page) = world.act("a", "purge", "").await;
    assert_eq!(to, "/ui/default/instances");
    assert!(page.contains("Instance a was deleted."), "{page}");
    assert_eq!(world.get("a", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get("a", "/history").await.0, StatusCode::NOT_FOUND);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_for_the_run_that_was_shown() {
    let world = World::with(&["human-approval"]).await;
    world.approval("a").await;
    let forms = world.form("a", "reason=old&as=same&name=Decision&key=k&value=v");
    let forms = forms.await;
    world.client.terminate("a", None).await.unwrap();
    let limit = Duration::from_secs(20);
    let ended = world.client.wait_for_completion("a", limit).await.unwrap();
    assert!(ended.reached().is_some());
    world.client.restart("a").await.unwrap();
    for action in [
        "terminate",
        "cancel",
        "suspend",
        "resume",
        "rewind",
        "restart",
        "purge",
        "event",
        "request",
        "tags",
    ] {
        let (status, _, body) = world.send("a", action, forms.clone()).await;
        assert_eq!(status, StatusCode::CONFLICT, "{action}: {body}");
        assert!(
            body.contains("the instance has changed since"),
            "{action}: {body}"
        );
    }
    let status = world.client.status("a").await.unwrap().unwrap();
    let tagged = status.tags.iter().any(|(key, _)| key == "k");
    assert!(!status.is_ended() && !tagged, "{status:?}");
    // A form that does not say which run it is for does nothing.
    let unsaid = world.form("a", "").await.replace("&run=", "&other=");
    let (status, head, _) = world.send("a", "terminate", unsaid).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(head.contains_key(header::SET_COOKIE));
    assert!(!world.client.status("a").await.unwrap().unwrap().is_ended());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_names_nothing_is_answered_by_a_page() {
    let world = World::with(&[]).await;
    for path in [
        "/instances/a/history/-1",
        "/instances/a/history/NaN",
        "/instances/%ff%fe",
        "/modules/%ff",
    ] {
        let path = format!("/ui/default{path}");
        let request = Request::get(&path).header(header::HOST, "localhost");
        let (status, head, body) = world.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        let kind = head[header::CONTENT_TYPE].to_str().unwrap();
        assert!(
            kind.starts_with("text/html") && body.contains("There is no page"),
            "{path}: {body}"
        );
    }
    let request = Request::get("/ui/default/collect").header(header::HOST, "localhost");
    let (status, _, body) = world.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(body.contains("does nothing here"), "{body}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_of_large_payloads_makes_small_pages() {
    let world = World::with(&["human-approval"]).await;
    world.approval("long").await;
    let large = "x".repeat(200_000);
    world
        .client
        .raise_event("long", "Large", &large)
        .await
        .unwrap();
    let raised = futures::stream::iter(0..10_000).map(|n| {
        let client = &world.client;
        async move {
            client
                .raise_event("long", &format!("Other {n} {}", "é".repeat(60)), &n)
                .await
        }
    });
    raised
        .buffer_unordered(500)
        .for_each(|done| async { done.unwrap() })
        .await;
    let status = world
        .client
        .wait_until("long", Duration::from_secs(60), |status| {
            status.history_events >= 10_000
        });
    assert!(status.await.unwrap().status().history_events >= 10_000);
    for (below, most) in [
        ("", 150_000),
        ("/history", 150_000),
        ("/history?order=newest", 150_000),
        ("/history?from=5000&text=other+77", 150_000),
        ("/timeline", 400_000),
        ("/timeline.json", 5_000_000),
        ("/history/2000", 60_000),
    ] {
        let begun = Instant::now();
        let page = world.page("long", below).await;
        assert!(page.len() < most, "{below}: {} bytes", page.len());
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{below}: {:?}",
            begun.elapsed()
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_is_a_list_and_a_graph() {
    let world = World::with(&["regional-report"]).await;
    let regions = serde_json::json!([{ "name": "North", "stores": ["a"] }, { "name": "South", "stores": [] }]);
    world
        .client
        .start("Report")
        .id("report")
        .input(&regions)
        .await
        .unwrap();
    world
        .client
        .wait_for_completion("report", Duration::from_secs(20))
        .await
        .unwrap();
    let tree = world.page("report", "/tree").await;
    assert_eq!(
        tree.matches("/instances/report-North/tree").count(),
        2,
        "{tree}"
    );
    let child = world.page("report-South", "/tree").await;
    assert!(child.contains("/instances/report/tree"), "{child}");
    let timeline = world.page("report", "/timeline").await;
    assert!(timeline.contains("/instances/report-North"), "{timeline}");
    world.end().await;
}
