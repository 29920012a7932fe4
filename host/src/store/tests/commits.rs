//! Changes are atomic.

use super::*;
use perennial_core::{Command, Envelope, Failure, Rejection, Target, kind};

fn child(task: u32, id: &str) -> Event {
    Event::ChildScheduled {
        task: TaskId(task),
        name: "Order".to_owned(),
        version: None,
        instance_id: id.to_owned(),
        input: None,
        tags: Vec::new(),
        retry: None,
        target: Target::Module(MODULE),
    }
}

#[test]
fn a_turn_is_written_with_everything_that_belongs_to_it() {
    let hub = Hub::new();
    hub.start(1, "a");
    hub.start(2, "b");
    let sent = Event::EventSent {
        instance_id: "b".to_owned(),
        name: "go".to_owned(),
        data: None,
    };
    let timer = Event::TimerSet {
        task: TaskId(1),
        fire_at: Timestamp(9_000),
    };
    let mut commit = turn(
        &hub,
        1,
        Status::Running,
        vec![scheduled(0), timer, child(2, "kid"), sent],
    );
    commit.consumed = vec![0];
    commit.starts = vec![child_of(new(3, "kid"), 1, "a", 2)];
    let outcome = hub.does(turn_change(commit));
    assert_eq!(outcome.effects.woken, [InstanceKey(3), InstanceKey(2)]);
    let row = hub.reader().instance("a").unwrap().unwrap();
    assert_eq!(
        (row.status, row.next_event, row.turns, row.started_at),
        (Status::Running, 5, 1, Some(Timestamp(3_000)))
    );
    assert_eq!(hub.inbox(1), []);
    assert_eq!(hub.inbox(2).len(), 2);
    assert_eq!(hub.reader().tasks_of(InstanceKey(1)).unwrap().len(), 2);
    let kid = hub.reader().instance("kid").unwrap().unwrap();
    assert_eq!(
        (kid.status, kid.parent_key),
        (Status::Pending, Some(InstanceKey(1)))
    );
}

#[test]
fn a_turn_that_fails_anywhere_writes_nothing() {
    let hub = Hub::new();
    hub.start(1, "a");
    let before = hub.dump();
    // The child is written last, and its start is missing, so that the commit fails.
    let commit = turn(
        &hub,
        1,
        Status::Running,
        vec![scheduled(0), child(1, "kid")],
    );
    assert!(matches!(
        hub.write(turn_change(commit)),
        Err(StoreError::Corrupt(_))
    ));
    // The same task twice.
    let commit = turn(&hub, 1, Status::Running, vec![scheduled(0), scheduled(0)]);
    assert!(matches!(
        hub.write(turn_change(commit)),
        Err(StoreError::Database(_))
    ));
    assert_eq!(hub.dump(), before);
}

#[test]
fn a_turn_of_an_instance_that_moved_on_writes_nothing() {
    let hub = Hub::new();
    hub.start(1, "a");
    let stale = turn(&hub, 1, Status::Running, vec![scheduled(0)]);
    hub.does(turn_change(stale.clone()));
    let before = hub.dump();
    for expected in [
        stale.expected,
        Position {
            execution: 1,
            next_event: 2,
            ..stale.expected
        },
        Position {
            generation: 1,
            next_event: 2,
            ..stale.expected
        },
    ] {
        let stale = TurnCommit {
            expected,
            ..stale.clone()
        };
        assert!(matches!(
            hub.write(turn_change(stale)),
            Err(StoreError::Conflict)
        ));
    }
    let gone = TurnCommit {
        key: InstanceKey(99),
        ..stale
    };
    assert!(matches!(
        hub.write(turn_change(gone)),
        Err(StoreError::Conflict)
    ));
    assert_eq!(hub.dump(), before);
}

