//! Rows of all tables, with hostile values, as they are written and read again.

use perennial_core::{
    AttemptRun, ChildPolicy, Digest, Event, FailedAttempt, Failure, Json, Message, Millis, Parent,
    Quarantine, Status, Target, TaskId, TaskRef, Timestamp, Turn, Waiting,
};

use crate::store::memory::{Instance, Mail, Memory, Module, Name, Request, RewindRow, Task};
use crate::store::outbox::OutboxMessage;
use crate::store::overlay::Bound;
use crate::store::partition::Partition;
use crate::store::postgres::copy::Copy;
use crate::store::rows::outbox::OutboxRows;
use crate::store::types::{
    Asker, Beat, Definition, DefinitionKind, InstanceKey, InstanceRow, KeyRow, TaskRow,
    TaskRowKind, ValueRow,
};

pub(super) const BOUND: Bound = Bound {
    instances: 0,
    bytes: 0,
};

/// Numbers and texts that follow from a seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let at = self.next() % all.len() as u64;
        all[usize::try_from(at).unwrap()].clone()
    }

    fn small(&mut self) -> u32 {
        self.of(&[0, 1, 7, i32::MAX as u32, u32::MAX])
    }

    fn big(&mut self) -> u64 {
        self.of(&[0, 1, 1 << 40, i64::MAX as u64])
    }

    fn at(&mut self) -> Timestamp {
        Timestamp(self.big())
    }

    fn text(&mut self) -> String {
        let huge = "x\u{1f980}".repeat(20_000);
        self.of(&[
            "",
            "plain",
            "it's \"q\" \\ % _ $1 {}",
            "\u{e9}\u{6f22}\u{1f980}\u{feff}",
            "\u{1}\u{7f}\r\n\t",
            "NULL",
            "{a,b}",
            &huge,
        ])
        .to_owned()
    }

    fn json(&mut self) -> Json {
        let text = self.of(&[
            "null",
            "\"\"",
            "\"\\u0000\"",
            "{\"a\": [1, 2.50, \"\u{1f980}\"]}",
            " 1 ",
            "123456789012345678901234567890",
        ]);
        Json::from_text(text)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.next().is_multiple_of(2).then(|| make(self))
    }

    fn digest(&mut self) -> Digest {
        let byte = self.of(&[0, 1, 255]);
        Digest([byte; 32])
    }

    fn failure(&mut self) -> Failure {
        Failure::permanent(self.text(), "a\0b")
    }
}

fn instance(dice: &mut Dice, key: i64, parent: Option<i64>) -> Instance {
    let waiting = dice.maybe(|dice| Waiting {
        events: vec![dice.text()],
        note: Some("\0".to_owned()),
        ..Waiting::default()
    });
    let task = TaskRef {
        execution: dice.small(),
        generation: dice.small(),
        task: TaskId(dice.small()),
    };
    let parent_of = Parent {
        instance_id: dice.text(),
        name: dice.text(),
        task,
        attempt: dice.small(),
    };
    Instance {
        row: InstanceRow {
            key: InstanceKey(key),
            id: format!("{}{key}", dice.of(&["", "\u{e9}", "' --"])),
            name: dice.text().chars().take(256).collect(),
            version: dice.maybe(|dice| dice.text().chars().take(256).collect()),
            module: dice.maybe(Dice::digest),
            status: dice.of(&Status::ALL),
            execution: dice.small(),
            execution_id: dice.text(),
            generation: dice.small(),
            next_event: dice.big(),
            turns: dice.small(),
            history_bytes: dice.big(),
            returned: dice.next().is_multiple_of(2),
            created_at: dice.at(),
            started_at: dice.maybe(Dice::at),
            updated_at: dice.at(),
            scheduled_for: dice.maybe(Dice::at),
            parent: dice.maybe(|_| parent_of),
            parent_key: parent.map(InstanceKey),
            tags: dice
                .maybe(|_| {
                    vec![
                        ("a".to_owned(), String::new()),
                        ("b'\u{e9}".to_owned(), "\\x00".to_owned()),
                    ]
                })
                .unwrap_or_default(),
            custom_status: dice.maybe(Dice::json),
            output: dice.maybe(Dice::json),
            failure: dice.maybe(Dice::failure),
            waiting: waiting.clone().unwrap_or_default(),
            quarantine: dice.maybe(|_| Quarantine::because("a\0b")),
            value_count: dice.small(),
        },
        waiting,
        parent_id: dice.maybe(Dice::text),
        inbox_next: dice.big(),
        inbox_bytes: dice.big(),
        unread_bytes: dice.big(),
        deliveries: dice.small(),
        when_dropped: dice.of(&[
            ChildPolicy::Abandon,
            ChildPolicy::Cancel,
            ChildPolicy::Terminate,
        ]),
        execution_timeout: dice.maybe(|dice| Millis(dice.big())),
        has_requests: dice.next().is_multiple_of(2),
    }
}

