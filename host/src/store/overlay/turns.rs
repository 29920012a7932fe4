//! Histories, and what is left of them.

use perennial_core::{Timestamp, Turn};

use crate::store::memory::RewindRow;
use crate::store::overlay::Overlay;
use crate::store::overlay::source::{Left, Source};
use crate::store::rows::Found;
use crate::store::rows::turns::TurnRows;
use crate::store::types::{InstanceKey, Position};

impl<S: Source> Overlay<S> {
    /// Makes sure that the rewinds of an execution and its turns from a number on are in memory.
    fn need_history(&mut self, key: InstanceKey, execution: u32, from: u32) -> Found<()> {
        let known = self.batch.histories.get(&(key, execution));
        let is_known = known.is_some_and(|known| *known <= from);
        // An instance whose turns are deleted by an instruction was never rewound.
        let is_deleted = self.batch.instructions.delete_turns.contains(&key);
        if is_known || is_deleted || self.is_fresh(key) {
            return Ok(());
        }
        self.round_trips += 1;
        let found = self.source.history(key, execution, from)?;
        for turn in found.turns {
            self.memory.turns.load((key, execution, turn.number), turn);
        }
        for (generation, rewind) in found.rewinds {
            let place = (key, execution, generation);
            self.memory.rewinds.load(place, rewind);
        }
        self.batch.histories.insert((key, execution), from);
        Ok(())
    }

    /// Makes sure that the keys of the rows are in memory that are the next to be deleted. Their content is not loaded.
    fn need_garbage(&mut self, rows: usize) -> Found<()> {
        let memory = &mut self.memory;
        // The source still has what this batch deleted.
        let deleted = memory.garbage.touched().count();
        self.round_trips += 1;
        for left in self.source.garbage(rows + deleted, &memory.own)? {
            memory.garbage.load(left, ());
        }
        let next: Vec<Left> = memory.garbage.keys().take(rows).copied().collect();
        if next.is_empty() {
            return Ok(());
        }
        let deleted = memory.turns.touched().count() + memory.cut_turns.touched().count();
        self.round_trips += 1;
        let found = self.source.garbage_of(&next, rows + deleted)?;
        let delete_turns = &self.batch.instructions.delete_turns;
        let turns = found.turns.into_iter();
        for place in turns.filter(|(key, ..)| !delete_turns.contains(key)) {
            memory.turns.load(place, without_content(place.2));
        }
        for place in found.cut_turns {
            memory.cut_turns.load(place, without_content(place.3));
        }
        for place in found.rewinds {
            let rewind = RewindRow {
                at: Timestamp(0),
                reason: None,
                cut: 0,
            };
            memory.rewinds.load(place, rewind);
        }
        Ok(())
    }
}

/// Stands for a turn that is to be deleted.
fn without_content(number: u32) -> Turn {
    Turn {
        number,
        first_event: 0,
        at: Timestamp(0),
        received: Vec::new(),
        produced: Vec::new(),
        answer: None,
        next: None,
    }
}

impl<S: Source> TurnRows for Overlay<S> {
    fn insert_turn(&mut self, key: InstanceKey, execution: u32, turn: &Turn) -> Found<()> {
        self.memory.insert_turn(key, execution, turn)
    }

    fn archive_turns(
        &mut self,
        key: InstanceKey,
        at: Position,
        cut: u32,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Found<()> {
        self.need_history(key, at.execution, cut)?;
        self.memory.archive_turns(key, at, cut, reason, now)
    }

    fn written_in(&mut self, key: InstanceKey, execution: u32, turn: u32) -> Found<u32> {
        self.need_history(key, execution, u32::MAX)?;
        self.memory.written_in(key, execution, turn)
    }

    fn delete_turns(&mut self, key: InstanceKey) -> Found<()> {
        self.memory.delete_turns(key)?;
        if !self.is_fresh(key) {
            self.batch.instructions.delete_turns.push(key);
        }
        Ok(())
    }

    fn leave_garbage(&mut self, key: InstanceKey, execution: Option<u32>) -> Found<()> {
        self.memory.leave_garbage(key, execution)
    }

    fn collect_garbage(&mut self, rows: u32) -> Found<bool> {
        self.need_garbage(rows as usize)?;
        self.memory.collect_garbage(rows)
    }
}
