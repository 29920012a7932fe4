//! Turns of remote workers: begins a turn, parks the instance while its question is out, and goes on with the answer.
//!
//! While an instance is parked, no thread waits for it, and its messages stay in its mail. A termination does not wait for the answer: it
//! takes the turn back. Whatever takes a turn back puts its messages back first, so that nothing is lost.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_core::{
    Action, Answer, AskedTurn, Callee, Ending, Envelope, Event, Message, Millis, State, Stop,
    TaskId, Timestamp, Turn, TurnStep, begin_turn,
};

use crate::engine::Engine;
use crate::engine::memory::asked::Asked;
use crate::engine::memory::slots::{Body, Resident, Slot, forget_read, put_back};
use crate::engine::remote::dispatch::{Sent, Work};
use crate::engine::remote::{ItemEnd, OrchestrationItem, RemoteAnswer, WorkItem};
use crate::engine::tasks::timers::Due;
use crate::engine::turn::step::{
    NoTurn, Step, Taken, finish, read_inbox, store_mail, with_context,
};
use crate::engine::turn::turn_commit::fresh_row;
use crate::foreign::guarded;
use crate::store::{Change, InstanceRow, Outcome, Position, Reply, StoreError};

/// How long a start waits for the first answer of its worker. After that it is written without it, and its turn goes on.
const START_WAITS: Millis = Millis(250);

/// Begins the next turn of an instance that a remote worker runs.
pub(in crate::engine) fn ask(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    batch: Vec<Envelope>,
) -> Result<Step, StoreError> {
    let Some(resident) = &mut body.resident else {
        return Ok(Step::Nothing);
    };
    let full = engine.history_is_full(resident);
    let row = &resident.row;
    let work = Work::Turn(slot.key);
    let Some((token, send)) = engine.take_worker(work, &row.name, row.version.as_deref()) else {
        put_back(slot, batch);
        return waits(slot, body);
    };
    let begun = Begun::new(resident, batch);
    let messages = begun.messages();
    let step = guarded(|| {
        with_context(engine, |context| {
            begin_turn(&mut resident.state, messages, context)
        })
    });
    let step = step
        .map_err(NoTurn::Panicked)
        .and_then(|step| step.map_err(NoTurn::of));
    let turn = match step {
        Ok(TurnStep::Ask(turn)) => turn,
        Ok(TurnStep::Complete(turn)) => {
            engine.give_worker_back(token);
            return finish(engine, slot, body, begun.with(Ok(turn)));
        }
        Err(no_turn) => {
            engine.give_worker_back(token);
            return finish(engine, slot, body, begun.with(Err(no_turn)));
        }
    };
    if let Some(failure) = full {
        engine.give_worker_back(token);
        let turn = answered(engine, resident, turn, Err(Stop::Verdict(failure)));
        return finish(engine, slot, body, begun.with(turn));
    }
    let past = match past(engine, resident) {
        Ok(past) => past,
        Err(error) => {
            engine.give_worker_back(token);
            put_back(slot, begun.batch);
            return Err(error);
        }
    };
    let row = &resident.row;
    let item = item(engine.remote.text(token), row, past, &turn);
    let at = engine.clock.now();
    engine.item_is_sent(token, sent(row, at), engine.config.worker_times.turn);
    if body.creating.is_some() {
        engine.timers.again_in(START_WAITS, slot.key, Due::Wake);
    }
    let Begun { batch, expected } = begun;
    body.asked = Some(Asked {
        token,
        turn,
        batch,
        expected,
        at,
    });
    // If the stream has ended, its connection is dropped, which puts the loss of this item into the mailbox.
    let _ = send.send(WorkItem::Orchestration(Box::new(item)));
    Ok(Step::Parked)
}

fn item(
    token: String,
    row: &InstanceRow,
    past: Arc<Vec<Turn>>,
    turn: &AskedTurn,
) -> OrchestrationItem {
    OrchestrationItem {
        token,
        instance_id: row.id.clone(),
        execution_id: row.execution_id.clone(),
        past,
        at: turn.at(),
        received: turn.received().to_vec(),
    }
}

fn sent(row: &InstanceRow, at: Timestamp) -> Sent {
    Sent {
        instance_id: row.id.clone(),
        name: row.name.clone(),
        version: row.version.clone(),
        task: None,
        at,
    }
}