#[test]
fn a_start_with_an_ended_id_replaces_what_was_there() {
    let hub = Hub::new();
    hub.start(1, "a");
    hub.does(turn_change(turn(&hub, 1, Status::Completed, Vec::new())));
    let rejected = NewInstance {
        reuse: Reuse::Never,
        ..new(2, "a")
    };
    let outcome = hub.write(Change::Start(rejected)).unwrap();
    assert_eq!(
        outcome.reply,
        Reply::Rejected(Rejection::AlreadyExists(Status::Completed))
    );
    let outcome = hub.does(turn_change(first_turn(new(2, "a"))));
    assert_eq!(
        (&outcome.effects.gone[..], outcome.effects.garbage),
        (&[InstanceKey(1)][..], false),
        "a short history goes with its instance"
    );
    assert_eq!(hub.count("SELECT count(*) FROM turn WHERE instance = 1"), 0);
    assert_eq!(outcome.effects.ended, [] as [String; 0]);
    assert_eq!(
        hub.reader().instance("a").unwrap().unwrap().key,
        InstanceKey(2)
    );
    let rejected = hub.write(turn_change(first_turn(new(3, "a")))).unwrap();
    assert_eq!(
        rejected.reply,
        Reply::Rejected(Rejection::AlreadyExists(Status::Running))
    );
    assert_eq!(hub.count("SELECT count(*) FROM turn WHERE instance = 3"), 0);
}

#[test]
fn a_live_instance_is_replaced_where_that_is_asked_for_and_its_parent_is_told() {
    let hub = Hub::new();
    hub.start(1, "parent");
    hub.does(Change::Start(child_of(new(2, "kid"), 1, "parent", 4)));
    let replacing = NewInstance {
        reuse: Reuse::Any,
        ..new(3, "kid")
    };
    let outcome = hub.does(Change::Start(replacing));
    assert_eq!(outcome.effects.ended, ["kid"]);
    let (_, told) = hub.inbox(1).pop().unwrap();
    let Message::ChildEnded {
        task,
        attempt: 1,
        outcome: Err(failure),
    } = told
    else {
        panic!("{told:?}")
    };
    assert_eq!((task, failure.kind.as_str()), (task_ref(4), kind::REPLACED));
    assert_eq!(hub.inbox(2), []);
}

#[test]
fn what_is_gone_is_deleted_in_batches() {
    let hub = Hub::new();
    hub.start(1, "a");
    for _ in 0..45 {
        hub.does(turn_change(turn(&hub, 1, Status::Running, Vec::new())));
    }
    hub.does(Change::Start(NewInstance {
        reuse: Reuse::Any,
        ..new(2, "a")
    }));
    let left = || hub.count("SELECT count(*) FROM turn");
    for expected in [35, 25, 15, 5] {
        assert!(hub.does(Change::Collect { rows: 10 }).effects.garbage);
        assert_eq!(left(), expected);
    }
    assert!(!hub.does(Change::Collect { rows: 10 }).effects.garbage);
    assert_eq!(left(), 0);
    assert_eq!(hub.count("SELECT count(*) FROM garbage"), 0);
}

#[test]
fn what_waits_stays_behind_the_start_of_the_next_execution() {
    let hub = Hub::new();
    hub.start(1, "a");
    let deliver = |command, message| {
        hub.does(Change::Deliver {
            id: "a".to_owned(),
            command,
            message,
        });
    };
    let suspend = Message::Suspend {
        reason: Some("why".to_owned()),
        recursive: false,
    };
    let terminate = Message::Terminate {
        reason: None,
        recursive: true,
    };
    let mut first = turn(&hub, 1, Status::Running, Vec::new());
    first.consumed = vec![0];
    hub.does(turn_change(first));
    let mut commit = turn(&hub, 1, Status::Running, Vec::new());
    let next = Start {
        execution: 1,
        ..start_of("a")
    };
    commit.turn.next = Some(Box::new(next.clone()));
    deliver(Command::RaiseEvent, event("1"));
    deliver(Command::Suspend, suspend.clone());
    deliver(Command::RaiseEvent, event("2"));
    deliver(Command::Terminate, terminate.clone());
    hub.does(turn_change(commit));
    let messages: Vec<Message> = hub.inbox(1).into_iter().map(|(_, m)| m).collect();
    assert_eq!(
        messages,
        [
            Message::Start(Box::new(next)),
            event("1"),
            suspend.clone(),
            event("2"),
            terminate.clone(),
        ]
    );
    let seqs: Vec<u64> = hub.inbox(1).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [0, 1, 2, 3, 4], "what waited has not moved");
    let commands = hub.reader().inbox_commands(InstanceKey(1), 0).unwrap();
    let commands: Vec<Message> = commands.into_iter().map(|found| found.message).collect();
    assert_eq!(commands, [suspend, terminate]);
}

