//! Shares a hub with other hosts: a thread looks who lives, takes partitions that nobody has, and gives some to hosts that have less.
//!
//! What the hub says decides who has a partition. A host that fails between any two steps looks again, and does what is left to do.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::engine::partitions::plan::plan;
use crate::outage::Outage;
use crate::shortage::Resource;
use crate::store::{Members, OwnerNote, Partition, StoreError};

/// How often a host looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often it looks while it lacks partitions that others are about to give.
const LOOK_SOON: Duration = Duration::from_millis(20);

/// How many looks in a row are that soon: the others may be unable to give any.
const SOON_MAX: u32 = 250;

/// How many partitions are given away at once: their instances do not run until the others have them.
const GIVE_AT_ONCE: usize = 8;

/// How long a host that lacked something for good leaves partitions to others after that: without any, it lacks nothing.
const LACKS_FOR: Duration = Duration::from_secs(60);

/// When the thread looks next.
#[derive(Default)]
pub(in crate::engine) struct Pace {
    state: Mutex<PaceState>,
    changed: Condvar,
    /// Held during a look and what follows from it.
    one: Mutex<()>,
    /// What the process lacks for good, and until when it is taken to.
    lacks: Mutex<Option<(Resource, Instant)>>,
    outage: Outage,
}

#[derive(Default)]
struct PaceState {
    stopped: bool,
    /// A look is due now.
    due: bool,
    soon: u32,
}

impl Pace {
    /// Waits until the next look is due. `false` if there is none.
    fn wait(&self, lacks: bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.soon = if lacks { state.soon + 1 } else { 0 };
        let wait = match state.soon {
            1..=SOON_MAX => LOOK_SOON,
            _ => LOOK_EVERY,
        };
        let waited = self
            .changed
            .wait_timeout_while(state, wait, |state| !state.stopped && !state.due);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.due = false;
        !state.stopped
    }

    fn lacks(&self) -> Option<Resource> {
        let lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        lacks.map(|(resource, _)| resource)
    }

    /// Takes the process to lack a resource that it has been lacking for a while, and for some time after. Returns whether that has changed.
    fn has_changed(&self, lasting: Option<Resource>) -> bool {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lacks.map(|(resource, _)| resource);
        let now = Instant::now();
        *lacks = match (lasting, *lacks) {
            (Some(resource), _) => Some((resource, now + LACKS_FOR)),
            (None, Some((_, until))) if now >= until => None,
            (None, as_before) => as_before,
        };
        lacks.map(|(resource, _)| resource) != before
    }

    /// Lets the thread look now.
    pub(in crate::engine) fn soon(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.due = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Ends [`Engine::share`].
    pub(in crate::engine) fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopped = true;
        drop(state);
        self.changed.notify_all();
    }
}

impl Engine {
    /// By what the hub knows this host; `None` if it knows only one.
    pub(crate) fn epoch(&self) -> Option<i64> {
        self.hub.epoch
    }

    /// What this host says about itself, with the socket on which it listens.
    pub(crate) fn note(&self, socket: Option<PathBuf>) -> OwnerNote {
        OwnerNote {
            url: self.config.url.clone(),
            leaves: self.is_draining(),
            lacks: self.pace.lacks().map(|resource| resource.to_string()),
            ..OwnerNote::of_this_process(&self.config.what, socket)
        }
    }

    /// Lets other processes know who owns the hub and on which socket the owner listens.
    pub(crate) fn announce(&self, socket: Option<PathBuf>) {
        let note = self.note(socket);
        let mut owner = self.hub.owner.lock();
        if let Some(Err(error)) = owner.as_mut().map(|owner| owner.announce(&note)) {
            tracing::warn!(%error, "could not write who owns the hub; other processes cannot reach this one");
        }
    }

    /// Takes what nobody has, so that a host that is alone runs all when its start returns, and goes on to share.
    pub(in crate::engine) fn begin_to_share(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.hub.is_shared {
            self.balance()?;
            self.spawn_thread("members", Self::share)?;
        }
        Ok(())
    }

    /// Shares the hub with other hosts until the engine stops.
    pub(in crate::engine) fn share(self: &Arc<Self>) {
        let mut lacks = false;
        while self.pace.wait(lacks) {
            lacks = match self.balance() {
                Ok(lacks) => {
                    self.pace.outage.succeeded();
                    lacks
                }
                Err(error) => {
                    if let Some(unsaid) = self.pace.outage.failed() {
                        tracing::warn!(%error, unsaid, "could not look who shares the task hub; trying again");
                    }
                    false
                }
            };
        }
    }