fn task(dice: &mut Dice, key: InstanceKey, id: TaskId) -> Task {
    let run = AttemptRun {
        attempt: dice.small(),
        started_at: dice.at(),
        ended_at: dice.at(),
    };
    Task {
        row: TaskRow {
            key,
            task: TaskRef {
                execution: dice.small(),
                generation: dice.small(),
                task: id,
            },
            kind: dice.of(&[
                TaskRowKind::Activity,
                TaskRowKind::Timer,
                TaskRowKind::ChildRetry,
                TaskRowKind::Limit,
            ]),
            turn: dice.small(),
            scheduled_in: dice.small(),
            due: dice.maybe(Dice::at),
            attempt: dice.small(),
            first_started: dice.maybe(Dice::at),
            deliveries: dice.small(),
            cut: dice.small(),
            begun_at: dice.maybe(Dice::at),
            heartbeat: dice.maybe(|dice| Beat {
                at: dice.at(),
                details: dice.maybe(Dice::json),
            }),
            failure: dice.maybe(Dice::failure),
            attempts: dice
                .maybe(|dice| {
                    vec![FailedAttempt {
                        run,
                        failure: dice.failure(),
                    }]
                })
                .unwrap_or_default(),
            set_at: Timestamp(0),
            target: dice.maybe(|dice| Target::Module(dice.digest())),
        },
        module: dice.maybe(Dice::digest),
    }
}

fn a_turn(dice: &mut Dice, number: u32) -> Turn {
    let event = Event::TurnStarted {
        now: dice.at(),
        history_events: dice.small(),
        history_bytes: 0,
    };
    Turn {
        number,
        first_event: dice.big(),
        at: dice.at(),
        received: vec![event],
        produced: Vec::new(),
        answer: dice.maybe(|_| u64::MAX),
        next: None,
    }
}

fn mail(dice: &mut Dice) -> Mail {
    let message = Message::ExternalEvent {
        number: None,
        name: dice.text(),
        data: dice.maybe(Dice::json),
    };
    let size = crate::store::encode(&message).unwrap().len() as u64;
    Mail {
        message,
        at: dice.at(),
        size,
        bytes: dice.big(),
    }
}

/// Puts rows of this seed into all tables; those that are there already are replaced, so that some change and some stay.
pub(super) fn fill(memory: &mut Memory, dice: &mut Dice) {
    for key in [1, 2, 1 << 53, i64::MAX] {
        fill_instance(memory, dice, key);
    }
    for byte in [0, 7, 255] {
        fill_hub(memory, dice, byte);
    }
    for _ in 0..3 {
        let (to, message) = sent(dice);
        memory.send(to, message).unwrap();
    }
}

fn fill_instance(memory: &mut Memory, dice: &mut Dice, key: i64) {
    let of = InstanceKey(key);
    let parent = dice.maybe(|dice| dice.of(&[1, 2]));
    memory.take_instance(of);
    memory.put_instance(instance(dice, key, parent));
    for seq in [0, 1, i64::MAX as u64] {
        memory.inbox.insert((of, seq), mail(dice));
    }
    for id in [0, 5, u32::MAX] {
        memory
            .tasks
            .insert((of, TaskId(id)), task(dice, of, TaskId(id)));
    }
    for name in ["", "a\u{e9}", "' --"] {
        let value = ValueRow {
            name: name.to_owned(),
            value: dice.json(),
            version: dice.big(),
            at: dice.at(),
        };
        memory.values.insert((of, name.to_owned()), value);
        let asker = dice.maybe(|dice| Asker {
            key: InstanceKey(dice.of(&[1, i64::MAX])),
            task: TaskRef {
                execution: dice.small(),
                generation: dice.small(),
                task: TaskId(dice.small()),
            },
        });
        let answer = dice.maybe(|dice| {
            (
                dice.at(),
                dice.maybe(|_| ()).map_or_else(
                    || Ok(Some(Json::from_text("1"))),
                    |()| Err(Failure::permanent("\0", "")),
                ),
            )
        });
        let request = Request {
            name: dice.text(),
            at: dice.at(),
            asker,
            answer,
        };
        memory.requests.insert((of, name.to_owned()), request);
    }
    for number in [0, 1, u32::MAX] {
        memory.turns.insert((of, 0, number), a_turn(dice, number));
        memory
            .cut_turns
            .insert((of, u32::MAX, 3, number), a_turn(dice, number));
        let reason = dice.of(&[None, Some("a\0b\u{e9}".to_owned())]);
        memory.rewinds.insert(
            (of, number, 0),
            RewindRow {
                at: dice.at(),
                reason,
                cut: dice.small(),
            },
        );
    }
    memory
        .garbage
        .insert((of, dice.of(&[None, Some(0), Some(u32::MAX)])), ());
}

