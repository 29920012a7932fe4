//! What parents tell their children: to cancel, or to end.

use perennial_core::{CANCELLATION_GRACE, ChildCommand, Message};

use crate::store::StoreError;
use crate::store::outbox::{OutboxMessage, Sender};
use crate::store::rows::Rows;
use crate::store::rules::inbox::deliver;
use crate::store::types::{Effects, InstanceKey};

/// Tells a child what its parent wants of it, if it is still the parent's and has not ended.
pub(super) fn command_child(
    rows: &mut impl Rows,
    parent: InstanceKey,
    id: &str,
    (command, reason): (ChildCommand, Option<String>),
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(partition) = rows.elsewhere(id) {
        let message = OutboxMessage::CommandChild {
            parent,
            child: id.to_owned(),
            command,
            reason,
        };
        return rows.send(partition, message);
    }
    let Some((key, _)) = rows.find(id)?.filter(|(_, status)| !status.is_end()) else {
        return Ok(());
    };
    let head = rows.head(key)?;
    if head.and_then(|head| head.parent_key) != Some(parent) {
        return Ok(());
    }
    let message = match command {
        ChildCommand::Cancel => Message::Cancel {
            reason,
            grace: CANCELLATION_GRACE,
            recursive: false,
        },
        ChildCommand::Terminate => Message::Terminate {
            reason,
            recursive: false,
        },
    };
    deliver(rows, key, &message, effects)
}

/// Ends the live children of an instance that ended or continued as new, as each of their starts said.
pub(super) fn release_children(
    rows: &mut impl Rows,
    key: InstanceKey,
    id: &str,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let parent = Sender::new(key, id);
    release_children_here(rows, &parent, effects)?;
    for partition in rows.partitions_below(key)? {
        let parent = parent.clone();
        rows.send(partition, OutboxMessage::ReleaseChildren { parent })?;
    }
    Ok(())
}

/// As [`release_children`], for those that this owner runs.
pub(super) fn release_children_here(
    rows: &mut impl Rows,
    Sender { key, id }: &Sender,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    for (child, policy) in rows.bound_children(*key)? {
        if let Some(command) = policy.command() {
            let reason = Some(format!("its parent {id:?} has ended"));
            command_child(rows, *key, &child, (command, reason), effects)?;
        }
    }
    Ok(())
}
