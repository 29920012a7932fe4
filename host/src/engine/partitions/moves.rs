//! How an engine begins and ends to run partitions while it works.
//!
//! Invariants: the writer makes changes of a partition's instances only between [`Change::Join`] and [`Change::Leave`], in the order of its
//! queue, so that nothing is lost whatever comes late. Who gains a partition reads what is unfinished there from the hub, as a host does when
//! it starts. Who leaves one has written what only memory knew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::engine::memory::slots::{Slot, SlotPhase};
use crate::store::{Change, CutOff, InstanceKey, Partition, Partitions, StoreError, WasRunning};

/// How long a partition that is given away waits for turns under way.
const GRACE: Duration = Duration::from_secs(2);

/// Tries to find an id of an own partition: enough for a host with one of a hundred.
const OWN_ID_TRIES: u32 = 500;

/// How often it looks at them.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Engine {
    /// The partitions that this engine runs.
    pub(crate) fn partitions(&self) -> Partitions {
        self.hub.partitions.now()
    }

    /// Whether this engine runs the instance with a key.
    pub(in crate::engine) fn owns(&self, key: InstanceKey) -> bool {
        self.hub.partitions.owns(key)
    }

    /// The partition of an instance.
    pub(in crate::engine) fn partition_of(&self, key: InstanceKey) -> Partition {
        self.hub.partitions.all().of_key(key)
    }

    /// The partition of the instance with an id.
    pub(in crate::engine) fn partition_of_id(&self, id: &str) -> Partition {
        self.hub.partitions.all().of_id(id)
    }

    /// Whether other hosts may run the hub too.
    pub(crate) fn is_shared(&self) -> bool {
        self.hub.is_shared
    }

    /// A new id for an instance, which this host runs: so that nobody else has to be asked to start it.
    pub(crate) fn own_id(&self, fresh: impl Fn() -> String) -> String {
        let mut id = fresh();
        for _ in 0..OWN_ID_TRIES {
            if self.hub.partitions.elsewhere(&id).is_none() {
                break;
            }
            id = fresh();
        }
        id
    }

    /// Begins to run partitions, which this process has, and nobody else.
    pub(crate) fn gain(self: &Arc<Self>, which: &[Partition]) -> Result<(), StoreError> {
        let seen = self.hub.reader.last_commit()?;
        // What is in memory of them is from an earlier time.
        drop(self.forget(which));
        let joined = self.write_blocking(Change::Join(which.to_vec()))?;
        let own = &self.hub.partitions;
        own.own(which, true);
        let of = Partitions::some(own.all().count(), which.iter().copied());
        let reader = self.hub.reader.within(of);
        let counted = self.count_lost_in(which);
        if let Err(error) = counted.and_then(|()| self.take_up(&reader, seen)) {
            self.leave(which)?;
            return Err(error);
        }
        own.run(which, true);
        self.follow(joined.effects);
        if let Err(error) = self.wake_waiting(&reader) {
            self.leave(which)?;
            return Err(error);
        }
        self.requests.new_commands.notify_one();
        // Mail that came while turns did not run yet.
        for slot in self.slots_of(which) {
            self.put(slot.key, |_| {});
        }
        Ok(())
    }

    /// Counts what was running in partitions when their last owner died.
    fn count_lost_in(self: &Arc<Self>, which: &[Partition]) -> Result<(), StoreError> {
        let ran = self.with_owner(|owner| Ok(owner.were_running(which)))?;
        if !(ran.known.is_empty() && ran.unknown.is_empty()) {
            let count = Change::CountLost {
                were_running: ran.known.clone(),
                unknown: ran.unknown,
            };
            self.write_blocking(count)?;
            self.tell_of_running(&ran.known);
        }
        // If that failed, the next look tries again.
        self.with_owner(|owner| {
            owner.were_counted(which);
            Ok(())
        })
    }

    /// Says what a host that died has left.
    pub(in crate::engine) fn tell_of_running(&self, were_running: &[WasRunning]) {
        for was in were_running {
            let (instance, task) = (self.name_of(was.key), was.task.map(|task| task.0));
            tracing::warn!(
                instance,
                task,
                "was running when the last host of the hub died"
            );
        }
    }

    /// Ends to run partitions. Turns under way are finished; attempts of activities are interrupted, and run again where the partition goes.
    /// After that nothing of them is written here, and they may be given away.
    pub(crate) fn leave(self: &Arc<Self>, which: &[Partition]) -> Result<(), StoreError> {
        let own = &self.hub.partitions;
        own.run(which, false);
        self.await_turns(which);
        own.own(which, false);
        let cut = self.forget(which);
        if !cut.is_empty() {
            let attempts = cut;
            let stops = false;
            self.write(Change::CutOff { attempts, stops }, |_, _| {});
        }
        self.write_blocking(Change::Leave(which.to_vec()))?;
        drop(self.forget(which));
        // Who waits here looks again, and then asks the hub.
        self.memory
            .waiters
            .tell_where(|id| which.contains(&self.partition_of_id(id)));
        Ok(())
    }

    /// Waits until no turn of some partitions is under way.
    fn await_turns(&self, which: &[Partition]) {
        let until = Instant::now() + GRACE;
        let is_busy = |slot: &Arc<Slot>| slot.mailbox().phase == SlotPhase::Busy;
        while self.slots_of(which).iter().any(is_busy) && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub(in crate::engine) fn slots_of(&self, which: &[Partition]) -> Vec<Arc<Slot>> {
        let mut slots = self.memory.slots.all();
        slots.retain(|slot| which.contains(&self.partition_of(slot.key)));
        slots
    }

    /// Drops what memory has of some partitions. What only memory knew is written. Returns the attempts that were interrupted.
    fn forget(self: &Arc<Self>, which: &[Partition]) -> Vec<CutOff> {
        let is_there = |key: InstanceKey| which.contains(&self.partition_of(key));
        self.timers.remove_all(is_there);
        let (cut, remote) = self.activities.leave(is_there);
        self.attempts_done(&remote);
        self.suspended().retain(|key| !is_there(*key));
        for slot in self.slots_of(which) {
            self.turn_done(slot.key);
            let why = StoreError::Elsewhere(self.partition_of(slot.key));
            self.post_unsaved(&slot, &why);
            self.memory.slots.remove(&slot);
        }
        cut
    }
}
