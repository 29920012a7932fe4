//! What pages say of an instance beside its state: events that wait, log lines, and texts as they are.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod world;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use perennial::Status;

use world::{World, escaped};

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
    let small = perennial::parse_json(text.replace(&large, "y")).unwrap();
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
