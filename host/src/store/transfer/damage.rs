//! Whether a row is one that a store wrote.

use perennial_core::{Event, FailedAttempt, Failure, Message, Parent, Quarantine, Target};

use crate::store::StoreError;
use crate::store::codec::{decode, decode_tags, decode_waiting};
use crate::store::numbers::{definition_kind_of, policy_of, status_of, task_kind_of};
use crate::store::schema::{Kind, Table};
use crate::store::sqlite::rows::modules::{check_component, definitions};
use crate::store::transfer::rows::Field;
use crate::store::types::RequestAnswer;

/// Columns that have a number of 32 bits, in whatever table.
const SMALL: [&str; 13] = [
    "attempt",
    "cut",
    "deliveries",
    "generation",
    "number",
    "role",
    "scheduled_in",
    "status",
    "task",
    "turn",
    "turns",
    "value_count",
    "when_dropped",
];

/// Columns whose numbers may be negative: digests, and sums of hubs that were older once.
const SIGNED: [&str; 2] = ["answer", "bytes"];

/// Checks the values of a row: their types, their ranges, and whether what is encoded can be read.
///
/// # Errors
/// [`StoreError::Corrupt`] names the column.
pub(super) fn check(
    table: &'static Table,
    row: &[Field<'_>],
    reads_history: bool,
) -> Result<(), StoreError> {
    for ((name, kind), field) in table.columns.iter().zip(row) {
        let fits = match (kind, field) {
            (_, Field::Null) => true,
            (Kind::Int, Field::Int(number)) => in_range(table, name, *number),
            (Kind::Small, Field::Int(number)) => u8::try_from(*number).is_ok(),
            (Kind::Bool, Field::Int(number)) => (0..=1).contains(number),
            (Kind::Text | Kind::AnyText, Field::Text(text)) => std::str::from_utf8(text).is_ok(),
            (Kind::Bytes, Field::Bytes(_)) => true,
            _ => false,
        };
        if !fits {
            let what = format!("{name} is {}", shown(field));
            return Err(StoreError::Corrupt(what));
        }
    }
    values(table, row, reads_history)
}

fn in_range(table: &Table, name: &str, number: i64) -> bool {
    match name {
        // The garbage has all executions of an instance as -1.
        "execution" if table.name == "garbage" => (-1..=i64::from(u32::MAX)).contains(&number),
        "execution" => u32::try_from(number).is_ok(),
        name if SMALL.contains(&name) => u32::try_from(number).is_ok(),
        name if SIGNED.contains(&name) => true,
        _ => number >= 0,
    }
}

fn shown(field: &Field<'_>) -> String {
    match field {
        Field::Null => "missing".to_owned(),
        Field::Int(number) => format!("{number}, which it cannot be"),
        Field::Text(_) => "no text in UTF-8, or should not be a text".to_owned(),
        Field::Bytes(_) => "bytes, which it cannot be".to_owned(),
    }
}

/// What the columns mean that have more than a number or a text.
fn values(table: &'static Table, row: &[Field<'_>], reads_history: bool) -> Result<(), StoreError> {
    for ((name, _), field) in table.columns.iter().zip(row) {
        match (table.name, *name, field) {
            ("instance", "status", Field::Int(number)) => status_of(byte(*number)).map(drop)?,
            ("instance", "when_dropped", Field::Int(number)) => {
                policy_of(Some(byte(*number))).map(drop)?;
            }
            ("task", "kind", Field::Int(number)) => task_kind_of(byte(*number)).map(drop)?,
            ("definition", "kind", Field::Int(number)) => {
                definition_kind_of(byte(*number)).map(drop)?;
            }
            ("instance", "tags", Field::Text(text)) => {
                drop(decode_tags(Some(
                    String::from_utf8_lossy(text).into_owned(),
                ))?);
            }
            ("module", "definitions", Field::Text(text)) => {
                drop(definitions(&String::from_utf8_lossy(text))?);
            }
            (_, name, Field::Bytes(bytes)) => encoded(table, name, bytes, reads_history)?,
            _ => {}
        }
    }
    if table.name == "module"
        && let [Field::Bytes(digest), Field::Bytes(component), ..] = row
        && let Ok(digest) = <[u8; 32]>::try_from(*digest)
    {
        check_component(perennial_core::Digest(digest), component)?;
    }
    Ok(())
}

fn byte(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Reads what is encoded in a column, as the store or the engine will.
fn encoded(table: &Table, name: &str, bytes: &[u8], reads_history: bool) -> Result<(), StoreError> {
    match (table.name, name) {
        (_, "digest" | "module" | "hash") => {
            if bytes.len() != 32 {
                let what = format!("{name} has {} bytes, and not 32", bytes.len());
                return Err(StoreError::Corrupt(what));
            }
        }
        ("module", "component") => {}
        ("instance", "waiting") => drop(decode_waiting(bytes)?),
        ("instance", "parent") => drop(decode::<Parent>(bytes, name)?),
        ("instance", "quarantine") => drop(decode::<Quarantine>(bytes, name)?),
        ("instance" | "task", "failure") => drop(decode::<Failure>(bytes, name)?),
        ("task", "attempts") => drop(decode::<Vec<FailedAttempt>>(bytes, name)?),
        ("task", "target") => drop(decode::<Target>(bytes, name)?),
        ("request", "answer") => drop(decode::<RequestAnswer>(bytes, name)?),
        ("inbox", "message") if reads_history => drop(decode::<Message>(bytes, name)?),
        ("turn" | "cut_turn", "received" | "produced") if reads_history => {
            drop(decode::<Vec<Event>>(bytes, name)?);
        }
        ("inbox", "message") | ("turn" | "cut_turn", "received" | "produced") => {}
        (table, _) => {
            let what = format!("{name} of {table} is not known");
            return Err(StoreError::Corrupt(what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn each_column_of_bytes_is_known() {
        for table in schema::all() {
            for (name, kind) in table.columns {
                if *kind == Kind::Bytes
                    && let Err(error) = encoded(table, name, &[], true)
                {
                    assert!(!error.to_string().contains("is not known"), "{error}");
                }
            }
        }
    }
}
