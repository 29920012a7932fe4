//! The life of a turn: take the mail, ask the guest, hand the commit to the writer, and act on it when it is on disk.
//!
//! Invariant: nothing of a turn leaves before its commit. Activities and children start, timers are armed and waiters wake in
//! [`committed`], and only there.

use std::collections::VecDeque;
use std::sync::Arc;

use perennial_core::{
    Envelope, Event, Message, Parent, Reuse, Start, State, Status, Target, TaskKind, TaskRef, Turn,
    TurnContext, run_turn, take_batch,
};

use crate::engine::activities::{Activities, Ready};
use crate::engine::load::{self, LoadError};
use crate::engine::slots::{Body, Resident, Slot, SlotPhase};
use crate::engine::timers::Due;
use crate::engine::{Engine, Work};
use crate::store::{
    Change, InstanceKey, InstanceRow, NewInstance, Outcome, Position, StoreError, TurnCommit,
    Verdict, summary,
};

/// Messages read from an inbox at once: what one turn takes at most.
const INBOX_PAGE: u32 = 1_000;

/// How long an instance waits before it is tried again after the hub could not be written.
const RETRY_AFTER: perennial_core::Millis = perennial_core::Millis(1_000);

/// How often an instance may take its host down in a turn before it is quarantined.
const DELIVERIES_MAX: u32 = 5;

/// Runs the next turn of an instance, up to handing it to the writer.
pub(crate) fn run(engine: &Arc<Engine>, slot: &Arc<Slot>, worker: usize) {
    slot.mailbox().phase = SlotPhase::Busy;
    let mut body = slot.body();
    match next_turn(engine, slot, &mut body, worker) {
        Ok(Some(change)) => {
            drop(body);
            let (this, slot) = (Arc::clone(engine), Arc::clone(slot));
            engine.write(change, move |change, result| {
                let engine = Arc::clone(&this);
                engine.enqueue(Work::Committed(Box::new(crate::engine::Committed {
                    slot,
                    change,
                    result,
                })));
            });
        }
        Ok(None) => {
            drop(body);
            rest(engine, slot);
        }
        Err(error) => {
            let batch = std::mem::take(&mut body.batch);
            drop(body);
            stumble(engine, slot, batch, &error);
        }
    }
}

/// Leaves an instance as it is, because the host stops: a start that is not in the hub was not accepted.
pub(crate) fn put_down(slot: &Slot) {
    if let Some(creating) = slot.body().creating.take() {
        (creating.respond)(Err(StoreError::Closed));
    }
    slot.mailbox().phase = SlotPhase::Idle;
}

/// What there is to do for an instance; `None` if there is nothing.
fn next_turn(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    worker: usize,
) -> Result<Option<Change>, StoreError> {
    if std::mem::take(&mut slot.mailbox().reload) {
        body.resident = None;
        engine.slots.cool(slot.key);
        forget_read(slot, body);
    }
    match read_inbox(engine, slot, body) {
        Err(StoreError::Corrupt(why)) => return unreadable(engine, slot, body, why),
        read => read?,
    }
    if body.resident.is_none()
        && let Some(change) = load_resident(engine, slot, body, worker)?
    {
        return Ok(change.into());
    }
    if std::mem::take(&mut slot.mailbox().rearm) {
        engine.rearm(slot);
    }
    let Some(resident) = &mut body.resident else {
        return Ok(None);
    };
    let batch = take_batch(&resident.state, &mut slot.mailbox().mail).envelopes;
    if batch.is_empty() {
        let has_no_start = has_no_start(&resident.state, slot);
        let lost = || quarantine(slot, "its inbox does not begin with a start".to_owned());
        return Ok(store_mail(slot).or_else(|| has_no_start.then(lost)));
    }
    if needs_guest(&resident.state, &batch)
        && resident.guest.is_none()
        && let Err(error) = recorded(engine, worker, slot, || {
            bring_guest(engine, resident, &batch)
        })
    {
        put_back(slot, batch);
        return match error {
            LoadError::Store(error) => Err(error),
            LoadError::Quarantine(reason) => Ok(Some(quarantine(slot, reason))),
        };
    }
    let consumed = batch.iter().filter_map(|envelope| envelope.seq).collect();
    let messages: Vec<Message> = batch
        .iter()
        .map(|envelope| envelope.message.clone())
        .collect();
    let expected = Position {
        execution: resident.row.execution,
        generation: resident.row.generation,
        next_event: resident.state.next_event,
    };
    let turn = recorded(engine, worker, slot, || {
        take_turn(engine, resident, messages)
    });
    match turn {
        Ok(Some(turn)) => {
            engine.counts.turns.add(1);
            // Kept before anything else can fail: some of it is only in memory.
            body.batch = batch;
            let commit = turn_commit(engine, slot.key, body, turn, consumed, expected)?;
            Ok(Some(Change::Turn(Box::new(commit))))
        }
        Ok(None) if consumed.is_empty() => Ok(None),
        Ok(None) => Ok(Some(Change::Discard {
            key: slot.key,
            seqs: consumed,
        })),
        Err(reason) => {
            body.resident = None;
            put_back(slot, batch);
            Ok(Some(quarantine(slot, reason)))
        }
    }
}

