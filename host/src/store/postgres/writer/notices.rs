//! How owners tell each other that something was sent to their partitions, and [hints](Hints).
//!
//! A notification is a transaction of its own, after the one that sent the message: PostgreSQL commits those that notify one after the other.
//! A thread makes one for all messages and hints since the last one, so that no writer waits for it. Nothing relies on a notification: who was
//! not told looks each second.
//!
//! The thread also keeps the lease of an owner whose writer waits for a lock of somebody else, and whose other threads may wait for the writer.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::shortage::{Resource, Shortage};
use crate::store::StoreError;
use crate::store::hints::Hints;
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::lease::{KEEP, KEPT_FOR, LATE_MS};
use crate::store::postgres::partitions::{is_about, payload};
use crate::store::postgres::session::{Purpose, Session};

/// How often an owner looks that was told nothing.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 400 } else { 1_000 });

/// The time between two notifications of nothing but hints.
const HINT_EVERY: Duration = Duration::from_millis(10);

/// The longest text of hints, in bytes: PostgreSQL takes less than 8,000.
const TEXT_MAX: usize = 7_900;

/// Told of the hints of other owners.
pub(super) type Hinted = Arc<dyn Fn(&Hints) + Send + Sync>;

/// What other owners were not told of yet, and what this one is told of.
#[derive(Default)]
pub(super) struct SentTo {
    own: Mutex<Partitions>,
    hinted: Mutex<Option<Hinted>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The partitions to which something was sent.
    to: BTreeSet<Partition>,
    hints: Hints,
    /// When hints were taken last.
    hinted: Option<Instant>,
    /// Whether the thread has to end.
    is_closed: bool,
}

/// What there is to tell.
#[derive(Default)]
struct News {
    to: BTreeSet<Partition>,
    hints: Hints,
}

/// A notification of hints. One of partitions is a list of their numbers.
#[derive(Serialize, Deserialize)]
struct Hinting<H> {
    from: i64,
    hints: H,
}

impl fmt::Debug for SentTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SentTo")
    }
}

impl SentTo {
    /// This owner has these partitions.
    pub(super) fn set_own(&self, own: Partitions) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Tells `hinted` of the hints of others.
    pub(super) fn set_hinted(&self, hinted: Hinted) {
        *self.hinted.lock().unwrap_or_else(PoisonError::into_inner) = Some(hinted);
    }

