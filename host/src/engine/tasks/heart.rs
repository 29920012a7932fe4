//! Heartbeats: what attempts that run for long say of their progress, and what they are told in return.
//!
//! A heartbeat never waits. The newest one of each attempt is in memory, where a status finds it. All of them together are written about once
//! a second while there are new ones, and with the outcome of an attempt that failed. So a crash loses the details of the last second or so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use perennial_core::bounds::HEARTBEAT_BYTES;
use perennial_core::{Failure, Json, Timestamp, kind};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::engine::interrupt::Interrupt;
use crate::engine::locks::{OrderedMutex, rank};
use crate::engine::tasks::ready::AttemptKey;
use crate::store::{Beat, Change};

/// The minimum time between two writes of heartbeats.
const PACE: Duration = Duration::from_secs(1);

/// Why an attempt should stop, or why its heartbeat was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// Nobody waits for the result any more: the task was cancelled, its instance ended, or the attempt took too long. The heartbeat was not taken.
    #[error("the attempt was cancelled: nobody waits for its result")]
    Canceled,
    /// The heartbeat was taken, and the host is about to stop: an attempt that cannot end soon should stop. Returning this error as the
    /// failure of the attempt counts as no failure: the next host starts the next attempt, with the details that were sent last.
    #[error("the host is about to stop")]
    Draining,
    /// The details are too large. The heartbeat was not taken.
    #[error("the details of a heartbeat have {bytes} bytes; at most {max} are allowed: send less, such as a position", max = HEARTBEAT_BYTES)]
    TooLarge {
        /// The size of the details as JSON.
        bytes: usize,
    },
    /// The details cannot be stored for this reason. The heartbeat was not taken.
    #[error("the details of a heartbeat cannot be stored: {0}")]
    Invalid(String),
}

impl From<HeartbeatError> for Failure {
    fn from(error: HeartbeatError) -> Self {
        let message = error.to_string();
        match error {
            HeartbeatError::Canceled => Self::retryable(kind::CANCELED, message),
            HeartbeatError::Draining => Self::retryable(kind::HOST_STOPPED, message),
            HeartbeatError::TooLarge { .. } => Self::permanent(kind::LIMIT_EXCEEDED, message),
            HeartbeatError::Invalid(_) => Self::permanent(kind::INVALID_RESULT, message),
        }
    }
}

/// The heart of an attempt, by which it sends heartbeats. Cheap to clone; all clones share one state.
#[derive(Clone, Debug)]
pub struct Heart(Arc<Inner>);

struct Inner {
    beats: Mutex<Beats>,
    interrupt: Interrupt,
    draining: watch::Receiver<bool>,
    /// The engine and the attempt; an attempt outside an engine has none.
    engine: Weak<Engine>,
    place: Option<AttemptKey>,
    /// The details that the attempts before sent last.
    before: Option<Json>,
}

#[derive(Debug)]
struct Beats {
    /// When the attempt began or sent its last heartbeat, as elapsed time.
    last: Instant,
    sent: Option<Beat>,
    /// Set when the attempt is over: what an abandoned closure sends later is not taken.
    over: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heart")
            .field("beats", &self.beats)
            .finish_non_exhaustive()
    }
}

impl Default for Heart {
    /// A heart that nobody listens to.
    fn default() -> Self {
        Self::new(
            Weak::new(),
            None,
            Interrupt::default(),
            None,
            watch::channel(false).1,
        )
    }
}

impl Heart {
    pub(super) fn of(
        engine: &Arc<Engine>,
        place: AttemptKey,
        interrupt: Interrupt,
        before: Option<Json>,
    ) -> Self {
        let draining = engine.activities.draining.subscribe();
        Self::new(
            Arc::downgrade(engine),
            Some(place),
            interrupt,
            before,
            draining,
        )
    }

