//! Named values, and tags that change.

use std::collections::BTreeMap;

use super::rewind::{breakable, restart, rewind};
use super::world::*;
use crate::engine::Request;
use crate::store::{InstanceFilter, ListQuery, Reply};
use perennial_core::{Action, Ending, Event, Failure, Rejection, Reuse, Status, TaskId};

fn set(name: &str, value: impl ToString) -> Action {
    Action::SetValue {
        name: name.to_owned(),
        value: Some(json(value)),
    }
}

fn clear(name: &str) -> Action {
    Action::SetValue {
        name: name.to_owned(),
        value: None,
    }
}

fn tag(key: &str, value: Option<&str>) -> Action {
    Action::SetTag {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    }
}

/// The values of an instance.
fn values(host: &Host<'_>, id: &str) -> BTreeMap<String, String> {
    let key = host.row(id).unwrap().key;
    let rows = host.world.reader().values(key).unwrap().into_iter();
    rows.map(|row| (row.name, row.value.to_string())).collect()
}

fn version(host: &Host<'_>, id: &str, name: &str) -> Option<u64> {
    let (_, row) = host.world.reader().value(id, name).unwrap()?;
    row.map(|row| row.version)
}

fn tags(host: &Host<'_>, id: &str) -> Vec<(String, String)> {
    host.row(id).unwrap().tags
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    owned.collect()
}

fn map(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs(of).into_iter().collect()
}

fn set_tags(host: &Host<'_>, id: &str, changes: &[(&str, Option<&str>)]) -> Reply {
    let changes = changes.iter();
    let changes = changes.map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
    let (id, changes) = (id.to_owned(), changes.collect());
    host.submit(Request::SetTags { id, changes }).unwrap()
}

/// The ids of the instances with a tag.
fn tagged(host: &Host<'_>, key: &str, value: &str) -> Vec<String> {
    let query = ListQuery {
        filter: InstanceFilter {
            tags: pairs(&[(key, value)]),
            ..InstanceFilter::default()
        },
        limit: 100,
        ..ListQuery::default()
    };
    let rows = host.world.reader().list(&query).unwrap().rows;
    let mut ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
    ids.sort();
    ids
}

/// Shows its stage after each event, as a value and as a tag; an event "end" completes it.
fn stages() -> Logic {
    let mut shown = 0;
    Box::new(move |seen, out| {
        for (_, name, data) in &seen.events[shown..] {
            shown += 1;
            let data = data.as_ref().unwrap().to_string();
            match name.as_str() {
                "end" => return completes(1),
                "clear" => out.push(clear("stage")),
                _ => {
                    out.push(set("stage", &data));
                    out.push(tag("stage", Some(&data)));
                    out.push(set("count", shown));
                }
            }
        }
        waits()
    })
}

#[test]
fn a_value_is_there_with_its_turn_and_stays_after_the_end() {
    let world = World::with("Stages", || stages());
    let host = world.open();
    host.start("Stages", "a");
    assert_eq!(values(&host, "a"), map(&[]));
    host.raise("a", "go", 1);
    host.until("a", |row| row.value_count == 2);
    assert_eq!(values(&host, "a"), map(&[("stage", "1"), ("count", "1")]));
    let first = version(&host, "a", "stage").unwrap();
    // What is set to what it is keeps its version.
    host.raise("a", "go", 1);
    host.until("a", |_| values(&host, "a")["count"] == "2");
    assert_eq!(version(&host, "a", "stage"), Some(first));
    host.raise("a", "go", 7);
    host.until("a", |_| values(&host, "a")["count"] == "3");
    assert!(version(&host, "a", "stage").unwrap() > first);
    host.raise("a", "clear", 0);
    host.until("a", |row| row.value_count == 1);
    assert_eq!(version(&host, "a", "stage"), None);
    // A value that is set again has a version that it never had.
    host.raise("a", "go", 1);
    host.until("a", |row| row.value_count == 2);
    let last = version(&host, "a", "stage").unwrap();
    assert!(last > first + 1);
    host.evict_all();
    host.raise("a", "end", 0);
    assert_eq!(host.end("a"), "1");
    assert_eq!(values(&host, "a"), map(&[("stage", "1"), ("count", "5")]));
    assert_eq!(version(&host, "a", "stage"), Some(last));
    assert!(world.reader().value("nobody", "stage").unwrap().is_none());
    host.check_histories();
}

