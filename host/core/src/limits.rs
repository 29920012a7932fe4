//! Bounds of an execution, kept in its start event so that they stay with it.

use serde::{Deserialize, Serialize};

use crate::bounds;

/// What an execution may use. A limit that is exceeded is a verdict, recorded once and never derived again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory of the orchestration, in bytes.
    pub memory_bytes: u64,
    /// One payload, in bytes of its JSON text.
    pub payload_bytes: u64,
    /// The custom status, in bytes of its JSON text.
    pub custom_status_bytes: u64,
    /// Actions that the guest may ask for in one turn: one that asks for more is looping.
    pub actions_per_turn: u32,
    /// Bytes of all payloads that the guest may ask to be stored in one turn.
    pub action_bytes_per_turn: u64,
    /// Tasks that are scheduled and not yet ended.
    pub open_tasks: u32,
    /// Fuel of a turn, whatever it is given.
    pub fuel_base: u64,
    /// More fuel for each event of the turn.
    pub fuel_per_event: u64,
    /// More fuel for each byte of payload in the turn's events.
    pub fuel_per_byte: u64,
}

impl Default for Limits {
    /// 64 MiB of memory, payloads of 1 MiB, a custom status of 16 KiB, 10,000 actions and 16 MiB a turn, 100,000 open tasks, and fuel of
    /// 3 billion + 5 million an event + 20 a byte: what an interpreted orchestration takes that asks for 10,000 activities at once is a third.
    fn default() -> Self {
        Self {
            memory_bytes: bounds::MEMORY_BYTES as u64,
            payload_bytes: bounds::PAYLOAD_BYTES as u64,
            custom_status_bytes: bounds::CUSTOM_STATUS_BYTES as u64,
            actions_per_turn: bounds::ACTIONS_PER_TURN as u32,
            action_bytes_per_turn: bounds::ACTION_BYTES_PER_TURN as u64,
            open_tasks: bounds::OPEN_TASKS as u32,
            fuel_base: 3_000_000_000,
            fuel_per_event: 5_000_000,
            fuel_per_byte: 20,
        }
    }
}

impl Limits {
    /// Fuel for a turn of so many events and bytes. It grows with what the turn is given, so that a verdict does not depend on how
    /// results happened to be batched.
    pub fn fuel(&self, events: usize, bytes: usize) -> u64 {
        self.fuel_base
            .saturating_add(self.fuel_per_event.saturating_mul(events as u64))
            .saturating_add(self.fuel_per_byte.saturating_mul(bytes as u64))
    }
}
