//! Lists, and the cost of finding a few instances among many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::{InstanceFilter, ListQuery, Order};

fn ids(hub: &Hub, query: &ListQuery) -> Vec<String> {
    hub.reader()
        .list(query)
        .unwrap()
        .rows
        .into_iter()
        .map(|row| row.id)
        .collect()
}

fn all() -> ListQuery {
    ListQuery {
        limit: 1_000,
        ..ListQuery::default()
    }
}

/// A filter with the fields that `set` sets.
pub(super) fn filter(set: impl FnOnce(&mut InstanceFilter)) -> InstanceFilter {
    let mut filter = InstanceFilter::default();
    set(&mut filter);
    filter
}

fn all_of(filter: InstanceFilter) -> ListQuery {
    ListQuery { filter, ..all() }
}

#[test]
fn each_filter_finds_what_it_should() {
    let hub = Hub::new();
    for (key, id, name, at) in [
        (1, "a1", "Order", 100),
        (2, "a2", "Ship", 200),
        (3, "b1", "Order", 200),
        (4, "b2", "Order", 300),
    ] {
        let mut new = new(key, id);
        (new.start.name, new.start.accepted_at) = (name.to_owned(), Timestamp(at));
        hub.does(Change::Start(new));
    }
    hub.does(turn_change(turn(&hub, 3, Status::Completed, Vec::new())));
    let check =
        |query: ListQuery, expected: &[&str]| assert_eq!(ids(&hub, &query), expected, "{query:?}");
    check(all(), &["b2", "b1", "a2", "a1"]);
    check(ListQuery { limit: 2, ..all() }, &["b2", "b1"]);
    check(
        all_of(filter(|f| f.id_prefix = Some("a".to_owned()))),
        &["a2", "a1"],
    );
    check(
        ListQuery {
            filter: filter(|f| f.id_prefix = Some(String::new())),
            limit: 1,
            ..all()
        },
        &["b2"],
    );
    check(
        all_of(filter(|f| f.name = Some("Order".to_owned()))),
        &["b2", "b1", "a1"],
    );
    check(
        all_of(filter(|f| f.statuses = vec![Status::Completed])),
        &["b1"],
    );
    check(
        all_of(filter(|f| {
            f.statuses = vec![Status::Completed, Status::Pending]
        })),
        &["b2", "b1", "a2", "a1"],
    );
    check(
        all_of(filter(|f| f.created_from = Some(Timestamp(200)))),
        &["b2", "b1", "a2"],
    );
    check(
        all_of(filter(|f| f.created_to = Some(Timestamp(200)))),
        &["a1"],
    );
    check(
        all_of(filter(|f| {
            (f.created_from, f.created_to, f.name) = (
                Some(Timestamp(100)),
                Some(Timestamp(300)),
                Some("Ship".to_owned()),
            )
        })),
        &["a2"],
    );
}

pub(super) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn tag(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// Four instances with versions and tags, of which the second has ended.
fn tagged_hub() -> Hub {
    let hub = Hub::new();
    let (kim, lee, eu) = (tag("who", "kim"), tag("who", "lee"), tag("where", "eu"));
    for (key, id, version, tags, at) in [
        (1, "a1", text("1"), vec![kim.clone()], 100),
        (2, "a2", text("2"), vec![kim.clone(), eu.clone()], 200),
        (3, "b1", None, vec![lee, eu], 200),
        (4, "b2", text("1"), vec![kim, tag("who2", "x")], 300),
    ] {
        let mut new = new(key, id);
        (new.start.version, new.start.tags) = (version, tags);
        new.start.accepted_at = Timestamp(at);
        hub.does(Change::Start(new));
    }
    hub.does(end_of(&hub, 2));
    hub
}

#[test]
fn versions_tags_and_the_other_order_are_filters_too() {
    let hub = tagged_hub();
    let check = |set: fn(&mut InstanceFilter), expected: &[&str]| {
        let mut query = all_of(filter(set));
        assert_eq!(ids(&hub, &query), expected, "{query:?}");
        query.order = Order::OldestFirst;
        let mut backwards = ids(&hub, &query);
        backwards.reverse();
        assert_eq!(backwards, expected, "{query:?}");
        let counted = hub.reader().counts(&query.filter).unwrap();
        let sum: u64 = counted.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, expected.len() as u64, "{query:?}");
    };
    check(|_| (), &["b2", "b1", "a2", "a1"]);
    check(|f| f.version = text("1"), &["b2", "a1"]);
    check(|f| f.version = text("3"), &[]);
    check(
        |f| (f.version, f.name) = (text("1"), text("Order")),
        &["b2", "a1"],
    );
    check(|f| f.tags = vec![tag("who", "kim")], &["b2", "a2", "a1"]);
    check(
        |f| f.tags = vec![tag("where", "eu"), tag("who", "kim")],
        &["a2"],
    );
    check(|f| f.tags = vec![tag("who", "x")], &[]);
    check(
        |f| {
            (f.tags, f.statuses) = (
                vec![tag("who", "kim")],
                vec![Status::Completed, Status::Failed],
            )
        },
        &["a2"],
    );
    check(
        |f| {
            (f.tags, f.id_prefix, f.created_to) =
                (vec![tag("who", "kim")], text("a"), Some(Timestamp(200)))
        },
        &["a1"],
    );
    let counts = hub
        .reader()
        .counts(&filter(|f| f.tags = vec![tag("who", "kim")]));
    assert_eq!(
        counts.unwrap(),
        [(Status::Pending, 2), (Status::Completed, 1)]
    );
    hub.write(Change::PurgeId("a2".to_owned())).unwrap();
    assert_eq!(
        hub.count("SELECT count(*) FROM instance_tag WHERE instance = 2"),
        0
    );
    check(|f| f.tags = vec![tag("where", "eu")], &["b1"]);
}