fn quarantine(slot: &Slot, reason: String) -> Change {
    Change::Quarantine {
        key: slot.key,
        reason,
        seqs: Vec::new(),
    }
}

/// Runs code of a guest, and says so in the flight recorder meanwhile.
fn recorded<T>(engine: &Engine, worker: usize, slot: &Slot, run: impl FnOnce() -> T) -> T {
    engine.flight.begin(worker, slot.key, None);
    let result = run();
    engine.flight.end(worker);
    result
}

/// A message of the inbox is damaged. The instance is quarantined, and is not looked at again until there is something new.
fn unreadable(
    engine: &Engine,
    slot: &Slot,
    body: &mut Body,
    why: String,
) -> Result<Option<Change>, StoreError> {
    slot.mailbox().inbox_is_new = false;
    body.resident = None;
    let row = engine.reader.instance_by_key(slot.key)?;
    let goes_on = row.is_some_and(|row| row.quarantine.is_none() && !row.status.is_end());
    let quarantine = goes_on.then(|| quarantine(slot, why));
    Ok(quarantine.or_else(|| store_mail(slot)))
}

/// Puts messages that no turn took back where they were.
fn put_back(slot: &Slot, batch: Vec<Envelope>) {
    let mut mailbox = slot.mailbox();
    batch
        .into_iter()
        .rev()
        .for_each(|envelope| mailbox.mail.push_front(envelope));
}

/// Takes messages that are new in the inbox into the mail.
fn read_inbox(engine: &Engine, slot: &Slot, body: &mut Body) -> Result<(), StoreError> {
    let is_new = std::mem::take(&mut slot.mailbox().inbox_is_new);
    if !is_new || body.creating.is_some() {
        return Ok(());
    }
    let page = engine
        .reader
        .inbox(slot.key, body.inbox_read_to, INBOX_PAGE)
        .inspect_err(|_| slot.mailbox().inbox_is_new = true)?;
    let mut mailbox = slot.mailbox();
    if let Some(last) = page.envelopes.last().and_then(|envelope| envelope.seq) {
        body.inbox_read_to = last + 1;
    }
    mailbox.mail.extend(page.envelopes);
    mailbox.inbox_is_new |= page.more;
    Ok(())
}

/// Brings an execution into memory. A change to make instead, where it cannot go on.
fn load_resident(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    worker: usize,
) -> Result<Option<Change>, StoreError> {
    if let Some(creating) = &body.creating {
        let row = fresh_row(&creating.new);
        body.resident = Some(Resident {
            state: State::new(0),
            guest: None,
            row,
        });
        return Ok(None);
    }
    let row = engine
        .reader
        .instance_by_key(slot.key)?
        .filter(|row| !row.status.is_end());
    let Some(row) = row else {
        slot.mailbox().mail.clear();
        engine.resumed(slot.key);
        return Ok(None);
    };
    let (terminate, resume) = {
        let mailbox = slot.mailbox();
        let terminate = mailbox
            .mail
            .iter()
            .find(|e| matches!(e.message, Message::Terminate { .. }))
            .cloned();
        let resume = mailbox
            .mail
            .iter()
            .find(|e| matches!(e.message, Message::Resume { .. }))
            .cloned();
        (terminate, resume)
    };
    if let Some(envelope) = terminate {
        // No history is needed to end an instance, so that one whose history cannot be read can be ended too.
        return Ok(Some(Change::Turn(Box::new(termination(
            engine, slot.key, body, row, envelope,
        )))));
    }
    let is_quarantined = row.quarantine.is_some();
    if is_quarantined && resume.is_none() {
        return Ok(store_mail(slot));
    }
    if !is_quarantined && engine.reader.deliveries(slot.key)? >= DELIVERIES_MAX {
        let reason = format!("its turn was running {DELIVERIES_MAX} times when its host died");
        return Ok(Some(quarantine(slot, reason)));
    }
    let with_guest = !row.returned && (is_quarantined || row.status != Status::Suspended);
    let loaded = recorded(engine, worker, slot, || load::load(engine, row, with_guest));
    match loaded {
        Ok(resident) => body.resident = Some(resident),
        Err(LoadError::Store(error)) => return Err(error),
        Err(LoadError::Quarantine(reason)) => {
            let seqs = resume
                .filter(|_| is_quarantined)
                .and_then(|resume| take_out(slot, &resume));
            let seqs = seqs.into_iter().collect();
            return Ok(Some(Change::Quarantine {
                key: slot.key,
                reason,
                seqs,
            }));
        }
    }
    Ok(resume
        .filter(|_| is_quarantined)
        .and_then(|resume| release(slot, body, &resume)))
}

