//! Reads a whole hub into memory.

use perennial_core::{Digest, Event, Millis, TaskId, TaskRef, Timestamp, Turn};
use rusqlite::{Connection, Row};

use crate::store::StoreError;
use crate::store::codec::{decode, uint};
use crate::store::memory::{Instance, Mail, Memory, Module, Name, Request, RewindRow, Task};
use crate::store::numbers::policy_of;
use crate::store::rows::inbox::InboxRows;
use crate::store::rows::instances::{InstanceRows, ValueRows};
use crate::store::sqlite::rows::sql::Sql;
use crate::store::sqlite::rows::{keys, modules, tasks};
use crate::store::types::{Asker, InstanceKey, TaskRow};

/// Reads all rows.
pub(in crate::store) fn load(db: &Connection) -> Result<Memory, StoreError> {
    let mut memory = Memory::default();
    instances(db, &mut memory)?;
    histories(db, &mut memory)?;
    each(
        db,
        "SELECT instance, seq, message, at, bytes FROM inbox",
        |row| {
            let message: Vec<u8> = row.get(2)?;
            let mail = Mail {
                message: decode(&message, "a message")?,
                at: Timestamp(uint(row.get(3)?)),
                size: message.len() as u64,
                bytes: uint(row.get(4)?),
            };
            memory.inbox.insert((key(row, 0)?, uint(row.get(1)?)), mail);
            Ok(())
        },
    )?;
    let columns = tasks::COLUMNS;
    each(db, &format!("SELECT {columns}, module FROM task"), |row| {
        // When the due time was set is not in the row.
        let found = TaskRow {
            set_at: Timestamp(0),
            ..tasks::read(row)?
        };
        let place = (found.key, found.task.task);
        let module = row.get::<_, Option<[u8; 32]>>("module")?.map(Digest);
        memory.tasks.insert(place, Task { row: found, module });
        Ok(())
    })?;
    requests(db, &mut memory)?;
    hub(db, &mut memory)?;
    itself(db, &mut memory)?;
    memory.forget_undo();
    Ok(memory)
}

fn each(
    db: &Connection,
    sql: &str,
    mut row: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query([])?;
    while let Some(found) = rows.next()? {
        row(found)?;
    }
    Ok(())
}

fn key(row: &Row<'_>, column: usize) -> Result<InstanceKey, StoreError> {
    Ok(InstanceKey(row.get(column)?))
}

fn instances(db: &Connection, memory: &mut Memory) -> Result<(), StoreError> {
    let mut found = Vec::new();
    let sql = "SELECT key, inbox_next, inbox_bytes, unread_bytes, deliveries, when_dropped, execution_timeout, has_requests FROM instance";
    each(db, sql, |row| {
        let at = key(row, 0)?;
        let policy: Option<u8> = row.get(5)?;
        let Some(head) = Sql(db).head(at)? else {
            return Ok(());
        };
        let Some(full) = Sql(db).instance(at)? else {
            return Ok(());
        };
        found.push(Instance {
            row: crate::store::InstanceRow {
                parent: head.parent,
                ..full
            },
            waiting: Sql(db).waiting(at)?,
            parent_id: head.parent_id,
            inbox_next: uint(row.get(1)?),
            inbox_bytes: uint(row.get(2)?),
            unread_bytes: uint(row.get(3)?),
            deliveries: row.get(4)?,
            when_dropped: policy_of(policy)?,
            execution_timeout: row.get::<_, Option<i64>>(6)?.map(uint).map(Millis),
            has_requests: row.get(7)?,
        });
        Ok(())
    })?;
    for instance in found {
        let at = instance.row.key;
        for value in Sql(db).values(at)? {
            memory.values.insert((at, value.name.clone()), value);
        }
        memory.put_instance(instance);
    }
    Ok(())
}

/// Reads a turn whose columns from this one on are number, first event, time, answer, and events received and produced.
fn turn(row: &Row<'_>, first: usize) -> Result<Turn, StoreError> {
    let events = |column: usize| -> Result<Vec<Event>, StoreError> {
        decode(&row.get::<_, Vec<u8>>(column)?, "events")
    };
    Ok(Turn {
        number: row.get(first)?,
        first_event: uint(row.get(first + 1)?),
        at: Timestamp(uint(row.get(first + 2)?)),
        answer: row
            .get::<_, Option<i64>>(first + 3)?
            .map(i64::cast_unsigned),
        received: events(first + 4)?,
        produced: events(first + 5)?,
        next: None,
    })
}

