//! What a batch of changes wrote, as statements.

use std::sync::Arc;

use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::memory::delta::Delta;
use crate::store::memory::table::RowChange;
use crate::store::memory::{Instance, Posted};
use crate::store::numbers::task_kind_number;
use crate::store::postgres::error::else_changed;
use crate::store::postgres::indexes::by;
use crate::store::postgres::partitions::unless_all;
use crate::store::postgres::writer::columns::{Act, Cell, Rows, Statement};
use crate::store::postgres::writer::tables::{self, ALL_EXECUTIONS, number, text};
use crate::store::schema::{self, Table};
use crate::store::types::{InstanceKey, TaskRowKind};

/// Whether a batch changed what owners keep of the hub in memory.
pub(super) fn changes_hub(delta: &Delta) -> bool {
    !(delta.modules.is_empty()
        && delta.names.is_empty()
        && delta.definitions.is_empty()
        && delta.versions.is_empty()
        && delta.settings.is_empty()
        && delta.keys.is_empty())
}

/// The statements of a batch after that which [adds modules](added_modules), in order: instructions, then of each table what is deleted, changed and added.
pub(super) fn statements(delta: &Delta) -> Result<Vec<Statement>, StoreError> {
    let mut all = Vec::new();
    instructions(delta, &mut all);
    instances(&delta.instances, &mut all)?;
    let cells = |key: &(_, String), row: &_| Ok(tables::value(key.0, row));
    changes(&schema::VALUE, Act::Delete, &delta.values, cells, &mut all)?;
    let cells = |key: &_, row: &_| tables::mail(*key, row);
    changes(&schema::INBOX, Act::Delete, &delta.inbox, cells, &mut all)?;
    histories(delta, &mut all)?;
    let cells = |key: &_, row: &_| tables::task(*key, row);
    changes(&schema::TASK, Act::Delete, &delta.tasks, cells, &mut all)?;
    let cells = |key: &(_, String), row: &_| tables::request((key.0, &key.1), row);
    changes(
        &schema::REQUEST,
        Act::Delete,
        &delta.requests,
        cells,
        &mut all,
    )?;
    outbox(&delta.outbox, &mut all)?;
    if changes_hub(delta) {
        all.extend(unused(delta));
        hub(delta, &mut all)?;
    }
    let cells = |key: &String, row: &_| Ok(tables::command(key, row));
    changes(
        &tables::COMMAND,
        Act::DeleteAny,
        &delta.commands,
        cells,
        &mut all,
    )?;
    Ok(all)
}

/// The statements for the changes of a table.
fn changes<K, V>(
    table: &'static Table,
    delete: Act,
    changes: &[RowChange<K, V>],
    cells: impl Fn(&K, &V) -> Result<Vec<Cell>, StoreError>,
    all: &mut Vec<Statement>,
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut gone = Rows::new(table, delete);
    let (mut changed, mut added) = (Rows::new(table, Act::Update), Rows::new(table, Act::Insert));
    for change in changes {
        match (&change.before, &change.now) {
            (_, Some(now)) if change.before.is_none() => added.push(cells(&change.key, now)?),
            (_, Some(now)) => changed.push(cells(&change.key, now)?),
            (Some(before), None) => {
                let keys = cells(&change.key, before)?.into_iter();
                gone.push(keys.take(table.keys));
            }
            (None, None) => {}
        }
    }
    all.extend(
        [gone, changed, added]
            .into_iter()
            .filter_map(Rows::statement),
    );
    Ok(())
}

fn instructions(delta: &Delta, all: &mut Vec<Statement>) {
    if !delta.delete_turns.is_empty() {
        let keys: Vec<i64> = delta.delete_turns.iter().map(|key| key.0).collect();
        all.push(Statement {
            sql: "DELETE FROM turn WHERE instance = ANY($1)".into(),
            params: vec![Box::new(keys)],
            rows: 0,
            bytes: 0,
        });
    }
    for (of, at) in &delta.count_unknown {
        let activity = i16::from(task_kind_number(TaskRowKind::Activity));
        all.push(Statement {
            sql: "UPDATE task SET cut = cut + 1 WHERE kind = $1 AND begun_at IS NULL AND (due IS NULL OR due <= $2)
                 AND ($3::smallint[] IS NULL OR partition = ANY($3))"
                .into(),
            params: vec![
                Box::new(activity),
                Box::new(int(at.0)),
                Box::new(unless_all(of)),
            ],
            rows: 0,
            bytes: 0,
        });
    }
    if let Some(before) = delta.delete_answered {
        all.push(Statement {
            sql: "DELETE FROM command WHERE answer IS NOT NULL AND at < $1 AND ($2::smallint[] IS NULL OR partition = ANY($2))".into(),
            params: vec![Box::new(int(before.0)), Box::new(unless_all(&delta.own))],
            rows: 0,
            bytes: 0,
        });
    }
}

