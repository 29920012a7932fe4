//! Lists and counts over a hundred thousand instances: the index of each query, and the cost of a page.

use super::lists::{filter, steps, text};
use super::*;
use crate::store::{InstanceFilter, ListQuery, Order, WaitFilter, WaitKind};
use perennial_core::Failure;

const MANY: i64 = 100_000;

/// The maximum cost of a page of 100: its rows cost some 60 steps each, and finding them must not cost much more.
const STEPS_MAX: u64 = 40_000;

/// The same where fewer match than fill a page, so that it walks to its bound, and where few that ended in a span are sorted.
const WALK_STEPS_MAX: u64 = 100_000;

/// The same where instances are looked at: each of those that are costs some 30 steps.
const LOOKS_STEPS_MAX: u64 = 500_000;

/// A hundred thousand instances of many names, versions, statuses and tags, a minute apart.
fn crowded_hub() -> Hub {
    let hub = Hub::new();
    hub.start(MANY + 1, "template");
    hub.other()
        .execute_batch(&format!(
            "CREATE TEMP TABLE n AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY}) SELECT n FROM c;
             INSERT INTO instance (key, id, name, version, module, status, execution, execution_id, generation, next_event, turns,
                 history_bytes, inbox_next, returned, deliveries, created_at, updated_at, tags, output)
             SELECT n, CASE n % 50 WHEN 0 THEN 'rare-' ELSE 'order-' END || n, 'Flow' || (n % 7), CASE n % 3 WHEN 0 THEN NULL ELSE 'v' || (n % 5) END,
                 module, CASE n % 1000 WHEN 1 THEN 4 WHEN 2 THEN 1 ELSE 3 END, 0, execution_id, 0, 9, 3, 500, 5, 0, 0, n * 60000, n * 60000 + 5000,
                 json_object('team', 't' || (n % 11), 'unit', 'u' || (n % 2000)), '\"done\"'
             FROM instance, n WHERE key = {MANY} + 1;
             INSERT INTO instance_tag SELECT 'team', 't' || (n % 11), n * 60000, n FROM n;
             INSERT INTO instance_tag SELECT 'unit', 'u' || (n % 2000), n * 60000, n FROM n;"
        ))
        .unwrap();
    let kind = |kind| hex(&Failure::permanent(kind, "no money"));
    let waiting = hex(&Waiting {
        events: vec!["Approval".to_owned()],
        ..Waiting::default()
    });
    hub.other()
        .execute_batch(&format!(
            "UPDATE instance SET failure = iif(key % 9 = 1, {}, {}) WHERE status = 4;
             UPDATE instance SET waiting = {waiting} WHERE status = 1 AND key % 2000 = 2;
             INSERT INTO task (instance, task, kind, execution, generation, turn, scheduled_in, due, attempt, deliveries, failure)
             SELECT key, 0, 0, 0, 0, 0, 0, 9, 3, 0, x'01' FROM instance WHERE status = 1 AND key % 2000 <> 2;",
            kind("CardDeclined"),
            kind("Timeout"),
        ))
        .unwrap();
    hub
}

/// What the hub stores for a value, as a literal of SQL.
pub(super) fn hex<T: serde::Serialize>(value: &T) -> String {
    let bytes = crate::store::encode(value).unwrap();
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x'{digits}'")
}

