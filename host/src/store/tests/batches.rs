//! Random batches of changes on all rows and on the overlay: both answer and leave the same, whatever is loaded when.

use perennial_core::{ChildPolicy, Command, Envelope, Failure, Millis, Target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::overlay::over_a_module;
use super::*;
use crate::store::memory::Memory;
use crate::store::overlay::{Bound, Overlay};
use crate::store::rows::Rows;
use crate::store::rules::apply::apply;
use crate::store::types::{Asker, Effects, NewModule, OldVersions, WasRunning};
use crate::store::{NewRequest, RestartCommit};

/// What is to be done, in numbers that choose among what can be done.
type Dice = (u8, u8, u8, u8);

/// A step of a batch.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Step {
    Change(Change),
    /// What a rewind does to an instance beside what other changes do too.
    PutBack(Box<InstanceRow>, u32),
    Adopt(InstanceKey, InstanceKey),
    Orphan(InstanceKey),
}

/// All rows, and an overlay over rows that only get what a batch wrote.
struct Both {
    plain: Memory,
    overlay: Overlay<Memory>,
    next_key: i64,
    number: u64,
}

fn id(dice: u8) -> String {
    format!("i{}", dice % 6)
}

fn task(row: &InstanceRow, task: u32) -> TaskRef {
    row.position().task(TaskId(task))
}

fn deploy(a: u8) -> Change {
    Change::Deploy(Box::new(NewModule {
        name: format!("m{}", a % 2),
        digest: MODULE,
        component: vec![0],
        contract: "0.1".to_owned(),
        definitions: Vec::new(),
        imports: Vec::new(),
        grants: None,
        replace: false,
        limits: None,
    }))
}

impl Both {
    fn new(instances: usize) -> Self {
        let bytes = 1 << 20;
        let mut overlay = over_a_module(Bound { instances, bytes });
        Self {
            plain: overlay.source().clone(),
            overlay,
            next_key: 1,
            number: 1,
        }
    }

    fn row(&self, dice: u8) -> Option<InstanceRow> {
        let key = self.plain.ids.get(&id(dice))?;
        Some(self.plain.instances.get(key)?.row.clone())
    }

    fn instance(&mut self, dice: u8) -> NewInstance {
        self.next_key += 1;
        new(self.next_key, &id(dice))
    }

    fn step(&mut self, (kind, a, b, c): Dice) -> Option<Step> {
        let recursive = b.is_multiple_of(2);
        let reason = None;
        let deliver = |command, message| Change::Deliver {
            id: id(a),
            command,
            message,
        };
        Some(Step::Change(match kind % 28 {
            0..4 => self.start(a, b, c),
            4..11 => self.turn(a, b, c)?,
            11 => deliver(Command::RaiseEvent, event("1")),
            12 => deliver(Command::Terminate, Message::Terminate { reason, recursive }),
            13 => deliver(Command::Suspend, Message::Suspend { reason, recursive }),
            14 => Change::TerminateAll {
                id: id(a),
                message: Message::Terminate { reason, recursive },
                running: Vec::new(),
            },
            15 => Change::PurgeId(id(a)),
            16 => {
                let keys = [a, b, c].map(|dice| self.row(dice).map(|row| row.key));
                Change::Purge(keys.into_iter().flatten().collect())
            }
            17 => Change::Collect {
                rows: u32::from(b % 5) + 1,
            },
            18 => Change::CollectModules {
                old: OldVersions::Keep,
            },
            19 => Change::Request(NewRequest {
                instance: id(a),
                id: format!("r{}", b % 3),
                name: "ask".to_owned(),
                input: None,
            }),
            20 => self.restart(a)?,
            21 => Change::Post {
                key: self.row(a)?.key,
                messages: vec![Envelope {
                    seq: None,
                    at: Timestamp(1_500),
                    message: Message::TimerFired {
                        task: task(&self.row(a)?, 1),
                    },
                }],
            },
            22 => Change::TakeOver {
                were_running: vec![WasRunning {
                    key: self.row(a)?.key,
                    task: Some(TaskId(u32::from(b % 3))),
                    started_at: None,
                    attempt: None,
                }],
                boot: Some(c.to_string()),
            },
            23 => deploy(a),
            24 => Change::RemoveModule {
                name: format!("m{}", a % 2),
                in_use_too: recursive,
            },
            25 => return Some(Step::PutBack(Box::new(self.row(a)?), u32::from(b % 3))),
            26 => {
                // The younger one, so that nobody descends from itself.
                let (one, other) = (self.row(a)?.key, self.row(b)?.key);
                let is_other = one != other;
                return is_other.then(|| Step::Adopt(one.max(other), one.min(other)));
            }
            _ => return Some(Step::Orphan(self.row(a)?.key)),
        }))
    }

