//! What the overview of a hub counts.

use perennial_core::Failure;

use super::lists::steps;
use super::plans::hex;
use super::*;
use crate::store::queries::found::{BucketCounts, Window};
use crate::store::sqlite::rows::overview::{COUNTED_MAX, FAILURES_MAX, TASKS_MAX};

const WINDOW: Window = Window {
    from: Timestamp(1_000),
    to: Timestamp(1_250),
    bucket: 100,
};

/// Adds instances of a name, one in each millisecond from `first` on, all of which ended half a second later if they did.
fn add(hub: &Hub, name: &str, status: u8, first: u64, count: u64) {
    let failure = hex(&Failure::permanent("CardDeclined", "no"));
    hub.other()
        .execute_batch(&format!(
            "INSERT INTO instance (key, id, name, status, execution, execution_id, generation, next_event, turns, history_bytes, inbox_next,
                 returned, deliveries, created_at, updated_at, failure)
             SELECT (SELECT coalesce(max(key), 0) FROM instance) + n, '{name}{status}-{first}-' || n, '{name}', {status}, 0, '', 0, 0, 0, 0, 0, 0,
                 0, {first} + n - 1, {first} + n + 499, iif({status} = 4, {failure}, NULL)
             FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c);"
        ))
        .unwrap();
}

#[test]
fn instances_are_counted_in_the_buckets_in_which_they_began_and_ended() {
    let hub = Hub::new();
    assert_eq!(
        hub.reader().bucket_counts(WINDOW).unwrap(),
        [BucketCounts::default(); 3]
    );
    add(&hub, "Order", 1, 999, 2);
    add(&hub, "Order", 3, 1_099, 3);
    add(&hub, "Order", 3, 600, 1);
    add(&hub, "Order", 4, 650, 2);
    add(&hub, "Order", 5, 749, 2);
    let bucket = |started, [completed, failed, terminated]: [u64; 3]| BucketCounts {
        started,
        completed,
        failed,
        terminated,
        is_partial: false,
    };
    assert_eq!(
        hub.reader().bucket_counts(WINDOW).unwrap(),
        [
            // Created at 1,000 and at 1,099; ended at 1,100 and later, 1,150, and 1,249.
            bucket(2, [0, 0, 0]),
            bucket(2, [1, 2, 0]),
            bucket(0, [0, 0, 1]),
        ]
    );
    let kinds = hub.reader().failure_kinds(WINDOW, 10).unwrap();
    assert_eq!(kinds.counts, [("CardDeclined".to_owned(), 2)]);
    assert!(!kinds.is_partial);
}

#[test]
fn what_is_too_much_is_counted_in_part_and_is_cheap() {
    let hub = Hub::new();
    let many = COUNTED_MAX * 5;
    add(&hub, "Order", 4, 0, many);
    let window = Window {
        from: Timestamp(0),
        to: Timestamp(many),
        bucket: many / 10,
    };
    let mut counts = Vec::new();
    let cost = steps(&hub, |reader| {
        counts = reader.bucket_counts(window).unwrap()
    });
    assert!(cost <= COUNTED_MAX * 20, "{cost} steps");
    let counted: u64 = counts.iter().map(|one| one.started + one.failed).sum();
    assert_eq!(counted, COUNTED_MAX);
    let partial: Vec<bool> = counts.iter().map(|one| one.is_partial).collect();
    assert!(
        partial[0] && !partial[9] && partial.is_sorted_by(|a, b| a >= b),
        "{partial:?}"
    );
    let mut kinds = Default::default();
    let cost = steps(&hub, |reader| {
        kinds = reader.failure_kinds(window, 10).unwrap()
    });
    assert!(cost <= u64::from(FAILURES_MAX) * 30, "{cost} steps");
    assert_eq!(
        kinds.counts,
        [("CardDeclined".to_owned(), FAILURES_MAX.into())]
    );
    assert!(kinds.is_partial);
    for plan in hub.file_reader().overview_plans().unwrap() {
        let is_search = plan.starts_with("SEARCH instance USING COVERING INDEX");
        let is_outer = plan.starts_with("CO-ROUTINE") || plan.starts_with("SCAN (");
        assert!(is_search || is_outer, "{plan}");
    }
}

#[test]
fn live_instances_are_counted_by_name() {
    let hub = Hub::new();
    add(&hub, "Order", 1, 0, 3);
    add(&hub, "Ship", 2, 0, 4);
    add(&hub, "Ship", 0, 0, 1);
    add(&hub, "Over", 3, 0, 9);
    let named = |status, count| vec![(status, count)];
    let names = hub.reader().live_names(2).unwrap();
    let ship = vec![(Status::Pending, 1), (Status::Suspended, 4)];
    assert_eq!(
        names.counts,
        [
            ("Ship".to_owned(), ship),
            ("Order".to_owned(), named(Status::Running, 3))
        ]
    );
    assert!(!names.is_partial);
    assert_eq!(hub.reader().live_names(1).unwrap().counts.len(), 1);
}

#[test]
fn open_activities_are_counted_and_those_with_the_most_attempts_found() {
    let hub = Hub::new();
    let task = |first: u32, count: u32, kind: u8, due: &str, attempt: u32, failure: &str| {
        hub.other()
            .execute_batch(&format!(
                "INSERT INTO task (instance, task, kind, execution, generation, turn, scheduled_in, due, attempt, deliveries, failure)
                 SELECT 1, {first} + n, {kind}, 0, 0, 0, 0, {due}, {attempt}, 0, {failure}
                 FROM (WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < {count}) SELECT n FROM c);"
            ))
            .unwrap();
    };
    task(0, 5, 0, "NULL", 1, "NULL");
    task(10, 2, 0, "900", 3, "x'01'");
    task(20, 1, 0, "1100", 9, "x'01'");
    task(30, 4, 1, "1100", 1, "NULL");
    let open = hub
        .reader()
        .open_activities(Some(Timestamp(1_000)), 2)
        .unwrap();
    assert_eq!((open.all, open.due_later, open.is_partial), (8, 1, false));
    let most: Vec<u32> = open.most_retried.iter().map(|(_, task)| task.0).collect();
    assert_eq!(most, [20, 10]);
    // A process that does not know the clock of the host takes all of them as due later.
    assert_eq!(hub.reader().open_activities(None, 2).unwrap().due_later, 3);
    task(100, TASKS_MAX, 0, "NULL", 1, "NULL");
    let open = hub.reader().open_activities(None, 2).unwrap();
    assert!(open.is_partial && open.all < u64::from(TASKS_MAX));
}
