//! The rows of a batch of changes over a store that is slow to ask.
//!
//! The rules of a change run on rows in memory. Before a call, whatever rows of the [source](source) it needs are loaded, for a whole batch
//! in one round trip if they can be known before ([`prefetch`](Overlay::prefetch)); what was written goes down as one [`Delta`].
//!
//! Invariants:
//! - The owner is the only writer of its partitions, and writes only through here. So rows that were loaded stay right, and those of live
//!   instances are kept from batch to batch, up to a bound. Nothing of other partitions is kept.
//! - An instance is in memory with all of its rows other than its history, or not at all.
//! - After a commit that failed, or of which nobody knows what became of it, everything is forgotten.

mod batch;
mod cache;
mod hub;
mod instances;
mod loading;
mod outbox;
mod prefetch;
#[cfg(test)]
pub(in crate::store) mod reference;
pub(in crate::store) mod source;
mod turns;

use std::mem::take;

use perennial_core::Timestamp;

use crate::store::memory::Memory;
use crate::store::memory::delta::Delta;
use crate::store::overlay::batch::Batch;
use crate::store::overlay::cache::Cache;
use crate::store::partition::Partitions;
use crate::store::types::InstanceKey;

/// How many live instances stay in memory from batch to batch, and how many bytes they may have.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Bound {
    pub(in crate::store) instances: usize,
    /// As estimated from the sizes of their rows.
    pub(in crate::store) bytes: usize,
}

/// Rows over those of a slower store.
#[derive(Debug)]
pub(in crate::store) struct Overlay<S> {
    source: S,
    memory: Memory,
    bound: Bound,
    /// The live instances that earlier batches left in memory.
    cache: Cache,
    batch: Batch,
    /// Whether the rows of the hub itself are in memory.
    has_hub: bool,
    /// The partitions of this owner as of the last batch that was committed.
    own: Partitions,
    /// Messages that were sent so far.
    posted: i64,
    /// How often the source was asked.
    round_trips: u64,
}

impl<S> Overlay<S> {
    /// An overlay over a store, with nothing in memory.
    pub(in crate::store) fn new(source: S, bound: Bound) -> Self {
        Self {
            source,
            memory: Memory::default(),
            bound,
            cache: Cache::default(),
            batch: Batch::default(),
            has_hub: false,
            own: Partitions::default(),
            posted: 0,
            round_trips: 0,
        }
    }

    /// The same for the owner of these partitions.
    pub(in crate::store) fn of(mut self, own: Partitions) -> Self {
        (self.own, self.memory.own) = (own, own);
        self
    }

    /// The partitions of this owner.
    pub(in crate::store) fn own(&self) -> &Partitions {
        &self.memory.own
    }

    /// The store below.
    pub(in crate::store) fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// How often the source was asked so far. Nothing else here takes time.
    #[cfg(test)]
    pub(in crate::store) fn round_trips(&self) -> u64 {
        self.round_trips
    }

    /// How many live instances are in memory between batches, and their bytes as estimated.
    #[cfg(test)]
    pub(in crate::store) fn cached(&self) -> (usize, usize) {
        (self.cache.len(), self.cache.bytes())
    }

    /// Begins a batch: the number of its transaction, and the time of that.
    pub(in crate::store) fn begin(&mut self, number: u64, at: Timestamp) {
        self.memory.begin(number, at);
        self.mark();
    }

    /// What is changed from now on can be taken back on its own: a change of the batch begins.
    pub(in crate::store) fn mark(&mut self) {
        self.memory.mark();
        self.batch.mark();
    }

    /// Takes back what was changed since the mark: a change of the batch failed.
    pub(in crate::store) fn undo(&mut self) {
        self.memory.undo();
        let undone = self.batch.undo();
        for key in undone.miscounted {
            // Its tasks were loaded as the undone change would have counted them.
            self.memory.evict_instance(key);
            self.cache.remove(key);
            self.batch.keys.remove(&key);
        }
        if undone.answers {
            let commands = &self.memory.commands;
            self.batch.tokens.retain(|token| commands.is_touched(token));
        }
    }

    /// What the batch wrote. It is to be committed as a whole; after that [`committed`](Self::committed), or else
    /// [`forget_all`](Self::forget_all), ends the batch.
    pub(in crate::store) fn take_delta(&mut self) -> Delta {
        let instructions = take(&mut self.batch.instructions);
        self.batch.mark();
        let mut delta = Delta {
            delete_turns: instructions.delete_turns,
            count_unknown: instructions.count_unknown,
            delete_answered: instructions.delete_answered.into_iter().max(),
            ..self.memory.take_delta()
        };
        leave_to_instructions(&mut delta);
        delta
    }

    /// Ends a batch that was committed. Keeps the live instances that it used, as far as there is room, and forgets all else.
    pub(in crate::store) fn committed(&mut self) {
        self.memory.forget_undo();
        for key in take(&mut self.batch).keys {
            match self.memory.instances.get(&key) {
                Some(instance) if !instance.row.status.is_end() => {
                    self.cache.put(key, self.memory.size(key));
                }
                Some(_) | None => {
                    self.memory.evict_instance(key);
                    self.cache.remove(key);
                }
            }
        }
        if self.own != self.memory.own {
            self.own = self.memory.own;
            self.evict_others();
        }
        while self.cache.len() > self.bound.instances || self.cache.bytes() > self.bound.bytes {
            let Some(key) = self.cache.take_oldest() else {
                break;
            };
            self.memory.evict_instance(key);
        }
        self.memory.evict_histories();
    }

    /// Drops the instances that other owners run now.
    fn evict_others(&mut self) {
        let others = self.cache.keys().filter(|key| !self.own.has_key(*key));
        for key in others.collect::<Vec<InstanceKey>>() {
            self.memory.evict_instance(key);
            self.cache.remove(key);
        }
    }

    /// Forgets everything but which partitions this owner had before the batch: what is in memory may not be what is committed.
    pub(in crate::store) fn forget_all(&mut self) {
        (self.memory, self.cache, self.batch) = Default::default();
        self.memory.own = self.own;
        self.has_hub = false;
    }
}

/// Leaves out the deletions of rows that an instruction deletes.
fn leave_to_instructions(delta: &mut Delta) {
    if let Some(limit) = delta.delete_answered {
        delta.commands.retain(|change| {
            let before = change.before.as_ref();
            let by_instruction = before.is_some_and(|of| of.0 < limit && of.1.is_some());
            change.now.is_some() || !by_instruction
        });
    }
    let deleted = &delta.delete_turns;
    delta
        .turns
        .retain(|change| change.now.is_some() || !deleted.contains(&change.key.0));
}
