//! Runs a turn up to its commit: takes the mail, loads the guest, calls it, and passes the result to the writer.
//!
//! Invariant: no effect of a turn is visible before its commit. All effects are applied in [`committed`](crate::engine::turn::committed).

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use perennial_core::{
    Digest, Envelope, Message, Quarantine, Start, State, Status, Turn, run_turn, take_batch,
};

use crate::engine::memory::slots::{Body, Resident, Slot, SlotPhase, forget_read, put_back};
use crate::engine::tasks::timers::Due;
use crate::engine::turn::asked;
use crate::engine::turn::committed::{rest, stumble};
use crate::engine::turn::load;
use crate::engine::turn::quarantine::{panicked, quarantine};
use crate::engine::turn::replay::LoadError;
use crate::engine::turn::step::{
    NoTurn, Step, Taken, finish, park, read_inbox, store_mail, with_context,
};
use crate::engine::turn::turn_commit::{cascade, fresh_row, status_of, terminate};
use crate::engine::upkeep::quotas::Full;
use crate::engine::{Engine, Work};
use crate::foreign::guarded;
use crate::shortage::{Resource, Shortage};
use crate::store::{Change, InstanceRow, Position, StoreError};

/// An instance whose turn was running at this many crashes of the host is quarantined.
const DELIVERIES_MAX: u32 = 5;

/// The same for one that a remote worker runs, whose loss is often a deployment or a broken connection.
const REMOTE_DELIVERIES_MAX: u32 = 20;

/// Runs the next turn of an instance, and passes it to the writer.
pub(crate) fn run(engine: &Arc<Engine>, slot: &Arc<Slot>, worker: usize) {
    let mut body = slot.body();
    // Busy without this lock means that the writer has it.
    slot.mailbox().phase = SlotPhase::Busy;
    if body.asked.is_none() {
        body.knew = engine.known();
    }
    let step = next_step(engine, slot, &mut body, worker);
    engine.release_unused(crate::engine::remote::dispatch::Work::Turn(slot.key));
    match step {
        Ok(Step::Change(change)) => {
            let creates = matches!(*change, Change::Turn(_) | Change::Start(_));
            let creating = body.creating.as_ref().filter(|_| creates);
            let token = creating.and_then(|creating| creating.token.clone());
            let knew = creating.map_or(body.knew, |creating| creating.knew.min(body.knew));
            drop(body);
            let (this, slot) = (Arc::clone(engine), Arc::clone(slot));
            engine.write_from_worker(knew, *change, token, move |change, result| {
                this.enqueue(Work::Committed(Box::new(crate::engine::Committed {
                    slot,
                    change,
                    result,
                })));
            });
        }
        Ok(Step::Nothing) => {
            drop(body);
            rest(engine, slot);
        }
        Ok(Step::Parked) => {
            drop(body);
            park(engine, slot);
        }
        Ok(Step::AcceptForLater(creating)) => {
            *body = Body::default();
            drop(body);
            engine.memory.slots.remove(slot);
            engine.accept_for_later(*creating);
        }
        Err(error) => {
            let batch = std::mem::take(&mut body.batch);
            drop(body);
            stumble(engine, slot, batch, &error);
        }
    }
}

fn next_step(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    worker: usize,
) -> Result<Step, StoreError> {
    match asked::look(engine, slot, body)? {
        Some(step) => Ok(step),
        None => next_turn(engine, slot, body, worker),
    }
}

/// Abandons the work of an instance because the host stops, or does not run it any more. A start that is not in the hub is answered as failed.
pub(crate) fn put_down(slot: &Slot, why: &StoreError) {
    if let Some(creating) = slot.body().creating.take() {
        (creating.respond)(Err(why.clone()));
    }
    slot.mailbox().phase = SlotPhase::Idle;
}

/// Resets an instance after a panic in its turn or after its commit to the state in the hub. Nothing is lost: the hub still has each task
/// whose outcome was only in memory.
pub(crate) fn recover(engine: &Engine, slot: &Arc<Slot>) {
    let creating = {
        let mut body = slot.body();
        let creating = body.creating.take();
        *body = Body::default();
        creating
    };
    engine.memory.slots.cool(slot.key);
    if let Some(creating) = creating {
        engine.memory.slots.remove(slot);
        let why = "the host panicked while it started the instance";
        return (creating.respond)(Err(Shortage::new(Resource::Host, why).into()));
    }
    {
        let mut mailbox = slot.mailbox();
        mailbox.phase = SlotPhase::Idle;
        (mailbox.rearm, mailbox.inbox_is_new) = (true, true);
        mailbox.mail.retain(|envelope| envelope.seq.is_none());
    }
    let wait = engine.trouble.backoff.again((slot.key, None));
    engine.timers.again_in(wait, slot.key, Due::Wake);
}

