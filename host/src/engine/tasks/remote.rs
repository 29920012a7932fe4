//! Attempts of activities that remote workers run. They wait for a worker without a place among the attempts of this host.

use std::sync::Arc;

use perennial_core::{Failure, Json, Target, Timestamp, kind};
use tokio::sync::mpsc::UnboundedSender;

use crate::engine::remote::dispatch::{Sent, Token, Work};
use crate::engine::remote::{ActivityItem, WorkItem};
use crate::engine::tasks::activities::{Activities, still_owns};
use crate::engine::tasks::attempts::{ended, fails_before, give_up, problem_with_output};
use crate::engine::tasks::ready::{AttemptKey, Ready};
use crate::engine::tasks::timers::Due;
use crate::engine::{Engine, TRY_AGAIN_AFTER};
use crate::store::{Change, Reply};

impl Ready {
    pub(in crate::engine) fn is_remote(&self) -> bool {
        self.target == Target::Remote
    }

    /// The version that a worker must have for it: that of the call, or else of the calling orchestration.
    fn wanted_version(&self) -> Option<&str> {
        let details = self.details.as_ref();
        let own = details.and_then(|details| details.version.as_deref());
        own.or(self.caller.version.as_deref())
    }
}

impl Engine {
    /// Queues an attempt, unless it is queued or running already, and starts it if a worker has room.
    pub(in crate::engine) fn push_remote(self: &Arc<Self>, ready: Ready) {
        let place = (ready.key, ready.task);
        if self.activities.knows(ready.key, ready.task) && ready.begun_at.is_some() {
            return;
        }
        if let Some(failure) = ready.unknown() {
            let began = ready.begun_at.unwrap_or_default();
            self.activities.is_ending(place);
            return ended(self, ready, began, Err(failure), None);
        }
        self.activities.queue_remote(ready);
        // One that is queued already may have waited for the end of the time in which its last worker does not get it.
        self.start_remote(place);
    }

    /// Starts a queued attempt if a worker has room, or else lets it wait.
    pub(in crate::engine) fn start_remote(self: &Arc<Self>, place: AttemptKey) {
        let queued = self.activities.queued_remote(place);
        let Some(ready) = queued.filter(|_| !self.activities.is_draining()) else {
            return self.release_unused(Work::Activity(place));
        };
        let work = Work::Activity(place);
        if !self.hub.writer.is_sure() {
            self.release_unused(work);
            let this = Arc::clone(self);
            self.runtime.spawn(async move {
                if still_owns(&this).await {
                    this.start_remote(place);
                }
            });
            return;
        }
        let Some((token, send)) = self.take_worker(work, &ready.name, ready.wanted_version())
        else {
            return;
        };
        // An attempt of a suspended instance is queued again when the instance is resumed.
        let begins = self.activities.begin_remote(self, place);
        let Some(ready) = begins else {
            return self.give_worker_back(token);
        };
        let started_at = self.clock.now();
        if let Some(failure) = ready.given_up(started_at) {
            self.give_worker_back(token);
            self.activities.is_ending(place);
            return give_up(self, ready, failure);
        }
        if let Some(failure) = fails_before(self, &ready) {
            self.give_worker_back(token);
            return self.attempt_answered(ready, started_at, Err(failure));
        }
        if !ready.options.at_most_once {
            return self.send_attempt(token, &send, ready, started_at);
        }
        // The worker gets it once the hub knows that it may have begun.
        let this = Arc::clone(self);
        let begin = Change::Begin {
            place,
            at: Some(started_at),
        };
        self.write_soon(begin, move |_, result| match result.map(|done| done.reply) {
            Ok(Reply::Done) => this.send_attempt(token, &send, ready, started_at),
            other => {
                this.activities.is_given_back(place);
                this.give_worker_back(token);
                if let Err(error) = other {
                    let instance = &ready.caller.instance_id;
                    tracing::warn!(instance, %error, "could not record that an attempt starts; trying again");
                    this.timers.again_in(TRY_AGAIN_AFTER, place.0, Due::Activity(place.1));
                }
            }
        });
    }

