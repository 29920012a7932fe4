//! Instances in memory: their mail, and their guests while they are resident.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use perennial_core::{Digest, Envelope, State, Turn};

use crate::engine::Known;
use crate::engine::executor::ResidentGuest;
use crate::engine::locks::{Guard, OrderedMutex, rank};
use crate::engine::memory::asked::Asked;
use crate::engine::remote::ItemEnd;
use crate::engine::remote::dispatch::Token;
use crate::store::{InstanceKey, InstanceRow, NewInstance};

/// An instance in memory. At most one turn of it runs at a time, under the lock of its body.
pub(crate) struct Slot {
    pub(crate) key: InstanceKey,
    mailbox: OrderedMutex<Mailbox, { rank::MAILBOX }>,
    body: OrderedMutex<Body, { rank::BODY }>,
    /// The [`Lane`] in which it waits for a worker.
    lane: AtomicU64,
    /// Whether clients have changed its tags since its row was read.
    tagged: AtomicBool,
}

/// The queue in which an instance waits for its turns: that of its module. A lane is a prefix of the digest, so two modules may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane(u64);

impl Lane {
    /// The lane of an instance whose module is not known yet.
    pub(crate) const UNKNOWN: Self = Self(0);
    /// The lane of the host's own work.
    pub(crate) const HOST: Self = Self(1);
    /// The lane of an instance that is not pinned to a module.
    const NO_MODULE: Self = Self(2);
}

/// Messages that have arrived and that no turn has taken.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) phase: SlotPhase,
    /// In order of arrival.
    pub(crate) mail: VecDeque<Envelope>,
    /// Whether the inbox may hold messages that are not in `mail`.
    pub(crate) inbox_is_new: bool,
    /// Whether the stored row changed elsewhere, so that the instance must be loaded again.
    pub(crate) reload: bool,
    /// Whether its tasks must still be armed after it was resumed.
    pub(crate) rearm: bool,
    /// What became of the item that a remote worker has of it.
    pub(crate) item_end: Option<(Token, ItemEnd)>,
}

/// The phase of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotPhase {
    /// There is no work for it.
    Idle,
    /// It is in the queue of the workers.
    Queued,
    /// A worker runs a turn of it, or the writer commits one.
    Busy,
    /// A remote worker has the question of its turn. Any message wakes it.
    Asked,
    /// It was removed from the table; look it up again.
    Gone,
}

/// The data that a turn needs.
#[derive(Default)]
pub(crate) struct Body {
    /// The execution, while it is in memory.
    pub(crate) resident: Option<Resident>,
    /// Messages of the inbox below this number are already in the mail.
    pub(crate) inbox_read_to: u64,
    /// The number of pages read since the beginning of the inbox.
    pub(crate) inbox_pages: u32,
    /// The messages of the turn that is being committed.
    pub(crate) batch: Vec<Envelope>,
    /// The new instance, until the commit of its first turn creates it.
    pub(crate) creating: Option<Creating>,
    /// The turn that a remote worker was asked.
    pub(crate) asked: Option<Asked>,
    /// What the engine knew of the hub when the turn that is under way began.
    pub(crate) knew: Known,
}

/// An instance that is not in the hub yet.
pub(crate) struct Creating {
    pub(crate) new: NewInstance,
    /// What the engine knew of the hub when it was prepared.
    pub(crate) knew: Known,
    /// The command that asked for it. The transaction that creates it answers that.
    pub(crate) token: Option<String>,
    pub(crate) respond: Respond,
}

/// Receives the answer to a start.
pub(crate) type Respond =
    Box<dyn FnOnce(Result<crate::store::Reply, crate::store::StoreError>) + Send>;

/// An execution in memory: the state from its history and, while it runs code, its guest.
pub(crate) struct Resident {
    pub(crate) state: State,
    pub(crate) guest: Option<Box<dyn ResidentGuest>>,
    /// The turns so far, for remote workers.
    pub(crate) past: Option<Arc<Vec<Turn>>>,
    /// The status row in the hub.
    pub(crate) row: InstanceRow,
}

impl Slot {
    /// See [`Slots::tagged`].
    pub(crate) fn was_tagged(&self) -> bool {
        self.tagged.load(Ordering::Acquire)
    }

    pub(crate) fn lane(&self) -> Lane {
        Lane(self.lane.load(Ordering::Relaxed))
    }

