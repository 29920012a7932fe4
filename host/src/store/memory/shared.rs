//! A hub in memory that any number of owners share, one after another or at odds.
//!
//! Invariant: only the last owner that took it over commits; the hub compares its epoch in each transaction.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use perennial_core::{Digest, Timestamp};

use crate::store::StoreError;
use crate::store::flight::FlightRecorder;
use crate::store::hints::Hints;
use crate::store::memory::Memory;
use crate::store::memory::members::Shares;
use crate::store::memory::reader::MemoryReader;
use crate::store::memory::writer::{Gates, MemoryWriter};
use crate::store::owned::Owned;
use crate::store::partition::{Partition, Partitions};
use crate::store::reads::Reader;
use crate::store::writer::Writer;

/// A handle on the hub.
#[derive(Clone)]
pub(crate) struct MemoryHub(Arc<Shared>);

struct Shared {
    rows: Mutex<Memory>,
    /// How many partitions it has.
    count: u16,
    /// The owners that are told of messages, by their epochs.
    told: Mutex<HashMap<u64, Told>>,
    /// How often whoever leaves commands lost its connection.
    lost: AtomicU64,
    /// The owners that are told of hints.
    hinted: Mutex<HashMap<u64, Hinted>>,
    /// The owners that are told of changes of what they keep of the hub.
    told_changed: Mutex<HashMap<u64, ToldChanged>>,
}

/// Called when something was sent to an owner.
pub(super) type Told = Arc<dyn Fn() + Send + Sync>;

/// Called with the new version of what owners keep of the hub.
pub(super) type ToldChanged = Arc<dyn Fn(i64) + Send + Sync>;

/// Called with the hints of other owners.
pub(super) type Hinted = Arc<dyn Fn(&Hints) + Send + Sync>;

impl fmt::Debug for MemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryHub")
    }
}

/// A hub that was taken over.
pub(crate) struct MemoryOwner {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    /// Where a test can hold its transactions up.
    pub(crate) gates: Arc<Gates>,
    pub(crate) epoch: u64,
}

