//! Delivers messages, as far as an inbox has room for them.

use perennial_core::{Message, Timestamp, bounds};

use crate::store::StoreError;
use crate::store::outbox::OutboxMessage;
use crate::store::rows::Rows;
use crate::store::rows::inbox::Room;
use crate::store::types::{Effects, InstanceKey};

/// Appends a message to an inbox, and wakes the instance.
pub(super) fn deliver(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    deliver_at(rows, key, message, None, effects)
}

/// As [`deliver`], with the time of the message. An outcome counts from now on: the row of its task goes, so that no engine acts on it again.
pub(super) fn deliver_at(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
    at: Option<Timestamp>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    rows.push(key, message, at)?;
    if let Some(task) = message.settles() {
        rows.settle(key, task)?;
        effects.settled.push((key, task));
    }
    effects.woken.push(key);
    Ok(())
}

/// As [`deliver`], if the instance is live. It may be one of another owner.
pub(super) fn deliver_if_live(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(partition) = rows.elsewhere_key(key) {
        let message = message.clone();
        return rows.send(partition, OutboxMessage::Deliver { key, message });
    }
    if is_live(rows, key)? {
        deliver(rows, key, message, effects)?;
    }
    Ok(())
}

/// Whether an instance exists and has not ended.
pub(super) fn is_live(rows: &mut impl Rows, key: InstanceKey) -> Result<bool, StoreError> {
    Ok(rows.status(key)?.is_some_and(|status| !status.is_end()))
}

/// Whether an instance has room for an external event or a request. Its queued events and those that the guest received but has not read
/// share a bound, so that clients cannot flood it. An event that the instance waits for is read at once, so it only has to fit the inbox.
pub(super) fn has_room_for(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
) -> Result<bool, StoreError> {
    let (name, is_event) = if let Message::ExternalEvent { name, .. } = message {
        (name, true)
    } else if let Message::Request { name, .. } = message {
        (name, false)
    } else {
        return Ok(true);
    };
    let Room {
        waits,
        unread,
        is_remote,
    } = rows.room(key)?;
    let with_it = waits + message.size() as u64;
    if is_remote {
        // A worker does not say which events it has read, so that only its inbox is bounded.
        return Ok(with_it <= bounds::REMOTE_INBOX_EVENT_BYTES as u64);
    }
    let max = bounds::UNREAD_EVENT_BYTES as u64;
    if with_it + unread <= max {
        return Ok(true);
    }
    if with_it > max {
        return Ok(false);
    }
    let waiting = rows.waiting(key)?;
    Ok(waiting.is_some_and(|waiting| match is_event {
        true => waiting.may_await(name),
        false => waiting.may_answer(name),
    }))
}