    /// Sets the lane for the module of the instance.
    pub(crate) fn is_of(&self, module: Option<Digest>) {
        let lane = module.map_or(Lane::NO_MODULE, |Digest(bytes)| {
            Lane(
                bytes
                    .iter()
                    .take(8)
                    .fold(0, |lane, byte| lane << 8 | u64::from(*byte)),
            )
        });
        self.lane.store(lane.0, Ordering::Relaxed);
    }

    /// Uses the lane of the waking instance until the module is known.
    pub(crate) fn was_woken_by(&self, waker: Lane) {
        if self.lane() == Lane::UNKNOWN {
            self.lane.store(waker.0, Ordering::Relaxed);
        }
    }

    pub(crate) fn mailbox(&self) -> Guard<'_, Mailbox, { rank::MAILBOX }> {
        self.mailbox.lock()
    }

    /// As [`body`](Self::body), or `None` if it is locked.
    pub(crate) fn try_body(&self) -> Option<Guard<'_, Body, { rank::BODY }>> {
        self.body.try_lock()
    }

    pub(crate) fn body(&self) -> Guard<'_, Body, { rank::BODY }> {
        self.body.lock()
    }
}

/// All slots, and those with a guest in memory, least recently used first.
pub(crate) struct Slots {
    table: OrderedMutex<HashMap<InstanceKey, Arc<Slot>>, { rank::TABLE }>,
    hot: OrderedMutex<Hot, { rank::HOT }>,
    resident_max: usize,
    resident_bytes_max: usize,
}

#[derive(Default)]
struct Hot {
    tick: u64,
    bytes: usize,
    by_age: BTreeMap<u64, InstanceKey>,
    ages: HashMap<InstanceKey, (u64, usize)>,
}

/// Takes a slot out of the table, unless another one has its place: that of an instance whose partition was gone, and came back.
fn take_out(table: &mut HashMap<InstanceKey, Arc<Slot>>, slot: &Slot) -> bool {
    let is_there = table
        .get(&slot.key)
        .is_some_and(|there| std::ptr::eq(&raw const **there, slot));
    is_there && table.remove(&slot.key).is_some()
}

impl Slots {
    /// Creates an empty table that keeps at most `resident_max` guests with at most `resident_bytes_max` bytes.
    pub(crate) fn new(resident_max: usize, resident_bytes_max: usize) -> Self {
        Self {
            table: OrderedMutex::default(),
            hot: OrderedMutex::default(),
            resident_max,
            resident_bytes_max,
        }
    }

