//! Histories and rewinds.

use perennial_core::Turn;

use crate::store::StoreError;
use crate::store::codec::encode;
use crate::store::memory::Memory;
use crate::store::queries::found::{RewindRow, TurnsQuery};
use crate::store::queries::histories::{Part, parts};
use crate::store::types::{InstanceKey, InstanceRow};

impl Memory {
    fn rewinds_of(&self, key: InstanceKey, execution: u32) -> impl Iterator<Item = RewindRow> {
        let of = (key, execution, 0)..=(key, execution, u32::MAX);
        let rewinds = self.rewinds.range(of);
        rewinds.map(|((_, _, generation), rewind)| RewindRow {
            generation: *generation,
            at: rewind.at,
            reason: rewind.reason.clone(),
            turn: rewind.cut,
        })
    }

    pub(crate) fn rewinds(&self, row: &InstanceRow) -> Result<Vec<RewindRow>, StoreError> {
        if row.generation == 0 {
            return Ok(Vec::new());
        }
        Ok(self.rewinds_of(row.key, row.execution).collect())
    }

    #[cfg(feature = "http")]
    pub(crate) fn first_cut(
        &self,
        row: &InstanceRow,
        since: u32,
    ) -> Result<Option<u64>, StoreError> {
        let from = (row.key, row.execution, since, 0);
        let to = (row.key, row.execution, u32::MAX, u32::MAX);
        let cut = self.cut_turns.range(from..=to);
        Ok(cut.map(|(_, turn)| turn.first_event).min())
    }

    pub(crate) fn turn_with_event(&self, row: &InstanceRow, event: u64) -> Result<u32, StoreError> {
        if event >= row.next_event {
            return Ok(row.turns);
        }
        let of = (row.key, row.execution, 0)..(row.key, row.execution, row.turns);
        let begun = self.turns.range(of);
        let mut begun = begun.filter(|(_, turn)| turn.first_event <= event);
        Ok(begun.next_back().map_or(0, |(_, turn)| turn.number))
    }

    pub(crate) fn turns_of(&self, asked: &TurnsQuery) -> Result<Vec<Turn>, StoreError> {
        let (key, execution) = (asked.key, asked.execution);
        let parts = match asked.before_rewind {
            None => vec![Part::WHOLE],
            Some(generation) => {
                let rewinds = self.rewinds_of(key, execution);
                parts(rewinds.map(|row| (row.generation, row.turn)), generation)
            }
        };
        let mut all = Vec::new();
        for Part { from, end, cut_in } in parts {
            match cut_in {
                None => {
                    let of = (key, execution, from)..(key, execution, end);
                    all.extend(self.turns.range(of).map(|(_, turn)| turn));
                }
                Some(cut_in) => {
                    let of = (key, execution, cut_in, from)..(key, execution, cut_in, end);
                    all.extend(self.cut_turns.range(of).map(|(_, turn)| turn));
                }
            }
        }
        all.retain(|turn| turn.number >= asked.from);
        let (mut turns, mut bytes) = (Vec::new(), 0);
        for turn in all.into_iter().take(asked.limit as usize) {
            if bytes >= asked.bytes_max {
                break;
            }
            bytes += encode(&turn.received)?.len() + encode(&turn.produced)?.len();
            turns.push(turn.clone());
        }
        Ok(turns)
    }
}
