//! The tables that a batch of changes writes, and their rows as values of columns.

use perennial_core::{Digest, Json, TaskId, Timestamp, Turn};

use crate::store::StoreError;
use crate::store::codec::{encode, encode_tags, int};
use crate::store::memory::{
    CommandRow, Instance, Mail, Module, Name, OwnedDefinition, Posted, Request, RewindRow, Task,
};
use crate::store::numbers::{definition_number, policy_number, status_number, task_kind_number};
use crate::store::postgres::partitions;
use crate::store::postgres::writer::columns::Cell;
use crate::store::schema::Kind::{Bytes, Int, Small, Text};
use crate::store::schema::{INSTANCE_COLUMNS, Table};
use crate::store::types::{DefinitionKind, InstanceKey, KeyRow, ValueRow};

/// An execution number that stands for all executions of an instance.
pub(super) const ALL_EXECUTIONS: i64 = -1;

/// How many columns of an instance a turn may change, with the key.
const OF_TURN: usize = 18;

pub(super) static INSTANCE_AT_TURN: Table = Table {
    id: "instance at a turn",
    name: "instance",
    keys: 1,
    columns: INSTANCE_COLUMNS.split_at(OF_TURN).0,
};
/// All of a module that may change.
pub(super) static COMPONENT: Table = Table {
    id: "component of a module",
    name: "module",
    keys: 1,
    columns: &[("digest", Bytes), ("component", Bytes)],
};
/// A message that is sent, which the database numbers.
pub(super) static SENT: Table = Table {
    id: "message that is sent",
    name: "outbox",
    keys: 0,
    columns: &[
        ("partition", Small),
        ("module", Bytes),
        ("parent", Int),
        ("asker", Int),
        ("body", Bytes),
    ],
};
/// One that is received.
pub(super) static RECEIVED: Table = Table {
    id: "message that is received",
    name: "outbox",
    keys: 1,
    columns: &[("seq", Int)],
};
/// Other processes add commands and withdraw them; a batch answers some.
pub(super) static COMMAND: Table = Table {
    id: "command",
    name: "command",
    keys: 1,
    columns: &[("token", Text), ("answer", Bytes), ("body", Bytes)],
};

pub(super) fn number(number: impl Into<i64>) -> Cell {
    Cell::Int(Some(number.into()))
}

pub(super) fn big(number: u64) -> Cell {
    Cell::Int(Some(int(number)))
}

fn time(at: Option<Timestamp>) -> Cell {
    Cell::Int(at.map(|at| int(at.0)))
}

pub(super) fn text(text: &str) -> Cell {
    Cell::Text(Some(text.to_owned()))
}

fn json(json: Option<&Json>) -> Cell {
    Cell::Text(json.map(|json| json.as_str().to_owned()))
}

fn small(number: u8) -> Cell {
    Cell::Small(Some(i16::from(number)))
}

fn bytes(bytes: &[u8]) -> Cell {
    Cell::Bytes(Some(bytes.to_vec()))
}

fn encoded<T: serde::Serialize>(value: Option<&T>) -> Result<Cell, StoreError> {
    Ok(Cell::Bytes(value.map(encode).transpose()?))
}

fn module(digest: Option<Digest>) -> Cell {
    Cell::Bytes(digest.map(|digest| digest.0.to_vec()))
}

fn as_json<T: serde::Serialize>(value: &T) -> Result<Cell, StoreError> {
    let text = serde_json::to_string(value).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    Ok(Cell::Text(Some(text)))
}

/// Whether nothing differs but what a turn changes.
pub(super) fn differs_by_turn(before: &Instance, now: &Instance) -> bool {
    let (one, other) = (&before.row, &now.row);
    (
        &one.id,
        &one.name,
        &one.version,
        one.module,
        one.execution,
        &one.execution_id,
    ) == (
        &other.id,
        &other.name,
        &other.version,
        other.module,
        other.execution,
        &other.execution_id,
    ) && (
        one.generation,
        one.created_at,
        one.scheduled_for,
        one.parent_key,
    ) == (
        other.generation,
        other.created_at,
        other.scheduled_for,
        other.parent_key,
    ) && (&one.parent, &one.tags, &one.quarantine)
        == (&other.parent, &other.tags, &other.quarantine)
        && (
            &before.parent_id,
            before.when_dropped,
            before.execution_timeout,
        ) == (&now.parent_id, now.when_dropped, now.execution_timeout)
}

/// The columns of an instance, all or those that a turn changes.
pub(super) fn instance(instance: &Instance, is_all: bool) -> Result<Vec<Cell>, StoreError> {
    let row = &instance.row;
    let mut cells = vec![
        number(row.key.0),
        small(status_number(row.status)),
        big(row.next_event),
        number(row.turns),
        big(row.history_bytes),
        big(instance.inbox_next),
        big(instance.inbox_bytes),
        big(instance.unread_bytes),
        Cell::Bool(row.returned),
        number(instance.deliveries),
        time(row.started_at),
        big(row.updated_at.0),
        json(row.custom_status.as_ref()),
        json(row.output.as_ref()),
        encoded(row.failure.as_ref())?,
        encoded(instance.waiting.as_ref())?,
        number(row.value_count),
        Cell::Bool(instance.has_requests),
    ];
    if is_all {
        cells.extend([
            text(&row.id),
            text(&row.name),
            Cell::Text(row.version.clone()),
            module(row.module),
            number(row.execution),
            text(&row.execution_id),
            number(row.generation),
            big(row.created_at.0),
            time(row.scheduled_for),
            Cell::Int(instance.execution_timeout.map(|limit| int(limit.0))),
            Cell::Text(instance.parent_id.clone()),
            Cell::Int(row.parent_key.map(|key| key.0)),
            encoded(row.parent.as_ref())?,
            Cell::Small(policy_number(instance.when_dropped).map(i16::from)),
            Cell::Text(encode_tags(&row.tags)),
            encoded(row.quarantine.as_ref())?,
        ]);
    }
    Ok(cells)
}

