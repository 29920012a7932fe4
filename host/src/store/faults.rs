//! Fault injection for tests: makes chosen or random writes fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::store::StoreError;

/// The longest delay of a write.
const DELAY_MAX: u64 = 400;

/// The number of checks after which a write is interrupted at the latest: some statements are done then, and one is running.
const BROKEN_OFF_AFTER: u64 = 80;

/// Counts down to the failure; 0 is never.
#[derive(Debug)]
pub(crate) struct Faults {
    /// The error of a write that fails.
    failure: fn() -> StoreError,
    /// Counts down to a job that fails, as on a full disk.
    pub(crate) run: AtomicU64,
    /// Counts down to a commit that fails and is lost.
    pub(crate) lost: AtomicU64,
    /// Counts down to a commit that happens but reports an error.
    pub(crate) unheard: AtomicU64,
    /// Jobs that the writer has not taken yet.
    pub(crate) queued: AtomicU64,
    /// Jobs that the writer has taken out of its queue so far.
    pub(crate) taken: AtomicU64,
    /// Whether the idle writer leaves the files as they are: a test that counts syncs cannot know how long the writer is idle.
    pub(crate) no_upkeep: AtomicBool,
    /// Whether the owner is not sure that it owns the hub, as one whose lease was not renewed in time.
    pub(crate) unsure: AtomicBool,
    plan: Mutex<Option<Plan>>,
    dealt: AtomicU64,
    /// Counts down the checks until a statement is interrupted; 0 is never.
    pub(in crate::store) break_off: Arc<AtomicU64>,
    /// Transactions that a writer sent to a server, and their statements, with those that begin, claim and end them.
    #[cfg(feature = "postgres")]
    pub(crate) sent: AtomicU64,
    #[cfg(feature = "postgres")]
    pub(crate) statements: AtomicU64,
    /// How often such a writer waited for rows that it did not have.
    #[cfg(feature = "postgres")]
    pub(crate) round_trips: AtomicU64,
}

/// How often each kind of fault of a connection happened in this process.
static OF_CONNECTIONS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Counts a fault of a connection.
#[cfg(feature = "postgres")]
pub(in crate::store) fn count_of_connection(kind: &'static str) {
    let mut counts = OF_CONNECTIONS
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    *counts.entry(kind).or_insert(0) += 1;
}

/// The faults of connections so far, by kind.
pub(crate) fn of_connections() -> BTreeMap<&'static str, u64> {
    let counts = OF_CONNECTIONS
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    counts.clone()
}

/// The fate of each write, derived from a seed: the n-th write of a seed always has the same fate.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    /// One write in this many fails or is delayed.
    one_in: u64,
    writes: u64,
    /// How often reopening the file fails after an uncertain commit.
    unreadable: u64,
}

/// The fate of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// It succeeds after a delay.
    Delayed(u64),
    /// It fails.
    Fails,
    /// It succeeds but reports an error.
    DoneAndFails,
    /// It is interrupted in the middle of a statement, which rolls back the whole transaction.
    BreaksOff(u64),
}

impl Plan {
    fn next(&mut self) -> Fate {
        self.writes += 1;
        let chance = mix(self.seed ^ mix(self.writes));
        if !chance.is_multiple_of(self.one_in) {
            return Fate::Done;
        }
        let more = mix(chance);
        match chance / self.one_in % 5 {
            0 => Fate::Delayed(more % DELAY_MAX),
            1 => Fate::Fails,
            2 => Fate::BreaksOff(1 + more % BROKEN_OFF_AFTER),
            _ => Fate::DoneAndFails,
        }
    }
}

/// Finalizer of splitmix64: neighbouring numbers come out unrelated.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

pub(in crate::store) fn is_now(countdown: &AtomicU64) -> bool {
    let before = countdown.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
    before == Ok(1)
}

