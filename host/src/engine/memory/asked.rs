//! The turn of a parked instance.

use perennial_core::{AskedTurn, Envelope, Timestamp};

use crate::engine::remote::dispatch::Token;
use crate::store::Position;

/// A turn whose question is out.
pub(crate) struct Asked {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) turn: AskedTurn,
    pub(in crate::engine) batch: Vec<Envelope>,
    pub(in crate::engine) expected: Position,
    pub(in crate::engine) at: Timestamp,
}
