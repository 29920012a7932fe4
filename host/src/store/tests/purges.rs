//! Deletion of instances, and the data that a hub keeps of them.

use perennial_core::{Millis, Rejection, kind};

use super::*;
use crate::store::{Ages, Purged, Run, hubs_in};

fn ended(hub: &Hub, key: i64, id: &str, status: Status) {
    hub.start(key, id);
    let mut end = turn(hub, key, status, Vec::new());
    end.turn.at = Timestamp(3_000 + key as u64);
    hub.does(turn_change(end));
}

fn purge(hub: &Hub, keys: &[i64]) -> Purged {
    let keys = keys.iter().copied().map(InstanceKey).collect();
    match hub.write(Change::Purge(keys)).unwrap().reply {
        Reply::Purged(purged) => purged,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_left_of_what_was_purged_and_what_lives_is_left_alone() {
    let hub = Hub::new();
    hub.start(1, "live");
    for (key, status) in [
        (2, Status::Completed),
        (3, Status::Failed),
        (4, Status::Terminated),
    ] {
        ended(&hub, key, &format!("i{key}"), status);
    }
    let purged = purge(&hub, &[1, 2, 3, 4, 99]);
    assert_eq!(
        purged,
        Purged {
            deleted: 3,
            live: 1
        }
    );
    assert_eq!(purge(&hub, &[2, 3, 4]), Purged::default());
    for table in ["turn", "task", "garbage"] {
        assert_eq!(
            hub.count(&format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
    assert_eq!(hub.inbox(1).len(), 1);
}

#[test]
fn one_id_is_purged_if_it_has_ended() {
    let hub = Hub::new();
    hub.start(1, "live");
    ended(&hub, 2, "over", Status::Completed);
    let purge = |id: &str| hub.write(Change::PurgeId(id.to_owned())).unwrap().reply;
    assert_eq!(
        purge("live"),
        Reply::Rejected(Rejection::NotTerminal(Status::Pending))
    );
    assert_eq!(
        purge("over"),
        Reply::Purged(Purged {
            deleted: 1,
            live: 0
        })
    );
    assert_eq!(purge("over"), Reply::Purged(Purged::default()));
}

#[test]
fn a_long_history_goes_in_batches_after_its_instance() {
    let hub = Hub::new();
    ended(&hub, 1, "long", Status::Completed);
    ended(&hub, 2, "short", Status::Completed);
    hub.other()
        .execute_batch(
            "INSERT INTO turn SELECT 1, 0, n, n, 0, NULL, x'0100', x'0100'
             FROM (WITH RECURSIVE c(n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM c WHERE n < 99) SELECT n FROM c);
             UPDATE instance SET turns = 100 WHERE key = 1;",
        )
        .unwrap();
    assert_eq!(purge(&hub, &[1, 2]).deleted, 2);
    assert!(hub.reader().instance("long").unwrap().is_none());
    assert_eq!(hub.count("SELECT count(*) FROM turn"), 91);
    let mut batches = 0;
    while hub.does(Change::Collect { rows: 20 }).effects.garbage {
        batches += 1;
    }
    assert_eq!((batches, hub.count("SELECT count(*) FROM turn")), (4, 0));
    assert_eq!(hub.count("SELECT count(*) FROM garbage"), 0);
}

#[test]
fn a_live_parent_is_told_of_a_purged_child_and_an_ended_one_is_not() {
    let hub = Hub::new();
    hub.start(1, "parent");
    for (key, id) in [(2, "child"), (3, "other")] {
        hub.does(Change::Start(child_of(
            new(key, id),
            1,
            "parent",
            key as u32,
        )));
        hub.other()
            .execute("UPDATE instance SET status = 4 WHERE key = ?1", [key])
            .unwrap();
    }
    let before = hub.inbox(1).len();
    assert_eq!(purge(&hub, &[2]).deleted, 1);
    let told = hub.inbox(1).split_off(before);
    let Message::ChildEnded {
        task,
        outcome: Err(failure),
        ..
    } = &told[0].1
    else {
        panic!("{told:?}");
    };
    assert_eq!(
        (told.len(), task.task, failure.kind.as_str()),
        (1, TaskId(2), kind::PURGED)
    );
    hub.does(turn_change(turn(&hub, 1, Status::Completed, Vec::new())));
    assert_eq!(purge(&hub, &[1, 3]).deleted, 2);
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 0);
}

#[test]
fn what_ended_first_is_found_first_and_ages_are_kept() {
    let hub = Hub::new();
    assert_eq!(hub.reader().retention().unwrap(), Ages::default());
    let ages = Ages {
        completed: Some(Millis(5)),
        failed: None,
        terminated: Some(Millis(0)),
    };
    hub.does(Change::Retain(ages));
    assert_eq!(hub.reader().retention().unwrap(), ages);
    for key in [3, 1, 2] {
        ended(&hub, key, &format!("i{key}"), Status::Completed);
    }
    ended(&hub, 4, "failed", Status::Failed);
    let by = |at| {
        hub.reader()
            .ended_by(Status::Completed, Timestamp(at), 10)
            .unwrap()
    };
    assert_eq!(by(3_002), [InstanceKey(1), InstanceKey(2)]);
    assert_eq!(by(3_000), []);
    assert_eq!(
        hub.reader().first_end(Status::Completed).unwrap(),
        Some(Timestamp(3_001))
    );
    assert_eq!(hub.reader().first_end(Status::Terminated).unwrap(), None);
}

#[test]
fn several_changes_are_kept_or_lost_together() {
    let hub = Hub::new();
    ended(&hub, 1, "over", Status::Completed);
    let stale = turn(&hub, 1, Status::Completed, Vec::new());
    let mut stale = turn_change(stale);
    if let Change::Turn(commit) = &mut stale {
        commit.expected.next_event += 7;
    }
    let dump = hub.dump();
    let lost = hub.write(Change::All(vec![Change::PurgeId("over".to_owned()), stale]));
    assert!(matches!(lost, Err(StoreError::Conflict)), "{lost:?}");
    assert_eq!(hub.dump(), dump);
    let kept = hub.write(Change::All(vec![
        Change::PurgeId("over".to_owned()),
        Change::Start(new(5, "fresh")),
        Change::PurgeId("fresh".to_owned()),
    ]));
    let kept = kept.unwrap();
    assert_eq!(
        kept.reply,
        Reply::All(vec![
            Reply::Purged(Purged {
                deleted: 1,
                live: 0
            }),
            Reply::Done,
            Reply::Rejected(Rejection::NotTerminal(Status::Pending)),
        ])
    );
    assert_eq!(
        (kept.effects.gone, kept.effects.woken),
        (vec![InstanceKey(1)], vec![InstanceKey(5)])
    );
}

#[test]
fn a_hub_is_deleted_with_everything_beside_it_unless_somebody_owns_it() {
    let hub = Hub::new();
    let (dir, path) = (hub.dir.path().to_owned(), hub.path());
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    std::fs::write(dir.join("other.db"), "not a hub").unwrap();
    let names = |dir: &std::path::Path| -> Vec<String> {
        hubs_in(dir)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(names(&dir), ["hub", "other"]);
    let owned = crate::store::sqlite::file::hubs::delete(&path, false);
    assert!(matches!(owned, Err(StoreError::Owned(_))), "{owned:?}");
    assert!(matches!(
        crate::store::sqlite::file::hubs::delete(&dir.join("other.db"), true),
        Err(StoreError::NotAHub(_))
    ));
    assert!(matches!(
        crate::store::sqlite::file::hubs::delete(&dir.join("none.db"), true),
        Err(StoreError::Missing(_))
    ));
    assert!(path.exists());
    let Hub { dir: _keep, owned } = hub;
    drop(owned);
    crate::store::sqlite::file::hubs::delete(&path, false).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["notes.txt", "other.db", "other.db.lock"]);
}

#[test]
fn an_owner_whose_hub_was_deleted_by_force_commits_nothing_more() {
    let hub = Hub::new();
    hub.start(1, "before");
    crate::store::sqlite::file::hubs::delete(&hub.path(), true).unwrap();
    let after = hub.write(Change::Start(new(2, "after")));
    assert!(matches!(after, Err(StoreError::Fenced)), "{after:?}");
    // A new hub may be created in its place meanwhile; the old owner does not affect it.
    let fresh = take_over(&hub.path(), Timestamp(9_000)).unwrap();
    assert!(fresh.reader.instance("before").unwrap().is_none());
    assert!(matches!(
        take_over(&hub.path(), Timestamp(9_000)),
        Err(StoreError::Owned(_))
    ));
}

#[test]
fn a_change_for_one_run_does_not_reach_the_next_one() {
    let hub = Hub::new();
    ended(&hub, 1, "a", Status::Completed);
    let run = |key: i64| {
        let reader = &hub.owned.reader;
        let row = reader.instance("a").unwrap();
        let row = row.filter(|row| row.key == InstanceKey(key));
        row.map(|row| Run::of(&row))
    };
    let first = run(1).unwrap();
    let purge_if = |run: Run| {
        let then = Box::new(Change::PurgeId("a".to_owned()));
        let id = "a".to_owned();
        hub.write(Change::IfRun { id, run, then }).unwrap().reply
    };
    let deleted = Purged {
        deleted: 1,
        live: 0,
    };
    // The next start under the id deletes the run before it.
    ended(&hub, 2, "a", Status::Completed);
    let second = run(2).unwrap();
    assert_ne!(first, second);
    assert!(matches!(purge_if(first), Reply::OtherRun(_)));
    assert_eq!(run(2), Some(second), "it is still there");
    assert_eq!(purge_if(second), Reply::Purged(deleted));
    assert_eq!(purge_if(second), Reply::Rejected(Rejection::NotFound));
}
