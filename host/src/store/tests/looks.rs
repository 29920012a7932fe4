//! Conditions of lists that no index contains.

use perennial_core::{Failure, Quarantine};

use super::lists::{filter, steps, text};
use super::plans::hex;
use super::*;
use crate::store::{InstanceFilter, ListQuery, Order, WaitFilter, WaitKind};

/// The ids that match, by all pages of a list together; a count and the pages of bulk operations must agree.
fn found(hub: &Hub, filter: &InstanceFilter) -> Vec<String> {
    let mut query = ListQuery {
        filter: filter.clone(),
        order: Order::OldestFirst,
        limit: 2,
        ..ListQuery::default()
    };
    let mut brief = Vec::new();
    loop {
        let page = hub.reader().brief(&query).unwrap();
        brief.extend(page.found.into_iter().map(|brief| brief.id));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let mut listed = Vec::new();
    loop {
        let page = hub.reader().list(&query).unwrap();
        listed.extend(page.rows.into_iter().map(|row| row.id));
        query.after = page.looked_to;
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, brief, "{filter:?}");
    let counts = hub.reader().counts(filter).unwrap();
    let count: u64 = counts.iter().map(|(_, count)| count).sum();
    assert_eq!(count, listed.len() as u64, "{filter:?}");
    listed
}

fn waits(hub: &Hub, wait: impl Into<WaitFilter>) -> Vec<String> {
    let wait = Some(wait.into());
    found(hub, &filter(|f| f.waits_for = wait))
}

/// Executes SQL for the instance with this id, whose key `KEY` is.
fn with(hub: &Hub, id: &str, sql: &str) {
    let key = hub.reader().instance(id).unwrap().unwrap().key.0;
    let sql = sql.replace("KEY", &key.to_string());
    hub.other().execute_batch(&sql).unwrap();
}

/// An open task of an instance that runs.
fn task(hub: &Hub, id: &str, number: u32, kind: u8, due: &str, failure: &str) {
    let sql = format!(
        "INSERT INTO task (instance, task, kind, execution, generation, turn, scheduled_in, due, attempt, deliveries, failure)
         VALUES (KEY, {number}, {kind}, 0, 0, 0, 0, {due}, 1, 0, {failure})"
    );
    with(hub, id, &sql);
}

fn started(ids: &[&str]) -> Hub {
    let hub = Hub::new();
    for (key, id) in (1..).zip(ids) {
        hub.start(key, id);
        hub.does(turn_change(turn(&hub, key, Status::Running, Vec::new())));
    }
    hub
}

fn say(hub: &Hub, id: &str, waiting: &Waiting) {
    let sql = format!(
        "UPDATE instance SET waiting = {} WHERE key = KEY",
        hex(waiting)
    );
    with(hub, id, &sql);
}

#[test]
fn what_is_waited_for_is_found_by_its_kind_and_name() {
    let hub = started(&["event", "request", "asks", "asked"]);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let events = Waiting {
        events: names(&["Go", "Approval"]),
        ..Waiting::default()
    };
    say(&hub, "event", &events);
    let requests = Waiting {
        requests: names(&["AddItem"]),
        ..Waiting::default()
    };
    say(&hub, "request", &requests);
    let asks = Waiting {
        tasks: vec![TaskId(7)],
        ..Waiting::default()
    };
    say(&hub, "asks", &asks);
    hub.other()
        .execute_batch(
            "INSERT INTO request (instance, id, name, at, asker, execution, generation, task)
             VALUES (4, 'r1', 'Price', 0, 3, 0, 0, 7), (4, 'r2', 'Dropped', 0, 3, 0, 0, 8);",
        )
        .unwrap();
    let none = Vec::<String>::new();
    assert_eq!(waits(&hub, WaitKind::Event), ["event"]);
    assert_eq!(waits(&hub, WaitFilter::event("APPROVAL")), ["event"]);
    assert_eq!(waits(&hub, WaitFilter::event("AddItem")), none);
    assert_eq!(waits(&hub, WaitKind::Request), ["request"]);
    assert_eq!(waits(&hub, WaitFilter::request("additem")), ["request"]);
    assert_eq!(waits(&hub, WaitKind::Answer), ["asks"]);
    assert_eq!(waits(&hub, WaitFilter::answer("price")), ["asks"]);
    // The orchestration does not await that one any more.
    assert_eq!(waits(&hub, WaitFilter::answer("Dropped")), none);
    // An ended instance waits for nothing, whatever its row says.
    with(
        &hub,
        "event",
        "UPDATE instance SET status = 4 WHERE key = KEY",
    );
    assert_eq!(waits(&hub, WaitKind::Event), none);
}

#[test]
fn what_is_waited_for_is_found_by_its_task() {
    let hub = started(&[
        "first",
        "again",
        "child-again",
        "timer",
        "parent",
        "bad",
        "remote",
    ]);
    task(&hub, "first", 0, 0, "NULL", "NULL");
    task(&hub, "again", 0, 1, "9", "NULL");
    task(&hub, "again", 1, 0, "9", "x'01'");
    task(&hub, "child-again", 0, 2, "9", "NULL");
    task(&hub, "timer", 0, 4, "9", "NULL");
    // The time that it has to clean up is nothing that it waits for.
    task(&hub, "bad", u32::MAX - 1, 5, "9", "NULL");
    let mut later = new(20, "later");
    later.start.scheduled_for = Some(Timestamp(9_000));
    hub.does(Change::Start(later));
    hub.does(Change::Start(child_of(new(21, "child"), 5, "parent", 0)));
    let quarantine = Quarantine::because("it differs".to_owned());
    let sql = format!(
        "UPDATE instance SET quarantine = {} WHERE key = KEY",
        hex(&quarantine)
    );
    with(&hub, "bad", &sql);
    with(
        &hub,
        "remote",
        "UPDATE instance SET module = NULL WHERE key = KEY; DELETE FROM inbox WHERE instance = KEY",
    );
    let empty = Vec::<String>::new();
    assert_eq!(waits(&hub, WaitKind::Worker), empty);
    with(
        &hub,
        "remote",
        "INSERT INTO inbox (instance, seq, message) VALUES (KEY, 99, x'01')",
    );
    for (kind, ids) in [
        (WaitKind::Activity, &["first", "again"][..]),
        (WaitKind::Retry, &["again", "child-again"]),
        (WaitKind::Timer, &["again", "child-again", "timer"]),
        (WaitKind::Start, &["later"]),
        (WaitKind::Child, &["parent"]),
        (WaitKind::Worker, &["remote"]),
        (WaitKind::Quarantine, &["bad"]),
    ] {
        assert_eq!(waits(&hub, kind), ids, "{kind}");
    }
}

#[test]
fn failures_are_found_by_their_kind_and_updates_by_their_time() {
    let hub = started(&["declined", "late", "runs", "done"]);
    let end = |key: i64, kind: Option<&str>, at: u64| {
        let status = kind.map_or(Status::Completed, |_| Status::Failed);
        let mut turn = turn(&hub, key, status, Vec::new());
        turn.turn.at = Timestamp(at);
        turn.after.failure = kind.map(|kind| Failure::permanent(kind, "no"));
        hub.does(turn_change(turn));
    };
    end(1, Some("CardDeclined"), 5_000);
    end(2, Some("Timeout"), 6_000);
    end(4, None, 7_000);
    let kind = |kind: &str| found(&hub, &filter(|f| f.failure_kind = text(kind)));
    assert_eq!(kind("CardDeclined"), ["declined"]);
    assert!(kind("carddeclined").is_empty());
    let contradiction = filter(|f| {
        (f.failure_kind, f.statuses) = (text("Timeout"), vec![Status::Completed]);
    });
    assert!(found(&hub, &contradiction).is_empty());
    let impossible = filter(|f| {
        (f.failure_kind, f.waits_for) = (text("Timeout"), Some(WaitKind::Event.into()));
    });
    assert!(found(&hub, &impossible).is_empty());
    let updated = |from: Option<u64>, to: Option<u64>| {
        let (from, to) = (from.map(Timestamp), to.map(Timestamp));
        found(
            &hub,
            &filter(|f| (f.updated_from, f.updated_to) = (from, to)),
        )
    };
    assert_eq!(updated(Some(6_000), None), ["late", "done"]);
    assert_eq!(updated(None, Some(5_000)), ["runs"]);
    assert_eq!(updated(Some(3_000), Some(6_000)), ["declined", "runs"]);
    let ended_first = ListQuery {
        filter: filter(|f| {
            (f.updated_from, f.updated_to) = (Some(Timestamp(5_000)), Some(Timestamp(7_000)))
        }),
        order: Order::EndedFirst,
        limit: 10,
        ..ListQuery::default()
    };
    let page = hub.reader().list(&ended_first).unwrap();
    let ids: Vec<String> = page.rows.into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["declined", "late"]);
}