#[test]
fn continuing_as_new_moves_messages_over_in_order() {
    let hub = Hub::new();
    hub.start(1, "a");
    let deliver = |data: &str| Change::Deliver {
        id: "a".to_owned(),
        command: Command::RaiseEvent,
        message: event(data),
    };
    for data in ["1", "2", "3"] {
        hub.does(deliver(data));
    }
    let mut commit = turn(&hub, 1, Status::Running, vec![scheduled(0)]);
    commit.consumed = vec![0, 1];
    let next = Start {
        execution: 1,
        execution_id: "e2".to_owned(),
        ..start_of("a")
    };
    commit.turn.next = Some(Box::new(next.clone()));
    let carried = Message::ExternalEvent {
        number: Some(7),
        name: "go".to_owned(),
        data: None,
    };
    commit.carried = vec![carried.clone()];
    hub.does(turn_change(commit));
    hub.does(deliver("4"));
    let inbox = hub.inbox(1);
    let numbers: Vec<u64> = inbox.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(
        numbers,
        (numbers[0]..numbers[0] + 5).collect::<Vec<_>>(),
        "without a gap"
    );
    let messages: Vec<Message> = inbox.into_iter().map(|(_, message)| message).collect();
    assert_eq!(
        messages,
        [
            Message::Start(Box::new(next)),
            carried,
            event("2"),
            event("3"),
            event("4")
        ]
    );
    let row = hub.reader().instance("a").unwrap().unwrap();
    assert_eq!(
        (
            row.execution,
            row.next_event,
            row.turns,
            row.execution_id.as_str()
        ),
        (1, 0, 0, "e2")
    );
    assert!(hub.reader().tasks_of(InstanceKey(1)).unwrap().is_empty());
    assert!(!hub.does(Change::Collect { rows: 10 }).effects.garbage);
    assert_eq!(hub.count("SELECT count(*) FROM turn"), 0);
}

#[test]
fn a_child_with_an_id_in_use_has_failed() {
    let hub = Hub::new();
    hub.start(1, "a");
    hub.start(2, "kid");
    let mut commit = turn(&hub, 1, Status::Running, vec![child(0, "kid")]);
    commit.starts = vec![child_of(new(3, "kid"), 1, "a", 0)];
    hub.does(turn_change(commit));
    let (_, told) = hub.inbox(1).pop().unwrap();
    let Message::ChildEnded {
        outcome: Err(failure),
        ..
    } = told
    else {
        panic!("{told:?}")
    };
    assert_eq!(failure.kind, kind::INSTANCE_EXISTS);
    assert_eq!(hub.count("SELECT count(*) FROM instance"), 2);
}

#[test]
fn an_end_is_told_to_the_parent_that_asked_once_and_to_nobody_else() {
    let hub = Hub::new();
    hub.start(1, "parent");
    hub.does(Change::Start(child_of(new(2, "kid"), 1, "parent", 4)));
    let outcome = hub.does(turn_change(turn(&hub, 2, Status::Completed, Vec::new())));
    assert_eq!(outcome.effects.woken, [InstanceKey(1)]);
    assert_eq!(hub.inbox(1).len(), 2);
    // Replacing it later does not report a second end.
    hub.start(3, "kid");
    assert_eq!(hub.inbox(1).len(), 2);
    // The parent's id may belong to another instance by then.
    hub.does(Change::Start(child_of(new(4, "late"), 1, "parent", 5)));
    hub.does(Change::Start(NewInstance {
        reuse: Reuse::Any,
        ..new(5, "parent")
    }));
    let outcome = hub.does(turn_change(turn(&hub, 4, Status::Failed, Vec::new())));
    assert_eq!((outcome.effects.woken.len(), hub.inbox(5).len()), (0, 1));
}

