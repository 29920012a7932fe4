//! The overlay of an owner among several, beside rows in memory: what it says of other owners' instances, and of messages.

use perennial_core::Envelope;

use super::overlay::over_a_module;
use super::*;
use crate::store::memory::Memory;
use crate::store::outbox::{OutboxMessage, Sender};
use crate::store::overlay::{Bound, Overlay};
use crate::store::partition::{Partition, Partitions};
use crate::store::rows::outbox::OutboxRows;
use crate::store::rules::apply::apply;
use crate::store::types::Effects;

const COUNT: u16 = 4;
const BOUND: Bound = Bound {
    instances: 3,
    bytes: 1 << 20,
};

fn some(own: &[u16]) -> Partitions {
    Partitions::some(COUNT, own.iter().copied().map(Partition))
}

/// An instance with the next number, in the partition of its id.
fn instance(number: i64) -> NewInstance {
    let id = format!("i{number}");
    let key = Partitions::all(COUNT).key(&id, number);
    new(key.0, &id)
}

/// The same changes by an owner of some partitions on rows in memory and on an overlay over such rows.
struct Both {
    plain: Memory,
    overlay: Overlay<Memory>,
    number: u64,
}

impl Both {
    fn new(own: Partitions) -> Self {
        let mut overlay = over_a_module(BOUND).of(own);
        let mut plain = overlay.source().clone();
        plain.own = own;
        overlay.source().own = own;
        Self {
            plain,
            overlay,
            number: 0,
        }
    }

    /// Makes changes as one batch, asks of both, and commits. Nothing may differ.
    fn batch(&mut self, changes: &[Change], ask: impl Fn(&mut dyn OutboxRows) -> String) {
        self.number += 1;
        self.plain.begin(self.number, Timestamp(2_000));
        self.overlay.begin(self.number, Timestamp(2_000));
        self.overlay.prefetch(changes, []).unwrap();
        for change in changes {
            let (mut one, mut other) = (Effects::default(), Effects::default());
            self.plain.mark();
            self.overlay.mark();
            let expected = apply(&mut self.plain, change, Timestamp(2_000), &mut one);
            let made = apply(&mut self.overlay, change, Timestamp(2_000), &mut other);
            if made.is_err() {
                self.plain.undo();
                self.overlay.undo();
            }
            assert_eq!(format!("{made:?}"), format!("{expected:?}"), "{change:?}");
            assert_eq!(format!("{other:?}"), format!("{one:?}"), "{change:?}");
        }
        assert_eq!(ask(&mut self.overlay), ask(&mut self.plain));
        assert_eq!(self.overlay.own(), &self.plain.own);
        let delta = self.overlay.take_delta();
        self.overlay.source().absorb(delta);
        self.overlay.committed();
        self.plain.forget_undo();
        let mut differences = self.overlay.source().differences(&self.plain);
        // Each numbers messages in its way.
        differences.retain(|text| !text.starts_with("outbox "));
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        let sent = |rows: &Memory| format!("{:?}", rows.outbox.values().collect::<Vec<_>>());
        assert_eq!(sent(self.overlay.source()), sent(&self.plain));
        assert_eq!(ask(&mut self.overlay), ask(&mut self.plain));
    }
}

/// What an owner asks about instances of others, of each of these.
fn asks(keys: Vec<InstanceKey>) -> impl Fn(&mut dyn OutboxRows) -> String {
    move |rows| {
        let mut said = String::new();
        for key in &keys {
            let below = rows.partitions_below(*key).unwrap();
            let asked = rows.partitions_asked_by(*key).unwrap();
            let lives = rows.lives_below(*key).unwrap();
            said += &format!("{key:?}: {below:?} {asked:?} {lives}\n");
        }
        for number in 0..30 {
            let seen = rows.glance(&format!("i{number}")).unwrap();
            let elsewhere = rows.elsewhere(&format!("i{number}")).is_some();
            said += &format!("{:?} {elsewhere}\n", seen.filter(|_| elsewhere));
        }
        said
    }
}

#[test]
fn an_owner_among_several_finds_and_sends_what_one_that_has_all_rows_does() {
    let all = Partitions::all(COUNT);
    let mut both = Both::new(all);
    let news: Vec<NewInstance> = (0..30).map(instance).collect();
    let keys: Vec<InstanceKey> = news.iter().map(|new| new.key).collect();
    // A family: each is the child of the one whose number is half of its own.
    let family = news.iter().enumerate().map(|(n, new)| match n {
        0 => Change::Start(new.clone()),
        _ => {
            let parent = keys[n / 2].0;
            Change::Start(child_of(new.clone(), parent, &format!("i{}", n / 2), 3))
        }
    });
    both.batch(&family.collect::<Vec<_>>(), asks(keys.clone()));
    for own in [some(&[0, 2]), some(&[1]), some(&[3, 1, 2])] {
        let leave: Vec<Partition> = all.iter().filter(|one| !own.has(*one)).collect();
        let change = [Change::Leave(leave.clone())];
        both.batch(&change, asks(keys.clone()));
        let ends = |rows: &Memory| -> Vec<Change> {
            let own = rows.instances.iter().filter(|(key, _)| own.has_key(**key));
            let live = own.filter(|(_, found)| !found.row.status.is_end());
            let first = live.take(2).map(|(_, found)| found.row.clone());
            first
                .map(|row| turn_change(turn_of(&row, Status::Completed, Vec::new())))
                .collect()
        };
        both.batch(&ends(&both.plain), asks(keys.clone()));
        // Some send; they stay unsent until the end of the batch.
        let terminate = news.iter().take(8).map(|new| Change::TerminateAll {
            id: new.start.instance_id.clone(),
            message: Message::Terminate {
                reason: None,
                recursive: true,
            },
            running: Vec::new(),
        });
        both.batch(&terminate.collect::<Vec<_>>(), asks(keys.clone()));
        assert!(!both.plain.outbox.is_empty(), "nothing was sent");
        // What was sent is received by who has both sides.
        both.batch(&[Change::Join(leave)], asks(keys.clone()));
        assert!(both.plain.outbox.is_empty());
    }
}

