//! The turn of a parked instance.

use perennial_core::{AskedTurn, Envelope, Timestamp};

use crate::engine::remote::dispatch::Token;
use crate::store::Position;

/// A turn whose question is out.
pub(crate) struct Asked {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) turn: AskedTurn,
    pub(in crate::engine) batch: Vec<Envelope>,
    pub(in crate::engine) consumed: Vec<u64>,
    pub(in crate::engine) expected: Position,
    pub(in crate::engine) at: Timestamp,
}

impl Asked {
    /// The messages of the turn, which goes to nobody any more.
    pub(in crate::engine) fn taken_back(self) -> Vec<Envelope> {
        self.batch
    }
}