/// Ends a quarantine: the execution could be brought back.
fn release(slot: &Slot, body: &mut Body, resume: &Envelope) -> Option<Change> {
    let resident = body.resident.as_mut()?;
    let status = status_of(&resident.state, &resident.row);
    (resident.row.status, resident.row.quarantine) = (status, None);
    // Where it was suspended before, the message itself is what resumes it.
    let seqs = if resident.state.suspended {
        None
    } else {
        take_out(slot, resume)
    };
    Some(Change::Release {
        key: slot.key,
        status,
        seqs: seqs.into_iter().collect(),
    })
}

/// Takes a message out of the mail. Its number in the inbox.
fn take_out(slot: &Slot, envelope: &Envelope) -> Option<u64> {
    slot.mailbox()
        .mail
        .retain(|other| other.seq != envelope.seq);
    envelope.seq
}

/// The status of an instance: an execution that did not begin yet is no longer pending where another one came before it.
fn status_of(state: &State, row: &InstanceRow) -> Status {
    match summary(state).status {
        Status::Pending if row.execution > 0 => Status::Running,
        status => status,
    }
}

/// The status row of an instance that is not in the hub yet.
fn fresh_row(new: &NewInstance) -> InstanceRow {
    let start = &new.start;
    InstanceRow {
        key: new.key,
        id: start.instance_id.clone(),
        name: start.name.clone(),
        version: start.version.clone(),
        module: start.module,
        status: Status::Pending,
        execution: start.execution,
        execution_id: start.execution_id.clone(),
        generation: 0,
        next_event: 0,
        turns: 0,
        history_bytes: 0,
        returned: false,
        created_at: start.accepted_at,
        started_at: None,
        updated_at: start.accepted_at,
        parent: start.parent.clone(),
        parent_key: new.parent,
        tags: start.tags.clone(),
        custom_status: None,
        output: None,
        failure: None,
        waiting: perennial_core::Waiting::default(),
        quarantine: None,
    }
}

/// The turn that ends an instance from outside.
fn termination(
    engine: &Engine,
    key: InstanceKey,
    body: &mut Body,
    row: InstanceRow,
    envelope: Envelope,
) -> TurnCommit {
    let Message::Terminate { reason } = &envelope.message else {
        unreachable!("it was found as a termination")
    };
    let mut state = State::new(row.generation);
    state.phase = perennial_core::Phase::Terminated {
        reason: reason.clone(),
    };
    state.history_bytes = row.history_bytes;
    state.custom_status = row.custom_status.clone();
    let commit = TurnCommit {
        key,
        id: row.id.clone(),
        expected: row.position(),
        status_before: row.status,
        create: None,
        turn: Turn {
            number: row.turns,
            first_event: row.next_event,
            at: engine.clock.now(),
            received: vec![Event::ExecutionTerminated {
                reason: reason.clone(),
            }],
            produced: Vec::new(),
            answer: None,
            next: None,
        },
        consumed: Vec::new(),
        after: summary(&state),
        starts: Vec::new(),
        carried: Vec::new(),
        parent: row.parent_key.zip(row.parent.clone()),
        running: Vec::new(),
    };
    body.resident = Some(Resident {
        state,
        guest: None,
        row,
    });
    body.batch = vec![envelope];
    commit
}