#[test]
fn a_batch_that_fails_leaves_the_partitions_and_the_outbox_as_they_were() {
    let mut overlay = over_a_module(BOUND).of(some(&[0, 1]));
    overlay.source().own = some(&[0, 1]);
    overlay.begin(1, Timestamp(2_000));
    overlay.mark();
    let message = OutboxMessage::ReleaseChildren {
        parent: Sender::new(InstanceKey(1), "a"),
    };
    overlay.send(Partition(3), message).unwrap();
    overlay.set_partitions(some(&[2])).unwrap();
    overlay.undo();
    assert_eq!(overlay.own(), &some(&[0, 1]));
    assert!(
        overlay
            .messages_for(Partitions::all(COUNT), 9)
            .unwrap()
            .is_empty()
    );
    overlay.set_partitions(some(&[2])).unwrap();
    overlay.forget_all();
    assert_eq!(overlay.own(), &some(&[0, 1]));
}

/// An event for the first of some instances.
fn event(number: i64, name: &str) -> Change {
    Change::Deliver {
        id: format!("i{number}"),
        command: perennial_core::Command::RaiseEvent,
        message: Message::ExternalEvent {
            name: name.to_owned(),
            data: None,
            number: None,
        },
    }
}

#[test]
fn what_others_did_with_a_partition_is_seen_when_it_comes_back() {
    let all = Partitions::all(COUNT);
    let mut both = Both::new(all);
    let first = instance(0);
    let there = all.of_key(first.key);
    let nothing = |_: &mut dyn OutboxRows| String::new();
    both.batch(&[Change::Start(first.clone()), event(0, "a")], nothing);
    both.batch(&[Change::Leave(vec![there])], nothing);
    // Another owner runs it for a while.
    for rows in [&mut both.plain, both.overlay.source()] {
        let before = std::mem::replace(&mut rows.own, all);
        rows.begin(7, Timestamp(2_000));
        let effects = &mut Effects::default();
        apply(rows, &event(0, "b"), Timestamp(2_000), effects).unwrap();
        rows.forget_undo();
        rows.own = before;
    }
    // An event from here is sent there, for which the row may be looked at.
    both.batch(&[Change::Join(vec![there]), event(0, "c")], nothing);
    let inbox = both.plain.inbox.keys().filter(|(key, _)| *key == first.key);
    assert_eq!(inbox.count(), 4, "the start and three events");
}

/// Asks nothing.
fn nothing(_: &mut dyn OutboxRows) -> String {
    String::new()
}

/// An owner of all partitions with one instance, and the partition of that.
fn with_one() -> (Both, NewInstance, Partition) {
    let mut both = Both::new(Partitions::all(COUNT));
    let first = instance(0);
    both.batch(&[Change::Start(first.clone())], nothing);
    let there = Partitions::all(COUNT).of_key(first.key);
    (both, first, there)
}

#[test]
fn a_message_is_left_to_whoever_has_its_partition_now() {
    let (mut both, first, there) = with_one();
    let all = Partitions::all(COUNT);
    let message = OutboxMessage::Deliver {
        key: first.key,
        message: Message::ExternalEvent {
            name: "late".to_owned(),
            data: None,
            number: None,
        },
    };
    for rows in [&mut both.plain, both.overlay.source()] {
        rows.begin(7, Timestamp(2_000));
        rows.send(there, message.clone()).unwrap();
        rows.forget_undo();
    }
    let sent = both.plain.messages_for(all, 10).unwrap();
    assert_eq!(sent.len(), 1);
    // It was read before the partition was given away, and comes to the writer after that.
    let late = |sent: &[crate::store::outbox::Sent]| Change::Receive(sent.to_vec());
    both.batch(&[Change::Leave(vec![there]), late(&sent)], nothing);
    assert_eq!(both.plain.messages_for(all, 10).unwrap().len(), 1);
    both.batch(&[Change::Join(vec![there])], nothing);
    assert!(both.plain.messages_for(all, 10).unwrap().is_empty());
}

#[test]
fn an_outcome_that_comes_after_its_partition_leaves_no_task_to_run_again() {
    let (mut both, first, there) = with_one();
    let row = both.plain.instances.get(&first.key).unwrap().row.clone();
    let calls = turn_of(&row, Status::Running, vec![scheduled(0)]);
    both.batch(&[turn_change(calls)], nothing);
    let tasks = |both: &Both| {
        both.plain
            .tasks
            .keys()
            .filter(|(key, _)| *key == first.key)
            .count()
    };
    assert_eq!(tasks(&both), 1);
    // The attempt ends while the partition leaves, so that its outcome is sent after it.
    let ended = Message::ActivityEnded {
        task: task_ref(0),
        outcome: Ok(None),
        run: Default::default(),
    };
    let post = Change::Post {
        key: first.key,
        messages: vec![Envelope::in_memory(ended)],
    };
    both.batch(&[Change::Leave(vec![there]), post], nothing);
    assert_eq!(tasks(&both), 1);
    both.batch(&[Change::Join(vec![there])], nothing);
    assert_eq!(tasks(&both), 0, "whoever has it now would run it again");
}