fn instances(
    changes: &[RowChange<InstanceKey, Instance>],
    all: &mut Vec<Statement>,
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let (mut gone, mut added) = (
        Rows::new(&schema::INSTANCE, Act::Delete),
        Rows::new(&schema::INSTANCE, Act::Insert),
    );
    let mut changed = Rows::new(&schema::INSTANCE, Act::Update);
    let mut at_turn = Rows::new(&tables::INSTANCE_AT_TURN, Act::Update);
    let (mut delisted, mut enlisted) = (
        Rows::new(&schema::TAG, Act::DeleteAny),
        Rows::new(&schema::TAG, Act::InsertNew),
    );
    for change in changes {
        match (&change.before, &change.now) {
            (None, Some(now)) => added.push(tables::instance(now, true)?),
            (Some(before), Some(now)) if tables::differs_by_turn(before, now) => {
                at_turn.push(tables::instance(now, false)?);
                continue;
            }
            (Some(_), Some(now)) => changed.push(tables::instance(now, true)?),
            (Some(_), None) => gone.push([number(change.key.0)]),
            (None, None) => {}
        }
        let entries = |instance: &Option<Arc<Instance>>| -> Vec<_> {
            let instance = instance.iter();
            instance
                .flat_map(|of| {
                    of.row
                        .tags
                        .iter()
                        .map(|tag| (of.row.created_at, tag.clone()))
                })
                .collect()
        };
        let (before, now) = (entries(&change.before), entries(&change.now));
        for (of, from, without, rows) in [
            (&change.before, &before, &now, &mut delisted),
            (&change.now, &now, &before, &mut enlisted),
        ] {
            let Some(of) = of else { continue };
            for entry in from.iter().filter(|entry| !without.contains(entry)) {
                rows.push(tables::tag(of, &entry.1));
            }
        }
    }
    let rows = [delisted, gone, changed, at_turn, added, enlisted];
    all.extend(rows.into_iter().filter_map(Rows::statement));
    Ok(())
}

/// As [`changes`], with the columns of the key and the others apart: of what is gone only the key is known, and an instruction may have
/// deleted it already. So what is to be changed is deleted too, and added anew.
fn by_key<K, V>(
    table: &'static Table,
    changes: &[RowChange<K, V>],
    keys: impl Fn(&K) -> Vec<Cell>,
    others: impl Fn(&V) -> Result<Vec<Cell>, StoreError>,
    all: &mut Vec<Statement>,
) -> Result<(), StoreError> {
    let mut gone = Rows::new(table, Act::DeleteAny);
    let mut added = Rows::new(table, Act::Insert);
    for change in changes {
        let keys = keys(&change.key);
        if change.before.is_some() {
            gone.push(keys.clone());
        }
        if let Some(now) = &change.now {
            added.push(keys.into_iter().chain(others(now)?));
        }
    }
    all.extend([gone, added].into_iter().filter_map(Rows::statement));
    Ok(())
}

fn histories(delta: &Delta, all: &mut Vec<Statement>) -> Result<(), StoreError> {
    let three = |key: &(InstanceKey, u32, u32)| vec![number(key.0.0), number(key.1), number(key.2)];
    by_key(&schema::TURN, &delta.turns, three, tables::turn, all)?;
    let four = |key: &(InstanceKey, u32, u32, u32)| {
        vec![number(key.0.0), number(key.1), number(key.2), number(key.3)]
    };
    by_key(&schema::CUT_TURN, &delta.cut_turns, four, tables::turn, all)?;
    let rewind = |row: &_| Ok(tables::rewind(row));
    by_key(&schema::REWIND, &delta.rewinds, three, rewind, all)?;
    let mut gone = Rows::new(&schema::GARBAGE, Act::DeleteAny);
    let mut added = Rows::new(&schema::GARBAGE, Act::InsertNew);
    for change in &delta.garbage {
        let (key, execution) = change.key;
        let execution = execution.map_or(ALL_EXECUTIONS, i64::from);
        let cells = [number(key.0), number(execution)];
        match change.now {
            Some(_) => added.push(cells),
            None => gone.push(cells),
        }
    }
    all.extend([gone, added].into_iter().filter_map(Rows::statement));
    Ok(())
}

