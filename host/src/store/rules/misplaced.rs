//! Refuses changes of instances that another owner runs.

use crate::store::StoreError;
use crate::store::change::Change;
use crate::store::partition::Partition;
use crate::store::rows::Rows;

/// Refuses a change of an instance that another owner runs: it was on its way while the partition was given away, or came to the wrong owner.
///
/// # Errors
/// [`StoreError::Elsewhere`].
pub(super) fn refuse(rows: &impl Rows, change: &Change) -> Result<(), StoreError> {
    match elsewhere(rows, change) {
        Some(partition) => Err(StoreError::Elsewhere(partition)),
        None => Ok(()),
    }
}

fn elsewhere(rows: &impl Rows, change: &Change) -> Option<Partition> {
    match change {
        Change::Turn(commit) => rows.elsewhere_key(commit.key),
        Change::Start(new) | Change::StartFor { new, .. } => rows.elsewhere_key(new.key),
        Change::Rewind(commit) => rows.elsewhere_key(commit.key),
        // The instance before stays where it is, and the new one may have another id.
        Change::Restart(commit) => rows
            .elsewhere_key(commit.key)
            .or_else(|| rows.elsewhere_key(commit.new.key)),
        Change::Discard { key, .. }
        | Change::Quarantine { key, .. }
        | Change::Release { key, .. } => rows.elsewhere_key(*key),
        Change::Retry(retry) => rows.elsewhere_key(retry.key),
        Change::Begin { place, .. } => rows.elsewhere_key(place.0),
        Change::Deliver { id, .. }
        | Change::TerminateAll { id, .. }
        | Change::PurgeId(id)
        | Change::SetTags { id, .. }
        | Change::IfRun { id, .. } => rows.elsewhere(id),
        Change::Request(new) => rows.elsewhere(&new.instance),
        Change::Purge(keys) => keys.iter().find_map(|key| rows.elsewhere_key(*key)),
        // Each of these leaves out what another owner runs, or is about the hub; those that contain others refuse these.
        Change::CountDeliveries(_)
        | Change::CountLost { .. }
        | Change::TakeOver { .. }
        | Change::CutOff { .. }
        | Change::Beats(_)
        | Change::Post { .. }
        | Change::All(_)
        | Change::Collect { .. }
        | Change::Receive(_)
        | Change::Join(_)
        | Change::Leave(_)
        | Change::Deploy(_)
        | Change::Grant { .. }
        | Change::Retain(_)
        | Change::KnowNames(_)
        | Change::CreateKey(_)
        | Change::RevokeKey { .. }
        | Change::CollectModules { .. }
        | Change::RemoveModule { .. }
        | Change::Answer(_) => None,
    }
}
