//! Continues after a commit: starts activities and children, arms timers, wakes waiters. After a failed commit, tries the turn again.

use std::sync::Arc;

use perennial_core::text::Visible;
use perennial_core::{Envelope, Event, Failure, Json, State, Status, Turn};

use crate::engine::LOG_INSTANCES;
use crate::engine::memory::slots::{Body, Resident, Slot, SlotPhase, forget_read, put_back};
use crate::engine::tasks::activities::Activities;
use crate::engine::tasks::ready::Ready;
use crate::engine::tasks::timers::Due;
use crate::engine::turn::asked;
use crate::engine::turn::history_growth;
use crate::engine::turn::inline::Inline;
use crate::engine::turn::load;
use crate::engine::turn::step::park;
use crate::engine::{Engine, Work};
use crate::store::GRACE;
use crate::store::{Change, InstanceRow, Outcome, Reply, StoreError, TurnCommit};

/// Handles the writer's answer. Attempts that begin now and may run on this worker are added to `held`.
pub(crate) fn committed(
    engine: &Arc<Engine>,
    slot: &Arc<Slot>,
    change: Change,
    result: Result<Outcome, StoreError>,
    held: &mut Inline,
) {
    let mut body = slot.body();
    match (change, result) {
        (Change::Turn(commit), Ok(outcome)) if outcome.reply == Reply::Done => {
            let epilogue = outcome.effects.epilogue.as_ref();
            let epilogue = epilogue.filter(|(key, _)| *key == slot.key);
            let epilogue = epilogue.map(|(_, turn)| turn);
            turn_committed(engine, slot, &mut body, *commit, epilogue, held);
            engine.follow_of(slot.lane(), outcome.effects);
        }
        (Change::Start(_), Ok(outcome)) if outcome.reply == Reply::Done => {
            if let Err(error) = asked::accepted(engine, slot, &mut body, outcome) {
                drop(body);
                return stumble(engine, slot, Vec::new(), &error);
            }
        }
        (Change::Turn(_) | Change::Start(_), Ok(outcome)) => {
            // The id of the new instance is in use. Nothing was written, and no effect is visible.
            asked::drop_asked(engine, &mut body);
            let creating = body.creating.take();
            *body = Body::default();
            drop(body);
            engine.memory.slots.remove(slot);
            if let Some(creating) = creating {
                (creating.respond)(Ok(outcome.reply));
            }
            return;
        }
        (Change::Quarantine { why, .. }, Ok(outcome)) => {
            let instance = match &body.creating {
                Some(creating) => Some(creating.new.start.instance_id.clone()),
                None => outcome.effects.changed.first().cloned(),
            };
            tracing::error!(instance, reason = %Visible(&why.reason), event = why.event, "an instance is quarantined");
            if let Some(creating) = body.creating.take() {
                (creating.respond)(Ok(Reply::Refused {
                    kind: "HostFailure".to_owned(),
                    message: why.reason,
                }));
                *body = Body::default();
                drop(body);
                return engine.memory.slots.remove(slot);
            }
            engine.suspend(slot.key);
            body.resident = None;
            forget_read(slot, &mut body);
            engine.follow(outcome.effects);
        }
        (Change::Release { status, .. }, Ok(outcome)) => {
            if status != Status::Suspended {
                engine.resumed(slot.key);
                engine.rearm(slot);
            }
            engine.follow(outcome.effects);
        }
        (Change::Discard { .. } | Change::Post { .. }, Ok(outcome)) => {
            engine.follow(outcome.effects);
        }
        (_, Ok(_)) => {}
        (change, Err(error)) => {
            let batch = std::mem::take(&mut body.batch);
            drop(body);
            if let Change::Post { messages, .. } = change {
                put_back(slot, messages);
            }
            return stumble(engine, slot, batch, &error);
        }
    }
    drop(body);
    rest(engine, slot);
}

