//! The pages of one instance: what they say, what their forms do, and how small they stay.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
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
        let (head, body) = self
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let to = head
            .headers
            .get(header::LOCATION)
            .map_or("", |to| to.to_str().unwrap());
        (
            head.status,
            to.to_owned(),
            String::from_utf8(body.to_vec()).unwrap(),
        )
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

    /// Sends a form, and returns where it leads.
    async fn act(&self, id: &str, action: &str, form: &str) -> String {
        let page = self.page(id, "").await;
        let token = page.split("name=\"form-token\" content=\"").nth(1).unwrap();
        let token = escaped(token.split('"').next().unwrap());
        let path = format!("/ui/default/instances/{}/do/{action}", escaped(id));
        let request = Request::post(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (status, to, body) = self
            .ask(
                request
                    .body(Body::from(format!("token={token}&{form}")))
                    .unwrap(),
            )
            .await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{body}");
        to
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
    assert!(
        world
            .act("a", "suspend", "reason=closed")
            .await
            .contains("done=")
    );
    assert!(world.act("a", "resume", "").await.contains("done="));
    let refused = world.act("a", "event", "name=Decision&data=%7B").await;
    assert!(refused.contains("refused="), "{refused}");
    let refused = world.act("a", "purge", "").await;
    assert!(refused.contains("refused="), "{refused}");
    world.act("a", "tags", "key=owner&value=alice").await;
    assert!(world.page("a", "").await.contains("owner"));
    let data = escaped(r#"{"approved":true,"by":"me"}"#);
    assert!(
        world
            .act("a", "event", &format!("name=Decision&data={data}"))
            .await
            .contains("done=")
    );
    let ended = world
        .client
        .wait_for_completion("a", Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(ended.status().runtime_status, Status::Completed);
    let copy = world.act("a", "restart", "as=given&id=b").await;
    assert!(copy.starts_with("/ui/default/instances/b?"), "{copy}");
    world.act("b", "terminate", "reason=enough").await;
    assert!(
        world
            .act("a", "purge", "")
            .await
            .starts_with("/ui/default/instances?")
    );
    assert_eq!(world.get("a", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get("a", "/history").await.0, StatusCode::NOT_FOUND);
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

/// A text with characters that nobody sees, or that turn around what is read.
const UNSEEN: &str = "a\u{202e}gnp\u{200b}\u{2066}z";

/// Whether a page has such a character where it is read: not in the value of a field or of a button that copies.
fn is_unseen_read(page: &str) -> bool {
    let texts = page.split('<').flat_map(|part| {
        let (tag, text) = part.split_once('>').unwrap_or((part, ""));
        let text = if tag.starts_with("textarea") {
            ""
        } else {
            text
        };
        let parts: Vec<&str> = tag.split('"').collect();
        let read = parts.chunks(2).filter(|pair| {
            ["title=", "aria-label=", "placeholder="]
                .iter()
                .any(|name| pair[0].ends_with(name))
        });
        read.filter_map(|pair| pair.get(1).copied())
            .chain([text])
            .collect::<Vec<_>>()
    });
    let is_unseen = perennial::core::text::is_unseen;
    texts
        .into_iter()
        .any(|text| text.chars().any(|c| is_unseen(c) && c != '\n'))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_has_a_character_that_nobody_sees() {
    assert!(
        is_unseen_read(&format!("<p>{UNSEEN}</p>"))
            && is_unseen_read(&format!("<p title=\"{UNSEEN}\">"))
    );
    let world = World::with(&["human-approval"]).await;
    let input = serde_json::json!({ "purpose": UNSEEN, UNSEEN: 1, "patience_secs": 3_600 });
    let start = world.client.start("Approve").id("a").input(&input);
    start.tag("team", UNSEEN).await.unwrap();
    let limit = Duration::from_secs(20);
    let waits = |status: &perennial::InstanceStatus| !status.waits_for.is_empty();
    world.client.wait_until("a", limit, waits).await.unwrap();
    world.client.suspend("a", Some(UNSEEN)).await.unwrap();
    let waits = |status: &perennial::InstanceStatus| status.runtime_status == Status::Suspended;
    world.client.wait_until("a", limit, waits).await.unwrap();
    world
        .client
        .raise_event("a", "Other", &UNSEEN)
        .await
        .unwrap();
    for path in [
        "/",
        "/instances",
        &format!("/instances?tag={}", escaped(&format!("team={UNSEEN}"))),
    ] {
        let request = Request::get(format!("/ui/default{path}")).header(header::HOST, "localhost");
        let (_, _, body) = world.ask(request.body(Body::empty()).unwrap()).await;
        assert!(!is_unseen_read(&body), "{path}: {body}");
    }
    for below in [
        "",
        "/timeline",
        "/history",
        "/history/1",
        "/turns",
        "/turns?turn=last",
        "/tree",
    ] {
        assert!(!is_unseen_read(&world.page("a", below).await), "{below}");
    }
    assert!(world.page("a", "").await.contains("a\\u{202e}gnp"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_instance_says_why_and_that_a_cancellation_waits() {
    let world = World::with(&["human-approval"]).await;
    world.approval("a").await;
    world.act("a", "suspend", "reason=closed+today").await;
    let limit = Duration::from_secs(20);
    let held = |status: &perennial::InstanceStatus| status.runtime_status == Status::Suspended;
    world.client.wait_until("a", limit, held).await.unwrap();
    world
        .act("a", "cancel", "reason=ordered+twice&grace=5")
        .await;
    let page = world.page("a", "").await;
    let order = [
        "ordered twice",
        "closed today",
        "nothing goes on until it is resumed",
        "And then for",
        "<strong>Decision</strong>",
    ];
    let places: Vec<usize> = order
        .iter()
        .map(|text| page.find(text).unwrap_or_else(|| panic!("{text}: {page}")))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    world.act("a", "resume", "").await;
    let ended = world.client.wait_for_completion("a", limit).await.unwrap();
    assert_eq!(ended.status().runtime_status, Status::Terminated);
    assert!(!world.page("a", "").await.contains("not told yet"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_keep_their_tokens_and_are_whole_somewhere() {
    let world = World::with(&["human-approval"]).await;
    let number = "340282366920938463463374607431768211455";
    let large = "x".repeat(100_000);
    let text = format!("{{\"purpose\":\"{large}\",\"patience_secs\":3600,\"id128\":{number}}}");
    let input = perennial::parse_json(&text).unwrap();
    world
        .client
        .start("Approve")
        .id("a")
        .input_json(Some(input))
        .await
        .unwrap();
    let page = world.page("a", "").await;
    assert!(page.contains("/instances/a/payload/input"), "{page}");
    assert_eq!(world.page("a", "/payload/input").await, text);
    assert_eq!(
        world.get("a", "/payload/nothing").await.0,
        StatusCode::NOT_FOUND
    );
    let small = perennial::parse_json(&text.replace(&large, "y")).unwrap();
    world
        .client
        .start("Approve")
        .id("b")
        .input_json(Some(small))
        .await
        .unwrap();
    assert!(world.page("b", "").await.contains(number));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_token_is_old_keeps_what_was_typed() {
    let world = World::with(&["human-approval"]).await;
    let form = "token=old&name=Approve&as=json&id=typed-id&input=%7B%22purpose%22%3A1%7D";
    let sent = |site: &str| {
        Request::post("/ui/default/start")
            .header(header::HOST, "localhost")
            .header("sec-fetch-site", site)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap()
    };
    let (status, _, page) = world.ask(sent("same-origin")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        page.contains("value=\"typed-id\"") && page.contains("&quot;purpose&quot;:1"),
        "{page}"
    );
    let (status, _, page) = world.ask(sent("cross-site")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!page.contains("typed-id"), "{page}");
    assert!(world.client.status("typed-id").await.unwrap().is_none());
    world.end().await;
}