    fn start(&mut self, a: u8, b: u8, c: u8) -> Change {
        let mut new = self.instance(a);
        if let Some(parent) = self.row(b).filter(|row| row.id != id(a) && c % 2 == 1) {
            new = child_of(new, parent.key.0, &parent.id, u32::from(c % 4));
        }
        new.reuse = [Reuse::Ended, Reuse::Any, Reuse::Never][usize::from(c % 3)];
        new.options.when_dropped = [ChildPolicy::Abandon, ChildPolicy::Cancel][usize::from(b % 2)];
        new.options.execution_timeout = c.is_multiple_of(5).then_some(Millis(1_000));
        Change::Start(new)
    }

    /// The next turn of an instance. It may end, or go on as new, and tells others.
    fn turn(&mut self, a: u8, b: u8, c: u8) -> Option<Change> {
        let row = self.row(a).filter(|row| !row.status.is_end())?;
        let status = match b % 8 {
            0 => Status::Completed,
            1 => Status::Failed,
            _ => Status::Running,
        };
        let value = (!c.is_multiple_of(3)).then(|| Json::from_text(c.to_string()));
        let mut produced = vec![
            Event::ValueSet {
                name: format!("v{}", c % 2),
                value,
            },
            Event::EventSent {
                instance_id: id(b),
                name: "go".to_owned(),
                data: None,
            },
            Event::RequestSent {
                task: TaskId(0),
                instance_id: id(c),
                id: format!("q{}", c % 3),
                name: "ask".to_owned(),
                input: None,
                refused: None,
            },
            Event::RequestAnswered {
                number: None,
                id: format!("q{}", b % 3),
                outcome: Ok(None),
            },
        ];
        let open = self.plain.tasks.contains_key(&(row.key, TaskId(1)));
        produced.push(match open {
            true => Event::TaskCanceled { task: TaskId(1) },
            false => Event::ActivityScheduled {
                task: TaskId(1),
                name: "act".to_owned(),
                input: None,
                retry: None,
                attempt_timeout: None,
                target: Target::Module(MODULE),
            },
        });
        produced.rotate_left(usize::from(c % 5));
        produced.truncate(usize::from(b % 6));
        let mut commit = turn_of(&row, status, produced);
        if status == Status::Failed {
            commit.after.failure = Some(Failure::permanent("any", "it failed"));
        }
        if status == Status::Running && c.is_multiple_of(7) {
            let start = Start {
                execution: row.execution + 1,
                ..start_of(&row.id)
            };
            commit.turn.next = Some(Box::new(start));
        }
        // The start always comes first.
        let inbox = (row.key, 0)..=(row.key, u64::MAX);
        let inbox = self.plain.inbox.range(inbox);
        commit.consumed = inbox
            .map(|((_, seq), _)| *seq)
            .take(1 + usize::from(c % 4))
            .collect();
        commit.binds_children = true;
        // Some come too late.
        commit.expected.next_event += u64::from(b % 16 == 15);
        Some(turn_change(commit))
    }

