//! The outbox, and what other owners run.

use std::collections::BTreeSet;

use crate::store::memory::Posted;
use crate::store::outbox::{OutboxMessage, Sent};
use crate::store::overlay::Overlay;
use crate::store::overlay::source::{Source, Wanted};
use crate::store::partition::{Partition, Partitions};
use crate::store::rows::Found;
use crate::store::rows::instances::Head;
use crate::store::rows::outbox::OutboxRows;
use crate::store::types::{InstanceKey, InstanceRow};

impl<S> Overlay<S> {
    /// The instances of which this batch has sent word that they start a child.
    fn starters(&self) -> impl Iterator<Item = InstanceKey> {
        let sent = self.memory.outbox.range(..0);
        sent.filter_map(|(_, posted)| posted.message.parent())
    }

    /// An instance of memory with those above it, as far as memory has them.
    fn line_of(&self, key: InstanceKey) -> impl Iterator<Item = InstanceKey> {
        let parent = |key: &InstanceKey| self.memory.instances.get(key)?.row.parent_key;
        std::iter::successors(Some(key), parent)
    }
}

/// Messages that this batch has sent have negative numbers: the source gives them others.
impl<S: Source> OutboxRows for Overlay<S> {
    fn elsewhere(&self, id: &str) -> Option<Partition> {
        self.memory.own.elsewhere(id)
    }

    fn elsewhere_key(&self, key: InstanceKey) -> Option<Partition> {
        self.memory.own.elsewhere_key(key)
    }

    fn partitions(&self) -> Partitions {
        self.memory.own
    }

    fn set_partitions(&mut self, own: Partitions) -> Found<()> {
        let before = std::mem::replace(&mut self.memory.own, own);
        // Others may have changed what is kept of instances that this owner did not run.
        let is_new = |key: &&InstanceKey| own.has_key(**key) && !before.has_key(**key);
        let stale = self.memory.instances.keys().filter(is_new);
        for key in stale.copied().collect::<Vec<_>>() {
            self.memory.evict_instance(key);
            self.cache.remove(key);
            self.batch.keys.remove(&key);
        }
        Ok(())
    }

    fn messages_for(&mut self, of: Partitions, limit: u32) -> Found<Vec<Sent>> {
        let here = &self.memory.outbox;
        let received = here.touched().filter(|seq| here.get(*seq).is_none());
        let received: Vec<i64> = received.copied().collect();
        self.round_trips += 1;
        for (seq, posted) in self.source.messages_for(&of, limit, &received)? {
            self.memory.outbox.load(seq, posted);
            self.batch.sent.insert(seq);
        }
        // Those of this batch were sent after all that were committed.
        let here = &self.memory.outbox;
        let in_order = here.range(0..).chain(here.range(..0));
        let there = in_order.filter(|(_, posted)| of.has(posted.to));
        let sent = there.map(|(seq, posted)| Sent {
            seq: *seq,
            message: posted.message.clone(),
        });
        let sent: Vec<Sent> = sent.take(limit as usize).collect();
        self.prefetch_named(sent.iter().map(|one| &one.message))?;
        Ok(sent)
    }

    fn send(&mut self, to: Partition, message: OutboxMessage) -> Found<()> {
        self.posted += 1;
        let place = i64::MIN + self.posted;
        self.memory.outbox.insert(place, Posted { to, message });
        Ok(())
    }

    fn receive(&mut self, seq: i64) -> Found<bool> {
        self.fetch(Wanted {
            sent: vec![seq],
            ..Wanted::default()
        })?;
        self.memory.receive(seq)
    }

    fn partitions_below(&mut self, parent: InstanceKey) -> Found<Vec<Partition>> {
        if self.memory.own.is_all() {
            return Ok(Vec::new());
        }
        self.fetch(Wanted {
            below: vec![parent],
            ..Wanted::default()
        })?;
        let mut below: BTreeSet<Partition> =
            self.memory.partitions_below(parent)?.into_iter().collect();
        if let Some(committed) = self.batch.below.get(&parent) {
            below.extend(committed.iter().filter(|one| !self.memory.own.has(**one)));
        }
        Ok(below.into_iter().collect())
    }

    fn partitions_asked_by(&mut self, asker: InstanceKey) -> Found<Vec<Partition>> {
        if self.memory.own.is_all() {
            return Ok(Vec::new());
        }
        let here = OutboxRows::partitions_asked_by(&mut self.memory, asker)?;
        let mut asked: BTreeSet<Partition> = here.into_iter().collect();
        if !self.is_fresh(asker) {
            self.round_trips += 1;
            let committed = self.source.partitions_asked_by(asker)?.into_iter();
            asked.extend(committed.filter(|one| !self.memory.own.has(*one)));
        }
        Ok(asked.into_iter().collect())
    }

    fn glance(&mut self, id: &str) -> Found<Option<(Head, InstanceRow)>> {
        self.round_trips += 1;
        let found = self.source.glance(id)?;
        Ok(found.map(|found| (found.head(), found.shown())))
    }

    fn lives_below(&mut self, ancestor: InstanceKey) -> Found<bool> {
        if self.memory.own.is_all() {
            return Ok(false);
        }
        let starters: BTreeSet<InstanceKey> = self.starters().collect();
        let mut above = BTreeSet::new();
        for starter in starters {
            for key in self.line_of(starter) {
                if key == ancestor {
                    return Ok(true);
                }
                above.insert(key);
            }
        }
        let above: Vec<InstanceKey> = above.into_iter().collect();
        self.round_trips += 1;
        self.source.lives_below(ancestor, &self.memory.own, &above)
    }
}
