//! Lists, and how much work it is to find something among many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::ListQuery;

fn ids(hub: &Hub, query: &ListQuery) -> Vec<String> {
    hub.reader()
        .list(query)
        .unwrap()
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
        ListQuery {
            id_prefix: Some("a".to_owned()),
            ..all()
        },
        &["a2", "a1"],
    );
    check(
        ListQuery {
            id_prefix: Some(String::new()),
            limit: 1,
            ..all()
        },
        &["b2"],
    );
    check(
        ListQuery {
            name: Some("Order".to_owned()),
            ..all()
        },
        &["b2", "b1", "a1"],
    );
    check(
        ListQuery {
            statuses: vec![Status::Completed],
            ..all()
        },
        &["b1"],
    );
    check(
        ListQuery {
            statuses: vec![Status::Completed, Status::Pending],
            ..all()
        },
        &["b2", "b1", "a2", "a1"],
    );
    check(
        ListQuery {
            created_from: Some(Timestamp(200)),
            ..all()
        },
        &["b2", "b1", "a2"],
    );
    check(
        ListQuery {
            created_to: Some(Timestamp(200)),
            ..all()
        },
        &["a1"],
    );
    check(
        ListQuery {
            created_from: Some(Timestamp(100)),
            created_to: Some(Timestamp(300)),
            name: Some("Ship".to_owned()),
            ..all()
        },
        &["a2"],
    );
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
            &ListQuery {
                id_prefix: Some(prefix.to_owned()),
                ..all()
            },
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
    let hub = Hub::new();
    for key in 0..40 {
        let mut new = new(key, &format!("i{key}"));
        // Several at the same time.
        new.start.accepted_at = Timestamp(key as u64 / 4);
        hub.does(Change::Start(new));
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = hub
            .reader()
            .list(&ListQuery {
                limit: 7,
                after,
                ..all()
            })
            .unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.key.0));
        seen.extend(page.iter().map(|row| row.id.clone()));
        let key = 1_000 + seen.len() as i64;
        let mut newer = new(key, &format!("new{key}"));
        newer.start.accepted_at = Timestamp(key as u64);
        hub.does(Change::Start(newer));
        hub.other()
            .execute(
                &format!("DELETE FROM instance WHERE key = {}", last.key.0),
                [],
            )
            .unwrap();
    }
    assert_eq!(
        seen,
        (0..40)
            .rev()
            .map(|key| format!("i{key}"))
            .collect::<Vec<_>>()
    );
}

/// Instances that ended long ago.
const PAST: i64 = 20_000;

/// A hub with a long past and a short present: 10 live instances, each with a message and a timer.
fn old_hub() -> Hub {
    let hub = Hub::new();
    hub.start(PAST + 1, "live1");
    hub.other()
        .execute_batch(&format!(
            "INSERT INTO instance SELECT n, 'old' || n, name, version, module, 3, execution, execution_id, generation, 0, 0, 0, 5, 0, 0,
                 n, n, n, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
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
fn steps<T>(hub: &Hub, read: impl FnOnce(&Reader) -> T) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    hub.reader().on_each_step(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    read(hub.reader());
    hub.reader().on_each_step(|| ());
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
    let check = |what: &str, max: u64, query: ListQuery, found: usize| {
        let steps = steps(&hub, |reader| {
            assert_eq!(reader.list(&query).unwrap().len(), found, "{what}")
        });
        assert!(steps <= max, "{what} takes {steps} steps");
    };
    let page = || ListQuery {
        limit: 10,
        ..ListQuery::default()
    };
    check("the newest", 2_000, page(), 10);
    check(
        "a later page",
        2_000,
        ListQuery {
            after: Some((Timestamp(500), 500)),
            ..page()
        },
        10,
    );
    check(
        "the live",
        2_000,
        ListQuery {
            statuses: vec![Status::Running],
            ..page()
        },
        10,
    );
    check(
        "the failed",
        500,
        ListQuery {
            statuses: vec![Status::Failed],
            ..page()
        },
        0,
    );
    check(
        "the live of several kinds",
        4_000,
        ListQuery {
            statuses: vec![Status::Pending, Status::Running, Status::Suspended],
            ..page()
        },
        10,
    );
    check(
        "a page of the ended",
        2_000,
        ListQuery {
            statuses: vec![Status::Completed],
            ..page()
        },
        10,
    );
    check(
        "the ended",
        5_000,
        ListQuery {
            statuses: vec![Status::Completed, Status::Failed, Status::Terminated],
            ..page()
        },
        10,
    );
    check(
        "those of a name",
        2_000,
        ListQuery {
            name: Some("Order".to_owned()),
            ..page()
        },
        10,
    );
    check(
        "those of an unknown name",
        500,
        ListQuery {
            name: Some("Gone".to_owned()),
            ..page()
        },
        0,
    );
    check(
        "those with a prefix",
        4_000,
        ListQuery {
            id_prefix: Some("live".to_owned()),
            ..page()
        },
        10,
    );
    check(
        "old ones with a prefix",
        4_000,
        ListQuery {
            id_prefix: Some("old1999".to_owned()),
            ..page()
        },
        10,
    );
    check(
        "those of a day",
        2_000,
        ListQuery {
            created_from: Some(Timestamp(5_000)),
            created_to: Some(Timestamp(5_005)),
            ..page()
        },
        5,
    );
}
