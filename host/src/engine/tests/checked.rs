//! The invariants of each history in a hub.

use perennial_core::{State, Timestamp, Turn, replay_turn};

use super::world::World;
use crate::store::{InstanceRow, Reader};

impl World {
    /// Replays everything in the hub, and checks the invariants of each history.
    pub(crate) fn check_histories(&self, reader: &Reader) {
        for row in reader
            .list(&crate::store::ListQuery {
                limit: 100_000,
                ..Default::default()
            })
            .unwrap()
            .rows
        {
            let mut state = State::new(row.generation);
            let Some(module) = row.module else {
                let turns = reader.turns(row.key, row.execution, 0, u32::MAX).unwrap();
                for event in turns.iter().flat_map(Turn::events) {
                    let applied = state.apply(event);
                    applied.unwrap_or_else(|e| panic!("{}: {e}", row.id));
                }
                assert_eq!(state.next_event, row.next_event, "{}", row.id);
                assert_eq!(state.has_ended(), row.status.is_end(), "{}", row.id);
                check_values(reader, &row, &state);
                continue;
            };
            let mut guest = self
                .executor()
                .instantiate(module, &self.config.limits, &row.id, Timestamp(0))
                .unwrap();
            let turns = reader.turns(row.key, row.execution, 0, u32::MAX).unwrap();
            for turn in &turns {
                replay_turn(&mut state, turn, guest.as_mut())
                    .unwrap_or_else(|e| panic!("{}: {e}", row.id));
            }
            assert_eq!(
                (state.next_event, state.turns),
                (row.next_event, row.turns),
                "{}",
                row.id
            );
            assert_eq!(state.has_ended(), row.status.is_end(), "{}", row.id);
            check_values(reader, &row, &state);
        }
    }
}

/// Checks that an instance has the named values that its history gives it. One whose execution has not begun has those of the execution before.
fn check_values(reader: &Reader, row: &InstanceRow, state: &State) {
    if state.start().is_none() {
        return;
    }
    let rows = reader.values(row.key).unwrap();
    assert_eq!(rows.len(), row.value_count as usize, "{}", row.id);
    let values: Vec<_> = rows.into_iter().map(|row| (row.name, row.value)).collect();
    let told: Vec<_> = state.values.clone().into_iter().collect();
    assert_eq!(values, told, "{}", row.id);
}
