//! A hub in memory with several owners.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};

use perennial_core::{Start, Timestamp};

use crate::store::memory::shared::{MemoryHub, MemoryOwner};
use crate::store::tests::new;
use crate::store::{Change, NewInstance, Outcome, Reply, StoreError, Write, Writer};

type Told = Receiver<Result<Outcome, StoreError>>;

fn hub() -> (MemoryHub, MemoryOwner) {
    let hub = MemoryHub::new(Timestamp(1_000));
    let owner = hub.take_over().unwrap();
    (hub, owner)
}

/// The start of an instance that a remote worker runs.
fn start(key: i64, id: &str) -> Change {
    let new = new(key, id);
    let start = Start {
        module: None,
        ..*new.start
    };
    Change::Start(NewInstance {
        start: Box::new(start),
        ..new
    })
}

fn job(change: Change, token: Option<&str>) -> (Write, Told) {
    let (tell, told) = mpsc::channel();
    let write = Write::new(change, Timestamp(2_000), move |_, result| {
        tell.send(result).unwrap();
    });
    let write = match token {
        Some(token) => write.answering(token.to_owned()),
        None => write,
    };
    (write, told)
}

fn submit(writer: &Writer, change: Change) -> Told {
    let (write, told) = job(change, None);
    writer.submit(write);
    told
}

fn write(owner: &MemoryOwner, change: Change) -> Result<Reply, StoreError> {
    let result = submit(&owner.writer, change).recv().unwrap();
    result.map(|outcome| outcome.reply)
}

fn has(hub: &MemoryHub, id: &str) -> bool {
    hub.reader().instance(id).unwrap().is_some()
}

#[test]
fn an_owner_that_was_replaced_commits_nothing_more() {
    let (hub, first) = hub();
    assert_eq!(write(&first, start(1, "a")).unwrap(), Reply::Done);
    let second = hub.take_over().unwrap();
    assert!(second.epoch > first.epoch);
    let refused = write(&first, start(2, "b"));
    assert!(matches!(refused, Err(StoreError::Fenced)));
    assert_eq!(write(&second, start(3, "c")).unwrap(), Reply::Done);
    assert!(matches!(
        write(&first, start(4, "d")),
        Err(StoreError::Fenced)
    ));
    assert!(has(&hub, "a") && !has(&hub, "b") && has(&hub, "c") && !has(&hub, "d"));
    // Keys of different owners are far apart.
    assert_eq!(hub.reader().last_key().unwrap().0, 2 << 40);
}

#[test]
fn a_commit_that_comes_late_finds_the_next_owner() {
    let (hub, first) = hub();
    first.gates.commit.shut();
    let late = submit(&first.writer, start(1, "a"));
    first.gates.commit.await_arrival();
    let second = hub.take_over().unwrap();
    assert_eq!(write(&second, start(2, "b")).unwrap(), Reply::Done);
    first.gates.commit.open();
    assert!(matches!(late.recv().unwrap(), Err(StoreError::Fenced)));
    assert!(!has(&hub, "a") && has(&hub, "b"));
}

#[test]
fn what_became_of_a_commit_is_looked_up() {
    let (hub, owner) = hub();
    owner.writer.faults().unheard.store(1, Ordering::Release);
    assert_eq!(write(&owner, start(1, "a")).unwrap(), Reply::Done);
    assert!(has(&hub, "a"));
    owner.writer.faults().lost.store(1, Ordering::Release);
    let lost = write(&owner, start(2, "b"));
    assert!(matches!(lost, Err(StoreError::File { .. })), "{lost:?}");
    assert!(!has(&hub, "b"));
    assert_eq!(write(&owner, start(2, "b")).unwrap(), Reply::Done);
    assert!(has(&hub, "b"));
}

#[test]
fn a_commit_that_nobody_can_look_up_any_more_may_have_happened() {
    let (hub, first) = hub();
    first.writer.faults().unheard.store(1, Ordering::Release);
    first.gates.look_up.shut();
    let unheard = submit(&first.writer, start(1, "a"));
    first.gates.look_up.await_arrival();
    let second = hub.take_over().unwrap();
    assert!(second.reader.instance("a").unwrap().is_some());
    first.gates.look_up.open();
    assert!(matches!(unheard.recv().unwrap(), Err(StoreError::Fenced)));
}

#[test]
fn a_change_that_fails_is_undone_alone() {
    let (hub, owner) = hub();
    owner.gates.commit.shut();
    let first = submit(&owner.writer, start(1, "a"));
    owner.gates.commit.await_arrival();
    // These three are one transaction.
    let others = ["b", "c", "d"];
    let others: Vec<Told> = (2..)
        .zip(others)
        .map(|(key, id)| submit(&owner.writer, start(key, id)))
        .collect();
    owner.writer.faults().run.store(3, Ordering::Release);
    owner.gates.commit.open();
    assert!(first.recv().unwrap().is_ok());
    let results: Vec<bool> = { others.iter() }
        .map(|told| told.recv().unwrap().is_ok())
        .collect();
    assert_eq!(results, [true, false, true]);
    assert!(has(&hub, "b") && !has(&hub, "c") && has(&hub, "d"));
    let counts = owner.writer.counts();
    assert_eq!(counts.commits.load(Ordering::Relaxed), 2);
}

#[test]
fn commands_of_others_are_answered_in_the_transaction_that_executes_them() {
    let (hub, owner) = hub();
    let now = Timestamp(1_500);
    for token in ["z", "a", "m"] {
        hub.append_command(crate::store::Partition(0), token, b"body", now)
            .unwrap();
    }
    assert!(
        hub.append_command(crate::store::Partition(0), "a", b"again", now)
            .is_err()
    );
    let open = owner.reader.unanswered(2).unwrap();
    let body = b"body".to_vec();
    assert_eq!(
        open,
        [("z".to_owned(), body.clone()), ("a".to_owned(), body)]
    );

    let (answered, told) = job(start(1, "x"), Some("z"));
    owner.writer.submit(answered);
    told.recv().unwrap().unwrap();
    assert!(hub.reader().answer("z").unwrap().is_some());
    assert!(!hub.take_back_command("z"));
    hub.forget_command("z");
    assert_eq!(hub.reader().answer("z").unwrap(), None);

    // What was taken back has no effect.
    assert!(hub.take_back_command("a"));
    let (taken_back, told) = job(start(2, "y"), Some("a"));
    owner.writer.submit_or_commit(taken_back);
    let result = told.recv().unwrap();
    assert!(matches!(result, Err(StoreError::TakenBack)));
    assert!(!has(&hub, "y"));
    let left = owner.reader.unanswered(10).unwrap();
    assert_eq!(left.len(), 1);
}

#[test]
fn a_writer_that_ends_makes_what_is_queued_and_refuses_what_comes_later() {
    let (hub, owner) = hub();
    owner.writer.live().enable();
    let told = submit(&owner.writer, start(1, "a"));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    owner.writer.close(until);
    assert!(told.recv().unwrap().is_ok() && has(&hub, "a"));
    assert_eq!(owner.writer.live().all(), 1);
    let refused = write(&owner, start(2, "b"));
    assert!(matches!(refused, Err(StoreError::Closed)));
}