#[test]
fn a_page_ends_early_where_its_payloads_are_large() {
    let hub = Hub::new();
    let output = Json::from_text(format!("\"{}\"", "x".repeat(3 << 19)));
    for key in 1..=3 {
        hub.start(key, &format!("i{key}"));
        let mut end = turn(&hub, key, Status::Completed, Vec::new());
        end.after.output = Some(output.clone());
        hub.does(turn_change(end));
    }
    let query = ListQuery {
        output: true,
        ..all()
    };
    let page = hub.reader().list(&query).unwrap();
    assert_eq!((page.rows.len(), page.more), (2, true));
    assert_eq!(page.rows[0].output.as_ref(), Some(&output));
    let page = hub.reader().list(&all()).unwrap();
    assert_eq!((page.rows.len(), page.more), (3, false));
    assert_eq!(page.rows[0].output, None);
}

#[test]
fn a_prefix_is_taken_literally() {
    let hub = Hub::new();
    let odd = [
        "%",
        "%a",
        "_",
        "a",
        "aa",
        "ab",
        "\u{d7ff}x",
        "\u{e000}",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{10ffff}\u{10ffff}",
        "z\u{10ffff}",
        "\u{fc}",
    ];
    for (key, id) in odd.iter().enumerate() {
        hub.start(key as i64, id);
    }
    for prefix in odd {
        let found = ids(
            &hub,
            &all_of(filter(|f| f.id_prefix = Some(prefix.to_owned()))),
        );
        let expected: Vec<&str> = odd
            .into_iter()
            .rev()
            .filter(|id| id.starts_with(prefix))
            .collect();
        assert_eq!(found, expected, "{prefix:?}");
    }
}

#[test]
fn pages_stay_valid_while_instances_come_and_go() {
    for (order, filter) in [
        (Order::NewestFirst, InstanceFilter::default()),
        (Order::OldestFirst, InstanceFilter::default()),
        (
            Order::NewestFirst,
            filter(|f| f.name = Some("Order".to_owned())),
        ),
        (
            Order::OldestFirst,
            filter(|f| f.id_prefix = Some("i".to_owned())),
        ),
        (
            Order::NewestFirst,
            filter(|f| f.tags = vec![("of".to_owned(), "the first".to_owned())]),
        ),
    ] {
        pages_stay_valid(order, &filter);
    }
}

fn pages_stay_valid(order: Order, filter: &InstanceFilter) {
    let hub = Hub::new();
    for key in 0..40 {
        let mut new = new(key, &format!("i{key}"));
        // Several with the same time.
        new.start.accepted_at = Timestamp(1_000 + key as u64 / 4);
        new.start.tags = vec![("of".to_owned(), "the first".to_owned())];
        hub.does(Change::Start(new));
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = hub
            .reader()
            .list(&ListQuery {
                limit: 7,
                after,
                order,
                filter: filter.clone(),
                ..all()
            })
            .unwrap()
            .rows;
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.key.0));
        seen.extend(page.iter().map(|row| row.id.clone()));
        // The next column precedes the list, in the order in which it is read.
        let key = 1_000 + seen.len() as i64;
        let mut other = new(key, &format!("new{key}"));
        other.start.accepted_at = match order {
            Order::NewestFirst => Timestamp(2_000 + key as u64),
            Order::OldestFirst | Order::EndedFirst => Timestamp(seen.len() as u64),
        };
        hub.does(Change::Start(other));
        let gone = hub.write(Change::All(vec![
            end_of(&hub, last.key.0),
            Change::Purge(vec![last.key]),
        ]));
        assert_eq!(gone.unwrap().effects.gone, [last.key]);
    }
    let mut expected: Vec<String> = (0..40).map(|key| format!("i{key}")).collect();
    if order == Order::NewestFirst {
        expected.reverse();
    }
    assert_eq!(seen, expected, "{order:?} {filter:?}");
}