    /// Sends an attempt to the worker whose credit was taken.
    fn send_attempt(
        self: &Arc<Self>,
        token: Token,
        send: &UnboundedSender<WorkItem>,
        ready: Ready,
        started_at: Timestamp,
    ) {
        if !self.is_out(token) {
            // The worker was lost meanwhile.
            return;
        }
        let limit = ready.timeout.unwrap_or(self.config.worker_times.activity);
        let sent = Sent {
            instance_id: ready.caller.instance_id.clone(),
            name: ready.name.clone(),
            version: ready.wanted_version().map(str::to_owned),
            task: Some(ready.task.task),
            at: started_at,
        };
        self.item_is_sent(token, sent, limit);
        let item = item(self.remote.text(token), &ready);
        self.keep_attempt(token, ready, started_at);
        // If the stream has ended, its connection is dropped and the attempt goes to another worker.
        let _ = send.send(WorkItem::Activity(Box::new(item)));
    }

    /// Hands the outcome of an attempt to its instance.
    pub(in crate::engine) fn attempt_answered(
        self: &Arc<Self>,
        ready: Ready,
        started_at: Timestamp,
        outcome: Result<Option<Json>, Failure>,
    ) {
        let outcome = outcome
            .and_then(
                |output| match problem_with_output(&ready, output.as_ref()) {
                    Some(why) => Err(Failure::permanent(kind::LIMIT_EXCEEDED, why)),
                    None => Ok(output),
                },
            )
            .map_err(|failure| failure.bounded(ready.caller.limits.payload_bytes));
        let place = (ready.key, ready.task);
        self.activities.is_ending(place);
        self.attempts_done(&[place]);
        self.counts.activities.add(1);
        self.attempt_ended(&ready, started_at, outcome.as_ref().err());
        ended(self, ready, started_at, outcome, None);
    }

    /// Fails an attempt that took longer than its call allows.
    pub(in crate::engine) fn attempt_timed_out(self: &Arc<Self>, ready: Ready, at: Timestamp) {
        let ms = ready.timeout.unwrap_or_default().0;
        let message = format!(
            "an attempt of activity {:?} took longer than {ms} ms",
            ready.name
        );
        let failure = ready.cut_short(Failure::retryable(kind::TIMEOUT, message));
        self.attempt_answered(ready, at, Err(failure));
    }
}

impl Activities {
    /// Queues an attempt, unless it is queued or running already.
    fn queue_remote(&self, ready: Ready) {
        let mut state = self.state();
        let place = (ready.key, ready.task);
        let queued = state.ready.get(&place);
        let is_queued = queued.is_some_and(|queued| queued.attempt == ready.attempt);
        if !state.stopped && !is_queued && !state.runs(place) {
            state.ready.insert(place, ready);
        }
    }

    fn queued_remote(&self, place: AttemptKey) -> Option<Ready> {
        let state = self.state();
        state
            .ready
            .get(&place)
            .filter(|ready| ready.is_remote())
            .cloned()
    }

    /// Takes an attempt out of the queue to run it, unless it was cancelled or its instance is suspended.
    fn begin_remote(&self, engine: &Engine, place: AttemptKey) -> Option<Ready> {
        let mut state = self.state();
        let ready = state.ready.remove(&place)?;
        if engine.is_suspended(place.0) || state.stopped {
            return None;
        }
        state.running.insert(place, Default::default());
        Some(ready)
    }

    /// An attempt is over, but its outcome is not yet in the mail of its instance or in the hub.
    pub(super) fn is_ending(&self, place: AttemptKey) {
        let mut state = self.state();
        state.ending.insert(place);
        state.running.remove(&place);
    }

    /// An attempt did not happen: its worker gave it back, or was lost.
    pub(in crate::engine) fn is_given_back(&self, place: AttemptKey) {
        self.state().running.remove(&place);
    }
}

fn item(token: String, ready: &Ready) -> ActivityItem {
    let caller = &ready.caller;
    let details = ready.details.as_ref();
    let trace = caller.trace.attempt(ready.task, ready.number());
    ActivityItem {
        token,
        name: ready.name.clone(),
        version: details.and_then(|details| details.version.clone()),
        input: ready.input.clone(),
        instance_id: caller.instance_id.clone(),
        execution_id: caller.execution_id.clone(),
        task: ready.task.task,
        tags: details.map_or_else(Vec::new, |details| details.tags.clone()),
        trace_parent: Some(trace.to_string()),
    }
}
