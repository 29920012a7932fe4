//! The overlay over rows in memory: what it asks of them, and what it leaves.

use perennial_core::{Command, Quarantine};

use super::*;
use crate::store::memory::delta::Delta;
use crate::store::memory::{Memory, Module};
use crate::store::overlay::{Bound, Overlay};
use crate::store::partition::Partitions;
use crate::store::rows::hub::{ModuleRows, SettingRows};
use crate::store::rows::instances::InstanceRows;
use crate::store::rows::tasks::{NewTask, TaskRows};
use crate::store::rows::turns::TurnRows;
use crate::store::rules::apply::apply;
use crate::store::types::{Effects, NewModule, OldVersions, TaskRowKind};

const ROOMY: Bound = Bound {
    instances: 1_000,
    bytes: 1 << 30,
};

pub(super) fn over_a_module(bound: Bound) -> Overlay<Memory> {
    let mut below = Memory::default();
    let module = Module {
        component: vec![0],
        bytes: 1,
        contract: "0.1".to_owned(),
        definitions: Vec::new(),
        imports: Vec::new(),
        stored_at: Timestamp(0),
    };
    below.modules.insert(MODULE, module);
    below.forget_undo();
    Overlay::new(below, bound)
}

/// Makes changes as one batch; those that fail are taken back.
fn run(overlay: &mut Overlay<Memory>, batch: &[Change]) -> Vec<Result<Reply, StoreError>> {
    overlay.begin(1, Timestamp(2_000));
    overlay.prefetch(batch, []).unwrap();
    let run = |change| {
        overlay.mark();
        let made = apply(overlay, change, Timestamp(2_000), &mut Effects::default());
        if made.is_err() {
            overlay.undo();
        }
        made
    };
    batch.iter().map(run).collect()
}

/// Commits what the batch wrote.
fn commit(overlay: &mut Overlay<Memory>) -> Delta {
    let delta = overlay.take_delta();
    overlay.source().absorb(delta.clone());
    overlay.committed();
    delta
}

/// Makes changes as one batch, all of which are done, and commits it. Returns how often the source was asked.
fn does(overlay: &mut Overlay<Memory>, batch: &[Change]) -> u64 {
    let before = overlay.round_trips();
    for made in run(overlay, batch) {
        assert_eq!(made.unwrap(), Reply::Done);
    }
    commit(overlay);
    overlay.round_trips() - before
}

fn starts(keys: std::ops::Range<i64>) -> Vec<Change> {
    let start = |key| Change::Start(new(key, &format!("i{key}")));
    keys.map(start).collect()
}

/// The next turn of an instance.
fn next(overlay: &mut Overlay<Memory>, key: i64, status: Status) -> TurnCommit {
    let below = overlay.source();
    let found = below.instances.get(&InstanceKey(key)).unwrap();
    let consumed = below.inbox.keys();
    let consumed = consumed.filter(|(of, _)| *of == InstanceKey(key));
    TurnCommit {
        consumed: consumed.map(|(_, seq)| *seq).collect(),
        ..turn_of(&found.row, status, Vec::new())
    }
}

fn turns(overlay: &mut Overlay<Memory>, keys: std::ops::Range<i64>, status: Status) -> Vec<Change> {
    keys.map(|key| turn_change(next(overlay, key, status)))
        .collect()
}

fn raise(id: &str) -> Change {
    Change::Deliver {
        id: id.to_owned(),
        command: Command::RaiseEvent,
        message: event("1"),
    }
}

#[test]
fn turns_of_live_instances_load_nothing_and_starts_are_looked_up_at_once() {
    let mut overlay = over_a_module(ROOMY);
    assert_eq!(does(&mut overlay, &starts(1..51)), 1);
    assert_eq!(does(&mut overlay, &starts(51..101)), 1);
    assert_eq!(overlay.cached().0, 100);
    for _ in 0..2 {
        let batch = turns(&mut overlay, 1..101, Status::Running);
        assert_eq!(does(&mut overlay, &batch), 0);
    }
    let raised: Vec<_> = (1..101).map(|key| raise(&format!("i{key}"))).collect();
    assert_eq!(does(&mut overlay, &raised), 0);
    let batch = turns(&mut overlay, 1..91, Status::Completed);
    assert_eq!(does(&mut overlay, &batch), 0);
    assert_eq!(overlay.cached().0, 10);
    let batch = turns(&mut overlay, 91..101, Status::Completed);
    assert_eq!(does(&mut overlay, &batch), 0);
    assert_eq!(overlay.cached(), (0, 0));
    assert_eq!(overlay.source().turns.len(), 300);
    // Those that have ended are loaded, and found to have ended.
    let before = overlay.round_trips();
    let made = run(&mut overlay, &raised);
    assert!(
        made.iter()
            .all(|made| matches!(made, Ok(Reply::Rejected(_))))
    );
    commit(&mut overlay);
    assert_eq!(overlay.round_trips() - before, 1);
    assert_eq!(overlay.cached(), (0, 0));
}