#[test]
fn who_waits_for_a_change_is_woken_by_a_value() {
    let world = World::with("Stages", || stages());
    let host = world.open();
    host.start("Stages", "a");
    let watch = host.of("a").watch(
        "a",
        crate::engine::Until::Changed,
        std::time::Duration::ZERO,
    );
    host.raise("a", "go", 1);
    world.block_on("the change", watch.told).unwrap();
    host.until("a", |row| row.value_count == 2);
}

#[test]
fn values_and_tags_of_the_first_turn_come_with_the_start() {
    let world = World::with("Shows", || {
        Box::new(|_, out| {
            out.push(set("stage", 1));
            out.push(tag("team", Some("red")));
            completes(1)
        })
    })
    .and("Listen", listens(1))
    .in_file();
    let host = world.open();
    host.start("Shows", "a");
    assert_eq!(host.end("a"), "1");
    assert_eq!(values(&host, "a"), map(&[("stage", "1")]));
    assert_eq!(tagged(&host, "team", "red"), ["a"]);
    host.check_histories();
    // One that replaces it begins without them.
    host.start("Listen", "a");
    assert_eq!(values(&host, "a"), map(&[]));
    assert!(tagged(&host, "team", "red").is_empty());
    assert_eq!(host.count("SELECT count(*) FROM instance_value"), 0);
}

#[test]
fn values_and_tags_go_on_with_the_next_execution_until_they_are_changed() {
    let world = World::with("Rounds", || {
        Box::new(|seen, out| match (seen.number(), seen.events.len()) {
            (0, _) => {
                out.push(set("stage", "\"first\""));
                out.push(set("gone", 1));
                out.push(tag("team", Some("red")));
                out.push(tag("gone", Some("soon")));
                continues(1, Vec::new())
            }
            (1, 0) => waits(),
            (1, _) => {
                out.push(clear("gone"));
                out.push(tag("gone", None));
                continues(2, Vec::new())
            }
            (_, 0) => waits(),
            (_, _) => fails("Enough"),
        })
    })
    .in_file();
    let host = world.open();
    host.start_with("Rounds", "a", 0);
    host.until("a", |row| row.execution == 1 && row.turns == 1);
    assert_eq!(
        values(&host, "a"),
        map(&[("stage", "\"first\""), ("gone", "1")])
    );
    let before = version(&host, "a", "stage");
    host.check_histories();
    // What a client sets stays, and the next execution begins with it.
    let reply = set_tags(
        &host,
        "a",
        &[("owner", Some("eve")), ("team", Some("blue"))],
    );
    let now = pairs(&[("gone", "soon"), ("owner", "eve"), ("team", "blue")]);
    assert_eq!(reply, Reply::Tagged(now));
    host.evict_all();
    host.raise("a", "go", 1);
    host.until("a", |row| row.execution == 2 && row.turns == 1);
    assert_eq!(values(&host, "a"), map(&[("stage", "\"first\"")]));
    assert_eq!(version(&host, "a", "stage"), before);
    let now = pairs(&[("owner", "eve"), ("team", "blue")]);
    assert_eq!(tags(&host, "a"), now);
    let Some(Event::ExecutionStarted(start)) = host.events("a").into_iter().nth(1) else {
        panic!("{:?}", host.events("a"));
    };
    assert_eq!(start.tags, now);
    host.check_histories();
    host.raise("a", "go", 1);
    assert_eq!(host.end("a"), "Enough");
    // A restart begins without values, and keeps the tags.
    assert_eq!(restart(&host, "a", None), Reply::Done);
    assert_eq!(values(&host, "a"), map(&[]));
    assert_eq!(tags(&host, "a"), now);
    assert_eq!(tagged(&host, "owner", "eve"), ["a"]);
    host.check_histories();
    assert_eq!(host.count("SELECT count(*) FROM instance_value"), 0);
}