#[test]
fn ended_instances_are_listed_by_their_ends() {
    let hub = Hub::new();
    for (key, id) in [(1, "first"), (2, "lives"), (3, "failed"), (4, "last")] {
        hub.start(key, id);
    }
    let end = |key: i64, status, at| {
        let mut turn = turn(&hub, key, status, Vec::new());
        turn.turn.at = Timestamp(at);
        hub.does(turn_change(turn));
    };
    end(4, Status::Completed, 900);
    end(1, Status::Completed, 700);
    end(3, Status::Failed, 800);
    let ended = |set: fn(&mut InstanceFilter)| {
        let order = Order::EndedFirst;
        ids(
            &hub,
            &ListQuery {
                order,
                ..all_of(filter(set))
            },
        )
    };
    assert_eq!(ended(|_| {}), ["first", "failed", "last"]);
    assert_eq!(
        ended(|f| f.statuses = vec![Status::Completed, Status::Running]),
        ["first", "last"]
    );
    assert!(ended(|f| f.statuses = vec![Status::Running]).is_empty());
    let between: fn(&mut InstanceFilter) =
        |f| (f.ended_from, f.ended_to) = (Some(Timestamp(800)), Some(Timestamp(900)));
    assert_eq!(ended(between), ["failed"]);
    assert_eq!(ids(&hub, &all_of(filter(between))), ["failed"]);
    let counts = hub.reader().counts(&filter(between)).unwrap();
    assert_eq!(counts, [(Status::Failed, 1)]);
}

#[test]
fn conditions_that_no_instance_can_fulfil_find_none_and_are_no_error() {
    let hub = Hub::new();
    hub.start(1, "a");
    let kinds: [fn(&mut InstanceFilter); 5] = [
        |_| {},
        |f| f.name = Some("Orders".to_owned()),
        |f| f.version = Some("1".to_owned()),
        |f| f.id_prefix = Some("a".to_owned()),
        |f| f.tags = vec![tag("who", "kim")],
    ];
    // Live ones, by when they ended.
    let times: [fn(&mut InstanceFilter); 3] = [
        |f| f.ended_from = Some(Timestamp(1)),
        |f| f.ended_to = Some(Timestamp(1)),
        |f| (f.ended_from, f.updated_to) = (Some(Timestamp(1)), Some(Timestamp(2))),
    ];
    for (kind, time) in kinds.iter().flat_map(|kind| times.map(|time| (kind, time))) {
        let filter = filter(|f| {
            f.statuses = vec![Status::Running, Status::Suspended];
            kind(f);
            time(f);
        });
        assert!(
            hub.reader().counts(&filter).unwrap().is_empty(),
            "{filter:?}"
        );
        for order in [Order::NewestFirst, Order::OldestFirst, Order::EndedFirst] {
            let query = ListQuery {
                order,
                after: Some((Timestamp(5), 1)),
                ..all_of(filter.clone())
            };
            assert!(ids(&hub, &query).is_empty(), "{query:?}");
        }
    }
}

/// The turn that ends an instance.
fn end_of(hub: &Hub, key: i64) -> Change {
    turn_change(turn(hub, key, Status::Completed, Vec::new()))
}

/// Instances that ended long ago.
const PAST: i64 = 20_000;

/// A hub with many ended instances, and 10 live ones, each with a message and a timer.
fn old_hub() -> Hub {
    let hub = Hub::new();
    hub.start(PAST + 1, "live1");
    hub.other()
        .execute_batch(&format!(
            "INSERT INTO instance SELECT n, 'old' || n, name, version, module, 3, execution, execution_id, generation, 0, 0, 0, 5, 0, 0,
                 n, n, n, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, NULL, NULL, 0
             FROM instance, (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {PAST}) SELECT n FROM c);
             INSERT INTO turn SELECT n, 0, 0, 0, 0, NULL, x'0100', x'0100'
             FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {PAST}) SELECT n FROM c);"
        ))
        .unwrap();
    (2..=10).for_each(|n| hub.start(PAST + n, &format!("live{n}")));
    for n in 1..=10 {
        let timer = Event::TimerSet {
            task: TaskId(0),
            fire_at: Timestamp(9_000),
        };
        hub.does(turn_change(turn(
            &hub,
            PAST + n,
            Status::Running,
            vec![timer],
        )));
    }
    hub
}

/// Steps of SQLite's virtual machine that a read takes.
pub(super) fn steps<T>(hub: &Hub, read: impl FnOnce(&Reader) -> T) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    hub.file_reader().on_each_step(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    read(hub.reader());
    hub.file_reader().on_each_step(|| ());
    steps.load(Ordering::Relaxed)
}