/// The messages of an instance's next turn and the loaded instance, or a change to make instead.
fn next_batch(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    worker: usize,
) -> Result<ControlFlow<Option<Change>, Vec<Envelope>>, StoreError> {
    if std::mem::take(&mut slot.mailbox().reload) {
        body.resident = None;
        engine.memory.slots.cool(slot.key);
        forget_read(slot, body);
    }
    match read_inbox(engine, slot, body) {
        Err(StoreError::Corrupt(why)) => return unreadable(engine, slot, body, why).map(Break),
        read => read?,
    }
    if body.resident.is_none()
        && let Some(change) = load_resident(engine, slot, body, worker)?
    {
        return Ok(Break(Some(change)));
    }
    if let Some(resident) = &body.resident {
        slot.is_of(resident.row.module);
    }
    if std::mem::take(&mut slot.mailbox().rearm) {
        engine.rearm(slot);
    }
    let Some(resident) = &body.resident else {
        return Ok(Break(None));
    };
    let waits = !slot.mailbox().mail.is_empty();
    if waits && !resident.state.is_suspended() {
        engine.post_due(slot)?;
    }
    let now = engine.clock.now();
    let batch = take_batch(&resident.state, &mut slot.mailbox().mail, now).envelopes;
    if batch.is_empty() && waits_for_its_time(engine, slot, body) {
        return Ok(Break(store_mail(slot)));
    }
    let Some(resident) = &body.resident else {
        return Ok(Break(None));
    };
    if batch.is_empty() {
        let has_no_start = has_no_start(&resident.state, slot);
        let lost = || {
            let why = Quarantine::because("its inbox does not begin with a start");
            quarantine(engine, slot, why, None)
        };
        return Ok(Break(store_mail(slot).or_else(|| has_no_start.then(lost))));
    }
    Ok(Continue(batch))
}

/// Runs the next turn of an instance, or begins it.
fn next_turn(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    worker: usize,
) -> Result<Step, StoreError> {
    let batch = match next_batch(engine, slot, body, worker)? {
        Continue(batch) => batch,
        Break(change) => return Ok(change.into()),
    };
    let Some(resident) = &mut body.resident else {
        return Ok(Step::Nothing);
    };
    let asks = needs_guest(&resident.state, &batch);
    if asks && resident.row.module.is_none() {
        return asked::ask(engine, slot, body, batch);
    }
    let brings_guest = asks && resident.guest.is_none();
    if brings_guest && let Some(module) = resident.row.module {
        prepare(engine, module);
    }
    if brings_guest
        && let Err(error) = recorded(engine, worker, slot, || {
            bring_guest(engine, resident, &batch)
        })
    {
        put_back(slot, batch);
        let module = resident.row.module;
        return match error {
            LoadError::Store(error) => Err(error),
            LoadError::Panicked(why) => {
                panicked(engine, slot, module, why).map(|change| Some(change).into())
            }
            LoadError::Quarantine(why) => Ok(Some(quarantine(engine, slot, *why, module)).into()),
        };
    }
    let pinned = resident.row.module;
    let messages: Vec<Message> = batch
        .iter()
        .map(|envelope| pinned_to(pinned, envelope.message.clone()))
        .collect();
    let expected = Position {
        execution: resident.row.execution,
        generation: resident.row.generation,
        next_event: resident.state.next_event,
    };
    let turn = recorded(engine, worker, slot, || {
        take_turn(engine, resident, messages)
    });
    let taken = Taken {
        turn,
        batch,
        expected,
    };
    finish(engine, slot, body, taken)
}

/// Prepares a module before a guest of it is created. Errors appear when the guest is created.
fn prepare(engine: &Engine, module: Digest) {
    let _ = guarded(|| engine.code.executor.prepare(module));
}

/// Runs code of a guest, recorded in the flight recorder. The module is compiled before, so that a crash during compilation is not blamed
/// on the instance.
fn recorded<T>(engine: &Engine, worker: usize, slot: &Slot, run: impl FnOnce() -> T) -> T {
    engine
        .hub
        .flight
        .begin(worker, slot.key, None, engine.clock.now());
    let result = run();
    engine.hub.flight.end(worker);
    result
}

