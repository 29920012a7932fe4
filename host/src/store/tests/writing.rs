//! The writer: which changes share a transaction, and what happens to the others if one fails.

use std::sync::atomic::Ordering;

use super::*;
use perennial_core::Command;

/// Blocks the writer while `queue` fills its queue. Returns the results and the number of transactions.
fn while_it_waits(hub: &Hub, changes: Vec<Change>) -> (Vec<Result<Outcome, StoreError>>, u64) {
    let other = hub.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = hub.owned.writer.counts().commits.load(Ordering::Relaxed);
    // It takes this one alone, and waits for the other process.
    let first = hub.submit(Change::Answer(Reply::Done));
    while hub.owned.writer.queued() > 0 {
        std::thread::yield_now();
    }
    let told: Vec<_> = changes
        .into_iter()
        .map(|change| hub.submit(change))
        .collect();
    other.execute_batch("COMMIT").unwrap();
    first.recv().unwrap().unwrap();
    let results = told.into_iter().map(|told| told.recv().unwrap()).collect();
    (
        results,
        hub.owned.writer.counts().commits.load(Ordering::Relaxed) - before - 1,
    )
}

#[test]
fn everything_that_is_queued_shares_one_transaction() {
    let hub = Hub::new();
    let starts = (0..100)
        .map(|n| Change::Start(new(n, &format!("i{n}"))))
        .collect();
    let (results, commits) = while_it_waits(&hub, starts);
    assert!(
        results
            .into_iter()
            .all(|result| result.unwrap().reply == Reply::Done)
    );
    assert_eq!(
        (commits, hub.count("SELECT count(*) FROM instance")),
        (1, 100)
    );
}

#[test]
fn a_job_that_fails_takes_nobody_with_it() {
    let hub = Hub::new();
    hub.start(1, "a");
    let mut stale = turn(&hub, 1, Status::Running, Vec::new());
    stale.expected.next_event = 5;
    let good = turn(&hub, 1, Status::Running, Vec::new());
    let sent = Event::EventSent {
        instance_id: "i3".to_owned(),
        name: "go".to_owned(),
        data: None,
    };
    let mut torn = turn(
        &hub,
        1,
        Status::Running,
        vec![
            sent,
            Event::TimerSet {
                task: TaskId(0),
                fire_at: Timestamp(1),
            },
        ],
    );
    torn.turn.produced.push(torn.turn.produced[1].clone());
    torn.expected.next_event = 1;
    torn.turn.number = 1;
    let mut changes: Vec<Change> = (2..10)
        .map(|n| Change::Start(new(n, &format!("i{n}"))))
        .collect();
    changes.insert(3, turn_change(stale));
    changes.insert(5, turn_change(good));
    changes.insert(8, turn_change(torn));
    let (results, commits) = while_it_waits(&hub, changes);
    let failed: Vec<usize> = (0..results.len())
        .filter(|n| results[*n].is_err())
        .collect();
    assert_eq!((failed, commits), (vec![3, 8], 1));
    assert_eq!(hub.count("SELECT count(*) FROM instance"), 9);
    assert_eq!(
        hub.inbox(3).len(),
        1,
        "what the failed one had sent before it failed is not there"
    );
    // The effects of changes that ran twice occur once.
    assert!(
        results
            .into_iter()
            .flatten()
            .all(|outcome| outcome.effects.woken.len() <= 1)
    );
}

#[test]
fn an_owner_that_was_replaced_writes_nothing() {
    let hub = Hub::new();
    hub.start(1, "a");
    hub.other()
        .execute_batch("UPDATE hub SET owner_epoch = owner_epoch + 1")
        .unwrap();
    let before = hub.dump();
    for n in 2..4 {
        assert!(matches!(
            hub.write(Change::Start(new(n, "b"))),
            Err(StoreError::Fenced)
        ));
    }
    assert_eq!(hub.dump(), before);
    // Even if its epoch comes back: the owner was replaced.
    hub.other()
        .execute_batch("UPDATE hub SET owner_epoch = owner_epoch - 1")
        .unwrap();
    assert!(matches!(
        hub.write(Change::Start(new(4, "b"))),
        Err(StoreError::Fenced)
    ));
}