/// An entry of the lists by tag.
pub(super) fn tag(instance: &Instance, (tag, value): &(String, String)) -> Vec<Cell> {
    vec![
        text(tag),
        text(value),
        big(instance.row.created_at.0),
        number(instance.row.key.0),
    ]
}

pub(super) fn value(key: InstanceKey, value: &ValueRow) -> Vec<Cell> {
    vec![
        number(key.0),
        text(&value.name),
        text(value.value.as_str()),
        big(value.version),
        big(value.at.0),
    ]
}

pub(super) fn mail((key, seq): (InstanceKey, u64), mail: &Mail) -> Result<Vec<Cell>, StoreError> {
    Ok(vec![
        number(key.0),
        big(seq),
        Cell::Bytes(Some(encode(&mail.message)?)),
        big(mail.at.0),
        big(mail.bytes),
    ])
}

/// The columns of a turn after those of its key.
pub(super) fn turn(turn: &Turn) -> Result<Vec<Cell>, StoreError> {
    Ok(vec![
        big(turn.first_event),
        big(turn.at.0),
        Cell::Int(turn.answer.map(u64::cast_signed)),
        Cell::Bytes(Some(encode(&turn.received)?)),
        Cell::Bytes(Some(encode(&turn.produced)?)),
    ])
}

/// The columns of a rewind after those of its key.
pub(super) fn rewind(rewind: &RewindRow) -> Vec<Cell> {
    vec![
        big(rewind.at.0),
        Cell::Bytes(
            rewind
                .reason
                .as_ref()
                .map(|reason| reason.clone().into_bytes()),
        ),
        number(rewind.cut),
    ]
}

pub(super) fn task((key, id): (InstanceKey, TaskId), task: &Task) -> Result<Vec<Cell>, StoreError> {
    let row = &task.row;
    let beat = row.heartbeat.as_ref();
    Ok(vec![
        number(key.0),
        number(id.0),
        small(task_kind_number(row.kind)),
        number(row.task.execution),
        number(row.task.generation),
        module(task.module),
        number(row.turn),
        number(row.scheduled_in),
        time(row.due),
        number(row.attempt),
        time(row.first_started),
        number(row.deliveries),
        number(row.cut),
        time(row.begun_at),
        time(beat.map(|beat| beat.at)),
        json(beat.and_then(|beat| beat.details.as_ref())),
        encoded(row.failure.as_ref())?,
        encoded(Some(&row.attempts).filter(|attempts| !attempts.is_empty()))?,
        encoded(row.target.as_ref())?,
    ])
}

pub(super) fn request(
    (key, id): (InstanceKey, &str),
    request: &Request,
) -> Result<Vec<Cell>, StoreError> {
    let asker = request.asker.as_ref();
    let answer = request.answer.as_ref();
    Ok(vec![
        number(key.0),
        text(id),
        text(&request.name),
        big(request.at.0),
        time(answer.map(|(at, _)| *at)),
        encoded(answer.map(|(_, answer)| answer))?,
        Cell::Int(asker.map(|asker| asker.key.0)),
        Cell::Int(asker.map(|asker| asker.task.execution.into())),
        Cell::Int(asker.map(|asker| asker.task.generation.into())),
        Cell::Int(asker.map(|asker| asker.task.task.0.into())),
    ])
}

pub(super) fn sent(sent: &Posted) -> Result<Vec<Cell>, StoreError> {
    let message = &sent.message;
    Ok(vec![
        Cell::Small(Some(partitions::number(sent.to))),
        module(message.module()),
        Cell::Int(message.parent().map(|key| key.0)),
        Cell::Int(message.asker().map(|key| key.0)),
        Cell::Bytes(Some(encode(message)?)),
    ])
}

pub(super) fn new_module(digest: Digest, module: &Module) -> Result<Vec<Cell>, StoreError> {
    Ok(vec![
        bytes(&digest.0),
        bytes(&module.component),
        text(&module.contract),
        as_json(&module.definitions)?,
        as_json(&module.imports)?,
        big(module.stored_at.0),
    ])
}

pub(super) fn component(digest: Digest, module: &Module) -> Vec<Cell> {
    vec![bytes(&digest.0), bytes(&module.component)]
}

pub(super) fn name(name: &str, row: &Name) -> Vec<Cell> {
    vec![
        text(name),
        bytes(&row.digest.0),
        text(&row.grants),
        text(&row.limits),
        big(row.deployed_at.0),
    ]
}

pub(super) fn definition(
    (kind, name): (DefinitionKind, &str),
    (module, digest, version): &OwnedDefinition,
) -> Vec<Cell> {
    vec![
        small(definition_number(kind)),
        text(name),
        text(module),
        bytes(&digest.0),
        Cell::Text(version.clone()),
    ]
}

pub(super) fn version(
    (name, version): (&str, &str),
    (module, digest): &(String, Digest),
) -> Vec<Cell> {
    vec![text(name), text(version), text(module), bytes(&digest.0)]
}

pub(super) fn key(id: &str, key: &KeyRow) -> Vec<Cell> {
    vec![
        text(id),
        text(&key.name),
        small(u8::from(key.admin)),
        bytes(&key.hash),
        big(key.created_at.0),
    ]
}

/// The answer to a command, whose body nobody needs after that.
pub(super) fn command(token: &str, (_, answer): &CommandRow) -> Vec<Cell> {
    vec![text(token), Cell::Bytes(answer.clone()), bytes(&[])]
}
