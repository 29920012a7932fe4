//! Who shares a hub in memory.

use perennial_core::Millis;

use crate::store::StoreError;
use crate::store::memory::shared::MemoryHub;
use crate::store::owned::{Member, Members, OfferedWorker, OwnerNote, Ownership};
use crate::store::partition::Partition;

/// An owner among those of a hub in memory. It leaves when it is dropped.
pub(super) struct Shares {
    hub: MemoryHub,
    epoch: u64,
}

impl Shares {
    pub(super) fn new(hub: MemoryHub, epoch: u64) -> Self {
        Self { hub, epoch }
    }
}

impl Ownership for Shares {
    fn epoch(&self) -> Option<i64> {
        i64::try_from(self.epoch).ok()
    }

    fn announce(&mut self, _: &OwnerNote) -> std::io::Result<()> {
        Ok(())
    }

    fn look(&mut self) -> Result<Option<Members>, StoreError> {
        let all = self.hub.all();
        if all.count() == 1 {
            return Ok(None);
        }
        let rows = self.hub.rows();
        let owner_of = |one: &Partition| rows.hub.owners.get(one).copied();
        let member = |epoch: &u64| Member {
            epoch: *epoch as i64,
            note: OwnerNote::of_this_process("a test", None),
            silent_for: Millis(0),
            transactions: None,
            partitions: all
                .iter()
                .filter(|one| owner_of(one) == Some(*epoch))
                .collect(),
        };
        let is_free =
            |one: &Partition| owner_of(one).is_none_or(|owner| !rows.hub.alive.contains(&owner));
        Ok(Some(Members {
            me: self.epoch as i64,
            owners: rows.hub.alive.iter().map(member).collect(),
            free: all.iter().filter(is_free).collect(),
            workers: rows
                .hub
                .workers
                .iter()
                .filter(|(epoch, _)| **epoch != self.epoch && rows.hub.alive.contains(epoch))
                .flat_map(|(epoch, offers)| {
                    offers.iter().map(|(number, offer)| OfferedWorker {
                        host: *epoch as i64,
                        number: *number,
                        offer: offer.clone(),
                    })
                })
                .collect(),
        }))
    }

    fn take(&mut self, which: &[Partition]) -> Result<Vec<Partition>, StoreError> {
        let mut rows = self.hub.rows();
        let mut taken = Vec::new();
        for one in which {
            let owner = rows.hub.owners.get(one).copied();
            if owner.is_none_or(|owner| !rows.hub.alive.contains(&owner)) {
                rows.hub.owners.insert(*one, self.epoch);
                taken.push(*one);
            }
        }
        Ok(taken)
    }

    fn offer(&mut self, workers: &[(u64, String)]) -> Result<(), StoreError> {
        let mut rows = self.hub.rows();
        rows.hub.workers.insert(self.epoch, workers.to_vec());
        Ok(())
    }

    fn give(&mut self, which: &[Partition], to: Option<i64>) -> Result<(), StoreError> {
        let mut rows = self.hub.rows();
        for one in which {
            if rows.hub.owners.get(one) == Some(&self.epoch) {
                match to {
                    Some(to) => rows.hub.owners.insert(*one, to as u64),
                    None => rows.hub.owners.remove(one),
                };
            }
        }
        Ok(())
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        self.hub.rows().hub.alive.remove(&self.epoch);
    }
}

impl MemoryHub {
    /// Declares an owner dead: it commits nothing from now on, and others may take what it had.
    pub(crate) fn kill(&self, epoch: u64) {
        let mut rows = self.rows();
        rows.hub.alive.remove(&epoch);
        rows.hub.dead.insert(epoch);
    }
}
