//! The plan of each statement of a writer.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use perennial_core::{Digest, Timestamp};

use crate::store::memory::delta::Delta;
use crate::store::memory::{Memory, Module};
use crate::store::overlay::source::{Source as _, Wanted};
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::copy::Copy;
use crate::store::postgres::session::Session;
use crate::store::postgres::testing::plans::{
    Excused, PREPARED, Plans, check_in_all_states, plans, texts_of,
};
use crate::store::postgres::testing::server;
use crate::store::postgres::tests::rows::{BOUND, Dice, fill, thin_out};
use crate::store::postgres::writer::COUNT_LIVE;
use crate::store::types::InstanceKey;

/// Statements that may do what others must not. No index serves them: each turn would pay for what happens seldom.
const EXCUSED: &Excused = &[
    (
        "SELECT module FROM instance WHERE status IN (0, 1, 2, 4)",
        "it looks at all open tasks, when modules are collected",
    ),
    (
        "SELECT (CASE WHEN NOT EXISTS (SELECT 1 FROM instance",
        "it looks at all open tasks, when modules are deleted",
    ),
    (
        "UPDATE task SET cut = cut + 1",
        "it looks at all open tasks, once after a power failure",
    ),
];

/// Reads whatever a writer may read.
fn read_all(copy: &mut Copy) {
    let keys = vec![InstanceKey(1), InstanceKey(2)];
    let source = copy.overlay.source();
    let wanted = Wanted {
        keys: keys.clone(),
        ids: vec!["a".to_owned()],
        starts: vec!["a".to_owned()],
        parents_of: keys.clone(),
        live_children_of: keys.clone(),
        ended_children_of: keys.clone(),
        asked_by: keys.clone(),
        below: keys.clone(),
        sent: vec![1],
        tokens: vec!["t".to_owned()],
        hub: true,
    };
    let own = Partitions::some(64, [Partition(0), Partition(1)]);
    source.load(&wanted, &own).unwrap();
    source.messages_for(&own, 100, &[]).unwrap();
    source.partitions_asked_by(keys[0]).unwrap();
    source.glance("a").unwrap();
    source.lives_below(keys[0], &own, &keys).unwrap();
    source.history(keys[0], 0, 0).unwrap();
    let left = source.garbage(100, &own).unwrap();
    source.garbage_of(&left, 100).unwrap();
    let digest = Digest([7; 32]);
    source.live_on(digest, &keys).unwrap();
    source.used_modules(&[digest], &keys).unwrap();
}

/// Adds, changes and deletes rows of each table.
fn write_all(memory: &mut Memory, copy: &mut Copy) {
    for seed in 0..4 {
        fill(memory, &mut Dice(seed));
        copy.write(&memory.take_delta());
    }
    thin_out(memory);
    let mut delta = memory.take_delta();
    delta.delete_turns = vec![InstanceKey(2)];
    delta.count_unknown = vec![(Partitions::default(), Timestamp(5))];
    delta.delete_answered = Some(Timestamp(5));
    copy.write(&delta);
    // Where others own something, modules that are deleted are looked for.
    delta = Delta {
        own: Partitions::some(64, [Partition(1)]),
        ..Delta::default()
    };
    memory.modules.insert(Digest([9; 32]), a_module());
    copy.write(&memory.take_delta());
    memory.modules.remove(&Digest([9; 32]));
    delta.modules = memory.take_delta().modules;
    copy.write(&delta);
}

fn a_module() -> Module {
    Module {
        component: vec![9],
        bytes: 1,
        contract: "0.2".to_owned(),
        definitions: Vec::new(),
        imports: Vec::new(),
        stored_at: Timestamp(5),
    }
}

fn session(copy: &mut Copy) -> &Session {
    copy.overlay.source().session().unwrap()
}

/// All statements of a writer, with their plans on a hub that has some rows; made once. `None` if there is no server.
pub(super) fn writes() -> Option<&'static (BTreeMap<String, usize>, Plans)> {
    server()?;
    static WRITES: OnceLock<Option<(BTreeMap<String, usize>, Plans)>> = OnceLock::new();
    let made = WRITES.get_or_init(|| {
        let mut memory = Memory::default();
        let mut copy = Copy::of(&memory, BOUND)?;
        read_all(&mut copy);
        let prepared = |copy: &mut Copy| texts_of(&session(copy).query(PREPARED, &[]).unwrap());
        session(&mut copy).query(COUNT_LIVE, &[]).unwrap();
        let reads = prepared(&mut copy);
        write_all(&mut memory, &mut copy);
        read_all(&mut copy);
        let statements: BTreeMap<_, _> = reads.into_iter().chain(prepared(&mut copy)).collect();
        assert!(statements.len() > 60, "{} statements", statements.len());
        let few = plans(session(&mut copy), &statements);
        Some((statements, few))
    });
    made.as_ref()
}

#[test]
fn a_writer_finds_rows_by_the_same_indexes_whatever_was_there_when_tables_were_analyzed() {
    let Some((statements, few)) = writes() else {
        return;
    };
    let Some(mut empty) = Copy::of(&Memory::default(), BOUND) else {
        return;
    };
    let empty = session(&mut empty);
    check_in_all_states(
        &|sql| empty.batch(sql).unwrap(),
        &|| plans(empty, statements),
        few,
        EXCUSED,
    );
}
