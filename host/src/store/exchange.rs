//! What a process that asks owners of a hub says and asks at once, so that many requests cost little more than one.

use crate::store::StoreError;
use crate::store::partition::Partition;

/// Commands that are left, looked for, and deleted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exchange<'a> {
    /// Left for the owners of these partitions, with their tokens and bodies: all of them or none.
    pub(crate) append: &'a [(Partition, &'a str, &'a [u8])],
    /// Deleted, by their tokens: their answers were read.
    pub(crate) forget: &'a [String],
    /// Asked for, by their tokens.
    pub(crate) look: &'a [String],
}

/// A command that is there, by its token, with its answer, if it has one.
pub(crate) type FoundCommand = (String, Option<Vec<u8>>);

/// What came of it.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// Whether the commands are there. With [`StoreError::NoAnswer`] they may be, and with any other error they are not.
    pub(crate) appended: Result<(), StoreError>,
    /// Which of the commands that were looked for are there.
    pub(crate) found: Result<Vec<FoundCommand>, StoreError>,
    /// Which connection was used, counted from the first. What was left by one that was lost may not be there.
    pub(crate) connection: u64,
}
