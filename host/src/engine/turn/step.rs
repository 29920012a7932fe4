//! What follows from a look at an instance: its turn as a change to write, or a place to wait.

use std::collections::VecDeque;
use std::sync::Arc;

use perennial_core::{Envelope, Turn, TurnContext, TurnError};

use crate::engine::memory::slots::{Body, Creating, Slot, SlotPhase, put_back};
use crate::engine::turn::quarantine::panicked;
use crate::engine::turn::turn_commit::{cascade, turn_commit};
use crate::engine::upkeep::quotas::Capacity;
use crate::engine::{Engine, Work};
use crate::shortage::{Resource, Shortage};
use crate::store::{Change, Position, StoreError};

/// Size of the first page read from an inbox; each further page is twice as long. With long pages, an execution that reads few messages and
/// continues as new would receive the whole inbox each time.
const INBOX_PAGE: u32 = 32;

/// Maximum size of a page: the maximum that one turn takes.
const INBOX_PAGE_MAX: u32 = 1_000;

/// What follows from a look at an instance.
pub(in crate::engine) enum Step {
    /// A change to write.
    Change(Box<Change>),
    /// There is nothing to do now.
    Nothing,
    /// The question of its turn is out, and it waits for the answer.
    Parked,
    /// No turn of the new instance can run now: its start is accepted without one.
    AcceptForLater(Box<Creating>),
}

impl From<Option<Change>> for Step {
    fn from(change: Option<Change>) -> Self {
        change.map_or(Self::Nothing, |change| Self::Change(Box::new(change)))
    }
}

/// Calls `run` with what a turn takes from the host.
pub(in crate::engine) fn with_context<T>(
    engine: &Engine,
    run: impl FnOnce(&mut TurnContext<'_>) -> T,
) -> T {
    let names = engine.names();
    let rooms = Capacity {
        names: names.as_ref(),
        engine,
    };
    let mut fresh = || engine.fresh_execution();
    run(&mut TurnContext {
        now: engine.clock.now(),
        names: &rooms,
        fresh: &mut fresh,
    })
}

/// Leaves an instance to wait for the answer of its worker, unless something came for it meanwhile.
pub(in crate::engine) fn park(engine: &Arc<Engine>, slot: &Arc<Slot>) {
    let again = {
        let mut mailbox = slot.mailbox();
        let again = mailbox.item_end.is_some() || mailbox.inbox_is_new || mailbox.reload;
        mailbox.phase = if again {
            SlotPhase::Queued
        } else {
            SlotPhase::Asked
        };
        again
    };
    if again {
        engine.enqueue(Work::Run(Arc::clone(slot)));
    }
}

/// A turn that was run, and the messages that it took.
pub(in crate::engine) struct Taken {
    pub(in crate::engine) turn: Result<Option<Turn>, NoTurn>,
    pub(in crate::engine) batch: Vec<Envelope>,
    pub(in crate::engine) expected: Position,
}

/// The change that a turn makes.
pub(in crate::engine) fn finish(
    engine: &Arc<Engine>,
    slot: &Slot,
    body: &mut Body,
    taken: Taken,
) -> Result<Step, StoreError> {
    let Taken {
        turn,
        batch,
        expected,
    } = taken;
    let consumed: Vec<u64> = batch.iter().filter_map(|envelope| envelope.seq).collect();
    let Some(resident) = &body.resident else {
        return Ok(Step::Nothing);
    };
    match turn {
        Ok(Some(turn)) => {
            engine.counts.turns.add(1);
            // Keep the batch before anything else can fail: some messages are only in memory.
            body.batch = batch;
            let commit = turn_commit(engine, slot.key, body, turn, consumed, expected)?;
            Ok(Some(Change::Turn(Box::new(commit))).into())
        }
        Ok(None) if consumed.is_empty() => Ok(Step::Nothing),
        Ok(None) => Ok(Some(Change::Discard {
            key: slot.key,
            seqs: consumed,
            cascade: cascade(&batch),
        })
        .into()),
        Err(stopped) => {
            let module = resident.row.module;
            body.resident = None;
            put_back(slot, batch);
            match stopped {
                NoTurn::Host(shortage) => Err(shortage.into()),
                NoTurn::Panicked(why) => {
                    panicked(engine, slot, module, why).map(|change| Some(change).into())
                }
            }
        }
    }
}

/// Reads new messages from the inbox into the mail.
pub(in crate::engine) fn read_inbox(
    engine: &Engine,
    slot: &Slot,
    body: &mut Body,
) -> Result<(), StoreError> {
    let is_new = std::mem::take(&mut slot.mailbox().inbox_is_new);
    if !is_new || body.creating.is_some() {
        return Ok(());
    }
    let limit = (INBOX_PAGE << body.inbox_pages).min(INBOX_PAGE_MAX);
    let read = || -> Result<_, StoreError> {
        let page = engine
            .hub
            .reader
            .inbox(slot.key, body.inbox_read_to, limit)?;
        let last = page.envelopes.last().and_then(|envelope| envelope.seq);
        let next = last.map_or(body.inbox_read_to, |last| last + 1);
        // Commands to the instance itself do not wait behind the rest of the inbox.
        let commands = match page.more {
            true => engine.hub.reader.inbox_commands(slot.key, next)?,
            false => Vec::new(),
        };
        Ok((page, next, commands))
    };
    let (page, next, commands) = read().inspect_err(|_| slot.mailbox().inbox_is_new = true)?;
    body.inbox_read_to = next;
    body.inbox_pages = (body.inbox_pages + 1).min(INBOX_PAGE_MAX.ilog2());
    let mut mailbox = slot.mailbox();
    mailbox.inbox_is_new |= page.more;
    for envelope in page.envelopes.into_iter().chain(commands) {
        let is_known = envelope.message.is_control()
            && mailbox.mail.iter().any(|other| other.seq == envelope.seq);
        if !is_known {
            mailbox.mail.push_back(envelope);
        }
    }
    Ok(())
}

/// Why a turn did not happen. Neither proves a fault of the instance.
pub(in crate::engine) enum NoTurn {
    /// The host could not run the guest.
    Host(Shortage),
    /// Code of the guest's executor or of the core panicked.
    Panicked(String),
}

impl NoTurn {
    pub(in crate::engine) fn of(why: TurnError) -> Self {
        Self::Host(Shortage::new(Resource::Host, why.to_string()))
    }
}

/// Moves messages that are only in memory and cannot be taken now to the inbox.
pub(crate) fn store_mail(slot: &Slot) -> Option<Change> {
    let mut mailbox = slot.mailbox();
    let (stored, memory): (VecDeque<Envelope>, VecDeque<Envelope>) =
        mailbox.mail.drain(..).partition(|e| e.seq.is_some());
    mailbox.mail = stored;
    let messages: Vec<Envelope> = memory.into();
    (!messages.is_empty()).then_some(Change::Post {
        key: slot.key,
        messages,
    })
}