    fn restart(&self, a: u8) -> Option<Change> {
        let row = self.row(a)?;
        let mut new = new(0, &row.id);
        new.key = row.key;
        new.start.execution = row.execution + 1;
        let (key, expected) = (row.key, row.position());
        Some(Change::Restart(Box::new(RestartCommit {
            key,
            expected,
            new,
        })))
    }

    /// Takes some steps as one batch, which may be lost.
    fn batch(&mut self, dice: &[Dice], fails: &[bool], is_lost: bool, prefetches: bool) {
        self.number += 1;
        let before = self.plain.clone();
        self.plain.begin(self.number, Timestamp(2_000));
        self.overlay.begin(self.number, Timestamp(2_000));
        if prefetches {
            // It is only a guess, and some of these come too late.
            for dice in dice {
                if let Some(Step::Change(change)) = self.step(*dice) {
                    self.overlay.prefetch([&change], []).unwrap();
                }
            }
        }
        for (dice, fails) in dice.iter().zip(fails.iter().cycle()) {
            let Some(step) = self.step(*dice) else {
                continue;
            };
            self.plain.mark();
            self.overlay.mark();
            let one = take(&mut self.plain, &step);
            let other = take(&mut self.overlay, &step);
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
            if one.is_err() || *fails {
                self.plain.undo();
                self.overlay.undo();
            }
        }
        let delta = self.overlay.take_delta();
        if is_lost {
            self.plain = before;
            self.overlay.forget_all();
        } else {
            self.overlay.source().absorb(delta);
            self.overlay.committed();
        }
        let differences = self.overlay.source().differences(&self.plain);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// Takes a step, and returns all that came of it.
fn take(rows: &mut impl Rows, step: &Step) -> Result<String, StoreError> {
    Ok(match step {
        Step::Change(change) => {
            let mut effects = Effects::default();
            let reply = apply(rows, change, Timestamp(2_000), &mut effects)?;
            format!("{reply:?} {effects:?}")
        }
        Step::PutBack(row, cut) => {
            let at = row.position();
            if rows.head(row.key)?.map(|head| head.position) != Some(at) {
                return Err(StoreError::Conflict);
            }
            rows.archive_turns(row.key, at, *cut, None, Timestamp(2_000))?;
            let now = Position {
                generation: at.generation + 1,
                next_event: u64::from(*cut),
                ..at
            };
            let to = crate::store::rows::instances::PutBack {
                generation: now.generation,
                next_event: now.next_event,
                turns: *cut,
                history_bytes: 0,
                module: None,
                custom_status: None,
                waiting: None,
            };
            rows.put_back(row.key, &to, Timestamp(2_000))?;
            rows.clear_inbox(row.key)?;
            let (key, task) = (row.key, now.task(TaskId(0)));
            rows.readdress(Asker { key, task }, &[TaskId(0)])?;
            format!("{}", rows.written_in(row.key, at.execution, 1)?)
        }
        Step::Adopt(key, parent) => {
            let place = Parent {
                instance_id: "i0".to_owned(),
                name: "Order".to_owned(),
                task: task_ref(2),
                attempt: 1,
            };
            rows.adopt(*key, *parent, &place)?;
            format!("{:?}", rows.children(*parent, false)?)
        }
        Step::Orphan(key) => {
            rows.orphan(*key)?;
            format!("{:?}", rows.parent(*key)?)
        }
    })
}

proptest! {
    // The same cases each time.
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_a_batch_does_the_overlay_does_it_too(
        instances in 0..4_usize,
        batches in vec((vec(any::<Dice>(), 1..10), vec(prop::bool::weighted(0.15), 10), prop::bool::weighted(0.1), any::<bool>()), 1..20),
    ) {
        let mut both = Both::new(instances);
        for (dice, fails, is_lost, prefetches) in batches {
            both.batch(&dice, &fails, is_lost, prefetches);
        }
    }
}