#[test]
fn messages_for_instances_that_are_over_are_dropped() {
    let hub = Hub::new();
    hub.start(1, "a");
    hub.start(2, "b");
    hub.does(turn_change(turn(&hub, 2, Status::Terminated, Vec::new())));
    let sent = |id: &str| Event::EventSent {
        instance_id: id.to_owned(),
        name: "go".to_owned(),
        data: None,
    };
    let commit = turn(&hub, 1, Status::Running, vec![sent("b"), sent("nobody")]);
    assert_eq!(hub.does(turn_change(commit)).effects.woken, []);
    for (id, rejection) in [
        ("b", Rejection::NotRunning(Status::Terminated)),
        ("nobody", Rejection::NotFound),
    ] {
        let change = Change::Deliver {
            id: id.to_owned(),
            command: Command::RaiseEvent,
            message: event("1"),
        };
        assert_eq!(hub.write(change).unwrap().reply, Reply::Rejected(rejection));
    }
    let post = Change::Post {
        key: InstanceKey(2),
        messages: vec![Envelope::in_memory(event("1"))],
    };
    assert_eq!(hub.write(post).unwrap().reply, Reply::Nothing);
    // Messages that arrived before the end are kept for a restart: here its start.
    assert_eq!((hub.inbox(2).len(), hub.inbox(99).len()), (1, 0));
}

#[test]
fn what_is_in_an_inbox_has_no_task_that_could_happen_again() {
    let hub = Hub::new();
    hub.start(1, "a");
    let timer = Event::TimerSet {
        task: TaskId(1),
        fire_at: Timestamp(9_000),
    };
    hub.does(turn_change(turn(
        &hub,
        1,
        Status::Running,
        vec![scheduled(0), timer, scheduled(2)],
    )));
    let ended = |task| Message::ActivityEnded {
        task,
        outcome: Ok(None),
        run: Default::default(),
    };
    let stale = TaskRef {
        execution: 5,
        ..task_ref(2)
    };
    let messages = vec![
        ended(task_ref(0)),
        Message::TimerFired { task: task_ref(1) },
        ended(stale),
    ];
    hub.does(Change::Post {
        key: InstanceKey(1),
        messages: messages.into_iter().map(Envelope::in_memory).collect(),
    });
    let left = hub.reader().tasks_of(InstanceKey(1)).unwrap();
    assert_eq!(
        left.iter().map(|row| row.task).collect::<Vec<_>>(),
        [task_ref(2)]
    );
}

#[test]
fn retries_that_wait_are_given_up_with_the_return() {
    let hub = Hub::new();
    hub.start(1, "a");
    hub.does(turn_change(turn(
        &hub,
        1,
        Status::Running,
        vec![scheduled(0), scheduled(1), scheduled(2)],
    )));
    for task in [0, 1] {
        let retry = crate::store::Retry {
            key: InstanceKey(1),
            task: task_ref(task),
            attempt: 2,
            due: Timestamp(9_000),
            first_started: Timestamp(3_000),
            failure: Failure::retryable("Flaky", ""),
            attempts: Vec::new(),
            heartbeat: None,
        };
        hub.does(Change::Retry(retry.clone()));
    }
    let mut commit = turn(
        &hub,
        1,
        Status::Running,
        vec![Event::ExecutionReturned { output: None }],
    );
    commit.after.returned = true;
    commit.running = vec![TaskId(1)];
    hub.does(turn_change(commit));
    let left = hub.reader().tasks_of(InstanceKey(1)).unwrap();
    assert_eq!(
        left.iter().map(|row| row.task.task.0).collect::<Vec<_>>(),
        [1, 2]
    );
    let (_, told) = hub.inbox(1).pop().unwrap();
    let Message::ActivityEnded {
        task,
        outcome: Err(_),
        run,
    } = told
    else {
        panic!("{told:?}")
    };
    assert_eq!((task, run.attempt), (task_ref(0), 1));
    // No further attempt is recorded.
    let retry = crate::store::Retry {
        key: InstanceKey(1),
        task: task_ref(1),
        attempt: 3,
        due: Timestamp(9_000),
        first_started: Timestamp(3_000),
        failure: Failure::retryable("Flaky", ""),
        attempts: Vec::new(),
        heartbeat: None,
    };
    assert_eq!(
        hub.write(Change::Retry(retry)).unwrap().reply,
        Reply::Nothing
    );
}