/// Whether the guest is asked in the turn of these messages.
fn needs_guest(state: &State, batch: &[Envelope]) -> bool {
    matches!(
        state.phase,
        perennial_core::Phase::NotStarted | perennial_core::Phase::Running
    ) && batch.iter().any(|envelope| !envelope.message.is_control())
}

/// Whether there are messages for an execution that did not begin, and nothing that begins it.
fn has_no_start(state: &State, slot: &Slot) -> bool {
    let mailbox = slot.mailbox();
    let starts = |envelope: &Envelope| start_of(&envelope.message).is_some();
    state.phase == perennial_core::Phase::NotStarted
        && !state.suspended
        && !mailbox.inbox_is_new
        && !mailbox.mail.is_empty()
        && !mailbox.mail.iter().any(starts)
}

/// Gives an execution its guest.
fn bring_guest(
    engine: &Engine,
    resident: &mut Resident,
    batch: &[Envelope],
) -> Result<(), LoadError> {
    match &resident.state.start {
        // Nothing was asked yet: a fresh guest is all there is to bring.
        None => {
            if let Some(start) = batch
                .iter()
                .find_map(|envelope| start_of(&envelope.message))
            {
                resident.guest = Some(load::instantiate(engine, start)?);
            }
        }
        Some(_) => *resident = load::load(engine, resident.row.clone(), true)?,
    }
    Ok(())
}

/// The task whose outcome a message is, as far as the hub has a row for it.
pub(crate) fn outcome_of(message: &Message) -> Option<TaskRef> {
    match message {
        Message::ActivityEnded { task, .. }
        | Message::TimerFired { task }
        | Message::ChildDue { task, .. } => Some(*task),
        Message::Start(_)
        | Message::ExternalEvent { .. }
        | Message::ChildEnded { .. }
        | Message::StartSkipped { .. }
        | Message::Suspend { .. }
        | Message::Resume { .. }
        | Message::Terminate { .. } => None,
    }
}

fn start_of(message: &Message) -> Option<&Start> {
    match message {
        Message::Start(start) => Some(start),
        _ => None,
    }
}

/// Stands in for the guest where the turn does not ask it.
struct NoGuest;

impl perennial_core::Guest for NoGuest {
    fn advance(
        &mut self,
        _: &[perennial_core::GuestEvent],
        _: perennial_core::Mode,
    ) -> Result<perennial_core::Answer, perennial_core::Stop> {
        Err(perennial_core::Stop::Host(
            "the guest is not in memory".to_owned(),
        ))
    }
}

fn take_turn(
    engine: &Engine,
    resident: &mut Resident,
    messages: Vec<Message>,
) -> Result<Option<Turn>, String> {
    let names = engine.names();
    let mut fresh = || engine.fresh_execution();
    let mut context = TurnContext {
        now: engine.clock.now(),
        names: names.as_ref(),
        fresh: &mut fresh,
    };
    let Resident { state, guest, .. } = resident;
    load::guarded(|| match guest {
        Some(guest) => run_turn(state, messages, &mut context, guest.as_mut()),
        None => run_turn(state, messages, &mut context, &mut NoGuest),
    })?
}

/// Everything that goes down with a turn.
fn turn_commit(
    engine: &Engine,
    key: InstanceKey,
    body: &Body,
    turn: Turn,
    consumed: Vec<u64>,
    expected: Position,
) -> Result<TurnCommit, StoreError> {
    let Some(resident) = &body.resident else {
        return Err(StoreError::Conflict);
    };
    let carried = match turn.produced.last() {
        Some(Event::ContinuedAsNew { carry_over, .. }) if !carry_over.is_empty() => {
            carried(engine, resident, &turn, carry_over)?
        }
        _ => Vec::new(),
    };
    let returned = |event: &Event| matches!(event, Event::ExecutionReturned { .. });
    let running = if turn.produced.iter().any(returned) {
        engine.activities.running_of(key)
    } else {
        Vec::new()
    };
    let mut after = summary(&resident.state);
    after.status = status_of(&resident.state, &resident.row);
    Ok(TurnCommit {
        key,
        id: resident.row.id.clone(),
        expected,
        status_before: resident.row.status,
        create: body.creating.as_ref().map(|creating| creating.new.clone()),
        consumed,
        after,
        starts: starts(engine, &resident.state, &resident.row, &turn),
        carried,
        parent: resident.row.parent_key.zip(resident.row.parent.clone()),
        running,
        turn,
    })
}