fn outbox(changes: &[RowChange<i64, Posted>], all: &mut Vec<Statement>) -> Result<(), StoreError> {
    let mut received = Rows::new(&tables::RECEIVED, Act::Delete);
    let mut sent = Rows::new(&tables::SENT, Act::Insert);
    for change in changes {
        match &change.now {
            Some(now) => sent.push(tables::sent(now)?),
            None => received.push([number(change.key)]),
        }
    }
    all.extend([received, sent].into_iter().filter_map(Rows::statement));
    Ok(())
}

/// A statement that fails if something refers to a module that is to be deleted. That was looked at before, and all transactions of other
/// owners have ended since that went by the names that were before: the claim has waited for them.
fn unused(delta: &Delta) -> Option<Statement> {
    let deleted = delta.modules.iter().filter(|change| change.now.is_none());
    let deleted: Vec<Vec<u8>> = deleted.map(|change| change.key.0.to_vec()).collect();
    let is_needed = !deleted.is_empty() && !delta.own.is_all();
    is_needed.then(|| Statement {
        sql: UNUSED.into(),
        params: vec![Box::new(deleted)],
        rows: 0,
        bytes: 0,
    })
}

/// Statuses: 3 is Completed, 5 Terminated.
const UNUSED: &str = concat!(
    "SELECT (CASE WHEN NOT EXISTS (SELECT 1 FROM instance WHERE status IN (0, 1, 2, 4) AND module = ANY($1) AND ",
    by!(status),
    ") AND NOT EXISTS (SELECT 1 FROM task WHERE module = ANY($1))
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE module = ANY($1))",
    else_changed!()
);

/// The statement that adds modules, if the batch does. It comes before all others: nobody else sees the rows, and while a large module arrives
/// nobody waits for the locks of the transaction.
pub(super) fn added_modules(delta: &Delta) -> Result<Option<Statement>, StoreError> {
    let mut added = Rows::new(&schema::MODULE, Act::Insert);
    for change in &delta.modules {
        if let (None, Some(now)) = (&change.before, &change.now) {
            added.push(tables::new_module(change.key, now)?);
        }
    }
    Ok(added.statement())
}

fn hub(delta: &Delta, all: &mut Vec<Statement>) -> Result<(), StoreError> {
    let mut gone = Rows::new(&schema::MODULE, Act::Delete);
    let mut changed = Rows::new(&tables::COMPONENT, Act::Update);
    for change in &delta.modules {
        match (&change.before, &change.now) {
            // See `added_modules`.
            (None, Some(_)) => {}
            (Some(_), Some(now)) => changed.push(tables::component(change.key, now)),
            (_, None) => gone.push([Cell::Bytes(Some(change.key.0.to_vec()))]),
        }
    }
    all.extend([gone, changed].into_iter().filter_map(Rows::statement));
    let cells = |key: &String, row: &_| Ok(tables::name(key, row));
    changes(&schema::NAME, Act::Delete, &delta.names, cells, all)?;
    let cells = |key: &(_, String), row: &_| Ok(tables::definition((key.0, &key.1), row));
    changes(
        &schema::DEFINITION,
        Act::Delete,
        &delta.definitions,
        cells,
        all,
    )?;
    let cells = |key: &(String, String), row: &_| Ok(tables::version((&key.0, &key.1), row));
    changes(&schema::VERSION, Act::Delete, &delta.versions, cells, all)?;
    let cells = |key: &String, row: &String| Ok(vec![text(key), text(row)]);
    changes(&schema::SETTING, Act::Delete, &delta.settings, cells, all)?;
    let cells = |key: &String, row: &_| Ok(tables::key(key, row));
    changes(&schema::KEY, Act::Delete, &delta.keys, cells, all)
}