#[test]
fn what_was_dropped_for_room_is_loaded_at_once() {
    let mut overlay = over_a_module(Bound {
        instances: 3,
        ..ROOMY
    });
    does(&mut overlay, &starts(1..21));
    assert_eq!(overlay.cached().0, 3);
    let batch = turns(&mut overlay, 1..21, Status::Running);
    assert_eq!(does(&mut overlay, &batch), 1);
    let batch = turns(&mut overlay, 1..3, Status::Running);
    does(&mut overlay, &batch);
    assert_eq!(does(&mut overlay, &batch_of(&["i1", "i2"])), 0);
    overlay.forget_all();
    assert_eq!(does(&mut overlay, &batch_of(&["i1", "i2"])), 1);
    let mut overlay = over_a_module(Bound { bytes: 1, ..ROOMY });
    does(&mut overlay, &starts(1..21));
    assert_eq!(overlay.cached(), (0, 0));
}

fn batch_of(ids: &[&str]) -> Vec<Change> {
    ids.iter().map(|id| raise(id)).collect()
}

#[test]
fn a_change_that_fails_leaves_nothing_and_the_others_stay() {
    let mut overlay = over_a_module(ROOMY);
    does(&mut overlay, &starts(1..3));
    let mut late = next(&mut overlay, 1, Status::Running);
    late.expected.next_event += 1;
    let batch = [
        raise("i1"),
        Change::All(vec![
            Change::Start(new(10, "other")),
            raise("i1"),
            raise("i2"),
            turn_change(late),
        ]),
        Change::Start(new(11, "other")),
    ];
    let made = run(&mut overlay, &batch);
    assert!(matches!(
        made[..],
        [Ok(Reply::Done), Err(StoreError::Conflict), Ok(Reply::Done)]
    ));
    let delta = commit(&mut overlay);
    let keys: Vec<_> = delta.instances.iter().map(|of| of.key.0).collect();
    assert_eq!(keys, [1, 11]);
    let inbox: Vec<_> = delta
        .inbox
        .iter()
        .map(|of| (of.key.0.0, of.key.1))
        .collect();
    assert_eq!(inbox, [(1, 1), (11, 0)]);
    assert_eq!(overlay.find("other").unwrap().unwrap().0, InstanceKey(11));
}

#[test]
fn an_id_can_pass_from_one_instance_to_the_next_in_a_batch() {
    let mut overlay = over_a_module(ROOMY);
    let batch = [
        Change::Start(new(1, "same")),
        turn_change(TurnCommit {
            consumed: vec![0],
            ..turn_of(&pending(1, "same"), Status::Completed, Vec::new())
        }),
        Change::Start(new(2, "same")),
    ];
    assert_eq!(does(&mut overlay, &batch), 1);
    let found = overlay.source().instances.keys().copied();
    assert_eq!(found.collect::<Vec<_>>(), [InstanceKey(2)]);
    assert!(overlay.source().turns.is_empty());
    let end = turns(&mut overlay, 2..3, Status::Completed);
    does(&mut overlay, &end);
    assert_eq!(overlay.source().turns.len(), 1);
    // The history of one of an earlier batch is deleted by an instruction.
    run(&mut overlay, &[Change::Start(new(3, "same"))]);
    let delta = commit(&mut overlay);
    assert_eq!(delta.delete_turns, [InstanceKey(2)]);
    assert!(delta.turns.is_empty() && overlay.source().turns.is_empty());
}