impl MemoryHub {
    /// A new hub without an owner.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self::divided(now, 1)
    }

    /// A new hub with so many partitions, without an owner.
    pub(crate) fn divided(now: Timestamp, count: u16) -> Self {
        let mut memory = Memory::default();
        memory.hub.created_at = now;
        memory.hub.secret = vec![7; 16];
        Self::of(memory, count)
    }

    fn of(rows: Memory, count: u16) -> Self {
        Self(Arc::new(Shared {
            rows: Mutex::new(rows),
            count,
            told: Mutex::default(),
            lost: AtomicU64::default(),
            hinted: Mutex::default(),
            told_changed: Mutex::default(),
        }))
    }

    /// All partitions.
    pub(crate) fn all(&self) -> Partitions {
        Partitions::all(self.0.count)
    }

    /// Makes the caller the owner. What an owner before it has not committed by now, it never will.
    pub(crate) fn take_over(&self) -> Result<MemoryOwner, StoreError> {
        self.take_over_some(self.all())
    }

    /// As [`take_over`](Self::take_over), of some partitions.
    fn take_over_some(&self, own: Partitions) -> Result<MemoryOwner, StoreError> {
        let epoch = {
            let mut rows = self.rows();
            rows.hub.epoch += 1;
            let epoch = rows.hub.epoch;
            rows.hub.owners.extend(own.iter().map(|one| (one, epoch)));
            rows.hub.alive.insert(epoch);
            epoch
        };
        let writer = MemoryWriter::start(self.clone(), epoch, own)?;
        Ok(MemoryOwner {
            gates: writer.gates(),
            writer: Writer::new(writer),
            reader: Reader::new(MemoryReader(self.clone(), own)),
            epoch,
        })
    }

    /// Makes the caller the owner of some partitions, for an engine; what runs is recorded in a file.
    pub(in crate::store) fn owned(
        &self,
        running: &Path,
        own: Partitions,
    ) -> Result<Owned, StoreError> {
        let (flight, were_running) = FlightRecorder::open(running.to_owned())?;
        let owner = self.take_over_some(own)?;
        let MemoryOwner { writer, reader, .. } = owner;
        let first_key = match self.0.count {
            1 => reader.last_key()?.0 + 1,
            // No other owner has this epoch.
            _ => i64::try_from(owner.epoch << 32).unwrap_or(i64::MAX),
        };
        Ok(Owned {
            owner: Box::new(Shares::new(self.clone(), owner.epoch)),
            partitions: own,
            // Who begins without any takes some.
            is_shared: own.iter().next().is_none(),
            first_key,
            writer,
            reader,
            flight,
            were_running,
            made: false,
        })
    }

    /// A copy of the hub as it is now, which changes apart from it.
    pub(crate) fn copy(&self) -> Self {
        Self::of(self.rows().clone(), self.0.count)
    }

    /// Reads the hub without owning it.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(MemoryReader(self.clone(), self.all()))
    }

    /// Appends a command for the owner of a partition.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the token is in use.
    pub(crate) fn append_command(
        &self,
        to: Partition,
        token: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut rows = self.rows();
        if rows.commands.get(token).is_some() {
            let what = format!("there is a command {token} already");
            return Err(StoreError::Corrupt(what));
        }
        let places = rows.hub.sent.values().map(|(place, ..)| *place);
        let place = places.max().unwrap_or(0) + 1;
        let sent = (place, to, body.to_vec());
        rows.hub.sent.insert(token.to_owned(), sent);
        rows.commands.insert(token.to_owned(), (now, None));
        Ok(())
    }

    /// Withdraws a command that has no answer yet. Returns whether it did: the command then takes no effect.
    pub(crate) fn take_back_command(&self, token: &str) -> bool {
        let mut rows = self.rows();
        let is_open = matches!(rows.commands.get(token), Some((_, None)));
        if is_open {
            rows.commands.remove(token);
            rows.hub.sent.remove(token);
        }
        is_open
    }

    /// Answers a command as its owner does.
    pub(crate) fn answer_command(&self, token: &str, answer: &[u8]) {
        let mut rows = self.rows();
        rows.commands
            .insert(token.to_owned(), (Timestamp(0), Some(answer.to_vec())));
    }

    /// Whether there is such a command.
    pub(crate) fn has_command(&self, token: &str) -> bool {
        self.rows().commands.get(token).is_some()
    }

    /// How many commands there are.
    pub(crate) fn commands(&self) -> usize {
        self.rows().hub.sent.len()
    }

    /// Deletes a command after its answer was read.
    pub(crate) fn forget_command(&self, token: &str) {
        let mut rows = self.rows();
        rows.commands.remove(token);
        rows.hub.sent.remove(token);
    }

    /// The rows. Nobody else reads or changes them meanwhile.
    pub(super) fn rows(&self) -> MutexGuard<'_, Memory> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever leaves commands loses its connection.
    pub(crate) fn lose_connection(&self) {
        self.0.lost.fetch_add(1, Ordering::AcqRel);
    }

    /// The connection by which commands are left now.
    pub(in crate::store) fn connection(&self) -> u64 {
        self.0.lost.load(Ordering::Acquire)
    }

    /// Tells an owner from now on of messages to its partitions.
    pub(super) fn tell(&self, epoch: u64, told: Told) {
        self.told().insert(epoch, told);
    }

    /// Tells the owners of these partitions that something was sent there.
    pub(super) fn was_sent(&self, to: &[Partition]) {
        if to.is_empty() {
            return;
        }
        let owners: BTreeSet<u64> = {
            let rows = self.rows();
            to.iter()
                .filter_map(|one| rows.hub.owners.get(one).copied())
                .collect()
        };
        let told: Vec<Told> = {
            let all = self.told();
            owners
                .iter()
                .filter_map(|owner| all.get(owner).cloned())
                .collect()
        };
        told.iter().for_each(|told| told());
    }

    /// Tells an owner from now on which version of what it keeps of the hub there is.
    pub(super) fn tell_changed(&self, epoch: u64, told: ToldChanged) {
        self.told_changed().insert(epoch, told);
    }

    /// Tells all owners of this version.
    pub(super) fn was_changed(&self, version: i64) {
        let all: Vec<ToldChanged> = self.told_changed().values().cloned().collect();
        all.iter().for_each(|told| told(version));
    }

    fn told_changed(&self) -> MutexGuard<'_, HashMap<u64, ToldChanged>> {
        let told = self.0.told_changed.lock();
        told.unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells an owner from now on of hints of others.
    pub(super) fn tell_hints(&self, epoch: u64, hinted: Hinted) {
        self.hinted().insert(epoch, hinted);
    }

    /// Tells all other owners.
    pub(super) fn hint(&self, from: u64, hints: &Hints) {
        let others: Vec<Hinted> = {
            let all = self.hinted();
            let others = all.iter().filter(|(epoch, _)| **epoch != from);
            others.map(|(_, hinted)| Arc::clone(hinted)).collect()
        };
        others.iter().for_each(|hinted| hinted(hints));
    }

    fn hinted(&self) -> MutexGuard<'_, HashMap<u64, Hinted>> {
        self.0.hinted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, HashMap<u64, Told>> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Whether an owner with this epoch still owns the partitions that it runs.
    pub(super) fn is_owned_by(&self, epoch: u64) -> bool {
        let owner = |one| self.hub.owners.get(&one) == Some(&epoch);
        !self.hub.dead.contains(&epoch) && self.own.iter().all(owner)
    }

    /// The live instances of each module.
    pub(super) fn count_live(&self) -> HashMap<Option<Digest>, u64> {
        let mut counts = HashMap::new();
        let rows = self.instances.values().map(|of| &of.row);
        for row in rows.filter(|row| !row.status.is_end()) {
            *counts.entry(row.module).or_insert(0) += 1;
        }
        counts
    }
}

/// Holds up an owner on its way to the hub, as a slow network does. It is open at first.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_closed: bool,
    waiting: u32,
}

impl Gate {
    /// From now on nobody passes.
    pub(crate) fn shut(&self) {
        self.state().is_closed = true;
    }

    /// Lets everybody pass again.
    pub(crate) fn open(&self) {
        self.state().is_closed = false;
        self.changed.notify_all();
    }

    /// Waits until somebody stands before it.
    pub(crate) fn await_arrival(&self) {
        let state = self
            .changed
            .wait_while(self.state(), |state| state.waiting == 0);
        drop(state.unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn pass(&self) {
        let mut state = self.state();
        if !state.is_closed {
            return;
        }
        state.waiting += 1;
        self.changed.notify_all();
        let state = self.changed.wait_while(state, |state| state.is_closed);
        state.unwrap_or_else(PoisonError::into_inner).waiting -= 1;
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
