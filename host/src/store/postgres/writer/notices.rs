//! How owners tell each other that something was sent to their partitions.
//!
//! A notification is a transaction of its own, after the one that sent the message: PostgreSQL commits those that notify one after the other.
//! A thread makes one for all messages since the last one, so that no writer waits for it. Nothing relies on a notification: who was not told
//! looks each second.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::shortage::{Resource, Shortage};
use crate::store::StoreError;
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::partitions::{is_about, payload};
use crate::store::postgres::session::{Purpose, Session};

/// How often an owner looks that was told nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// To which partitions something was sent of which their owners were not told yet, and which ones this owner has.
#[derive(Debug, Default)]
pub(super) struct SentTo {
    own: Mutex<Partitions>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    to: BTreeSet<Partition>,
    /// Whether the thread has to end.
    is_closed: bool,
}

impl SentTo {
    /// This owner has these partitions.
    pub(super) fn set_own(&self, own: Partitions) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Whether what a notification says is about this owner.
    fn is_told(&self, said: &str) -> bool {
        is_about(
            said,
            &self.own.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Something was committed that is for these partitions.
    pub(super) fn add(&self, to: impl Iterator<Item = Partition>) {
        let mut to = to.peekable();
        if to.peek().is_some() {
            self.state().to.extend(to);
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until there is something, and takes it; nothing after a while. `None` if the thread has to end.
    fn take(&self) -> Option<BTreeSet<Partition>> {
        let idle = |state: &mut State| state.to.is_empty() && !state.is_closed;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), LOOK_EVERY, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let to = std::mem::take(&mut state.to);
        (!state.is_closed).then_some(to)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells and is told, until it is dropped.
pub(super) struct Notices(Arc<SentTo>);

impl Notices {
    /// Begins. `told` is called when something may have been sent to this owner.
    pub(super) fn start(
        address: &Address,
        sent: Arc<SentTo>,
        told: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let (of_thread, address) = (Arc::clone(&sent), address.clone());
        let thread = std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || work(&address, &of_thread, &told));
        match thread {
            // It ends by itself: it may be waiting for a database that is away, for which nobody else waits here.
            Ok(_) => Ok(Self(sent)),
            Err(error) => {
                let what = format!("could not start a thread: {error}");
                let shortage = Shortage::new(Resource::of_io(&error), what);
                Err(StoreError::Lacks(shortage))
            }
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The channel on which the owners of a hub tell each other.
fn channel_of(address: &Address) -> String {
    // The name of a channel has at most 63 bytes, as that of a schema has.
    let name = format!("{}/outbox", address.schema());
    format!("perennial-{:016x}", perennial_core::xxh64(name.as_bytes()))
}

fn work(address: &Address, sent: &Arc<SentTo>, told: &Arc<dyn Fn() + Send + Sync>) {
    let mut session = None;
    let mut to = BTreeSet::new();
    loop {
        if let Err(error) = tell(address, &mut session, &to, (sent, told)) {
            // What they are not told of they find soon.
            tracing::debug!(%error, "could not tell other hosts of messages");
            session = None;
        }
        match sent.take() {
            Some(next) => to = next,
            None => return,
        }
        if to.is_empty() {
            told();
        }
    }
}

/// Tells the owners of some partitions. Listens first, if it does not yet.
fn tell(
    address: &Address,
    session: &mut Option<Session>,
    to: &BTreeSet<Partition>,
    (sent, told): (&Arc<SentTo>, &Arc<dyn Fn() + Send + Sync>),
) -> Result<(), StoreError> {
    let channel = channel_of(address);
    let session = match session {
        Some(open) if !open.is_lost() => open,
        none => {
            let (sent, told) = (Arc::clone(sent), Arc::clone(told));
            let notified = move |said: &str| {
                if sent.is_told(said) {
                    told();
                }
            };
            let open = Session::open_told(address, Purpose::Manage, Arc::new(notified))?;
            open.batch(&format!("LISTEN \"{channel}\""))?;
            none.insert(open)
        }
    };
    if !to.is_empty() {
        let said = payload(to.iter().copied());
        session.query("SELECT pg_notify($1, $2)", &[&channel, &said])?;
    }
    Ok(())
}