/// External events that move over to the next execution, from the hub's own rows and from the turn that is not in it yet.
fn carried(
    engine: &Engine,
    resident: &Resident,
    turn: &Turn,
    numbers: &[u32],
) -> Result<Vec<Message>, StoreError> {
    let mut found = std::collections::BTreeMap::new();
    let mut take = |event: &Event| {
        if let Event::ExternalEventRaised { number, name, data } = event
            && numbers.contains(number)
        {
            let message = Message::ExternalEvent {
                number: Some(*number),
                name: name.clone(),
                data: data.clone(),
            };
            found.insert(*number, message);
        }
    };
    let mut from = 0;
    loop {
        let turns = engine
            .reader
            .turns(resident.row.key, resident.row.execution, from, 256)?;
        turns
            .iter()
            .flat_map(|turn| &turn.received)
            .for_each(&mut take);
        from += 256;
        if turns.len() < 256 {
            break;
        }
    }
    turn.received.iter().for_each(&mut take);
    Ok(found.into_values().collect())
}

/// The instances that a turn starts, in the order of its events: those of `produced`, then those of `received`, as the store takes them.
fn starts(engine: &Engine, state: &State, row: &InstanceRow, turn: &Turn) -> Vec<NewInstance> {
    let mut starts = Vec::new();
    let limits = state
        .start
        .as_ref()
        .map_or_else(Default::default, |start| start.limits);
    let trace_parent = state
        .start
        .as_ref()
        .and_then(|start| start.trace_parent.clone());
    let mut start = |id: &str,
                     name: &str,
                     version: &Option<String>,
                     input,
                     tags: &perennial_core::Tags,
                     target: &Target,
                     parent| {
        let Target::Module(module) = target else {
            return;
        };
        let is_child = Option::is_some(&parent);
        let (execution_id, seed) = engine.fresh_execution();
        let start = Start {
            instance_id: id.to_owned(),
            execution_id,
            execution: 0,
            name: name.to_owned(),
            version: version.clone(),
            input,
            parent,
            tags: tags.clone(),
            trace_parent: trace_parent.clone(),
            seed,
            module: Some(*module),
            limits,
            next_external: 0,
            semantics: perennial_core::SEMANTICS_VERSION,
            accepted_at: turn.at,
            scheduled_for: None,
        };
        starts.push(NewInstance {
            key: engine.next_key(),
            parent: is_child.then_some(row.key),
            start: Box::new(start),
            reuse: Reuse::Never,
        });
    };
    let parent = |task, attempt| {
        let task = TaskRef {
            execution: row.execution,
            generation: row.generation,
            task,
        };
        Some(Parent {
            instance_id: row.id.clone(),
            name: row.name.clone(),
            task,
            attempt,
        })
    };
    for event in &turn.produced {
        match event {
            Event::ChildScheduled {
                task,
                name,
                version,
                instance_id,
                input,
                tags,
                target,
                ..
            } => {
                start(
                    instance_id,
                    name,
                    version,
                    input.clone(),
                    tags,
                    target,
                    parent(*task, 1),
                );
            }
            Event::InstanceStarted {
                name,
                version,
                instance_id,
                input,
                tags,
                target,
            } => {
                start(
                    instance_id,
                    name,
                    version,
                    input.clone(),
                    tags,
                    target,
                    None,
                );
            }
            _ => {}
        }
    }
    for event in &turn.received {
        if let Event::ChildRetried {
            task,
            attempt,
            instance_id,
        } = event
            && let Some(TaskKind::Child(child)) = state.tasks.get(task).map(|task| &task.kind)
        {
            start(
                instance_id,
                &child.name,
                &child.version,
                child.input.clone(),
                &child.tags,
                &child.target,
                parent(*task, *attempt),
            );
        }
    }
    starts
}