/// The row of an instance that was started, and has had no turn.
fn pending(key: i64, id: &str) -> InstanceRow {
    let mut overlay = over_a_module(ROOMY);
    does(&mut overlay, &[Change::Start(new(key, id))]);
    let found = overlay.source().instances.get(&InstanceKey(key)).unwrap();
    found.row.clone()
}

#[test]
fn garbage_is_collected_in_steps_also_what_the_batch_itself_has_left() {
    let mut overlay = over_a_module(ROOMY);
    for key in 1..4 {
        for number in 0..10 {
            let commit = turn_of(&pending(key, "any"), Status::Running, Vec::new());
            let turn = Turn {
                number,
                ..commit.turn
            };
            let below = overlay.source();
            below.insert_turn(InstanceKey(key), 0, &turn).unwrap();
        }
    }
    overlay
        .source()
        .leave_garbage(InstanceKey(1), None)
        .unwrap();
    overlay.source().forget_undo();
    overlay.begin(1, Timestamp(2_000));
    overlay.leave_garbage(InstanceKey(2), Some(0)).unwrap();
    overlay.mark();
    assert!(overlay.collect_garbage(4).unwrap());
    overlay.undo();
    let more: Vec<bool> = (0..3)
        .map(|_| overlay.collect_garbage(8).unwrap())
        .collect();
    assert_eq!(more, [true, true, false]);
    commit(&mut overlay);
    assert_eq!(overlay.source().garbage.len(), 0);
    assert_eq!(overlay.source().turns.len(), 10);
    overlay.begin(2, Timestamp(2_000));
    assert!(!overlay.collect_garbage(8).unwrap());
}

#[test]
fn attempts_of_tasks_that_are_not_in_memory_are_counted_below() {
    let mut overlay = over_a_module(ROOMY);
    does(&mut overlay, &starts(1..4));
    overlay.begin(2, Timestamp(2_000));
    let at = Position {
        execution: 0,
        generation: 0,
        next_event: 0,
    };
    for key in 1..4 {
        let task = NewTask::new(TaskId(7), TaskRowKind::Activity);
        overlay.insert_task(InstanceKey(key), at, 0, task).unwrap();
    }
    commit(&mut overlay);
    overlay.forget_all();
    overlay.begin(3, Timestamp(2_000));
    let cut = |overlay: &mut Overlay<Memory>, key| {
        let task = overlay.task(InstanceKey(key), TaskId(7)).unwrap();
        task.unwrap().cut
    };
    assert_eq!(cut(&mut overlay, 1), 0);
    overlay.mark();
    overlay
        .count_unknown(Partitions::default(), Timestamp(2_000))
        .unwrap();
    assert_eq!(cut(&mut overlay, 1), 1);
    assert_eq!(cut(&mut overlay, 2), 1);
    overlay.undo();
    assert_eq!([1, 2].map(|key| cut(&mut overlay, key)), [0, 0]);
    overlay.mark();
    overlay
        .count_unknown(Partitions::default(), Timestamp(2_000))
        .unwrap();
    overlay
        .uncount_unknown(InstanceKey(2), TaskId(7), Timestamp(2_000))
        .unwrap();
    commit(&mut overlay);
    let tasks = overlay.source().tasks.values();
    let cuts: Vec<u32> = tasks.map(|task| task.row.cut).collect();
    assert_eq!(cuts, [1, 0, 1]);
    overlay.begin(4, Timestamp(2_000));
    assert_eq!([1, 2, 3].map(|key| cut(&mut overlay, key)), [1, 0, 1]);
}