    /// Whether something was sent to this owner by what a notification says.
    fn is_told(&self, said: &str) -> bool {
        is_about(
            said,
            &self.own.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Takes a notification of hints, unless this owner gave them.
    fn hear(&self, own_epoch: i64, said: &str) {
        let Ok(Hinting { from, hints }) = serde_json::from_str::<Hinting<Hints>>(said) else {
            return;
        };
        if from == own_epoch {
            return;
        }
        let hinted = {
            let hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
            hinted.clone()
        };
        if let Some(hinted) = hinted {
            hinted(&hints);
        }
    }

    /// Something was committed that is for these partitions.
    pub(super) fn add(&self, to: impl Iterator<Item = Partition>) {
        let mut to = to.peekable();
        if to.peek().is_some() {
            self.state().to.extend(to);
            self.changed.notify_all();
        }
    }

    /// There is something to tell the other owners.
    pub(super) fn hint(&self, hints: Hints) {
        self.state().hints.add(hints);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until there is something, and takes it; nothing after a while. `None` if the thread has to end.
    fn take(&self) -> Option<News> {
        let until = Instant::now() + LOOK_EVERY;
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            let now = Instant::now();
            let hints_from = state.hinted.map_or(now, |at| at + HINT_EVERY);
            let has_hints = !state.hints.is_empty();
            if !state.to.is_empty() || has_hints && hints_from <= now || until <= now {
                break;
            }
            let next = if has_hints {
                hints_from.min(until)
            } else {
                until
            };
            let waited = self.changed.wait_timeout(state, next - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.hints.is_empty() {
            state.hinted = Some(Instant::now());
        }
        let State { to, hints, .. } = &mut *state;
        Some(News {
            to: std::mem::take(to),
            hints: std::mem::take(hints),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells and is told, until it is dropped.
pub(super) struct Notices(Arc<SentTo>);

impl Notices {
    /// Begins, for the owner with this epoch. `told` is called when something may have been sent to it.
    pub(super) fn start(
        address: &Address,
        epoch: i64,
        sent: Arc<SentTo>,
        renewed: Arc<Mutex<Option<Instant>>>,
        told: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let told = Teller {
            address: address.clone(),
            epoch,
            sent: Arc::clone(&sent),
            renewed,
            told,
        };
        let thread = std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || told.work());
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

/// What the thread does.
struct Teller {
    address: Address,
    epoch: i64,
    sent: Arc<SentTo>,
    /// When the writer renewed the lease last.
    renewed: Arc<Mutex<Option<Instant>>>,
    told: Arc<dyn Fn() + Send + Sync>,
}

impl Teller {
    fn work(&self) {
        let mut session = None;
        let mut news = News::default();
        let mut looked = Instant::now();
        loop {
            let told = self.tell(&mut session, news);
            if let Err(error) = told.and_then(|()| self.keep_lease(session.as_ref())) {
                // What they are not told of they find soon.
                tracing::debug!(%error, "could not tell other hosts of messages");
                session = None;
            }
            match self.sent.take() {
                Some(next) => news = next,
                None => return,
            }
            // Also where there are always hints to give.
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                (self.told)();
            }
        }
    }

    /// Tells other owners. Listens first, if it does not yet.
    fn tell(&self, session: &mut Option<Session>, news: News) -> Result<(), StoreError> {
        let channel = channel_of(&self.address);
        let session = match session {
            Some(open) if !open.is_lost() => open,
            none => {
                let open = none.insert(self.listen(&channel)?);
                // What others said before was not heard.
                (self.told)();
                open
            }
        };
        let said = self.texts(news);
        if !said.is_empty() {
            let notify = "SELECT pg_notify($1, said) FROM unnest($2::text[]) AS said";
            session.query(notify, &[&channel, &said])?;
        }
        Ok(())
    }

    /// Renews the lease in place of the writer, if that is late: this process lives, and reaches the database. A transaction under way has the row
    /// already. Not for ever: the writer may hang.
    fn keep_lease(&self, session: Option<&Session>) -> Result<(), StoreError> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let late = Duration::from_millis(LATE_MS.unsigned_abs());
        if let (Some(session), Some(renewed)) = (session, renewed)
            && (late..KEPT_FOR).contains(&renewed.elapsed())
        {
            session.query_opt(KEEP, &[&self.epoch])?;
        }
        Ok(())
    }

    fn listen(&self, channel: &str) -> Result<Session, StoreError> {
        let (sent, told, epoch) = (Arc::clone(&self.sent), Arc::clone(&self.told), self.epoch);
        let notified = move |said: &str| {
            if said.starts_with('{') {
                sent.hear(epoch, said);
            } else if sent.is_told(said) {
                told();
            }
        };
        let session = Session::open_told(&self.address, Purpose::Beside, Arc::new(notified))?;
        session.batch(&format!("LISTEN \"{channel}\""))?;
        Ok(session)
    }

    fn texts(&self, news: News) -> Vec<String> {
        let mut texts = Vec::new();
        if !news.to.is_empty() {
            texts.push(payload(news.to));
        }
        let text = |hints: &Hints| {
            let from = self.epoch;
            serde_json::to_string(&Hinting { from, hints }).ok()
        };
        let fits = |hints: &Hints| text(hints).is_some_and(|text| text.len() <= TEXT_MAX);
        let parts = news.hints.parts(&fits);
        texts.extend(parts.iter().filter_map(text));
        texts
    }
}
