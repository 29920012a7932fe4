//! Reads of PostgreSQL find what those of SQLite do, on the same rows.

use std::fmt::Debug;

use super::lists::filter;
use super::postgres_rows::{Random, copied, key_of, mixed_hub};
use super::*;
use crate::store::postgres::reads::PostgresReader;
use crate::store::postgres::reads::testing::Filled;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::types::OldVersions;
use crate::store::{InstanceFilter, ListQuery, Order, TurnsQuery, WaitFilter, WaitKind, Window};

/// Compares what two stores found.
fn same<T: Debug, E: Debug>(what: impl Debug, [sqlite, postgres]: [Result<T, E>; 2]) {
    let [sqlite, postgres] = [format!("{sqlite:?}"), format!("{postgres:?}")];
    if sqlite != postgres {
        let at = sqlite
            .bytes()
            .zip(postgres.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let near = |text: &str| {
            String::from_utf8_lossy(
                &text.as_bytes()
                    [at.saturating_sub(300).min(text.len())..(at + 300).min(text.len())],
            )
            .into_owned()
        };
        panic!(
            "{what:?}\nSQLite:     {}\nPostgreSQL: {}",
            near(&sqlite),
            near(&postgres)
        );
    }
}

macro_rules! same {
    ($of:expr, $name:ident($($arg:expr),*)) => {
        same((stringify!($name), $(&$arg),*), [$of.0.$name($($arg),*), $of.1.$name($($arg),*)])
    };
}

#[expect(clippy::too_many_lines, reason = "it is a list of conditions")]
fn some_filter(random: &mut Random) -> InstanceFilter {
    let mut chance = |one_in: u64| random.below(one_in) == 0;
    let wanted = [
        chance(3),
        chance(4),
        chance(4),
        chance(4),
        chance(4),
        chance(5),
        chance(5),
        chance(6),
        chance(6),
        chance(6),
        chance(6),
    ];
    let time = |random: &mut Random| Some(Timestamp(990 + random.below(400)));
    let mut found = InstanceFilter::default();
    if wanted[0] {
        let statuses = Status::ALL.into_iter().filter(|_| random.below(3) == 0);
        found.statuses = statuses.collect();
    }
    if wanted[1] {
        found.id_prefix = Some(
            ["", "a", "a%1", "\u{fc}", "\u{10ffff}", "zz", "a-"][random.below(7) as usize]
                .to_owned(),
        );
    }
    if wanted[2] {
        found.name = Some(["Order", "Gone", "\u{fc}ber"][random.below(3) as usize].to_owned());
    }
    if wanted[3] {
        found.version = Some(["1", "2", "3"][random.below(3) as usize].to_owned());
    }
    if wanted[4] {
        let all = [("team", "a"), ("unit", "\u{fc}"), ("none", "x")];
        found.tags = (0..=random.below(2))
            .map(|_| *random.of(&all))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
    }
    if wanted[5] {
        found.created_from = time(random);
    }
    if wanted[6] {
        found.created_to = time(random);
    }
    if wanted[7] {
        found.ended_from = time(random);
    }
    if wanted[8] {
        found.ended_to = time(random);
    }
    if wanted[9] {
        found.updated_from = time(random);
    }
    if wanted[10] {
        found.updated_to = time(random);
    }
    match random.below(8) {
        0 => found.failure_kind = Some("Timeout".to_owned()),
        1 => found.waits_for = Some((*random.of(&WaitKind::ALL)).into()),
        2 => {
            found.waits_for = Some(
                random
                    .of(&[
                        WaitFilter::event("GO"),
                        WaitFilter::answer("price"),
                        WaitFilter::request("x"),
                    ])
                    .clone(),
            )
        }
        _ => {}
    }
    found
}

pub(super) fn some_list(random: &mut Random) -> ListQuery {
    ListQuery {
        filter: some_filter(random),
        order: *random.of(&[Order::NewestFirst, Order::OldestFirst, Order::EndedFirst]),
        after: (random.below(3) == 0).then(|| {
            (
                Timestamp(990 + random.below(300)),
                key_of(random.below(300)),
            )
        }),
        limit: [1, 3, 20, 1_000][random.below(4) as usize],
        output: random.below(2) == 0,
    }
}

/// All reads of lists, with arguments that are made at random.
fn lists_agree(of: (&FileReader, &Filled), rounds: u64) {
    let of = (of.0, &of.1.reader);
    let mut random = Random(99);
    for _ in 0..rounds {
        let mut query = some_list(&mut random);
        same!(of, counts(&query.filter));
        for _ in 0..4 {
            same!(of, list(&query));
            let page = of.0.brief(&query).unwrap();
            same!(of, brief(&query));
            query.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
    }
    overviews_agree(of);
}

pub(super) fn overviews_agree(of: (&FileReader, &PostgresReader)) {
    for kind in WaitKind::ALL {
        same!(of, counts(&filter(|f| f.waits_for = Some(kind.into()))));
    }
    let nul = filter(|f| f.name = Some("a\0b".to_owned()));
    same!(of, counts(&nul));
    same!(of, wait_counts());
    for (from, to, bucket) in [(900, 2_000, 10), (1_000, 1_100, 1), (0, 5_000, 5_000)] {
        let window = Window {
            from: Timestamp(from),
            to: Timestamp(to),
            bucket,
        };
        same!(of, bucket_counts(window));
        same!(of, failure_kinds(window, 10));
    }
    for now in [None, Some(Timestamp(1_200))] {
        same!(of, open_activities(now, 7));
    }
    same!(of, live_names(3));
}

pub(super) fn reads_of_instances_agree(
    of: (&FileReader, &Filled),
    keys: impl Iterator<Item = u64>,
) {
    let of = (of.0, &of.1.reader);
    for key in keys.map(key_of).map(InstanceKey) {
        let Some(row) = of.0.instance_by_key(key).unwrap() else {
            same!(of, instance_by_key(key));
            continue;
        };
        same!(of, instance_by_key(key));
        same!(of, instance(&row.id));
        for (from, limit) in [(0, 1), (1, 100), (0, 0), (0, 2)] {
            same!(of, inbox(key, from, limit));
        }
        same!(of, inbox_commands(key, 1));
        same!(of, terminate_in(key));
        if let Ok(found) = of.0.cancel_in(key) {
            assert_eq!(
                format!("{found:?}"),
                format!("{:?}", of.1.cancel_in(key).unwrap())
            );
        }
        same!(of, rewinds(&row));
        #[cfg(feature = "http")]
        same!(of, first_cut(&row, 1));
        same!(of, execution_timeout(key));
        same!(of, deliveries(key));
        same!(of, tasks_of(key));
        same!(of, task(key, TaskId(1)));
        same!(of, first_tasks(key, 2));
        for limit in [1, 3, 100] {
            same!(of, live_children(key, limit));
            same!(of, ended_children(key, InstanceKey(key_of(40)), limit));
            same!(of, child_ids(key, limit));
            same!(of, requests(key, limit));
            same!(of, asked_by(key, row.position(), limit));
        }
        same!(of, values(key));
        same!(of, value(&row.id, "v1"));
        same!(of, request(&row.id, "r7-0"));
        for event in [0, 3, 7, 11, 99] {
            same!(of, turn_with_event(&row, event));
        }
        for (before_rewind, bytes_max) in [
            (None, 20),
            (None, usize::MAX),
            (Some(0), usize::MAX),
            (Some(1), 30),
            (Some(2), 1),
        ] {
            let asked = TurnsQuery {
                key,
                execution: 0,
                before_rewind,
                from: 1,
                limit: 4,
                bytes_max,
            };
            same!(of, turns_of(&asked));
        }
    }
}

pub(super) fn reads_of_the_hub_agree(of: (&FileReader, &Filled)) {
    let of = (of.0, &of.1.reader);
    let none = ("no\0", "such");
    same!(of, instance(none.0));
    same!(of, value(none.0, none.1));
    same!(of, request(none.1, none.0));
    for (id, key, live) in [
        ("p1", None, true),
        ("p1", Some(InstanceKey(key_of(3))), false),
        ("p0", None, false),
    ] {
        same!(of, left_behind(id, key, live, 5));
    }
    same!(of, with_messages(Timestamp(1_000)));
    same!(of, suspended());
    for (limit, after) in [
        (5, (InstanceKey(0), 0)),
        (100, (InstanceKey(key_of(50)), 1)),
    ] {
        same!(of, ready_activities(after, limit));
        for at in [0, 1_000, 1_200] {
            same!(of, due_tasks((Timestamp(at), after.0, after.1), limit));
        }
    }
    same!(of, tasks_set_after(Timestamp(1_100)));
    #[cfg(feature = "http")]
    for (limit, bytes_max) in [(10, usize::MAX), (1_000, 100_000), (1_000, 1)] {
        same!(of, updated_after((Timestamp(1_050), 5), limit, bytes_max));
    }
    for status in Status::ALL {
        same!(of, ended_by(status, Timestamp(1_200), 20));
        same!(of, first_end(status));
    }
    same!(of, last_commit());
    same!(of, created_at());
    same!(of, secret());
    same!(of, has_garbage());
    same!(of, names());
    same!(of, digests());
    same!(of, modules());
    same!(of, stored_modules(None::<Digest>));
    for digest in of.0.digests().unwrap() {
        same!(of, component(digest));
        same!(of, component_undamaged(digest));
        same!(of, grants(digest));
        same!(of, defines(digest, "Order"));
        same!(of, stored_modules(Some(digest)));
    }
    for text in ["shop", "AB00ab", "ab0", "none", "6e340b"] {
        same!(of, find_module(text));
    }
    same!(of, collectable(OldVersions::Keep));
    same!(of, collectable(OldVersions::Forget));
    same!(of, keys());
    same!(of, unanswered(3));
    same!(of, answer("t0"));
    same!(of, retention());
    same!(of, worker_names());
    let [file, other] = [of.0.tally().unwrap(), of.1.tally().unwrap()];
    assert_eq!(
        file,
        crate::store::queries::found::Tally {
            pages: file.pages,
            ..other
        }
    );
}

/// No statement reads a whole table of rows that become many.
fn plans_are_good(of: &Filled) {
    let statements = of.prepared().into_iter().collect();
    for (sql, plan) in of.plans_of(&statements) {
        for table in ["instance", "turn", "task", "inbox", "request"] {
            let seq = format!("Seq Scan on {table} ");
            assert!(!plan.contains(&seq), "{sql}\n{plan}");
        }
    }
}

#[test]
fn reads_of_postgres_are_those_of_sqlite() {
    let hub = mixed_hub(600);
    let Some(copied) = copied(&hub) else { return };
    let of = (hub.file_reader(), &copied);
    reads_of_the_hub_agree(of);
    reads_of_instances_agree(of, (1..=40).chain([5_000]));
    lists_agree(of, 300);
    plans_are_good(&copied);
    copied.sql("ANALYZE");
    lists_agree(of, 50);
    plans_are_good(&copied);
}

#[test]
fn what_is_bounded_is_bounded_alike() {
    // More than a page walks, in the tests.
    let hub = mixed_hub(5_000);
    let Some(copied) = copied(&hub) else { return };
    lists_agree((hub.file_reader(), &copied), 60);
}

#[test]
fn an_empty_hub_has_good_plans_too() {
    let hub = Hub::new();
    let Some(copied) = copied(&hub) else { return };
    let of = (hub.file_reader(), &copied);
    reads_of_the_hub_agree(of);
    lists_agree(of, 100);
    plans_are_good(&copied);
}
