//! Tests of the store on temporary files.

mod backups;
mod batches;
mod commits;
mod files;
mod formats;
mod kinds;
mod lists;
mod looks;
mod overlay;
mod overlay_shared;
mod overviews;
mod plans;
#[cfg(feature = "postgres")]
mod postgres_damage;
#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres_plans;
#[cfg(feature = "postgres")]
mod postgres_reads;
#[cfg(feature = "postgres")]
mod postgres_rows;
mod purges;
mod shared;
mod space;
#[cfg(feature = "postgres")]
mod transfer_failures;
#[cfg(feature = "postgres")]
mod transfer_keys;
#[cfg(feature = "postgres")]
mod transfers;
mod writing;

use std::path::PathBuf;
use std::sync::mpsc;

use perennial_core::{
    Digest, Event, Json, Limits, Message, Parent, Reuse, SEMANTICS_VERSION, Start, Status, Target,
    TaskId, TaskRef, Timestamp, Turn, Waiting,
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::store::sqlite::owned::take_over;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::types::Summary;
use crate::store::{
    Change, InstanceKey, InstanceRow, NewInstance, Outcome, Owned, Position, Reader, Reply,
    StoreError, TurnCommit, Write,
};

/// A module of one zero byte.
pub(super) const MODULE: Digest = Digest([
    0x6e, 0x34, 0x0b, 0x9c, 0xff, 0xb3, 0x7a, 0x98, 0x9c, 0xa5, 0x44, 0xe6, 0xbb, 0x78, 0x0a, 0x2c,
    0x78, 0x90, 0x1d, 0x3f, 0xb3, 0x37, 0x38, 0x76, 0x85, 0x11, 0xa3, 0x06, 0x17, 0xaf, 0xa0, 0x1d,
]);

/// A hub and its owner.
struct Hub {
    dir: TempDir,
    owned: Owned,
}

impl Hub {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let owned = take_over(&dir.path().join("hub.db"), Timestamp(1_000)).unwrap();
        let hub = Self { dir, owned };
        // The module of every instance here.
        let module = "INSERT INTO module VALUES (?1, x'00', '0.1', '[]', '[]', 0)";
        hub.other().execute(module, [MODULE.0]).unwrap();
        hub
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("hub.db")
    }

    fn reader(&self) -> &Reader {
        &self.owned.reader
    }

    /// The reader of the file.
    fn file_reader(&self) -> &FileReader {
        self.reader().of().unwrap()
    }

    /// Another connection, as of another process.
    fn other(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn count(&self, sql: &str) -> i64 {
        self.other().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Submits a change; the result comes later.
    fn submit(&self, change: Change) -> mpsc::Receiver<Result<Outcome, StoreError>> {
        let (tell, told) = mpsc::channel();
        let write = Write::new(change, Timestamp(2_000), move |_, result| {
            tell.send(result).unwrap()
        });
        self.owned.writer.submit(write);
        told
    }

    fn write(&self, change: Change) -> Result<Outcome, StoreError> {
        self.submit(change).recv().unwrap()
    }

    fn does(&self, change: Change) -> Outcome {
        let outcome = self.write(change).unwrap();
        assert_eq!(outcome.reply, Reply::Done);
        outcome
    }

    fn start(&self, key: i64, id: &str) {
        self.does(Change::Start(new(key, id)));
    }

    /// The content of the hub, except the counter of commits.
    fn dump(&self) -> Vec<String> {
        let db = self.other();
        let mut dump = Vec::new();
        for table in [
            "instance",
            "instance_tag",
            "instance_value",
            "turn",
            "task",
            "inbox",
            "garbage",
            "command",
            "setting",
        ] {
            let mut rows = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let width = rows.column_count();
            let mut rows = rows.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<rusqlite::types::Value> =
                    (0..width).map(|column| row.get(column).unwrap()).collect();
                dump.push(format!("{table}: {values:?}"));
            }
        }
        dump
    }

    fn inbox(&self, key: i64) -> Vec<(u64, Message)> {
        let envelopes = self
            .reader()
            .inbox(InstanceKey(key), 0, 10_000)
            .unwrap()
            .envelopes;
        envelopes
            .into_iter()
            .map(|envelope| (envelope.seq.unwrap(), envelope.message))
            .collect()
    }
}

pub(super) fn new(key: i64, id: &str) -> NewInstance {
    NewInstance {
        key: InstanceKey(key),
        parent: None,
        start: Box::new(start_of(id)),
        reuse: Reuse::Ended,
        options: perennial_core::InstanceOptions::default(),
    }
}

fn start_of(id: &str) -> Start {
    Start {
        instance_id: id.to_owned(),
        execution_id: format!("e-{id}"),
        execution: 0,
        name: "Order".to_owned(),
        version: None,
        input: None,
        parent: None,
        tags: Vec::new(),
        trace_parent: None,
        seed: 7,
        module: Some(MODULE),
        limits: Limits::default(),
        next_external: 0,
        semantics: SEMANTICS_VERSION,
        accepted_at: Timestamp(2_000),
        scheduled_for: None,
    }
}

fn child_of(new: NewInstance, parent: i64, id: &str, task: u32) -> NewInstance {
    let parent_of = Parent {
        instance_id: id.to_owned(),
        name: "Order".to_owned(),
        task: task_ref(task),
        attempt: 1,
    };
    let start = Start {
        parent: Some(parent_of),
        ..*new.start
    };
    NewInstance {
        parent: Some(InstanceKey(parent)),
        start: Box::new(start),
        ..new
    }
}

fn scheduled(task: u32) -> Event {
    Event::ActivityScheduled {
        task: TaskId(task),
        name: "Work".to_owned(),
        input: None,
        retry: None,
        attempt_timeout: None,
        target: Target::Native,
    }
}

fn task_ref(task: u32) -> TaskRef {
    TaskRef {
        execution: 0,
        generation: 0,
        task: TaskId(task),
    }
}

pub(super) fn event(data: &str) -> Message {
    Message::ExternalEvent {
        number: None,
        name: "go".to_owned(),
        data: Some(Json::from_text(data)),
    }
}

/// A turn of an existing instance, with these events.
fn turn(hub: &Hub, key: i64, status: Status, produced: Vec<Event>) -> TurnCommit {
    let row = hub
        .reader()
        .instance_by_key(InstanceKey(key))
        .unwrap()
        .unwrap();
    turn_of(&row, status, produced)
}

/// A turn of the instance in this row, with these events.
fn turn_of(row: &InstanceRow, status: Status, produced: Vec<Event>) -> TurnCommit {
    let received = vec![Event::TurnStarted {
        now: Timestamp(3_000),
        history_events: 0,
        history_bytes: 0,
    }];
    let output = (status == Status::Completed).then(|| Json::from_text("5"));
    TurnCommit {
        key: row.key,
        id: row.id.clone(),
        expected: row.position(),
        status_before: row.status,
        create: None,
        turn: Turn {
            number: row.turns,
            first_event: row.next_event,
            at: Timestamp(3_000),
            received,
            produced,
            answer: Some(9),
            next: None,
        },
        consumed: Vec::new(),
        after: Summary {
            unread_bytes: 0,
            status,
            returned: false,
            history_bytes: 10,
            custom_status: None,
            value_count: 0,
            output,
            failure: None,
            waiting: Waiting::default(),
        },
        starts: Vec::new(),
        carried: Vec::new(),
        is_child: row.parent_key.is_some(),
        cascade: None,
        retried: Vec::new(),
        binds_children: false,
        running: Vec::new(),
    }
}

/// The first turn of a new instance.
pub(super) fn first_turn(new: NewInstance) -> TurnCommit {
    TurnCommit {
        key: new.key,
        id: new.start.instance_id.clone(),
        expected: Position {
            execution: 0,
            generation: 0,
            next_event: 0,
        },
        status_before: Status::Pending,
        turn: Turn {
            number: 0,
            first_event: 0,
            at: Timestamp(3_000),
            received: vec![Event::ExecutionStarted(new.start.clone())],
            produced: Vec::new(),
            answer: Some(9),
            next: None,
        },
        create: Some(new),
        consumed: Vec::new(),
        after: Summary {
            unread_bytes: 0,
            status: Status::Running,
            returned: false,
            history_bytes: 10,
            custom_status: None,
            value_count: 0,
            output: None,
            failure: None,
            waiting: Waiting::default(),
        },
        starts: Vec::new(),
        carried: Vec::new(),
        is_child: false,
        cascade: None,
        retried: Vec::new(),
        binds_children: false,
        running: Vec::new(),
    }
}

pub(super) fn turn_change(commit: TurnCommit) -> Change {
    Change::Turn(Box::new(commit))
}