/// Handles a damaged message in the inbox: quarantines the instance, which is not looked at again until a new message arrives.
fn unreadable(
    engine: &Engine,
    slot: &Slot,
    body: &mut Body,
    why: String,
) -> Result<Option<Change>, StoreError> {
    slot.mailbox().inbox_is_new = false;
    body.resident = None;
    let row = engine.hub.reader.instance_by_key(slot.key)?;
    if let Some(row) = row.as_ref().filter(|row| !row.status.is_end())
        && let Some(envelope) = engine.hub.reader.terminate_in(slot.key)?
    {
        // A termination needs none of the unreadable data.
        let commit = terminate(engine, body, row.clone(), envelope);
        return Ok(Some(Change::Turn(Box::new(commit))));
    }
    let goes_on = row.is_some_and(|row| row.quarantine.is_none() && !row.status.is_end());
    let quarantine = goes_on.then(|| quarantine(engine, slot, Quarantine::because(why), None));
    Ok(quarantine.or_else(|| store_mail(slot)))
}

/// Puts an instance away until its start is due, if it waits for a scheduled start.
fn waits_for_its_time(engine: &Engine, slot: &Slot, body: &mut Body) -> bool {
    let Some(resident) = &body.resident else {
        return false;
    };
    let mut mailbox = slot.mailbox();
    let mut starts = mailbox.mail.iter().filter_map(|e| start_of(&e.message));
    let due = starts.find_map(|start| start.scheduled_for);
    let Some(due) = due.filter(|_| resident.state.awaits_start() && !resident.state.is_suspended())
    else {
        return false;
    };
    // A scheduled start is a date, which follows the clock alone.
    engine.timers.add(due, due, slot.key, Due::Start);
    if !mailbox.inbox_is_new {
        mailbox.mail.retain(|envelope| envelope.seq.is_none());
        drop(mailbox);
        (body.inbox_read_to, body.inbox_pages) = (0, 0);
        body.resident = None;
    }
    true
}

/// Loads an execution. Returns a change to make instead if it cannot continue.
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
            past: None,
            row,
        });
        return Ok(None);
    }
    let row = engine
        .hub
        .reader
        .instance_by_key(slot.key)?
        .filter(|row| !row.status.is_end());
    let Some(mut row) = row else {
        slot.mailbox().mail.clear();
        engine.resumed(slot.key);
        return Ok(None);
    };
    let first = |is: fn(&Message) -> bool| {
        let mailbox = slot.mailbox();
        let mut mail = mailbox.mail.iter();
        mail.find(|envelope| is(&envelope.message)).cloned()
    };
    if let Some(envelope) = first(|message| matches!(message, Message::Terminate { .. })) {
        // A termination needs no history, so an instance with an unreadable history can be terminated.
        let commit = terminate(engine, body, row, envelope);
        return Ok(Some(Change::Turn(Box::new(commit))));
    }
    let is_quarantined = row.quarantine.is_some();
    let resume = first(|message| matches!(message, Message::Resume { .. }));
    let resume = resume.filter(|_| is_quarantined);
    if is_quarantined && resume.is_none() {
        return Ok(store_mail(slot));
    }
    if !is_quarantined && let Some(why) = delivered_too_often(engine, &row)? {
        return Ok(Some(quarantine(engine, slot, why, row.module)));
    }
    let pinned = row.module;
    row.module = resume.as_ref().and_then(named_module).or(pinned);
    let tried = row.module;
    let with_guest = row.module.is_some()
        && !row.returned
        && (is_quarantined || row.status != Status::Suspended);
    if with_guest && let Some(module) = row.module {
        prepare(engine, module);
    }
    let loaded = recorded(engine, worker, slot, || load::load(engine, row, with_guest));
    match loaded {
        Ok(resident) => body.resident = Some(resident),
        Err(LoadError::Store(error)) => return Err(error),
        Err(LoadError::Panicked(why)) => return panicked(engine, slot, tried, why).map(Some),
        Err(LoadError::Quarantine(mut why)) => {
            if let Some(named) = tried.filter(|_| tried != pinned) {
                let said = std::mem::take(&mut why.reason);
                why.reason = format!("it cannot go on with module {}: {said}", named.short());
            }
            let taken = resume.and_then(|resume| take_out(slot, &resume));
            let mut change = quarantine(engine, slot, *why, tried);
            if let Change::Quarantine { seqs, .. } = &mut change {
                seqs.extend(taken);
            }
            return Ok(Some(change));
        }
    }
    Ok(resume.and_then(|resume| release(slot, body, &resume)))
}