#[test]
fn a_commit_that_reports_an_error_is_looked_up() {
    let hub = Hub::new();
    hub.owned
        .writer
        .faults()
        .unheard
        .store(1, Ordering::Release);
    hub.start(1, "a");
    assert_eq!(hub.count("SELECT count(*) FROM instance"), 1);
    hub.owned.writer.faults().lost.store(1, Ordering::Release);
    assert!(matches!(
        hub.write(Change::Start(new(2, "b"))),
        Err(StoreError::Database(_))
    ));
    assert_eq!(hub.count("SELECT count(*) FROM instance"), 1);
    hub.start(3, "c");
    assert_eq!(hub.count("SELECT commits FROM hub"), 2);
}

#[test]
fn what_is_queued_is_written_before_the_writer_ends() {
    let hub = Hub::new();
    let told: Vec<_> = (0..50)
        .map(|n| hub.submit(Change::Start(new(n, &format!("i{n}")))))
        .collect();
    hub.owned
        .writer
        .close(std::time::Instant::now() + std::time::Duration::from_secs(60));
    assert!(told.into_iter().all(|told| told.recv().unwrap().is_ok()));
    assert!(matches!(
        hub.write(Change::Start(new(99, "late"))),
        Err(StoreError::Closed)
    ));
    assert_eq!(hub.count("SELECT count(*) FROM instance"), 50);
    let log = crate::store::with_suffix(&hub.path(), "-wal");
    assert_eq!(
        std::fs::metadata(log).map_or(0, |log| log.len()),
        0,
        "one file is the whole hub"
    );
}

/// Raises an event for an instance as the answer to a command.
fn raised(hub: &Hub, id: &str, token: &str) -> Result<Outcome, StoreError> {
    let (tell, told) = mpsc::channel();
    let change = Change::Deliver {
        id: id.to_owned(),
        command: Command::RaiseEvent,
        message: event("1"),
    };
    let write = Write::new(change, Timestamp(5), move |_, result| {
        tell.send(result).unwrap()
    });
    hub.owned.writer.submit(write.answering(token.to_owned()));
    told.recv().unwrap()
}

#[test]
fn a_command_that_was_taken_back_takes_no_effect() {
    let hub = Hub::new();
    hub.start(1, "a");
    crate::store::sqlite::owned::append_command(&hub.path(), "t", &[1], Timestamp(5)).unwrap();
    assert!(crate::store::sqlite::owned::take_back_command(&hub.path(), "t").unwrap());
    // The owner had already read it.
    let result = raised(&hub, "a", "t");
    assert!(matches!(result, Err(StoreError::TakenBack)), "{result:?}");
    let delivered = "SELECT count(*) FROM inbox WHERE instance = 1";
    let before = hub.count(delivered);
    // An answered command cannot be withdrawn.
    crate::store::sqlite::owned::append_command(&hub.path(), "u", &[1], Timestamp(5)).unwrap();
    raised(&hub, "a", "u").unwrap();
    assert_eq!(hub.count(delivered), before + 1);
    assert!(!crate::store::sqlite::owned::take_back_command(&hub.path(), "u").unwrap());
}

#[test]
fn an_answer_goes_down_with_what_it_answers() {
    let hub = Hub::new();
    crate::store::sqlite::owned::append_command(&hub.path(), "t", &[1], Timestamp(5)).unwrap();
    let reply = raised(&hub, "nobody", "t").unwrap().reply;
    let answer = hub.reader().answer("t").unwrap().unwrap();
    assert_eq!(
        crate::store::decode::<Reply>(&answer, "an answer").unwrap(),
        reply
    );
    assert!(hub.reader().unanswered(10).unwrap().is_empty());
    // Unread answers are deleted a day later.
    let later = Write::new(
        Change::CountDeliveries(Vec::new()),
        Timestamp(100_000_000),
        |_, _| {},
    );
    hub.owned.writer.submit(later);
    hub.does(Change::Answer(Reply::Done));
    assert_eq!(hub.count("SELECT count(*) FROM command"), 0);
}
