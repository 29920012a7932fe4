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
        "external event ",
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
    exports_have_all_of_it(&world, "long").await;
    pages_of_the_newest_follow_each_other(&world, "long").await;
    world.end().await;
}

async fn exports_have_all_of_it(world: &World, id: &str) {
    let all = world.client.history(id).await.unwrap().unwrap();
    let exported = world.page(id, "/history.json").await;
    let exported: Vec<perennial::HistoryEvent> = serde_json::from_str(&exported).unwrap();
    assert_eq!(exported.len(), all.len());
    assert_eq!(exported.last().unwrap().number, all.last().unwrap().number);
    let raised = all
        .iter()
        .filter(|of| of.event.name() == "ExternalEventRaised");
    let raised = raised.count();
    let query = "?event=ExternalEventRaised";
    let lines = world.page(id, &format!("/history.jsonl{query}")).await;
    assert_eq!(lines.lines().count(), raised);
    let csv = world.page(id, &format!("/history.csv{query}")).await;
    assert_eq!(csv.matches("\r\n").count(), raised + 1);
    assert_eq!(world.get(id, "/history.xml").await.0, StatusCode::NOT_FOUND);
    let recorded = world.page(id, "/recorded.json").await;
    let recorded = perennial::RecordedHistory::from_json(recorded.as_bytes()).unwrap();
    assert_eq!(Some(recorded), world.client.export(id).await.unwrap());
    for from in [0, 1, 2, 255, 256, 5_001, all.len() - 1, all.len()] {
        let some = world.client.history(id).from(from as u64).await.unwrap();
        assert_eq!(some.unwrap(), all[from..], "from {from}");
    }
}

async fn pages_of_the_newest_follow_each_other(world: &World, id: &str) {
    let all = world.client.history(id).await.unwrap().unwrap();
    let begun = |of: &&perennial::HistoryEvent| of.event.name() == "TurnStarted";
    let expected: Vec<u64> = all.iter().filter(begun).map(|of| of.number).rev().collect();
    let (mut found, mut below) = (
        Vec::new(),
        "/history?event=TurnStarted&order=newest".to_owned(),
    );
    loop {
        let page = world.page(id, &below).await;
        let numbers = page.split("<td class=\"num\"><a href=").skip(1);
        let number = |cell: &str| cell.split(['>', '<']).nth(1)?.parse::<u64>().ok();
        found.extend(numbers.filter_map(number));
        let Some((_, next)) = page.split_once("rel=\"next\" href=\"") else {
            break;
        };
        let next = next.split('"').next().unwrap().replace("&amp;", "&");
        below = format!("/history{}", &next[next.find('?').unwrap()..]);
    }
    assert_eq!(found, expected);
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

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_not_used_are_shown_with_their_payloads() {
    let world = World::with(&["human-approval"]).await;
    world.approval("a").await;
    let raise = async |name: &str, data: &str| {
        world.client.raise_event("a", name, data).await.unwrap();
    };
    raise("Decison", "<b>yes</b>").await;
    let taken = |status: &perennial::InstanceStatus| !status.events_without_effect.is_empty();
    let limit = Duration::from_secs(20);
    world.client.wait_until("a", limit, taken).await.unwrap();
    let page = world.page("a", "").await;
    assert!(page.contains("Events without effect"), "{page}");
    assert!(page.contains("&lt;b&gt;yes&lt;/b&gt;"), "{page}");
    let pending = world.client.pending_events("a").await.unwrap();
    let number = pending[0].event_number.unwrap();
    assert!(page.contains(&format!("/history/{number}\"")), "{page}");
    world.client.suspend("a", None).await.unwrap();
    raise("Later", &"x".repeat(2_000)).await;
    let pending = world.client.pending_events("a").await.unwrap();
    let names: Vec<&str> = pending.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["Decison", "Later"]);
    assert_eq!(
        (pending[1].event_number, pending[1].data_bytes),
        (None, 2_002)
    );
    assert!(pending[0].received_at <= pending[1].received_at);
    let page = world.page("a", "").await;
    assert!(page.contains("not taken yet"), "{page}");
    assert!(!page.contains("xxxx"), "a large payload is a link: {page}");
    let none = world.client.pending_events("none").await;
    assert!(none.unwrap_err().is_not_found());
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
async fn what_guests_log_is_a_tab() {
    let world = World::with(&["golden-chain"]).await;
    assert_eq!(world.get("x", "/logs").await.0, StatusCode::NOT_FOUND);
    for id in ["l", "other"] {
        world.client.start("Chain").id(id).input(&6).await.unwrap();
        let limit = Duration::from_secs(20);
        world.client.wait_for_completion(id, limit).await.unwrap();
    }
    let logs = world.client.logs("l").await.unwrap();
    let lines: Vec<&str> = logs.lines.iter().map(|line| &line.message[..6]).collect();
    assert_eq!(
        lines,
        ["step 0", "step 1", "step 2", "step 3", "step 4", "step 5"]
    );
    assert!(!logs.partial && logs.since.unwrap() <= logs.lines[0].at);
    let page = world.page("l", "/logs").await;
    assert!(
        page.contains("since the host started") && page.contains("step 5"),
        "{page}"
    );
    // Lines of a run that was replaced are not those of the new one.
    world.client.restart("l").await.unwrap();
    let limit = Duration::from_secs(20);
    world.client.wait_for_completion("l", limit).await.unwrap();
    assert_eq!(world.client.logs("l").await.unwrap().lines.len(), 6);
    world.end().await;
}

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