fn fill_hub(memory: &mut Memory, dice: &mut Dice, byte: u8) {
    let definition = Definition {
        kind: DefinitionKind::Activity,
        name: dice.text(),
        version: None,
        description: Some("\0".to_owned()),
        input_schema: None,
    };
    let digest = Digest([byte; 32]);
    let known = memory.modules.get(&digest).cloned();
    let module = Module {
        component: vec![byte; 100_000],
        bytes: 100_000,
        contract: dice.text(),
        definitions: vec![definition],
        imports: vec![dice.text()],
        stored_at: dice.at(),
    };
    // Of one that is there only the component may change.
    let module = known.map_or(module.clone(), |known| Module {
        component: module.component,
        ..known
    });
    memory.modules.insert(digest, module);
    let name = format!("m{byte}");
    let row = Name {
        digest: dice.digest(),
        grants: dice.json().to_string(),
        limits: dice.text(),
        deployed_at: dice.at(),
    };
    memory.names.insert(name.clone(), row);
    for kind in [DefinitionKind::Orchestration, DefinitionKind::Activity] {
        let owned = (dice.text(), dice.digest(), dice.maybe(Dice::text));
        memory.definitions.insert((kind, name.clone()), owned);
    }
    memory.versions.insert(
        (name.clone(), "1'".to_owned()),
        (dice.text(), dice.digest()),
    );
    memory.settings.insert(name.clone(), dice.text());
    let key = KeyRow {
        id: name.clone(),
        name: dice.text(),
        admin: dice.next().is_multiple_of(2),
        hash: [byte; 32],
        created_at: dice.at(),
    };
    memory.keys.insert(name, key);
}

/// A message of the outbox with hostile values.
fn sent(dice: &mut Dice) -> (Partition, OutboxMessage) {
    let message = OutboxMessage::Event {
        by: dice.text(),
        to: dice.text(),
        name: "a\0b".to_owned(),
        data: dice.maybe(Dice::json),
    };
    (Partition(dice.of(&[0, 63])), message)
}

/// Deletes some rows of each table.
pub(super) fn thin_out(memory: &mut Memory) {
    let of = InstanceKey(2);
    memory.take_instance(of);
    memory.inbox.retain(|key, _| key.0 != of);
    memory.tasks.retain(|key, _| key.0 != of);
    memory.values.retain(|key, _| key.0 != of);
    memory.requests.retain(|key, _| key.0 != of);
    memory.turns.retain(|key, _| key.2 > 0);
    memory.cut_turns.retain(|key, _| key.3 > 0);
    memory.rewinds.retain(|key, _| key.1 > 0);
    memory.garbage.retain(|key, ()| key.1.is_none());
    memory.modules.retain(|digest, _| digest.0[0] > 0);
    memory.names.retain(|name, _| name != "m7");
    memory.definitions.retain(|(_, name), _| name != "m7");
    memory.versions.retain(|(name, _), _| name != "m7");
    memory.settings.retain(|name, _| name != "m7");
    memory.keys.retain(|name, _| name != "m7");
    // A message that is sent and received in one batch gets no number.
    let last = memory.outbox.keys().max().copied().unwrap_or(0);
    memory
        .outbox
        .retain(|seq, _| seq % 2 > 0 || *seq + 3 > last);
}

#[test]
fn rows_with_hostile_values_are_read_as_they_were_written() {
    let mut memory = Memory::default();
    let Some(mut copy) = Copy::of(&memory, BOUND) else {
        return;
    };
    for seed in 0..12 {
        fill(&mut memory, &mut Dice(seed));
        if seed % 4 == 3 {
            thin_out(&mut memory);
        }
        copy.write(&memory.take_delta());
        let differences = copy.load().differences(&memory);
        assert!(differences.is_empty(), "{seed}: {}", differences.join("\n"));
    }
}
