//! Does what the owners of other partitions ask for through the outbox.

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::outbox::{OutboxMessage, Sent};
use crate::store::partition::{Partition, Partitions};
use crate::store::rows::Rows;
use crate::store::rules::children::{command_child, release_children_here};
use crate::store::rules::control::cascade_here;
use crate::store::rules::family;
use crate::store::rules::inbox::deliver_if_live;
use crate::store::rules::send;
use crate::store::types::Effects;

/// Messages that are read at once.
const AT_ONCE: u32 = 1_000;

/// Receives messages, in their order. One that was received before is left alone.
pub(super) fn receive(
    rows: &mut impl Rows,
    sent: &[Sent],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    for Sent { seq, message } in sent {
        if rows.receive(*seq)? {
            let mut of_one = Effects::default();
            make(rows, message, now, &mut of_one)?;
            effects.add(of_one);
        }
    }
    Ok(())
}

/// Begins to run partitions. What waits for the partitions of this owner is received first, and then what waits for the new ones: from now on
/// nothing is sent between them any more, and must not overtake that.
pub(super) fn join(
    rows: &mut impl Rows,
    which: &[Partition],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let before = rows.partitions();
    receive_all(rows, before, now, effects)?;
    rows.set_partitions(before.with(which))?;
    receive_all(rows, before.with(which), now, effects)
}

fn receive_all(
    rows: &mut impl Rows,
    of: Partitions,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    loop {
        let sent = rows.messages_for(of, AT_ONCE)?;
        if sent.is_empty() {
            return Ok(());
        }
        receive(rows, &sent, now, effects)?;
    }
}

fn make(
    rows: &mut impl Rows,
    message: &OutboxMessage,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    match message {
        OutboxMessage::Start { new, by, task } => {
            send::start_received(rows, new, by, *task, now, effects)
        }
        OutboxMessage::NotStarted {
            by,
            instance_id,
            reason,
        } => send::not_started(rows, by, instance_id, reason, now, effects),
        OutboxMessage::Deliver { key, message } => deliver_if_live(rows, *key, message, effects),
        OutboxMessage::Event { by, to, name, data } => {
            send::send_event(rows, (by, to), (name, data.as_ref()), effects)
        }
        OutboxMessage::Request { new, asker } => send::ask(rows, new, *asker, effects),
        OutboxMessage::CommandChild {
            parent,
            child,
            command,
            reason,
        } => command_child(rows, *parent, child, (*command, reason.clone()), effects),
        OutboxMessage::ReleaseChildren { parent } => release_children_here(rows, parent, effects),
        OutboxMessage::Cascade { parent, message } => {
            cascade_here(rows, *parent, message, now, effects)
        }
        OutboxMessage::Await(awaited) => family::await_child(rows, awaited, now, effects),
        OutboxMessage::DropChild { parent, child } => {
            family::drop_child(rows, parent, child, effects)
        }
        OutboxMessage::Readdress { asker, kept } => rows.readdress(*asker, kept),
    }
}