fn histories(db: &Connection, memory: &mut Memory) -> Result<(), StoreError> {
    let sql =
        "SELECT instance, execution, number, first_event, at, answer, received, produced FROM turn";
    each(db, sql, |row| {
        let turn = turn(row, 2)?;
        let place = (key(row, 0)?, row.get(1)?, turn.number);
        memory.turns.insert(place, turn);
        Ok(())
    })?;
    let sql = "SELECT instance, execution, generation, number, first_event, at, answer, received, produced FROM cut_turn";
    each(db, sql, |row| {
        let turn = turn(row, 3)?;
        let place = (key(row, 0)?, row.get(1)?, row.get(2)?, turn.number);
        memory.cut_turns.insert(place, turn);
        Ok(())
    })?;
    let sql = "SELECT instance, execution, generation, at, reason, cut FROM rewind";
    each(db, sql, |row| {
        let rewind = RewindRow {
            at: Timestamp(uint(row.get(3)?)),
            reason: row.get(4)?,
            cut: row.get(5)?,
        };
        let place = (key(row, 0)?, row.get(1)?, row.get(2)?);
        memory.rewinds.insert(place, rewind);
        Ok(())
    })?;
    each(db, "SELECT instance, execution FROM garbage", |row| {
        let execution = u32::try_from(row.get::<_, i64>(1)?).ok();
        memory.garbage.insert((key(row, 0)?, execution), ());
        Ok(())
    })
}

fn requests(db: &Connection, memory: &mut Memory) -> Result<(), StoreError> {
    let sql = "SELECT instance, id, name, at, answered_at, answer, asker, execution, generation, task FROM request";
    each(db, sql, |row| {
        let asker = match row.get::<_, Option<i64>>(6)? {
            Some(asker) => Some(Asker {
                key: InstanceKey(asker),
                task: TaskRef {
                    execution: row.get(7)?,
                    generation: row.get(8)?,
                    task: TaskId(row.get(9)?),
                },
            }),
            None => None,
        };
        let answer = match (
            row.get::<_, Option<i64>>(4)?,
            row.get::<_, Option<Vec<u8>>>(5)?,
        ) {
            (Some(at), Some(bytes)) => Some((Timestamp(uint(at)), decode(&bytes, "an answer")?)),
            _ => None,
        };
        let request = Request {
            name: row.get(2)?,
            at: Timestamp(uint(row.get(3)?)),
            asker,
            answer,
        };
        memory.requests.insert((key(row, 0)?, row.get(1)?), request);
        Ok(())
    })
}

/// What no change reads or writes.
fn itself(db: &Connection, memory: &mut Memory) -> Result<(), StoreError> {
    each(
        db,
        "SELECT created_at, secret, owner_epoch, commits, at FROM hub",
        |row| {
            memory.hub.created_at = Timestamp(uint(row.get(0)?));
            memory.hub.secret = row.get(1)?;
            memory.hub.epoch = uint(row.get(2)?);
            memory.number = uint(row.get(3)?);
            memory.at = Timestamp(uint(row.get(4)?));
            Ok(())
        },
    )?;
    each(db, "SELECT token, rowid, body FROM command", |row| {
        let sent = (row.get(1)?, crate::store::Partition(0), row.get(2)?);
        memory.hub.sent.insert(row.get(0)?, sent);
        Ok(())
    })
}

fn hub(db: &Connection, memory: &mut Memory) -> Result<(), StoreError> {
    each(
        db,
        "SELECT digest, component, stored_at, contract, definitions, imports FROM module",
        |row| {
            let component: Vec<u8> = row.get(1)?;
            let imports: String = row.get(5)?;
            let module = Module {
                bytes: component.len() as u64,
                component,
                contract: row.get(3)?,
                definitions: modules::definitions(&row.get::<_, String>(4)?)?,
                imports: serde_json::from_str(&imports)
                    .map_err(|e| StoreError::Corrupt(e.to_string()))?,
                stored_at: Timestamp(uint(row.get(2)?)),
            };
            memory.modules.insert(Digest(row.get(0)?), module);
            Ok(())
        },
    )?;
    each(
        db,
        "SELECT name, digest, grants, limits, deployed_at FROM module_name",
        |row| {
            let name = Name {
                digest: Digest(row.get(1)?),
                grants: row.get(2)?,
                limits: row.get(3)?,
                deployed_at: Timestamp(uint(row.get(4)?)),
            };
            memory.names.insert(row.get(0)?, name);
            Ok(())
        },
    )?;
    let names = modules::names(db)?;
    memory.definitions = names.definitions.into_iter().collect();
    each(
        db,
        "SELECT name, version, module, digest FROM definition_version",
        |row| {
            let of = (row.get(2)?, Digest(row.get(3)?));
            memory.versions.insert((row.get(0)?, row.get(1)?), of);
            Ok(())
        },
    )?;
    each(db, "SELECT name, value FROM setting", |row| {
        memory.settings.insert(row.get(0)?, row.get(1)?);
        Ok(())
    })?;
    let by_id = keys::list(db)?.into_iter().map(|row| (row.id.clone(), row));
    memory.keys = by_id.collect();
    each(db, "SELECT token, at, answer FROM command", |row| {
        let command = (Timestamp(uint(row.get(1)?)), row.get(2)?);
        memory.commands.insert(row.get(0)?, command);
        Ok(())
    })
}