    fn new(
        engine: Weak<Engine>,
        place: Option<AttemptKey>,
        interrupt: Interrupt,
        before: Option<Json>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let beats = Mutex::new(Beats {
            last: Instant::now(),
            sent: None,
            over: false,
        });
        Self(Arc::new(Inner {
            beats,
            interrupt,
            draining,
            engine,
            place,
            before,
        }))
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.0.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a heartbeat. Without `details`, those that were sent last are kept.
    ///
    /// # Errors
    /// See [`HeartbeatError`].
    pub fn beat(&self, details: Option<Json>) -> Result<(), HeartbeatError> {
        let bytes = details.as_ref().map_or(0, Json::size);
        if bytes > HEARTBEAT_BYTES {
            return Err(HeartbeatError::TooLarge { bytes });
        }
        if let Some(Err(why)) = details.as_ref().map(Json::check_readable) {
            return Err(HeartbeatError::Invalid(why.to_string()));
        }
        let engine = self.0.engine.upgrade();
        let at = engine.as_ref().map(|engine| engine.clock.now());
        let mut beats = self.beats();
        if beats.over || self.0.interrupt.is_set() {
            return Err(HeartbeatError::Canceled);
        }
        beats.last = Instant::now();
        let sent = beats.sent.take().and_then(|beat| beat.details);
        let beat = Beat {
            at: at.unwrap_or_default(),
            details: details.or(sent),
        };
        beats.sent = Some(beat.clone());
        if let (Some(engine), Some(place)) = (&engine, self.0.place) {
            // Under the lock, so that nothing is kept of an attempt that is over.
            engine.keep_beat(place, beat);
        }
        drop(beats);
        match self.is_draining() {
            true => Err(HeartbeatError::Draining),
            false => Ok(()),
        }
    }

    /// The details that were sent last, by this attempt or by one before it.
    pub fn details(&self) -> Option<Json> {
        let sent = self
            .beats()
            .sent
            .as_ref()
            .and_then(|beat| beat.details.clone());
        sent.or_else(|| self.0.before.clone())
    }

    /// The details that attempts before this one sent last.
    pub fn before(&self) -> Option<&Json> {
        self.0.before.as_ref()
    }

    /// Whether the host is about to stop.
    pub fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Completes when the host is about to stop.
    pub async fn draining(&self) {
        let mut draining = self.0.draining.clone();
        if draining.wait_for(|draining| *draining).await.is_err() {
            std::future::pending().await
        }
    }

    /// The last heartbeat of this attempt.
    pub(in crate::engine) fn last(&self) -> Option<Beat> {
        let mut last = self.beats().sent.clone()?;
        last.details = last.details.or_else(|| self.0.before.clone());
        Some(last)
    }

    /// Ends the heartbeats of the attempt, and returns the last one.
    pub(in crate::engine) fn stop(&self) -> Option<Beat> {
        let mut beats = self.beats();
        beats.over = true;
        if let (Some(engine), Some(place)) = (self.0.engine.upgrade(), self.0.place) {
            engine.activities.beats.lock().fresh.remove(&place);
        }
        beats.sent.clone()
    }

    /// The attempt begins: the time of its first heartbeat counts from now.
    pub(in crate::engine) fn begin(&self) {
        self.beats().last = Instant::now();
    }

    /// Completes when the attempt has been silent for so long.
    pub(in crate::engine) async fn silent(&self, span: Duration) {
        loop {
            let due = self.beats().last.checked_add(span);
            let Some(due) = due else {
                return std::future::pending().await;
            };
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

/// Heartbeats that are not written yet.
#[derive(Debug, Default)]
pub(in crate::engine) struct Fresh {
    fresh: BTreeMap<AttemptKey, Beat>,
    /// Whether a task is about to write them.
    is_writing: bool,
    /// When they may be written next.
    next: Option<Instant>,
}

pub(in crate::engine) type FreshBeats = OrderedMutex<Fresh, { rank::HEARTBEATS }>;

impl Engine {
    /// Keeps a heartbeat until it is written, which is at once if none was written lately.
    fn keep_beat(self: &Arc<Self>, place: AttemptKey, beat: Beat) {
        let mut beats = self.activities.beats.lock();
        beats.fresh.insert(place, beat);
        if std::mem::replace(&mut beats.is_writing, true) {
            return;
        }
        drop(beats);
        let engine = Arc::clone(self);
        self.runtime
            .spawn(async move { engine.write_beats().await });
    }

    /// Writes heartbeats at a limited rate until there are no new ones, or the host stops.
    async fn write_beats(self: Arc<Self>) {
        let mut stop = self.activities.stop.subscribe();
        loop {
            let next = self.activities.beats.lock().next;
            if let Some(next) = next {
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
            let Some(fresh) = self.take_fresh(*stop.borrow()) else {
                return;
            };
            let (tell, told) = tokio::sync::oneshot::channel();
            self.write_soon(Change::Beats(fresh), move |_, result| {
                if let Err(error) = result {
                    tracing::warn!(%error, "could not record the heartbeats of activities; the next ones will be");
                }
                let _ = tell.send(());
            });
            let _ = told.await;
        }
    }

    /// Takes the heartbeats that are not written yet; `None` ends the writing.
    fn take_fresh(&self, stops: bool) -> Option<Vec<(AttemptKey, Beat)>> {
        let mut beats = self.activities.beats.lock();
        if beats.fresh.is_empty() || stops {
            beats.is_writing = false;
            return None;
        }
        beats.next = Some(Instant::now() + PACE);
        Some(std::mem::take(&mut beats.fresh).into_iter().collect())
    }

    /// The last heartbeat of a running attempt.
    pub(crate) fn heartbeat_of(&self, place: AttemptKey) -> Option<(Timestamp, Option<Json>)> {
        let heart = self.activities.heart_of(place)?;
        heart.last().map(|beat| (beat.at, beat.details))
    }
}
