//! A host that is about to stop: it starts no attempt, and lets the running ones end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_core::{Failure, Timestamp, kind};

use crate::engine::Engine;
use crate::engine::tasks::activities::Activities;
use crate::engine::tasks::ready::{AttemptKey, Ready};
use crate::store::{Beat, Change, CutOff};

/// How often a drain looks whether the attempts have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Activities {
    /// Whether no attempt starts any more.
    pub(in crate::engine) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// An attempt begins now. `false` if the host has stopped meanwhile.
    pub(super) fn is_begun(&self, place: AttemptKey, at: Timestamp) -> bool {
        let mut state = self.state();
        if state.stopped {
            return false;
        }
        if let Some(running) = state.running.get_mut(&place) {
            running.started_at = Some(at);
        }
        true
    }
}

impl Engine {
    /// Starts no attempt any more, tells the running ones, and waits until they have ended, for at most this long. Returns how many have not.
    /// Where other hosts share the hub, they get its partitions, as soon as no attempt runs in them.
    pub(crate) async fn drain(self: &Arc<Self>, within: Duration) -> usize {
        self.activities.draining.send_replace(true);
        if self.is_shared() {
            let engine = Arc::clone(self);
            // If it fails, they get them when this host has stopped.
            drop(
                self.runtime
                    .spawn_blocking(move || engine.announce(None))
                    .await,
            );
            self.pace.soon();
        }
        let began = Instant::now();
        loop {
            let (_, running) = self.activities.counts();
            if running == 0 || began.elapsed() >= within || self.is_stopping() {
                return running;
            }
            let left = within.saturating_sub(began.elapsed());
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }

    /// Whether an attempt that failed so has stopped because the host is about to: that is no failure.
    pub(super) fn stands_down(&self, failure: &Failure) -> bool {
        failure.kind == kind::HOST_STOPPED && self.activities.is_draining()
    }

    /// Records that an attempt has stopped because the host is about to. The next host starts the next one.
    pub(super) async fn stood_down(
        self: &Arc<Self>,
        ready: &Ready,
        started_at: Timestamp,
        slot: usize,
        heartbeat: Option<Beat>,
    ) {
        let cut = CutOff {
            key: ready.key,
            task: ready.task,
            started_at,
            heartbeat,
            is_known: true,
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let change = Change::CutOff {
            attempts: vec![cut],
            stops: false,
        };
        let done = move |_, result: Result<_, _>| drop(tell.send(result.map(drop)));
        self.write_later(change, done).await;
        match told.await {
            Ok(Ok(())) => self.hub.flight.end(slot),
            // The flight recorder keeps it, so that the next host counts the attempt.
            Ok(Err(error)) => {
                let instance = &ready.caller.instance_id;
                tracing::warn!(instance, %error, "could not record that an attempt stopped with its host");
            }
            Err(_) => {}
        }
        self.activities.is_given_back((ready.key, ready.task));
    }
}
