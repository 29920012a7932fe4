//! The outbox, and which partitions this owner runs.

use std::collections::BTreeSet;

#[cfg(test)]
use crate::store::StoreError;
use crate::store::memory::{Memory, Posted};
use crate::store::outbox::{OutboxMessage, Sent};
use crate::store::partition::{Partition, Partitions};
use crate::store::rows::Found;
use crate::store::rows::instances::{Head, InstanceRows};
use crate::store::rows::outbox::OutboxRows;
use crate::store::types::{InstanceKey, InstanceRow};

impl OutboxRows for Memory {
    fn elsewhere(&self, id: &str) -> Option<Partition> {
        self.own.elsewhere(id)
    }

    fn elsewhere_key(&self, key: InstanceKey) -> Option<Partition> {
        self.own.elsewhere_key(key)
    }

    fn partitions(&self) -> Partitions {
        self.own
    }

    fn set_partitions(&mut self, own: Partitions) -> Found<()> {
        self.own = own;
        Ok(())
    }

    fn messages_for(&mut self, of: Partitions, limit: u32) -> Found<Vec<Sent>> {
        Ok(self.waiting_for(of, limit))
    }

    fn send(&mut self, to: Partition, message: OutboxMessage) -> Found<()> {
        self.posted += 1;
        self.outbox.insert(self.posted, Posted { to, message });
        Ok(())
    }

    fn receive(&mut self, seq: i64) -> Found<bool> {
        // It may have been read before its partition was given away: its owner receives it now.
        let is_own = self.outbox.get(&seq).is_some_and(|of| self.own.has(of.to));
        Ok(is_own && self.outbox.remove(&seq).is_some())
    }

    fn partitions_below(&mut self, parent: InstanceKey) -> Found<Vec<Partition>> {
        let of = (parent, InstanceKey(i64::MIN))..=(parent, InstanceKey(i64::MAX));
        let children = self.families.range(of);
        let there = children.map(|((_, child), ())| self.own.of_key(*child));
        Ok(self.others(there.chain(self.starts_below(parent))))
    }

    fn partitions_asked_by(&mut self, asker: InstanceKey) -> Found<Vec<Partition>> {
        let asked = self.requests.iter();
        let asked = asked.filter(|(_, request)| request.asker.is_some_and(|of| of.key == asker));
        let there = asked.map(|((key, _), _)| self.own.of_key(*key));
        let under_way = self.outbox.values();
        let under_way = under_way.filter(|posted| posted.message.asker() == Some(asker));
        Ok(self.others(there.chain(under_way.map(|posted| posted.to))))
    }

    fn glance(&mut self, id: &str) -> Found<Option<(Head, InstanceRow)>> {
        let Some(&key) = self.ids.get(id) else {
            return Ok(None);
        };
        Ok(self.head(key)?.zip(InstanceRows::instance(self, key)?))
    }

    fn lives_below(&mut self, ancestor: InstanceKey) -> Found<bool> {
        let mut parents = vec![ancestor];
        while let Some(parent) = parents.pop() {
            let of = (parent, InstanceKey(i64::MIN))..=(parent, InstanceKey(i64::MAX));
            for ((_, child), ()) in self.families.range(of) {
                let row = self.instances.get(child).map(|found| &found.row);
                let is_live = row.is_some_and(|row| !row.status.is_end());
                if is_live && !self.own.has_key(*child) {
                    return Ok(true);
                }
                parents.push(*child);
            }
            if self.starts_below(parent).next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Memory {
    /// The partitions that are to start children of an instance.
    fn starts_below(&self, parent: InstanceKey) -> impl Iterator<Item = Partition> {
        let starts = self
            .outbox
            .values()
            .filter(move |posted| posted.message.parent() == Some(parent));
        starts.map(|posted| posted.to)
    }

    /// Those partitions that other owners run, each once.
    fn others(&self, of: impl Iterator<Item = Partition>) -> Vec<Partition> {
        let others: BTreeSet<Partition> = of.filter(|one| !self.own.has(*one)).collect();
        others.into_iter().collect()
    }

    /// The partitions to which this transaction has sent something.
    #[cfg(test)]
    pub(super) fn sent_now(&self) -> Vec<Partition> {
        let touched = self.outbox.touched();
        let sent = touched.filter_map(|seq| self.outbox.get(seq));
        sent.map(|posted| posted.to).collect()
    }

    /// The first messages for the partitions of this owner, in the order in which they were sent.
    #[cfg(test)]
    pub(crate) fn outbox(&self, limit: u32) -> Result<Vec<Sent>, StoreError> {
        Ok(self.waiting_for(self.own, limit))
    }

    fn waiting_for(&self, of: Partitions, limit: u32) -> Vec<Sent> {
        let there = self.outbox.iter().filter(|(_, sent)| of.has(sent.to));
        let sent = there.map(|(seq, posted)| Sent {
            seq: *seq,
            message: posted.message.clone(),
        });
        sent.take(limit as usize).collect()
    }
}
