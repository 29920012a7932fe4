//! Rows of histories.

use perennial_core::{Timestamp, Turn};

use crate::store::rows::Found;
use crate::store::types::{InstanceKey, Position};

/// Turns, those that rewinds have cut off, and what is left of histories whose instances are gone.
pub(crate) trait TurnRows {
    /// Adds a turn to a history.
    fn insert_turn(&mut self, key: InstanceKey, execution: u32, turn: &Turn) -> Found<()>;

    /// Records a rewind, and archives the turns of its execution from `cut` on.
    fn archive_turns(
        &mut self,
        key: InstanceKey,
        at: Position,
        cut: u32,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Found<()>;

    /// The generation in which a kept turn was written: the one after the last rewind that cut at or before it.
    fn written_in(&mut self, key: InstanceKey, execution: u32, turn: u32) -> Found<u32>;

    /// Deletes all turns of an instance that was never rewound.
    fn delete_turns(&mut self, key: InstanceKey) -> Found<()>;

    /// Leaves the history of an execution, or of all with `None`, to be deleted in batches.
    fn leave_garbage(&mut self, key: InstanceKey, execution: Option<u32>) -> Found<()>;

    /// Deletes up to so many rows that were left. Returns whether more may be left.
    fn collect_garbage(&mut self, rows: u32) -> Found<bool>;
}