/// Messages that are only in memory and cannot be taken now go to the inbox.
fn store_mail(slot: &Slot) -> Option<Change> {
    let mut mailbox = slot.mailbox();
    let (stored, memory): (VecDeque<Envelope>, VecDeque<Envelope>) =
        mailbox.mail.drain(..).partition(|e| e.seq.is_some());
    mailbox.mail = stored;
    let messages: Vec<Message> = memory
        .into_iter()
        .map(|envelope| envelope.message)
        .collect();
    (!messages.is_empty()).then_some(Change::Post {
        key: slot.key,
        messages,
    })
}

/// Acts on what the writer did.
pub(crate) fn committed(
    engine: &Arc<Engine>,
    slot: &Arc<Slot>,
    change: Change,
    result: Result<Outcome, StoreError>,
) {
    let mut body = slot.body();
    match (change, result) {
        (Change::Turn(commit), Ok(outcome)) if outcome.verdict == Verdict::Done => {
            turn_committed(engine, slot, &mut body, *commit);
            engine.follow(outcome.effects);
        }
        (Change::Turn(_), Ok(outcome)) => {
            // The id of a new instance is in use. Nothing was written, and nothing has left.
            let creating = body.creating.take();
            *body = Body::default();
            drop(body);
            engine.slots.remove(slot);
            if let Some(creating) = creating {
                (creating.respond)(Ok(outcome.verdict));
            }
            return;
        }
        (Change::Quarantine { reason, .. }, Ok(outcome)) => {
            tracing::error!(instance = slot.key.0, reason, "an instance is quarantined");
            if let Some(creating) = body.creating.take() {
                (creating.respond)(Ok(Verdict::Refused {
                    kind: "HostFailure".to_owned(),
                    message: reason,
                }));
                *body = Body::default();
                drop(body);
                return engine.slots.remove(slot);
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
        (Change::Discard { .. }, Ok(_)) => {}
        (Change::Post { .. }, Ok(outcome)) => {
            engine.follow(outcome.effects);
        }
        (_, Ok(_)) => {}
        (change, Err(error)) => {
            let batch = std::mem::take(&mut body.batch);
            drop(body);
            if let Change::Post { messages, .. } = change {
                let mut mailbox = slot.mailbox();
                messages
                    .into_iter()
                    .rev()
                    .for_each(|message| mailbox.mail.push_front(Envelope::in_memory(message)));
            }
            return stumble(engine, slot, batch, &error);
        }
    }
    drop(body);
    rest(engine, slot);
}

fn turn_committed(engine: &Arc<Engine>, slot: &Slot, body: &mut Body, commit: TurnCommit) {
    body.batch.clear();
    if let Some(creating) = body.creating.take() {
        (creating.respond)(Ok(Verdict::Done));
    }
    let Some(resident) = &mut body.resident else {
        return;
    };
    let row = &mut resident.row;
    row.next_event = commit.turn.next_event();
    row.turns = commit.turn.number + 1;
    row.status = commit.after.status;
    row.returned = commit.after.returned;
    act(engine, slot, &resident.state, &commit);
    let ended = commit.after.status.is_end();
    if ended || commit.turn.next.is_some() {
        engine.timers.remove_instance(slot.key);
        engine.activities.cancel_instance(slot.key, false);
    }
    if commit.turn.next.is_some() {
        body.resident = None;
        engine.slots.cool(slot.key);
        forget_read(slot, body);
    }
    if ended {
        engine.resumed(slot.key);
        body.resident = None;
        engine.counts.ended.add(1);
        // Whatever came too late means nothing any more.
        let mut mailbox = slot.mailbox();
        mailbox.mail.clear();
        mailbox.inbox_is_new = false;
    }
    engine.tell_waiters(&commit.id, ended);
}

/// What the events of a committed turn set in motion.
fn act(engine: &Arc<Engine>, slot: &Slot, state: &State, commit: &TurnCommit) {
    let key = slot.key;
    let at = |task| TaskRef {
        execution: commit.expected.execution,
        generation: commit.expected.generation,
        task,
    };
    let live = !commit.after.status.is_end() && commit.turn.next.is_none();
    let caller = state
        .start
        .as_ref()
        .map(|start| Arc::new(load::caller(start)));
    for event in commit.turn.events() {
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
                if !state.tasks.contains_key(task) {
                    continue;
                }
                let ready = Ready {
                    key,
                    task: at(*task),
                    attempt: 1,
                    first_started: None,
                    deliveries: 0,
                    name: name.clone(),
                    input: input.clone(),
                    retry: retry.clone(),
                    timeout: *attempt_timeout,
                    target: target.clone(),
                    caller: Arc::clone(caller),
                };
                Activities::push(engine, ready);
            }
            Event::TimerSet { task, fire_at } if live && state.tasks.contains_key(task) => {
                engine.timers.add(*fire_at, key, Due::Timer(at(*task)));
            }
            Event::ChildRetryScheduled {
                task,
                at: due,
                attempt,
                ..
            } if live => {
                engine
                    .timers
                    .add(*due, key, Due::Child(at(*task), *attempt));
            }
            Event::TaskCanceled { task } => {
                engine.timers.remove(key, *task);
                engine.activities.cancel(key, at(*task));
            }
            Event::ExecutionReturned { .. } => {
                // Its timers are cancelled, and what waited to be tried again has failed.
                engine.timers.remove_instance(key);
                engine.activities.cancel_retries(key);
            }
            Event::ExecutionSuspended { .. } => engine.suspend(key),
            Event::ExecutionResumed { .. } => {
                engine.resumed(key);
                engine.rearm(slot);
            }
            _ => {}
        }
    }
}

