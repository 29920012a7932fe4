//! Rows of inboxes.

use perennial_core::{Message, Timestamp, Waiting};

use crate::store::rows::Found;
use crate::store::types::InstanceKey;

/// How full the inbox of an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes of the messages that wait in the inbox.
    pub(crate) waits: u64,
    /// Bytes of the events that the guest received but has not read.
    pub(crate) unread: u64,
    /// Whether a remote worker runs it, which does not say what it has read.
    pub(crate) is_remote: bool,
}

/// Messages for instances, which each have a number in the inbox of theirs.
pub(crate) trait InboxRows {
    /// Appends a message; the row of the instance allocates its number. `at` is its arrival; `None` is the time of the transaction.
    ///
    /// # Errors
    /// [`Conflict`](crate::store::StoreError::Conflict) if there is no such instance.
    fn push(&mut self, key: InstanceKey, message: &Message, at: Option<Timestamp>) -> Found<u64>;

    /// Puts messages before all others.
    fn push_first(&mut self, key: InstanceKey, messages: &[Message]) -> Found<()>;

    /// Writes the start of a new instance as its message 0, which its row has counted already.
    fn insert_start(&mut self, key: InstanceKey, start: &Message) -> Found<()>;

    /// Deletes messages.
    fn discard(&mut self, key: InstanceKey, seqs: &[u64]) -> Found<()>;

    /// Deletes all messages.
    fn clear_inbox(&mut self, key: InstanceKey) -> Found<()>;

    /// Whether messages wait.
    fn has_mail(&mut self, key: InstanceKey) -> Found<bool>;

    /// Whether a suspend or a resume waits.
    fn will_change(&mut self, key: InstanceKey) -> Found<bool>;

    /// The refusals of detached starts that wait, in order.
    fn refusals(&mut self, key: InstanceKey) -> Found<Vec<(u64, Message)>>;

    /// How full the inbox is.
    fn room(&mut self, key: InstanceKey) -> Found<Room>;

    /// What an instance waits for, as of its last turn.
    fn waiting(&mut self, key: InstanceKey) -> Found<Option<Waiting>>;
}