#[expect(clippy::too_many_lines, reason = "it is a table of filters")]
pub(super) fn filters() -> Vec<(&'static str, InstanceFilter)> {
    let tag = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let day = |day: u64| Some(Timestamp(day * 86_400_000));
    let ended = || vec![Status::Completed, Status::Failed, Status::Terminated];
    vec![
        ("all", InstanceFilter::default()),
        ("a status", filter(|f| f.statuses = vec![Status::Completed])),
        (
            "a rare status",
            filter(|f| f.statuses = vec![Status::Failed]),
        ),
        (
            "a status of none",
            filter(|f| f.statuses = vec![Status::Suspended]),
        ),
        ("several statuses", filter(|f| f.statuses = ended())),
        ("a name", filter(|f| f.name = text("Flow3"))),
        ("an unknown name", filter(|f| f.name = text("Gone"))),
        (
            "a name and a status",
            filter(|f| (f.name, f.statuses) = (text("Flow3"), vec![Status::Failed])),
        ),
        ("a version", filter(|f| f.version = text("v4"))),
        (
            "a version and statuses",
            filter(|f| (f.version, f.statuses) = (text("v1"), ended())),
        ),
        ("a tag of many", filter(|f| f.tags = tag("team", "t3"))),
        ("a tag of few", filter(|f| f.tags = tag("unit", "u77"))),
        ("an unknown tag", filter(|f| f.tags = tag("unit", "none"))),
        ("a prefix of most", filter(|f| f.id_prefix = text("order-"))),
        (
            "a prefix of one in fifty",
            filter(|f| f.id_prefix = text("rare-")),
        ),
        (
            "a prefix of few",
            filter(|f| f.id_prefix = text("order-777")),
        ),
        (
            "a prefix of most and a rare status",
            filter(|f| (f.id_prefix, f.statuses) = (text("order-"), vec![Status::Failed])),
        ),
        (
            "a prefix of one in fifty and a status of none of them",
            filter(|f| {
                (f.id_prefix, f.statuses) = (text("rare-"), vec![Status::Failed, Status::Suspended])
            }),
        ),
        (
            "a prefix of few and a common status",
            filter(|f| (f.id_prefix, f.statuses) = (text("order-777"), vec![Status::Completed])),
        ),
        ("an unknown prefix", filter(|f| f.id_prefix = text("zzz"))),
        (
            "a day",
            filter(|f| (f.created_from, f.created_to) = (day(30), day(31))),
        ),
        ("until a day", filter(|f| f.created_to = day(3))),
        (
            "a day of a name",
            filter(|f| (f.name, f.created_from, f.created_to) = (text("Flow2"), day(30), day(31))),
        ),
        (
            "a day of a tag",
            filter(|f| {
                (f.tags, f.created_from, f.created_to) = (tag("team", "t3"), day(30), day(31))
            }),
        ),
        (
            "a name that has no such version",
            filter(|f| (f.name, f.version) = (text("Flow3"), text("v77"))),
        ),
        (
            "a tag of many and a status of none",
            filter(|f| (f.tags, f.statuses) = (tag("team", "t3"), vec![Status::Suspended])),
        ),
        (
            "two tags that none has together",
            filter(|f| f.tags = [tag("team", "t3"), tag("unit", "u77")].concat()),
        ),
        (
            "a prefix of most and an unknown version",
            filter(|f| (f.id_prefix, f.version) = (text("order-"), text("v77"))),
        ),
        (
            "ended on a day",
            filter(|f| (f.ended_from, f.ended_to) = (day(30), day(31))),
        ),
        (
            "ended in most of the time",
            filter(|f| (f.ended_from, f.ended_to) = (day(2), day(60))),
        ),
        (
            "ended on a day, of a name and a status",
            filter(|f| {
                (f.ended_from, f.ended_to) = (day(30), day(31));
                (f.name, f.statuses) = (text("Flow3"), vec![Status::Failed]);
            }),
        ),
        (
            "failed, and updated on a day",
            filter(|f| {
                (f.updated_from, f.updated_to) = (day(30), day(31));
                f.statuses = vec![Status::Failed];
            }),
        ),
        (
            "updated on a day",
            filter(|f| (f.updated_from, f.updated_to) = (day(30), day(31))),
        ),
        (
            "failed, and updated until a day",
            filter(|f| (f.statuses, f.updated_to) = (vec![Status::Failed], day(3))),
        ),
        (
            "a kind of failure",
            filter(|f| f.failure_kind = text("CardDeclined")),
        ),
        (
            "an unknown kind of failure of a name",
            filter(|f| (f.failure_kind, f.name) = (text("Gone"), text("Flow2"))),
        ),
        (
            "an event that some wait for",
            filter(|f| f.waits_for = Some(WaitFilter::event("approval"))),
        ),
        (
            "retries",
            filter(|f| f.waits_for = Some(WaitKind::Retry.into())),
        ),
        (
            "children of a tag",
            filter(|f| (f.waits_for, f.tags) = (Some(WaitKind::Child.into()), tag("team", "t3"))),
        ),
    ]
}

#[test]
fn every_filter_takes_an_index_and_a_page_of_it_is_cheap() {
    let hub = crowded_hub();
    for (what, filter) in filters() {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            let mut query = ListQuery {
                filter: filter.clone(),
                order,
                limit: 100,
                output: true,
                ..ListQuery::default()
            };
            for plan in hub.file_reader().plans(&query).unwrap() {
                let walks = plan.starts_with("SCAN i") || plan.starts_with("SCAN t");
                assert!(!walks || plan.contains("INDEX"), "{what}: {plan}");
                let sorts_all =
                    plan.contains("TEMP B-TREE FOR ORDER BY") && filter.id_prefix.is_none();
                // Few that ended in a span are sorted by their creation.
                let sorts_few =
                    filter.is_of_ended() || filter.updated_from.or(filter.updated_to).is_some();
                assert!(!sorts_all || sorts_few, "{what}: {plan}");
            }
            // The first page, the second, and one far down.
            let first = hub.reader().list(&query).unwrap();
            let second = first.rows.last().map(|row| (row.created_at, row.key.0));
            for after in [None, second, Some((Timestamp(50_000 * 60_000), 50_000))] {
                query.after = after;
                let mut rows = 0;
                let steps = steps(&hub, |reader| {
                    rows = reader.list(&query).unwrap().rows.len()
                });
                let max = if filter.needs_looks() {
                    LOOKS_STEPS_MAX
                } else if rows < 100 || filter.is_of_ended() {
                    WALK_STEPS_MAX
                } else {
                    STEPS_MAX
                };
                assert!(
                    steps <= max,
                    "{what}, {order:?}: a page of {rows} takes {steps} steps"
                );
            }
        }
    }
}

#[test]
fn what_is_counted_is_what_is_listed() {
    let hub = crowded_hub();
    for (what, filter) in filters() {
        let counts = hub.reader().counts(&filter).unwrap();
        let mut query = ListQuery {
            filter,
            limit: 10_000,
            ..ListQuery::default()
        };
        let (mut listed, mut before) = (std::collections::BTreeMap::new(), None);
        loop {
            let page = hub.reader().list(&query).unwrap();
            for row in &page.rows {
                let place = (row.created_at, row.key.0);
                assert!(
                    before.is_none_or(|before| place < before),
                    "{what}: {place:?}"
                );
                before = Some(place);
                *listed.entry(row.status).or_insert(0) += 1;
            }
            query.after = page.looked_to.or(before);
            if !page.more {
                break;
            }
        }
        assert_eq!(counts, listed.into_iter().collect::<Vec<_>>(), "{what}");
    }
}