fn turn_committed(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    commit: TurnCommit,
    epilogue: Option<&Turn>,
    held: &mut Inline,
) {
    body.batch.clear();
    engine.trouble.backoff.over((slot.key, None));
    if let Some(creating) = body.creating.take() {
        // If its partition was given away meanwhile, nobody here would say that it has ended.
        if body.resident.is_some() {
            engine.memory.waiters.begun(&commit.id);
        }
        (creating.respond)(Ok(Reply::Done));
    }
    let Some(resident) = &mut body.resident else {
        return;
    };
    if let Some(guest) = &mut resident.guest {
        guest.committed();
    }
    let row = &mut resident.row;
    warn_of_growth(row, &commit);
    row.advance(&commit);
    if row.module.is_none() {
        engine.turn_done(slot.key);
    }
    if let Some(turn) = epilogue {
        row.add_epilogue(turn);
    }
    act(engine, slot, &resident.state, &commit, held);
    let ended = commit.after.status.is_end();
    if ended || commit.turn.next.is_some() {
        engine.execution_ended(&resident.state, &resident.row, &commit);
        if ended {
            engine.timers.remove_instance(slot.key);
        } else {
            engine.timers.remove_execution(slot.key);
        }
        let interrupt = commit.cascade.is_some();
        let dropped = engine.activities.cancel_instance(slot.key, interrupt);
        engine.attempts_done(&dropped);
    }
    if commit.turn.next.is_some() {
        body.resident = None;
        engine.memory.slots.cool(slot.key);
        forget_read(slot, body);
    }
    let mut over = None;
    if ended {
        engine.resumed(slot.key);
        over = body.resident.take();
        engine.counts.ended.add(1);
        log_end(&commit);
        engine.retain_after(commit.after.status);
        // Messages that arrived after the end are dropped.
        let mut mailbox = slot.mailbox();
        mailbox.mail.clear();
        mailbox.inbox_is_new = false;
    }
    let Some(Resident { row, guest, .. }) = over else {
        if let Some(resident) = &mut body.resident
            && let Some(past) = &mut resident.past
        {
            Arc::make_mut(past).push(commit.turn);
        }
        return engine.tell_waiters(&commit.id, false);
    };
    if slot.was_tagged() {
        engine.tell_waiters(&commit.id, true);
    } else {
        // Waiters for the end get the row, so that they do not read it again.
        let end = row.ended(commit.after);
        #[cfg(test)]
        is_as_read(engine, &end);
        engine.memory.waiters.tell_end(end);
        engine.tell_elsewhere(&commit.id, true);
    }
    // Drop the guest last, so that no waiter waits for it.
    drop(guest);
}

fn warn_of_growth(row: &InstanceRow, commit: &TurnCommit) {
    if let Some(size) = history_growth::crossed(
        (row.next_event, row.history_bytes),
        (commit.turn.next_event(), commit.after.history_bytes),
    ) {
        tracing::warn!(
            instance = %row.id,
            events = commit.turn.next_event(),
            bytes = commit.after.history_bytes,
            "the history of an instance has grown past {size}: loading the instance replays all of it; consider continue-as-new"
        );
    }
}

/// In tests, compares each end that waiters get with the row in the hub, if it is still there.
#[cfg(test)]
fn is_as_read(engine: &Engine, end: &InstanceRow) {
    if let Ok(Some(read)) = engine.hub.reader.instance_by_key(end.key)
        && read.execution_id == end.execution_id
        && read.generation == end.generation
        && read.status.is_end()
        // What other partitions did not start is added to the history later.
        && (read.next_event == end.next_event || engine.partitions().is_all())
    {
        let shown = |row: &InstanceRow| {
            let mut row = row.clone();
            row.parent_key = None;
            // An instance that was restarted in place may have become a child again.
            let parent = row.parent.take().filter(|_| row.execution == 0);
            let parent = parent.map(|parent| parent.instance_id);
            format!("{row:?} of {parent:?}")
        };
        assert_eq!(shown(end), shown(&read));
    }
}

/// Logs the end of an instance. A termination was already logged with its reason.
fn log_end(commit: &TurnCommit) {
    let instance = &commit.id;
    match &commit.after.failure {
        Some(Failure { kind, message, .. }) => {
            tracing::info!(target: LOG_INSTANCES, instance, kind, error = message, "failed");
        }
        None => {
            tracing::debug!(target: LOG_INSTANCES, instance, status = %commit.after.status, "ended")
        }
    }
}