/// Why an instance is quarantined whose turn took down its host, or its workers, too often.
fn delivered_too_often(
    engine: &Engine,
    row: &InstanceRow,
) -> Result<Option<Quarantine>, StoreError> {
    let (max, what) = match row.module {
        Some(_) => (DELIVERIES_MAX, "when its host died"),
        None => (
            REMOTE_DELIVERIES_MAX,
            "when its worker was lost or its host died",
        ),
    };
    let deliveries = engine.hub.reader.deliveries(row.key)?;
    Ok((deliveries >= max)
        .then(|| Quarantine::because(format!("its turn was running {max} times {what}"))))
}

/// The module that a resume names for a quarantined instance.
fn named_module(resume: &Envelope) -> Option<Digest> {
    match &resume.message {
        Message::Resume { module, .. } => *module,
        _ => None,
    }
}

/// Ends a quarantine after the execution could be loaded.
fn release(slot: &Slot, body: &mut Body, resume: &Envelope) -> Option<Change> {
    let resident = body.resident.as_mut()?;
    let status = status_of(&resident.state, &resident.row);
    (resident.row.status, resident.row.quarantine) = (status, None);
    // If the instance was suspended as well, the message stays in the mail and resumes it.
    let seqs = if resident.state.is_suspended() {
        None
    } else {
        take_out(slot, resume)
    };
    let cascade = seqs.and_then(|_| cascade(std::slice::from_ref(resume)));
    Some(Change::Release {
        key: slot.key,
        status,
        module: resident.row.module,
        seqs: seqs.into_iter().collect(),
        cascade,
    })
}

/// Removes a message from the mail, and returns its number in the inbox.
fn take_out(slot: &Slot, envelope: &Envelope) -> Option<u64> {
    slot.mailbox()
        .mail
        .retain(|other| other.seq != envelope.seq);
    envelope.seq
}

/// Whether the guest is called in the turn of this batch.
fn needs_guest(state: &State, batch: &[Envelope]) -> bool {
    state.may_ask_guest() && batch.iter().any(|envelope| !envelope.message.is_control())
}

/// Whether an execution that has not begun has messages, but no start among them.
fn has_no_start(state: &State, slot: &Slot) -> bool {
    let mailbox = slot.mailbox();
    let starts = |envelope: &Envelope| start_of(&envelope.message).is_some();
    state.awaits_start()
        && !state.is_suspended()
        && !mailbox.inbox_is_new
        && !mailbox.mail.is_empty()
        && !mailbox.mail.iter().any(starts)
}

/// Creates or loads the guest of an execution.
fn bring_guest(
    engine: &Engine,
    resident: &mut Resident,
    batch: &[Envelope],
) -> Result<(), LoadError> {
    match resident.state.start() {
        // No turn has run yet, so that a new guest is enough.
        None => {
            if let Some(start) = batch
                .iter()
                .find_map(|envelope| start_of(&envelope.message))
            {
                resident.guest = Some(load::instantiate(engine, start, resident.row.module)?);
            }
        }
        Some(_) => *resident = load::load(engine, resident.row.clone(), true)?,
    }
    Ok(())
}

/// Puts the current module of the instance into a start: it may have changed before the execution began.
fn pinned_to(pinned: Option<Digest>, message: Message) -> Message {
    match message {
        Message::Start(start) => Message::Start(Box::new(Start {
            module: pinned.or(start.module),
            ..*start
        })),
        other => other,
    }
}

fn start_of(message: &Message) -> Option<&Start> {
    match message {
        Message::Start(start) => Some(start),
        _ => None,
    }
}

/// Takes the place of the guest in a turn that does not call it.
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
) -> Result<Option<Turn>, NoTurn> {
    let mut full = engine.history_is_full(resident).map(Full);
    let Resident { state, guest, .. } = resident;
    let turn = guarded(|| {
        with_context(engine, |context| match (guest, &mut full) {
            (Some(_), Some(full)) => run_turn(state, messages, context, full),
            (Some(guest), None) => run_turn(state, messages, context, guest.as_mut()),
            (None, _) => run_turn(state, messages, context, &mut NoGuest),
        })
    });
    turn.map_err(NoTurn::Panicked)?.map_err(NoTurn::of)
}