#[test]
fn a_rewind_restores_what_was_set_before_the_cut() {
    let world = World::with("Order", || {
        let mut step = 0;
        Box::new(move |seen, out| {
            if step == 0 {
                out.push(set("stage", "\"asked\""));
                out.push(set("early", 1));
                out.push(tag("stage", Some("asked")));
                out.call("Pay", 1);
                step = 1;
            }
            match seen.results.get(&0) {
                None => waits(),
                Some(Ok(_)) => {
                    out.push(set("stage", "\"paid\""));
                    completes(1)
                }
                Some(Err(failure)) => {
                    out.push(set("stage", "\"failed\""));
                    out.push(set("late", 1));
                    out.push(clear("early"));
                    out.push(tag("stage", Some("failed")));
                    out.push(tag("late", Some("yes")));
                    Ending::Failed {
                        failure: Failure::clone(failure),
                        cause: Some(TaskId(0)),
                    }
                }
            }
        })
    });
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Order", "a");
    assert_eq!(host.end("a"), "Down");
    assert_eq!(
        values(&host, "a"),
        map(&[("stage", "\"failed\""), ("late", "1")])
    );
    assert_eq!(
        tags(&host, "a"),
        pairs(&[("late", "yes"), ("stage", "failed")])
    );
    let failed = version(&host, "a", "stage").unwrap();
    set_tags(&host, "a", &[("owner", Some("eve"))]);
    mended.store(true, std::sync::atomic::Ordering::Release);
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let goes_on = std::sync::Mutex::new(goes_on);
    world.activities.add("Pay", move |_| {
        // It ends when the test has looked.
        goes_on.lock().unwrap().recv().ok();
        Ok(None)
    });
    rewind(&host, "a");
    assert_eq!(
        values(&host, "a"),
        map(&[("stage", "\"asked\""), ("early", "1")])
    );
    assert!(version(&host, "a", "stage").unwrap() > failed);
    assert_eq!(
        tags(&host, "a"),
        pairs(&[("owner", "eve"), ("stage", "asked")])
    );
    assert_eq!(tagged(&host, "stage", "asked"), ["a"]);
    assert!(tagged(&host, "late", "yes").is_empty());
    drop(go_on);
    assert_eq!(host.end("a"), "1");
    assert_eq!(
        values(&host, "a"),
        map(&[("stage", "\"paid\""), ("early", "1")])
    );
    host.check_histories();
}

#[test]
fn an_instance_that_ends_before_its_next_execution_begins_keeps_its_values() {
    let world = World::with("Rounds", || {
        Box::new(|seen, out| {
            if seen.number() == 0 {
                out.push(set("stage", 1));
                return match seen.events.len() {
                    0 => waits(),
                    _ => continues(1, Vec::new()),
                };
            }
            waits()
        })
    })
    .in_file();
    let host = world.open();
    host.start_with("Rounds", "a", 0);
    host.raise("a", "go", 1);
    host.terminate("a");
    host.until("a", |row| row.status == Status::Terminated);
    assert_eq!(values(&host, "a"), map(&[("stage", "1")]));
    host.check_histories();
    // Nothing is left of what is purged.
    let purged = host.submit(Request::PurgeId("a".to_owned())).unwrap();
    assert!(matches!(purged, Reply::Purged(_)));
    assert_eq!(host.count("SELECT count(*) FROM instance_value"), 0);
}

#[test]
fn tags_are_changed_from_outside_at_any_time() {
    let world = World::with("Stages", || stages());
    let host = world.open();
    host.start("Stages", "a");
    let first = set_tags(&host, "a", &[("team", Some("red")), ("nothing", None)]);
    assert_eq!(first, Reply::Tagged(pairs(&[("team", "red")])));
    assert_eq!(tagged(&host, "team", "red"), ["a"]);
    // The guest's changes and those of clients meet in the row; the later one counts.
    host.raise("a", "go", 1);
    host.until("a", |row| row.value_count == 2);
    assert_eq!(tags(&host, "a"), pairs(&[("stage", "1"), ("team", "red")]));
    set_tags(&host, "a", &[("stage", Some("mine")), ("team", None)]);
    assert_eq!(tags(&host, "a"), pairs(&[("stage", "mine")]));
    assert!(tagged(&host, "stage", "1").is_empty() && tagged(&host, "team", "red").is_empty());
    host.raise("a", "go", 2);
    host.until("a", |_| values(&host, "a")["count"] == "2");
    assert_eq!(tagged(&host, "stage", "2"), ["a"]);
    // Whoever waits for the end is told of the tags as they are.
    set_tags(&host, "a", &[("late", Some("yes"))]);
    let watch = host
        .of("a")
        .watch("a", crate::engine::Until::Ended, std::time::Duration::ZERO);
    host.raise("a", "end", 1);
    let news = world.block_on("the end", watch.told).unwrap();
    assert!(news.is_none(), "its row in memory had other tags");
    let ended = host.row("a").unwrap();
    set_tags(&host, "a", &[("after", Some("end"))]);
    let now = pairs(&[("after", "end"), ("late", "yes"), ("stage", "2")]);
    let row = host.row("a").unwrap();
    assert_eq!(row.tags, now);
    assert_eq!(
        row.updated_at, ended.updated_at,
        "it is kept no longer for that"
    );
    assert_eq!(tagged(&host, "after", "end"), ["a"]);
    host.check_histories();
}