    fn table(&self) -> Guard<'_, HashMap<InstanceKey, Arc<Slot>>, { rank::TABLE }> {
        self.table.lock()
    }

    fn hot(&self) -> Guard<'_, Hot, { rank::HOT }> {
        self.hot.lock()
    }

    /// Returns the slot of an instance, and creates it if needed.
    pub(crate) fn slot(&self, key: InstanceKey) -> Arc<Slot> {
        let mut table = self.table();
        let slot = table.entry(key).or_insert_with(|| {
            let mailbox = Mailbox {
                phase: SlotPhase::Idle,
                mail: VecDeque::new(),
                inbox_is_new: true,
                reload: false,
                rearm: false,
                item_end: None,
            };
            Arc::new(Slot {
                key,
                mailbox: OrderedMutex::new(mailbox),
                body: OrderedMutex::default(),
                lane: AtomicU64::new(Lane::UNKNOWN.0),
                tagged: AtomicBool::new(false),
            })
        });
        Arc::clone(slot)
    }

    /// Notes that clients have changed the tags of an instance, so that its row in memory, if there is one, has others.
    pub(crate) fn tagged(&self, key: InstanceKey) {
        if let Some(slot) = self.table().get(&key) {
            slot.tagged.store(true, Ordering::Release);
        }
    }

    pub(crate) fn has(&self, key: InstanceKey) -> bool {
        self.table().contains_key(&key)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.table().values().cloned().collect()
    }

    /// Removes an idle slot without mail from the table. Threads that still hold it see `Gone` and look again.
    pub(crate) fn remove_if_idle(&self, slot: &Slot) {
        let mut table = self.table();
        let mut mailbox = slot.mailbox();
        // Messages in the inbox stay there: a new slot reads them.
        if mailbox.phase == SlotPhase::Idle
            && !mailbox.rearm
            && mailbox.mail.iter().all(|envelope| envelope.seq.is_some())
        {
            mailbox.phase = SlotPhase::Gone;
            take_out(&mut table, slot);
        }
    }

    /// Removes the slot of an ended instance, with its mail, from the table.
    pub(crate) fn remove(&self, slot: &Slot) {
        let mut table = self.table();
        let mut mailbox = slot.mailbox();
        mailbox.phase = SlotPhase::Gone;
        mailbox.mail.clear();
        let was_there = take_out(&mut table, slot);
        drop((table, mailbox));
        if was_there {
            self.cool(slot.key);
        }
    }

    /// Records that an instance has a guest in memory and was just used. Returns the keys of instances to evict.
    pub(crate) fn warm(&self, key: InstanceKey, bytes: usize) -> Vec<InstanceKey> {
        let mut hot = self.hot();
        hot.tick += 1;
        let tick = hot.tick;
        if let Some((age, before)) = hot.ages.insert(key, (tick, bytes)) {
            hot.by_age.remove(&age);
            hot.bytes -= before;
        }
        hot.by_age.insert(tick, key);
        hot.bytes += bytes;
        let mut cold = Vec::new();
        while hot.ages.len() > self.resident_max
            || (hot.bytes > self.resident_bytes_max && hot.ages.len() > 1)
        {
            let Some((_, coldest)) = hot.by_age.pop_first() else {
                break;
            };
            if let Some((_, bytes)) = hot.ages.remove(&coldest) {
                hot.bytes -= bytes;
            }
            cold.push(coldest);
        }
        cold
    }

    /// Records that an instance has no guest in memory any more.
    pub(crate) fn cool(&self, key: InstanceKey) {
        let mut hot = self.hot();
        if let Some((age, bytes)) = hot.ages.remove(&key) {
            hot.by_age.remove(&age);
            hot.bytes -= bytes;
        }
    }

    /// Drops the guest of an instance, unless a turn is running. The next turn replays.
    pub(crate) fn evict(&self, key: InstanceKey) -> bool {
        let Some(slot) = self.table().get(&key).cloned() else {
            return false;
        };
        let evicted = match slot.try_body() {
            Some(mut body) if slot.mailbox().phase == SlotPhase::Idle => {
                self.cool(key);
                body.resident.take().is_some()
            }
            _ => false,
        };
        if evicted {
            self.remove_if_idle(&slot);
        }
        evicted
    }

    /// Whether the instance counts as having a guest in memory.
    pub(crate) fn is_hot(&self, key: InstanceKey) -> bool {
        self.hot().ages.contains_key(&key)
    }

    pub(crate) fn resident_bytes(&self) -> usize {
        self.hot().bytes
    }

    pub(crate) fn resident(&self) -> usize {
        self.hot().ages.len()
    }
}

/// Puts messages that no turn took back to the front of the mail.
pub(crate) fn put_back(slot: &Slot, batch: Vec<Envelope>) {
    let mut mailbox = slot.mailbox();
    batch
        .into_iter()
        .rev()
        .for_each(|envelope| mailbox.mail.push_front(envelope));
}

/// Resets the position in an inbox, so that it is read again from the beginning.
pub(crate) fn forget_read(slot: &Slot, body: &mut Body) {
    (body.inbox_read_to, body.inbox_pages) = (0, 0);
    let mut mailbox = slot.mailbox();
    mailbox.mail.retain(|envelope| envelope.seq.is_none());
    mailbox.inbox_is_new = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_a_partition_that_was_gone_does_not_take_the_place_of_the_one_since() {
        let slots = Slots::new(10, 1_000);
        let key = InstanceKey(1);
        let old = slots.slot(key);
        slots.remove(&old);
        let new = slots.slot(key);
        slots.warm(key, 5);
        // A thread that still held the old one ends with it.
        slots.remove(&old);
        assert!(Arc::ptr_eq(&slots.slot(key), &new));
        assert_eq!(slots.hot().bytes, 5);
        old.mailbox().phase = SlotPhase::Idle;
        slots.remove_if_idle(&old);
        assert!(Arc::ptr_eq(&slots.slot(key), &new));
        slots.remove(&new);
        assert!(!slots.has(key));
        assert_eq!(slots.hot().bytes, 0);
    }
}