/// Looks after a parked instance: goes on with the answer, takes the turn back, or leaves it parked.
pub(in crate::engine) fn look(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
) -> Result<Option<Step>, StoreError> {
    let Some(token) = body.asked.as_ref().map(|asked| asked.token) else {
        slot.mailbox().item_end = None;
        return Ok(None);
    };
    let (end, reload) = {
        let mut mailbox = slot.mailbox();
        (mailbox.item_end.take(), mailbox.reload)
    };
    match end.filter(|(of, _)| *of == token) {
        Some((_, ItemEnd::Answered(answer))) if !reload => {
            return go_on(engine, slot, body, *answer).map(Some);
        }
        Some(_) => {
            take_back(engine, slot, body);
            return Ok(None);
        }
        None => {}
    }
    let ends = |envelope: &Envelope| matches!(envelope.message, Message::Terminate { .. });
    let is_over = reload || slot.mailbox().mail.iter().any(ends) || {
        read_inbox(engine, slot, body)?;
        slot.mailbox().mail.iter().any(ends)
    };
    if is_over {
        engine.disown_item(token);
        take_back(engine, slot, body);
        return Ok(None);
    }
    let asked_at = body.asked.as_ref().map_or(Timestamp(0), |asked| asked.at);
    let waited = engine.clock.now().since(asked_at);
    if waited >= START_WAITS
        && let Some(creating) = &body.creating
    {
        let start = Change::Start(creating.new.clone());
        return Ok(Some(Step::Change(Box::new(start))));
    }
    Ok(Some(Step::Parked))
}

/// Goes on after the start of a parked instance was written: its first turn takes the message that is now in the inbox.
pub(in crate::engine) fn accepted(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    outcome: Outcome,
) -> Result<(), StoreError> {
    if let Some(creating) = body.creating.take() {
        (creating.respond)(Ok(Reply::Done));
    }
    engine.follow(outcome.effects);
    let page = engine.hub.reader.inbox(slot.key, 0, 1);
    let page = page.inspect_err(|_| drop_asked(engine, body))?;
    let seq = page.envelopes.first().and_then(|first| first.seq);
    if let Some(asked) = &mut body.asked
        && let Some(seq) = seq
    {
        let start = &mut asked.batch;
        start.iter_mut().for_each(|start| start.seq = Some(seq));
        body.inbox_read_to = seq + 1;
    }
    Ok(())
}

/// Drops the turn of an instance that is not in the hub, whose worker answers in vain.
pub(in crate::engine) fn drop_asked(engine: &Engine, body: &mut Body) {
    if let Some(asked) = body.asked.take() {
        engine.disown_item(asked.token);
    }
}

/// Takes a turn back whose answer does not come or is of no use. The next look begins it again.
fn take_back(engine: &Engine, slot: &Slot, body: &mut Body) {
    if let Some(asked) = body.asked.take() {
        put_back(slot, asked.batch);
    }
    if body.creating.is_none() {
        body.resident = None;
        engine.memory.slots.cool(slot.key);
        forget_read(slot, body);
    } else if let (Some(creating), Some(resident)) = (&body.creating, &mut body.resident) {
        resident.row = fresh_row(&creating.new);
        resident.state = State::new(0);
    }
}

fn go_on(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    answer: RemoteAnswer,
) -> Result<Step, StoreError> {
    let (Some(asked), Some(resident)) = (body.asked.take(), &mut body.resident) else {
        return Ok(Step::Nothing);
    };
    let Asked {
        turn,
        batch,
        expected,
        ..
    } = asked;
    let begun = Begun { batch, expected };
    let answer = match past(engine, resident) {
        Ok(past) => as_core(answer, &resident.state, &past, turn.received()),
        Err(error) => {
            put_back(slot, begun.batch);
            return Err(error);
        }
    };
    if !matches!(answer.ending, Ending::Failed { .. }) {
        engine.learn_names(Callee::Orchestration, [resident.row.name.as_str()]);
    }
    let turn = answered(engine, resident, turn, Ok(answer));
    finish(engine, slot, body, begun.with(turn))
}

fn answered(
    engine: &Arc<Engine>,
    resident: &mut Resident,
    turn: AskedTurn,
    answer: Result<Answer, Stop>,
) -> Result<Option<Turn>, NoTurn> {
    let state = &mut resident.state;
    guarded(|| with_context(engine, |context| turn.answered(state, context, answer)))
        .map_err(NoTurn::Panicked)?
        .map(Some)
        .map_err(NoTurn::of)
}

/// The turns of the execution so far, which stay in memory with it.
fn past(engine: &Engine, resident: &mut Resident) -> Result<Arc<Vec<Turn>>, StoreError> {
    if let Some(past) = &resident.past {
        return Ok(Arc::clone(past));
    }
    let row = &resident.row;
    let turns = match row.turns {
        0 => Vec::new(),
        turns => engine.hub.reader.turns(row.key, row.execution, 0, turns)?,
    };
    let past = Arc::new(turns);
    resident.past = Some(Arc::clone(&past));
    Ok(past)
}