/// More failed instances than two pages look at, of which only the oldest has the kind.
const MANY: i64 = 21_000;

#[test]
fn a_page_that_finds_nothing_ends_and_says_where_the_next_one_begins() {
    let hub = Hub::new();
    hub.start(MANY + 1, "template");
    let (rare, common) = (
        hex(&Failure::permanent("Rare", "no")),
        hex(&Failure::permanent("Common", "no")),
    );
    hub.other()
        .execute_batch(&format!(
            "INSERT INTO instance (key, id, name, status, execution, execution_id, generation, next_event, turns, history_bytes, inbox_next,
                 returned, deliveries, created_at, updated_at, failure)
             SELECT n, 'i' || n, name, 4, 0, '', 0, 0, 0, 0, 0, 0, 0, n, n, iif(n = 1, {rare}, {common})
             FROM instance, (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY}) SELECT n FROM c)
             WHERE key = {MANY} + 1;"
        ))
        .unwrap();
    let mut query = ListQuery {
        filter: filter(|f| f.failure_kind = text("Rare")),
        limit: 10,
        ..ListQuery::default()
    };
    let mut pages = Vec::new();
    loop {
        let mut page = Default::default();
        let steps = steps(&hub, |reader| page = reader.list(&query).unwrap());
        assert!(steps <= 500_000, "{steps} steps");
        let crate::store::ListPage {
            rows,
            more,
            looked_to,
        } = page;
        pages.push(rows.len());
        query.after = looked_to;
        if !more {
            break;
        }
    }
    assert_eq!(pages, [0, 0, 1]);
    let counts = hub.reader().counts(&query.filter).unwrap();
    assert_eq!(counts, [(Status::Failed, 1)]);
    // The first page of a common kind is full long before.
    query.filter.failure_kind = text("Common");
    query.after = None;
    let steps = steps(&hub, |reader| {
        assert_eq!(reader.list(&query).unwrap().rows.len(), 10)
    });
    assert!(steps <= 50_000, "{steps} steps");
}
