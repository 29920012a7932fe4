//! The pages of one instance: what they say, what their forms do, and how small they stay.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod world;

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures::StreamExt;
use perennial::Status;

use world::{World, escaped};

/// An id that would be markup if it were not escaped.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

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
        page.contains("<p class=\"done\" role=\"status\">It was told to suspend"),
        "{page}"
    );
    assert!(
        !world
            .page("a", "?done=Mine&refused=Mine")
            .await
            .contains("Mine")
    );
    let (_, page) = world.act("a", "resume", "").await;
    assert!(page.contains("It was told to go on."), "{page}");
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
async fn what_was_done_is_told_for_an_id_of_any_length() {
    let world = World::with(&["human-approval"]).await;
    let id = "\u{65e5}".repeat(200);
    world.approval(&id).await;
    for (action, form, told) in [
        ("suspend", "", "It was told to suspend."),
        ("purge", "", "role=\"alert\""),
    ] {
        let form = world.form(&id, form).await;
        let (status, head, body) = world.send(&id, action, form).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{body}");
        let cookie = head[header::SET_COOKIE].to_str().unwrap();
        let path = cookie.split("; Path=").nth(1).unwrap();
        let path = path.split(';').next().unwrap();
        let to = head[header::LOCATION].to_str().unwrap();
        // Browsers ignore a path of more than 1024 bytes, and a cookie is sent to what is below its path.
        assert!(
            path.len() <= 1024 && to.starts_with(&format!("{path}/")),
            "{path} {to}"
        );
        let request = Request::get(to)
            .header(header::HOST, "localhost")
            .header(header::COOKIE, cookie.split(';').next().unwrap());
        let (_, head, page) = world.answer(request.body(Body::empty()).unwrap()).await;
        assert!(page.contains(told), "{page}");
        let gone = head[header::SET_COOKIE].to_str().unwrap();
        assert!(
            gone.contains(&format!("; Path={path};")) && gone.contains("Max-Age=0"),
            "{gone}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_an_instance_failed_is_told_first() {
    let world = World::with(&["human-approval"]).await;
    world
        .client
        .start("Approve")
        .id("a")
        .input(&1)
        .await
        .unwrap();
    let limit = Duration::from_secs(20);
    world.client.wait_for_completion("a", limit).await.unwrap();
    let page = world.page("a", "").await;
    let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part}: {page}"));
    assert!(at("id=\"failure\"") < at("id=\"module-title\""));
    world.end().await;
}