impl Default for Faults {
    /// Writes fail as on a full disk.
    fn default() -> Self {
        Self::new(|| {
            let full = std::io::ErrorKind::StorageFull.into();
            StoreError::file("a fault of a test, on", "the store")(full)
        })
    }
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Commit {
    Made,
    /// It is rolled back, and fails.
    Lost,
    /// It is made, but reports an error.
    Unheard,
}

impl Faults {
    /// No faults yet; a write that fails does so with this error.
    pub(in crate::store) fn new(failure: fn() -> StoreError) -> Self {
        Self {
            failure,
            run: AtomicU64::default(),
            lost: AtomicU64::default(),
            unheard: AtomicU64::default(),
            queued: AtomicU64::default(),
            taken: AtomicU64::default(),
            no_upkeep: AtomicBool::default(),
            unsure: AtomicBool::default(),
            plan: Mutex::default(),
            dealt: AtomicU64::default(),
            break_off: Arc::default(),
            #[cfg(feature = "postgres")]
            sent: AtomicU64::default(),
            #[cfg(feature = "postgres")]
            statements: AtomicU64::default(),
            #[cfg(feature = "postgres")]
            round_trips: AtomicU64::default(),
        }
    }

    /// The error of a write that fails.
    pub(in crate::store) fn failure(&self) -> StoreError {
        (self.failure)()
    }

    /// From now on one write in `one_in` gets another fate than success, by this seed.
    pub(crate) fn follow(&self, seed: u64, one_in: u64) {
        *self.plan() = Some(Plan {
            seed,
            one_in,
            writes: 0,
            unreadable: 0,
        });
    }

    /// No more faults.
    pub(crate) fn cease(&self) {
        *self.plan() = None;
        for countdown in [&self.run, &self.lost, &self.unheard] {
            countdown.store(0, Ordering::Release);
        }
    }

    /// The number of writes so far that had another fate than success.
    pub(crate) fn dealt(&self) -> u64 {
        self.dealt.load(Ordering::Acquire)
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Option<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Fate {
        let fate = self.plan().as_mut().map_or(Fate::Done, Plan::next);
        if fate != Fate::Done {
            self.dealt.fetch_add(1, Ordering::AcqRel);
        }
        fate
    }

    /// Runs the statements of one job with its fate.
    pub(in crate::store) fn run(
        &self,
        job: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if is_now(&self.run) {
            return Err(self.failure());
        }
        match self.next() {
            Fate::Done => job(),
            Fate::Delayed(micros) => {
                std::thread::sleep(Duration::from_micros(micros));
                job()
            }
            Fate::Fails => Err(self.failure()),
            Fate::DoneAndFails => job().and_then(|()| Err(self.failure())),
            Fate::BreaksOff(after) => {
                self.break_off.store(after, Ordering::Release);
                let result = job();
                self.break_off.store(0, Ordering::Release);
                result
            }
        }
    }

    /// Whether the job that runs is to be interrupted.
    #[cfg(feature = "postgres")]
    pub(in crate::store) fn breaks_off(&self) -> bool {
        self.break_off.load(Ordering::Acquire) > 0
    }

    /// What becomes of the commit that is about to be made.
    pub(in crate::store) fn commit(&self) -> Commit {
        if is_now(&self.lost) {
            return Commit::Lost;
        }
        match self.next() {
            Fate::Fails | Fate::BreaksOff(_) => return Commit::Lost,
            Fate::DoneAndFails => {
                if let Some(plan) = self.plan().as_mut() {
                    plan.unreadable = mix(plan.seed ^ plan.writes) % 3;
                }
                return Commit::Unheard;
            }
            Fate::Delayed(micros) => std::thread::sleep(Duration::from_micros(micros)),
            Fate::Done => {}
        }
        if is_now(&self.unheard) {
            Commit::Unheard
        } else {
            Commit::Made
        }
    }

    /// Decides whether reopening the file after an uncertain commit succeeds.
    pub(in crate::store) fn reopen(&self) -> Result<(), StoreError> {
        match self.plan().as_mut() {
            Some(plan) if plan.unreadable > 0 => {
                plan.unreadable -= 1;
                Err(self.failure())
            }
            _ => Ok(()),
        }
    }
}