/// Applies the effects of the events of a committed turn.
#[warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each event"
)]
fn act(engine: &Arc<Engine>, slot: &Slot, state: &State, commit: &TurnCommit, held: &mut Inline) {
    let key = slot.key;
    let at = |task| commit.expected.task(task);
    let live = !commit.after.status.is_end() && commit.turn.next.is_none();
    let caller = state
        .start()
        .map(|start| Arc::new(load::caller(start, state.generation)));
    let set = commit.turn.events().filter_map(|event| {
        let (task, due, set) = if let Event::TimerSet { task, fire_at } = event {
            (task, commit.turn.due(*fire_at), Due::Timer(at(*task)))
        } else if let Event::TimerSetAt { task, at: due } = event {
            (task, *due, Due::TimerAt(at(*task)))
        } else {
            return None;
        };
        let is_set = live && state.tasks().contains_key(task);
        is_set.then_some((due, set))
    });
    let set: Vec<_> = set.collect();
    engine.timers.add_turn(key, commit.turn.at, &set);
    let mut events = commit.turn.events().peekable();
    while let Some(event) = events.next() {
        match event {
            Event::ActivityScheduled {
                task,
                name,
                input,
                retry,
                attempt_timeout,
                target,
            } if live => {
                let Some(caller) = &caller else { continue };
                if !state.tasks().contains_key(task) {
                    continue;
                }
                let ready = Ready {
                    key,
                    task: at(*task),
                    attempt: 1,
                    first_started: None,
                    deliveries: 0,
                    cut: 0,
                    begun_at: None,
                    heartbeat: None,
                    failure: None,
                    earlier: Vec::new(),
                    scheduled_in: commit.expected.generation,
                    name: name.clone(),
                    input: input.clone(),
                    retry: retry.clone(),
                    timeout: *attempt_timeout,
                    options: load::options_of(*task, events.peek().copied()),
                    target: target.clone(),
                    details: load::details_of(*task, events.peek().copied()),
                    caller: Arc::clone(caller),
                };
                if ready.is_remote() {
                    engine.push_remote(ready);
                } else {
                    Activities::push_or_hold(engine, ready, Some(held));
                }
            }
            Event::ChildRetryScheduled {
                task,
                at: due,
                attempt,
                ..
            } if live => {
                let due_child = Due::Child(at(*task), *attempt);
                engine.timers.add(*due, commit.turn.at, key, due_child);
            }
            Event::CancellationRequested(asked) => {
                let reason = &asked.reason;
                tracing::info!(target: LOG_INSTANCES, instance = commit.id, reason, "asked to cancel");
                if live {
                    let due = commit.turn.due(asked.deadline);
                    let grace = Due::Grace(at(GRACE));
                    engine.timers.add(due, commit.turn.at, key, grace);
                }
            }
            Event::RequestAnswered { id, .. } => {
                engine.memory.waiters.tell_answered(&commit.id, id);
            }
            Event::TaskCanceled { task } => {
                engine.timers.remove(key, *task);
                engine.activities.cancel(key, at(*task));
                engine.attempts_done(&[(key, at(*task))]);
            }
            Event::ExecutionReturned { .. } => {
                // The timers of the execution are cancelled, and tasks that waited for a retry have failed.
                engine.timers.remove_instance(key);
                let dropped = engine.activities.cancel_retries(key);
                engine.attempts_done(&dropped);
            }
            Event::ExecutionTerminated { reason } => {
                tracing::info!(target: LOG_INSTANCES, instance = commit.id, reason, "terminated");
            }
            Event::ExecutionSuspended { reason } => {
                tracing::info!(target: LOG_INSTANCES, instance = commit.id, reason, "suspended");
                engine.suspend(key);
            }
            Event::ExecutionResumed { reason } => {
                tracing::info!(target: LOG_INSTANCES, instance = commit.id, reason, "resumed");
                engine.resumed(key);
                engine.rearm(slot);
            }
            Event::TurnStarted { .. }
            | Event::ExecutionStarted(_)
            | Event::ActivityCompleted { .. }
            | Event::ActivityFailed { .. }
            | Event::ChildCompleted { .. }
            | Event::ChildFailed { .. }
            | Event::TimerFired { .. }
            | Event::ExternalEventRaised { .. }
            | Event::ActivityScheduled { .. }
            | Event::ChildScheduled { .. }
            | Event::TimerSet { .. }
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::CustomStatusSet { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ContinuedAsNew { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::ChildRetryScheduled { .. }
            | Event::ChildRetried { .. }
            | Event::AttemptFailed { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::CallDetails { .. }
            | Event::ActivityOptions { .. }
            | Event::TimerSetAt { .. }
            | Event::InstanceOptions { .. }
            | Event::ChildCommanded { .. }
            | Event::RequestReceived { .. }
            | Event::RequestSent { .. }
            | Event::RequestCompleted { .. }
            | Event::RequestFailed { .. }
            | Event::ExecutionTimedOut { .. } => {}
        }
    }
}

/// The approximate memory of an execution's state: its start event and its open tasks, all of which are in the history.
fn state_bytes(state: &State) -> usize {
    const TASK_BYTES: u64 = 512;
    let tasks = (state.tasks().len() as u64).saturating_mul(TASK_BYTES);
    let input = state.start().and_then(|start| start.input.as_ref());
    let bytes = tasks.min(state.history_bytes) + input.map_or(0, Json::size) as u64;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// After a turn: queues the instance again if it has work, and otherwise puts it to rest.
pub(crate) fn rest(engine: &Arc<Engine>, slot: &Arc<Slot>) {
    let body = slot.body();
    if body.asked.is_some() {
        drop(body);
        return park(engine, slot);
    }
    let resident_bytes = body.resident.as_ref().map(|r| {
        let past = r.past.as_ref().map_or(0, |_| r.state.history_bytes);
        r.guest.as_ref().map_or(0, |guest| guest.resident_bytes())
            + state_bytes(&r.state)
            + usize::try_from(past).unwrap_or(usize::MAX)
    });
    let held = body.resident.is_some();
    let suspended = body
        .resident
        .as_ref()
        .is_some_and(|resident| resident.state.is_suspended());
    drop(body);
    // Counted while no other thread can run the instance, and evicted when it rests: it may be the coldest one itself.
    let mut cold = match resident_bytes {
        Some(bytes) => engine.memory.slots.warm(slot.key, bytes),
        None => {
            engine.memory.slots.cool(slot.key);
            Vec::new()
        }
    };
    let again = {
        let mut mailbox = slot.mailbox();
        let waits = mailbox
            .mail
            .iter()
            .any(|e| !suspended || e.message.is_control());
        // Messages that only memory has are always handled: taken by a turn, stored in the inbox, or dropped because the instance has
        // ended.
        let unsaved = mailbox.mail.iter().any(|e| e.seq.is_none());
        let again = mailbox.inbox_is_new || mailbox.reload || unsaved || (held && waits);
        mailbox.phase = if again {
            SlotPhase::Queued
        } else {
            SlotPhase::Idle
        };
        again
    };
    if held && !again && !engine.memory.slots.is_hot(slot.key) {
        // It was chosen for eviction while it did not rest yet, so that it could not be evicted then.
        cold.push(slot.key);
    }
    for key in cold {
        if engine.memory.slots.evict(key) {
            engine.counts.evictions.add(1);
        }
    }
    if again {
        engine.enqueue(Work::Run(Arc::clone(slot)));
    } else if !held {
        engine.memory.slots.remove_if_idle(slot);
    }
}

/// Handles a failed read or write of the hub. Nothing is lost: the guest is dropped, unsaved messages stay in the mail, and the turn is
/// tried again.
pub(crate) fn stumble(
    engine: &Arc<Engine>,
    slot: &Arc<Slot>,
    batch: Vec<Envelope>,
    error: &StoreError,
) {
    let mut body = slot.body();
    asked::drop_asked(engine, &mut body);
    body.resident = None;
    engine.memory.slots.cool(slot.key);
    put_back(slot, batch);
    forget_read(slot, &mut body);
    if error.is_end() {
        if let Some(creating) = body.creating.take() {
            (creating.respond)(Err(error.clone()));
        }
        slot.mailbox().phase = SlotPhase::Idle;
        return engine.fenced(error);
    }
    if let StoreError::Elsewhere(_) = error {
        // The partition was given away while its turn ran: whoever runs it now begins it anew.
        let creating = body.creating.take();
        slot.mailbox().phase = SlotPhase::Idle;
        if let Some(creating) = creating {
            // Nothing is known of it, here or in the hub.
            *body = Body::default();
            drop(body);
            engine.memory.slots.remove(slot);
            (creating.respond)(Err(error.clone()));
        }
        return;
    }
    if let Some(creating) = body.creating.take() {
        *body = Body::default();
        drop(body);
        engine.memory.slots.remove(slot);
        if let StoreError::Lacks(shortage) = error {
            // The hub can be written, so the start is accepted. Its first turn runs when the shortage is over.
            engine.trouble.shortages.note(shortage);
            return engine.accept_for_later(creating);
        }
        // The client was not told that the start was accepted, so it can fail.
        return (creating.respond)(Err(error.clone()));
    }
    slot.mailbox().phase = SlotPhase::Idle;
    drop(body);
    if matches!(error, StoreError::Conflict) {
        // The instance was ended, replaced or purged while its turn ran.
        tracing::debug!(instance = engine.name_of(slot.key), %error, "the stored row of an instance changed elsewhere; reading it again");
        return engine.wake(slot.key);
    }
    match error {
        StoreError::Lacks(shortage) => engine.trouble.shortages.note(shortage),
        error => {
            error
                .shortage()
                .iter()
                .for_each(|shortage| engine.trouble.shortages.notice(shortage));
            if let Some(unsaid) = engine.trouble.outage.failed() {
                tracing::warn!(instance = engine.name_of(slot.key), %error, unsaid, "a turn was not committed; trying again, later each time");
            }
        }
    }
    let wait = engine.trouble.backoff.again((slot.key, None));
    engine.timers.again_in(wait, slot.key, Due::Wake);
}