#[test]
fn changes_of_tags_that_break_a_rule_change_nothing() {
    let world = World::with("Listen", listens(1));
    let host = world.open();
    host.start("Listen", "a");
    let missing = set_tags(&host, "nobody", &[("a", Some("b"))]);
    assert_eq!(missing, Reply::Rejected(Rejection::NotFound));
    let many: Vec<String> = (0..65).map(|i| format!("t{i:02}")).collect();
    let all: Vec<(&str, Option<&str>)> = many.iter().map(|key| (key.as_str(), Some(""))).collect();
    assert_eq!(set_tags(&host, "a", &all), Reply::TooManyTags(65));
    assert!(matches!(set_tags(&host, "a", &all[..64]), Reply::Tagged(tags) if tags.len() == 64));
    assert_eq!(
        set_tags(&host, "a", &[("one", Some(""))]),
        Reply::TooManyTags(65)
    );
    let swap = [("one", Some("")), ("t00", None)];
    assert!(matches!(set_tags(&host, "a", &swap), Reply::Tagged(tags) if tags.len() == 64));
    let long = "x".repeat(2_000);
    for (key, value) in [
        ("", "x"),
        ("a\u{7}", "x"),
        ("a", &long),
        (&long, "x"),
        ("a", "\0"),
    ] {
        let refused = set_tags(&host, "a", &[(key, Some(value))]);
        assert!(matches!(refused, Reply::Refused { .. }), "{refused:?}");
    }
    assert_eq!(tags(&host, "a").len(), 64);
}

#[test]
fn a_replaced_instance_leaves_no_value() {
    let world = World::with("Stages", || stages()).in_file();
    let host = world.open();
    host.start("Stages", "a");
    host.raise("a", "go", 1);
    host.until("a", |row| row.value_count == 2);
    let Request::Start(mut again) = start("Stages", "a", None) else {
        panic!("a start");
    };
    again.reuse = Reuse::Any;
    assert_eq!(host.submit(Request::Start(again)).unwrap(), Reply::Done);
    assert_eq!(values(&host, "a"), map(&[]));
    assert_eq!(tags(&host, "a"), pairs(&[]));
    assert_eq!(host.count("SELECT count(*) FROM instance_value"), 0);
}

#[test]
fn too_much_fails_the_execution_with_the_limit() {
    let world = World::with("Greedy", || {
        Box::new(|_, out| {
            (0..101).for_each(|i| out.push(set(&format!("v{i}"), i)));
            completes(1)
        })
    });
    let host = world.open();
    host.start("Greedy", "a");
    assert_eq!(host.end("a"), "LimitExceeded");
    assert_eq!(values(&host, "a"), map(&[]));
    host.check_histories();
}

#[test]
fn a_crash_at_any_moment_leaves_the_values_of_a_history() {
    const STEPS: u32 = 60;
    let world = World::with("Steps", || {
        let mut next = 0;
        Box::new(move |seen, out| {
            if next > 0 && !seen.has(next - 1) {
                return waits();
            }
            out.push(set("step", next));
            out.push(set(&format!("at{}", next % 3), next));
            out.push(if next % 5 == 4 {
                clear("at0")
            } else {
                set("five", next % 5)
            });
            out.push(tag("step", Some(&next.to_string())));
            if next == STEPS {
                return completes(1);
            }
            out.call("Echo", next);
            next += 1;
            waits()
        })
    })
    .in_file();
    let mut images = Vec::new();
    {
        let host = world.open();
        host.start("Steps", "a");
        while !host.row("a").unwrap().status.is_end() {
            images.push(world.crash_image());
        }
        host.check_histories();
    }
    for image in images.into_iter().take(8) {
        image.check_histories(&image.reader());
        let host = image.open();
        assert_eq!(host.end("a"), "1");
        host.check_histories();
        let last = STEPS.to_string();
        assert_eq!(values(&host, "a")["step"], last);
        assert_eq!(tagged(&host, "step", &last), ["a"]);
        assert_eq!(host.count("SELECT count(*) FROM instance_tag"), 1);
    }
}
