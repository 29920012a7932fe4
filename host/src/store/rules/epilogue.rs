//! Turns that are added to the history of an instance after its end.

use perennial_core::{Event, Timestamp, Turn};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::types::InstanceKey;

/// Where the history of an ended instance ends.
pub(super) struct HistoryEnd {
    pub(super) key: InstanceKey,
    pub(super) execution: u32,
    /// The numbers of the next turn and of its first event.
    pub(super) turns: u32,
    pub(super) next_event: u64,
    pub(super) history_bytes: u64,
}

/// Adds a turn with what was received after the end.
pub(super) fn append(
    rows: &mut impl Rows,
    end: &HistoryEnd,
    at: Timestamp,
    received: Vec<Event>,
) -> Result<Turn, StoreError> {
    let bytes = received.iter().map(Event::size).sum::<usize>() as u64;
    let turn = Turn {
        number: end.turns,
        first_event: end.next_event,
        at,
        received,
        produced: Vec::new(),
        answer: None,
        next: None,
    };
    rows.insert_turn(end.key, end.execution, &turn)?;
    rows.add_epilogue(end.key, &turn, end.history_bytes + bytes)?;
    Ok(turn)
}