    /// Looks once, and does what follows. Returns whether this host lacks partitions that others have to give.
    pub(crate) fn balance(self: &Arc<Self>) -> Result<bool, StoreError> {
        let _one = self.pace.one.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pace.has_changed(self.trouble.shortages.lasting()) {
            match self.pace.lacks() {
                Some(resource) => tracing::warn!(
                    lacks = %resource,
                    "this host has been lacking {resource} for a while: it gives its partitions to other hosts of the task hub that do not"
                ),
                None => tracing::info!("this host runs partitions of the task hub again"),
            }
        }
        let Some(members) = self.look_at_members()? else {
            return Ok(false);
        };
        let Some(me) = members.owners.iter().find(|of| of.epoch == members.me) else {
            // The next transaction tells.
            return Ok(false);
        };
        let says = self.note(None);
        let said = |note: &OwnerNote| (note.leaves, note.lacks.clone(), note.url.clone());
        if said(&me.note) != said(&says) {
            // All act on it from the next look on.
            self.announce(None);
        }
        self.share_workers(&members)?;
        let runs = self.partitions();
        // Whatever broke off before: what this host has it must run, and nothing else.
        let others: Vec<Partition> = runs
            .iter()
            .filter(|one| !me.partitions.contains(one))
            .collect();
        if !others.is_empty() {
            self.leave(&others)?;
        }
        let mut gained: Vec<Partition> = me.partitions.clone();
        gained.retain(|one| !runs.has(*one));
        let plan = plan(&members);
        if !plan.take.is_empty() {
            gained.extend(self.with_owner(|owner| owner.take(&plan.take))?);
        }
        if !gained.is_empty() {
            self.gain(&gained)?;
            tracing::info!(
                partitions = gained.len(),
                runs = self.partitions().iter().count(),
                "runs more partitions of the task hub"
            );
        }
        for (to, count) in plan.give {
            let mut left = self.easiest_to_give(&me.partitions, count);
            let count = left.len();
            if count == 0 {
                continue;
            }
            while !left.is_empty() {
                let some: Vec<Partition> = left.drain(..left.len().min(GIVE_AT_ONCE)).collect();
                self.give(&some, to)?;
            }
            tracing::info!(
                partitions = count,
                runs = self.partitions().iter().count(),
                "gave partitions of the task hub to another host"
            );
        }
        Ok(plan.lacks > gained.len())
    }

    /// Gives partitions to another host.
    fn give(self: &Arc<Self>, which: &[Partition], to: i64) -> Result<(), StoreError> {
        self.leave(which)?;
        self.with_owner(|owner| owner.give(which, Some(to)))
    }

    /// As [`give`](Self::give), whatever would be an equal division.
    #[cfg(test)]
    pub(in crate::engine) fn give_anyway(
        self: &Arc<Self>,
        which: &[Partition],
        to: i64,
    ) -> Result<(), StoreError> {
        let _one = self.pace.one.lock().unwrap_or_else(PoisonError::into_inner);
        self.give(which, to)
    }

    /// Who shares the hub; `None` if it has one owner.
    pub(crate) fn look_at_members(&self) -> Result<Option<Members>, StoreError> {
        self.with_owner(|owner| owner.look())
    }

    pub(in crate::engine) fn with_owner<T>(
        &self,
        ask: impl FnOnce(&mut dyn crate::store::Ownership) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.hub.owner.lock().as_mut() {
            Some(owner) => ask(owner.as_mut()),
            None => Err(StoreError::Closed),
        }
    }

    /// Some of these partitions: those with the fewest running attempts, which a move interrupts.
    fn easiest_to_give(&self, of: &[Partition], count: usize) -> Vec<Partition> {
        let running = self.activities.running();
        let attempts = |one: &Partition| {
            let there = running
                .iter()
                .filter(|key| self.partition_of(**key) == *one);
            there.count()
        };
        let mut all: Vec<(usize, Partition)> = of
            .iter()
            .map(|one| (attempts(one), *one))
            // One that is given away is not there any more. A host that drains lets its attempts end first.
            .filter(|(attempts, one)| {
                self.partitions().has(*one) && (*attempts == 0 || !self.is_draining())
            })
            .collect();
        all.sort_by_key(|(attempts, Partition(number))| (*attempts, u16::MAX - number));
        all.into_iter().take(count).map(|(_, one)| one).collect()
    }
}