/// Puts an instance away that waits for a worker, with its messages in the hub.
fn waits(slot: &Slot, body: &mut Body) -> Result<Step, StoreError> {
    if let Some(creating) = body.creating.take() {
        return Ok(Step::AcceptForLater(Box::new(creating)));
    }
    if let Some(change) = store_mail(slot) {
        return Ok(Step::Change(Box::new(change)));
    }
    let mut mailbox = slot.mailbox();
    if !mailbox.inbox_is_new {
        mailbox.mail.clear();
        drop(mailbox);
        (body.inbox_read_to, body.inbox_pages) = (0, 0);
        body.resident = None;
    }
    Ok(Step::Nothing)
}

/// The messages of a turn, and the position that it begins at.
pub(in crate::engine) struct Begun {
    batch: Vec<Envelope>,
    expected: Position,
}

impl Begun {
    pub(in crate::engine) fn new(resident: &Resident, batch: Vec<Envelope>) -> Self {
        Self {
            expected: Position {
                execution: resident.row.execution,
                generation: resident.row.generation,
                next_event: resident.state.next_event,
            },
            batch,
        }
    }

    fn messages(&self) -> Vec<Message> {
        let messages = self.batch.iter();
        messages.map(|envelope| envelope.message.clone()).collect()
    }

    fn with(self, turn: Result<Option<Turn>, NoTurn>) -> Taken {
        Taken {
            turn,
            batch: self.batch,
            expected: self.expected,
        }
    }
}

/// The answer of a worker as one of a guest.
///
/// The protocol of the workers differs in four ways: an orchestration is complete when it returns, whatever is open; the custom status comes
/// with each answer; events that are carried over come as they are, without their numbers; and a failure does not say which task it is about.
fn as_core(answer: RemoteAnswer, state: &State, past: &[Turn], received: &[Event]) -> Answer {
    let RemoteAnswer {
        mut answer,
        carried,
    } = answer;
    answer.actions.retain(
        |action| !matches!(action, Action::SetCustomStatus(value) if *value == state.custom_status),
    );
    match &mut answer.ending {
        Ending::Completed(_) => {
            let open: BTreeSet<TaskId> = state.tasks().keys().copied().collect();
            let asked = answer.actions.iter().filter_map(task_of);
            let open: BTreeSet<TaskId> = open.into_iter().chain(asked).collect();
            answer
                .actions
                .extend(open.into_iter().map(Action::CancelTask));
        }
        Ending::ContinuedAsNew { carry_over, .. } => {
            *carry_over = numbers(carried, past, received);
        }
        Ending::Failed { cause, .. } => *cause = received.iter().rev().find_map(failed_task),
        Ending::Waiting(_) | Ending::Canceled => {}
    }
    answer
}

fn task_of(action: &Action) -> Option<TaskId> {
    match action {
        Action::CallActivity(call) => Some(call.task),
        Action::CallChild(call) => Some(call.task),
        Action::SetTimer { task, .. } => Some(*task),
        Action::SendRequest(request) => Some(request.task),
        Action::CancelTask(_)
        | Action::CommandChild { .. }
        | Action::SendEvent(_)
        | Action::StartInstance { .. }
        | Action::SetCustomStatus(_)
        | Action::Describe(_)
        | Action::SetValue { .. }
        | Action::Respond { .. }
        | Action::SetTag { .. } => None,
    }
}

fn failed_task(event: &Event) -> Option<TaskId> {
    if let Event::ActivityFailed { task, .. } | Event::ChildFailed { task, .. } = event {
        return Some(*task);
    }
    None
}

/// The numbers of these external events: of those with the same name and payload, the latest that are not taken yet.
fn numbers(
    carried: Vec<(String, Option<perennial_core::Json>)>,
    past: &[Turn],
    received: &[Event],
) -> Vec<u32> {
    let mut taken = BTreeSet::new();
    let events = past.iter().flat_map(|turn| &turn.received).chain(received);
    let raised: Vec<_> = events
        .filter_map(|event| {
            let Event::ExternalEventRaised { number, name, data } = event else {
                return None;
            };
            Some((*number, name, data))
        })
        .collect();
    for (name, data) in carried.iter().rev() {
        let mut last = raised.iter().rev();
        let found = last.find(|(number, of, with)| {
            of.eq_ignore_ascii_case(name) && *with == data && !taken.contains(number)
        });
        taken.extend(found.map(|(number, ..)| *number));
    }
    taken.into_iter().collect()
}