#[test]
fn no_question_of_the_engine_walks_the_past() {
    let hub = old_hub();
    let key = InstanceKey(PAST + 3);
    let first = (Timestamp(0), InstanceKey(i64::MIN), i64::MIN);
    let check = |what: &str, max: u64, read: &dyn Fn(&Reader)| {
        let steps = steps(&hub, read);
        assert!(steps > 0 && steps <= max, "{what} takes {steps} steps");
    };
    check("an instance by id", 200, &|reader| {
        drop(reader.instance("live7").unwrap().unwrap())
    });
    check("an instance by key", 200, &|reader| {
        drop(reader.instance_by_key(key).unwrap().unwrap())
    });
    check("an inbox", 200, &|reader| {
        drop(reader.inbox(key, 0, 1_000).unwrap())
    });
    check("turns", 200, &|reader| {
        drop(reader.turns(key, 0, 0, 100).unwrap())
    });
    check("tasks", 200, &|reader| drop(reader.tasks_of(key).unwrap()));
    check("a task", 200, &|reader| {
        drop(reader.task(key, TaskId(0)).unwrap().unwrap())
    });
    check("deliveries", 100, &|reader| {
        assert_eq!(reader.deliveries(key).unwrap(), 0)
    });
    check("what is due", 1_000, &|reader| {
        assert_eq!(reader.due_tasks(first, 1_000).unwrap().len(), 10)
    });
    check("what is ready", 1_000, &|reader| {
        assert_eq!(
            reader
                .ready_activities((InstanceKey(0), 0), 1_000)
                .unwrap()
                .len(),
            0
        )
    });
    check("who has messages", 1_000, &|reader| {
        assert_eq!(reader.with_messages(Timestamp(1)).unwrap().len(), 10)
    });
    check("who is suspended", 200, &|reader| {
        assert_eq!(reader.suspended().unwrap().len(), 0)
    });
    check("the last key", 200, &|reader| {
        assert!(reader.last_key().unwrap().0 > PAST)
    });
    check("garbage", 100, &|reader| {
        assert!(!reader.has_garbage().unwrap())
    });
    check("commands", 100, &|reader| {
        drop(reader.unanswered(10).unwrap())
    });
}

#[test]
fn no_list_of_the_present_walks_the_past() {
    let hub = old_hub();
    let check = |what: &str, max: u64, found: usize, query: ListQuery| {
        let steps = steps(&hub, |reader| {
            assert_eq!(reader.list(&query).unwrap().rows.len(), found, "{what}")
        });
        assert!(steps <= max, "{what} takes {steps} steps");
    };
    let page = || ListQuery {
        limit: 10,
        ..ListQuery::default()
    };
    check("the newest", 2_000, 10, page());
    let later = ListQuery {
        after: Some((Timestamp(500), 500)),
        ..page()
    };
    check("a later page", 2_000, 10, later);
    let ended = || ListQuery {
        order: Order::EndedFirst,
        ..page()
    };
    check("those that ended first", 2_000, 10, ended());
    let later = ListQuery {
        after: Some((Timestamp(500), 500)),
        ..ended()
    };
    check("those that ended next", 2_000, 10, later);
    let of_a_day = filter(|f| {
        f.statuses = vec![Status::Completed];
        (f.ended_from, f.ended_to) = (Some(Timestamp(9_000)), Some(Timestamp(9_005)));
    });
    let of_a_day = ListQuery {
        filter: of_a_day,
        ..ended()
    };
    check("those that ended on a day", 2_000, 5, of_a_day);
    let check = |what, max, found, set: fn(&mut InstanceFilter)| {
        let filter = filter(set);
        check(what, max, found, ListQuery { filter, ..page() });
    };
    check("the live", 2_000, 10, |f| {
        f.statuses = vec![Status::Running]
    });
    check("the failed", 500, 0, |f| f.statuses = vec![Status::Failed]);
    check("the live of several kinds", 4_000, 10, |f| {
        f.statuses = vec![Status::Pending, Status::Running, Status::Suspended]
    });
    check("a page of the ended", 2_000, 10, |f| {
        f.statuses = vec![Status::Completed]
    });
    check("the ended", 5_000, 10, |f| {
        f.statuses = vec![Status::Completed, Status::Failed, Status::Terminated]
    });
    check("those of a name", 2_000, 10, |f| f.name = text("Order"));
    check("those of an unknown name", 500, 0, |f| {
        f.name = text("Gone")
    });
    check("those with a prefix", 4_000, 10, |f| {
        f.id_prefix = text("live")
    });
    check("old ones with a prefix", 4_000, 10, |f| {
        f.id_prefix = text("old1999")
    });
    check("those of a day", 2_000, 5, |f| {
        (f.created_from, f.created_to) = (Some(Timestamp(5_000)), Some(Timestamp(5_005)))
    });
}
