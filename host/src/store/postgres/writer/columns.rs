//! Rows of a table as arrays of columns, and the statements that write them: one for each table and kind of change, however many rows.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::types::ToSql;

use crate::store::postgres::error::else_changed;
use crate::store::postgres::session::Param;
use crate::store::schema::{Kind, Table};

/// The type of an array of a column's values.
fn array_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "bigint[]",
        Kind::Small => "smallint[]",
        Kind::Bool => "boolean[]",
        Kind::Text => "text[]",
        Kind::AnyText | Kind::Bytes => "bytea[]",
    }
}

/// What is done with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    Insert,
    /// Leaves rows as they are that are there already.
    InsertNew,
    Update,
    Delete,
    /// Does not insist on each row being there.
    DeleteAny,
}

/// A value of a row.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Int(Option<i64>),
    Small(Option<i16>),
    Bool(bool),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Cell {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(Some(text)) => text.len(),
            Self::Bytes(Some(bytes)) => bytes.len(),
            _ => size_of::<i64>(),
        }
    }
}

/// All values of a column.
enum Column {
    Int(Vec<Option<i64>>),
    Small(Vec<Option<i16>>),
    Bool(Vec<bool>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Int => Self::Int(Vec::new()),
            Kind::Small => Self::Small(Vec::new()),
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::Text => Self::Text(Vec::new()),
            Kind::AnyText | Kind::Bytes => Self::Bytes(Vec::new()),
        }
    }

    fn push(&mut self, cell: Cell) {
        match (self, cell) {
            (Self::Int(values), Cell::Int(value)) => values.push(value),
            (Self::Small(values), Cell::Small(value)) => values.push(value),
            (Self::Bool(values), Cell::Bool(value)) => values.push(value),
            (Self::Text(values), Cell::Text(value)) => values.push(value),
            (Self::Bytes(values), Cell::Bytes(value)) => values.push(value),
            (_, cell) => unreachable!("{cell:?} is of another type than its column"),
        }
    }

    fn param(self) -> Box<dyn ToSql + Send + Sync> {
        match self {
            Self::Int(values) => Box::new(values),
            Self::Small(values) => Box::new(values),
            Self::Bool(values) => Box::new(values),
            Self::Text(values) => Box::new(values),
            Self::Bytes(values) => Box::new(values),
        }
    }
}

/// A statement with its parameters.
pub(super) struct Statement {
    pub(super) sql: Arc<str>,
    pub(super) params: Vec<Box<dyn ToSql + Send + Sync>>,
    /// How many rows it writes, as far as that is known before.
    pub(super) rows: usize,
    /// The bytes of what is long in them.
    pub(super) bytes: usize,
}

impl Statement {
    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let params = self.params.iter();
        params.map(|param| &**param as Param<'_>).collect()
    }
}

/// Rows to write.
pub(super) struct Rows {
    table: &'static Table,
    act: Act,
    columns: Vec<Column>,
    count: usize,
    bytes: usize,
}

impl Rows {
    pub(super) fn new(table: &'static Table, act: Act) -> Self {
        let columns = written(table, act).iter();
        Self {
            table,
            act,
            columns: columns.map(|(_, kind)| Column::new(*kind)).collect(),
            count: 0,
            bytes: 0,
        }
    }

    /// Adds a row, with the columns of the table, or of its key if rows are deleted.
    pub(super) fn push(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut filled = 0;
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += cell.bytes();
            column.push(cell);
            filled += 1;
        }
        debug_assert_eq!(filled, self.columns.len(), "a row of {}", self.table.id);
        self.count += 1;
    }

    /// The statement; `None` if there are no rows.
    pub(super) fn statement(self) -> Option<Statement> {
        if self.count == 0 {
            return None;
        }
        let mut params: Vec<_> = self.columns.into_iter().map(Column::param).collect();
        if matches!(self.act, Act::Update | Act::Delete) {
            params.push(Box::new(i64::try_from(self.count).unwrap_or(i64::MAX)));
        }
        Some(Statement {
            sql: text(self.table, self.act),
            params,
            rows: self.count,
            bytes: self.bytes,
        })
    }
}

/// The columns that a statement has values of.
fn written(table: &Table, act: Act) -> &'static [(&'static str, Kind)] {
    match act {
        Act::Insert | Act::InsertNew | Act::Update => table.columns,
        Act::Delete | Act::DeleteAny => &table.columns[..table.keys],
    }
}

/// The text of a statement. It is made once.
fn text(table: &Table, act: Act) -> Arc<str> {
    type Texts = HashMap<(&'static str, Act), Arc<str>>;
    static TEXTS: Mutex<Option<Texts>> = Mutex::new(None);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let texts = texts.get_or_insert_default();
    let text = texts.entry((table.id, act));
    Arc::clone(text.or_insert_with(|| sql(table, act).into()))
}

/// A statement that is to change or delete each of its rows fails where one is not there: the end of the transaction is on its way by then,
/// and the failure turns it into a rollback.
///
/// Each row is found by a subquery for its place, which only the index of the key serves. Joined by the key instead, PostgreSQL would walk the
/// whole table for each statement if it was empty when it was analyzed last, until it is analyzed again.
fn sql(table: &Table, act: Act) -> String {
    let columns = written(table, act);
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    let mut arrays = String::new();
    for (at, (_, kind)) in columns.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a text does not fail.
        let _ = write!(arrays, "{comma}${}::{}", at + 1, array_of(*kind));
    }
    let name = table.name;
    let of_key: Vec<String> = columns[..table.keys]
        .iter()
        .map(|(key, _)| format!("k.{key} = u.{key}"))
        .collect();
    let of_key = of_key.join(" AND ");
    let is_same = format!("t.ctid = (SELECT k.ctid FROM {name} AS k WHERE {of_key})");
    let guard = format!(
        "SELECT (CASE WHEN count(*) = ${}{} FROM done",
        columns.len() + 1,
        else_changed!()
    );
    match act {
        Act::Insert => format!("INSERT INTO {name} ({names}) SELECT * FROM unnest({arrays})"),
        Act::InsertNew => format!(
            "INSERT INTO {name} ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
        ),
        Act::Update => {
            let sets: Vec<String> = columns[table.keys..]
                .iter()
                .map(|(name, _)| format!("{name} = u.{name}"))
                .collect();
            let sets = sets.join(", ");
            format!(
                "WITH done AS (UPDATE {name} AS t SET {sets} FROM unnest({arrays}) AS u ({names}) WHERE {is_same} RETURNING 1) {guard}"
            )
        }
        Act::Delete => format!(
            "WITH done AS (DELETE FROM {name} AS t USING unnest({arrays}) AS u ({names}) WHERE {is_same} RETURNING 1) {guard}"
        ),
        Act::DeleteAny => {
            format!("DELETE FROM {name} AS t USING unnest({arrays}) AS u ({names}) WHERE {is_same}")
        }
    }
}