/// Forgets what was read of an inbox, so that it is read again from the beginning.
fn forget_read(slot: &Slot, body: &mut Body) {
    body.inbox_read_to = 0;
    let mut mailbox = slot.mailbox();
    mailbox.mail.retain(|envelope| envelope.seq.is_none());
    mailbox.inbox_is_new = true;
}

/// After a turn: the next one, or rest.
fn rest(engine: &Arc<Engine>, slot: &Arc<Slot>) {
    let body = slot.body();
    let resident_bytes = body
        .resident
        .as_ref()
        .map(|r| r.guest.as_ref().map_or(0, |guest| guest.resident_bytes()));
    let held = body.resident.is_some();
    let suspended = body
        .resident
        .as_ref()
        .is_some_and(|resident| resident.state.suspended);
    drop(body);
    // Counted while nobody else can run it, and evicted when it rests: it may be the coldest itself.
    let cold = match resident_bytes {
        Some(bytes) => engine.slots.warm(slot.key, bytes),
        None => {
            engine.slots.cool(slot.key);
            Vec::new()
        }
    };
    let again = {
        let mut mailbox = slot.mailbox();
        let waits = mailbox
            .mail
            .iter()
            .any(|e| !suspended || e.message.is_control());
        // What only memory knows is either taken, stored, or of an instance that is over.
        let unsaved = mailbox.mail.iter().any(|e| e.seq.is_none());
        let again = mailbox.inbox_is_new || mailbox.reload || unsaved || (held && waits);
        mailbox.phase = if again {
            SlotPhase::Queued
        } else {
            SlotPhase::Idle
        };
        again
    };
    for key in cold {
        if engine.slots.evict(key) {
            engine.counts.evictions.add(1);
        }
    }
    if again {
        engine.enqueue(Work::Run(Arc::clone(slot)));
    } else if !held {
        engine.slots.remove_if_idle(slot);
    }
}

/// The hub could not be read or written. Nothing is lost: the guest is dropped, what was only in memory waits, and it is tried again.
fn stumble(engine: &Arc<Engine>, slot: &Arc<Slot>, batch: Vec<Envelope>, error: &StoreError) {
    let mut body = slot.body();
    body.resident = None;
    engine.slots.cool(slot.key);
    put_back(slot, batch);
    forget_read(slot, &mut body);
    if matches!(error, StoreError::Fenced | StoreError::Closed) {
        if let Some(creating) = body.creating.take() {
            (creating.respond)(Err(error.clone()));
        }
        slot.mailbox().phase = SlotPhase::Idle;
        return engine.fenced(error);
    }
    if let Some(creating) = body.creating.take() {
        // Nobody was told that the start was accepted, so it was not.
        (creating.respond)(Err(error.clone()));
        *body = Body::default();
        drop(body);
        return engine.slots.remove(slot);
    }
    tracing::warn!(instance = slot.key.0, %error, "a turn was not committed; trying again");
    slot.mailbox().phase = SlotPhase::Idle;
    drop(body);
    if matches!(error, StoreError::Conflict) {
        // It is not what memory thought it is: there is nothing to wait for.
        return engine.wake(slot.key);
    }
    let at = engine.clock.now().after(RETRY_AFTER);
    engine.timers.try_again(at, slot.key, Due::Wake);
}