#[test]
fn modules_are_counted_with_what_the_batch_has_changed_and_their_components_go() {
    let mut overlay = over_a_module(ROOMY);
    let deployed = NewModule {
        name: "other".to_owned(),
        digest: Digest([9; 32]),
        component: vec![1; 1_000],
        contract: "0.1".to_owned(),
        definitions: Vec::new(),
        imports: Vec::new(),
        grants: None,
        replace: false,
        limits: None,
    };
    let deploy = [Change::Deploy(Box::new(deployed))];
    run(&mut overlay, &deploy);
    commit(&mut overlay);
    let below = overlay.source().modules.get(&Digest([9; 32])).unwrap();
    assert_eq!(below.component.len(), 1_000);
    run(&mut overlay, &deploy);
    let delta = commit(&mut overlay);
    let change = &delta.modules[0];
    let bytes = [&change.before, &change.now].map(|of| of.as_ref().unwrap().component.len());
    assert_eq!(bytes, [0, 1_000]);

    does(&mut overlay, &starts(1..4));
    overlay.forget_all();
    let mut batch = turns(&mut overlay, 1..2, Status::Completed);
    batch.extend(starts(4..5));
    run(&mut overlay, &batch);
    assert_eq!(overlay.live_on(MODULE).unwrap(), 3);
    assert!(overlay.unused_modules().unwrap().is_empty());
    commit(&mut overlay);
    let batch = turns(&mut overlay, 2..5, Status::Completed);
    run(&mut overlay, &batch);
    assert_eq!(overlay.live_on(MODULE).unwrap(), 0);
    let unused = overlay.unused_modules().unwrap();
    assert_eq!(unused.len(), 1);
    let collect = Change::CollectModules {
        old: OldVersions::Keep,
    };
    let made = apply(
        &mut overlay,
        &collect,
        Timestamp(2_000),
        &mut Effects::default(),
    );
    assert_eq!(made.unwrap(), Reply::Collected(unused));
    commit(&mut overlay);
    let left = overlay.source().modules.keys().copied();
    assert_eq!(left.collect::<Vec<_>>(), [Digest([9; 32])]);
    // A start of the module that was deleted is refused.
    let made = run(&mut overlay, &starts(9..10));
    assert!(matches!(made[..], [Err(StoreError::Conflict)]));
}

#[test]
fn commands_are_answered_as_long_as_they_are_there() {
    let mut overlay = over_a_module(ROOMY);
    let below = overlay.source();
    for (token, at) in [("old", 10), ("new", 1_000), ("open", 10)] {
        let answer = (token == "old").then(|| vec![1]);
        let command = (Timestamp(at), answer);
        below.commands.insert(token.to_owned(), command);
    }
    below.forget_undo();
    overlay.begin(1, Timestamp(2_000));
    overlay.mark();
    overlay.delete_old_answers(Timestamp(100)).unwrap();
    assert!(!overlay.answer_command("old", &[2]).unwrap());
    overlay.undo();
    assert!(overlay.answer_command("old", &[2]).unwrap());
    overlay.mark();
    overlay.delete_old_answers(Timestamp(100)).unwrap();
    assert!(!overlay.answer_command("old", &[3]).unwrap());
    for token in ["new", "open"] {
        assert!(overlay.answer_command(token, &[4]).unwrap());
    }
    assert!(!overlay.answer_command("none", &[4]).unwrap());
    commit(&mut overlay);
    let left: Vec<_> = overlay.source().commands.keys().cloned().collect();
    assert_eq!(left, ["new", "open"]);
}

#[test]
fn a_family_is_found_with_what_memory_knows_better() {
    let mut overlay = over_a_module(ROOMY);
    does(&mut overlay, &starts(1..2));
    let child = |key: i64| child_of(new(key, &format!("i{key}")), 1, "i1", 3);
    let batch: Vec<_> = (2..6).map(|key| Change::Start(child(key))).collect();
    does(&mut overlay, &batch);
    let batch = turns(&mut overlay, 2..4, Status::Completed);
    does(&mut overlay, &batch);
    overlay.forget_all();
    let keys = |overlay: &mut Overlay<Memory>, live_only| -> Vec<i64> {
        let children = overlay.children(InstanceKey(1), live_only).unwrap();
        children.iter().map(|child| child.key.0).collect()
    };
    overlay.begin(5, Timestamp(2_000));
    let before = overlay.round_trips();
    assert_eq!(keys(&mut overlay, true), [4, 5]);
    assert_eq!(keys(&mut overlay, false), [2, 3, 4, 5]);
    assert_eq!(overlay.round_trips() - before, 2);
    overlay.delete_instance(InstanceKey(2)).unwrap();
    overlay.orphan(InstanceKey(4)).unwrap();
    let why = Quarantine::because("it was asked for");
    overlay.quarantine(InstanceKey(5), &why).unwrap();
    assert_eq!(keys(&mut overlay, true), [5]);
    assert_eq!(keys(&mut overlay, false), [3, 5]);
    overlay.undo();
    assert_eq!(keys(&mut overlay, false), [2, 3, 4, 5]);
}
