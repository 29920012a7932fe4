//! One turn: messages in, events out.

use std::collections::VecDeque;

use crate::context::TurnContext;
use crate::stage::Stage;
use crate::turn_builder::TurnBuilder;
use crate::{
    Answer, Envelope, Event, Guest, GuestEvent, Message, Millis, Mode, Start, State, Stop,
    Timestamp,
};

/// A turn takes no more events than this, and the rest waits for the next.
const EVENTS_PER_TURN_MAX: usize = 1_000;

/// A turn takes no more bytes of messages than this, unless its first message alone is larger.
const BYTES_PER_TURN_MAX: usize = 4 << 20;

/// One turn, which is committed as one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The number of the turn within the execution, from 0.
    pub number: u32,
    /// The number of its first event.
    pub first_event: u64,
    /// The host's time.
    pub at: Timestamp,
    /// The events that came in, with [`Event::TurnStarted`] first if the guest was asked.
    pub received: Vec<Event>,
    /// The events that follow from them: what the guest asked for, and how the execution ended.
    pub produced: Vec<Event>,
    /// [`answer_hash`](crate::answer_hash) of the guest's answer; `None` if it was not asked or gave none.
    pub answer: Option<u64>,
    /// The next execution, if this one continued as new.
    pub next: Option<Box<Start>>,
}

impl Turn {
    /// The events of the turn, in the order of their numbers.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.received.iter().chain(&self.produced)
    }

    /// By how much the guest's time was ahead of the host's in this turn: that of an execution never goes back, and a clock may be set back.
    pub fn ahead(&self) -> Millis {
        match self.received.first() {
            Some(Event::TurnStarted { now, .. }) => now.since(self.at),
            Some(_) | None => Millis(0),
        }
    }

    /// When the host's clock shows that a timer is due that the guest set in this turn for `fire_at`, by its own time. A span that begins
    /// in the turn is as long by both.
    pub fn due(&self, fire_at: Timestamp) -> Timestamp {
        Timestamp(fire_at.0.saturating_sub(self.ahead().0))
    }

    /// The number after its last event.
    pub fn next_event(&self) -> u64 {
        self.first_event + (self.received.len() + self.produced.len()) as u64
    }
}

/// Why a turn did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// The messages cannot be taken together now.
    #[error("these messages make no turn: {0}")]
    NoBatch(NoBatch),
    /// The host could not run the guest, for this reason.
    #[error("{0}")]
    Host(String),
}

/// Why messages are no batch that [`take_batch`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message says it")]
pub enum NoBatch {
    #[error("a command has a turn of its own")]
    CommandNotAlone,
    #[error("the instance is suspended")]
    Suspended,
    #[error("the execution has not begun")]
    NotBegun,
}

/// The messages of one turn.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// In order.
    pub envelopes: Vec<Envelope>,
}

/// Takes the messages of the next turn out of `mail`, which is in order of arrival.
///
/// - Terminate comes before everything, even for a suspended instance. Suspend and resume have a turn of their own.
/// - While suspended, and until the start is there and its time has come, the rest waits in order.
/// - The start comes before what overtook it, and with it the custom status that the previous execution left.
/// - Commands come before the start of an execution that follows another one: an instance that continues as new in the first turn of each
///   execution would never take them otherwise.
/// - What came due is handled before what came in after that, however late the host notices it.
///
/// An empty batch means that there is nothing to do now.
pub fn take_batch(state: &State, mail: &mut VecDeque<Envelope>, now: Timestamp) -> Batch {
    put_in_time(mail);
    let alone = |mail: &mut VecDeque<Envelope>, at: usize| Batch {
        envelopes: mail.remove(at).into_iter().collect(),
    };
    if let Some(at) = mail
        .iter()
        .position(|e| matches!(e.message, Message::Terminate { .. }))
    {
        return alone(mail, at);
    }
    let command = mail.iter().position(|e| e.message.is_control());
    let start = if state.awaits_start() {
        mail.iter()
            .enumerate()
            .find_map(|(at, envelope)| {
                let Message::Start(start) = &envelope.message else {
                    return None;
                };
                start.is_due(now).then_some((at, start.execution > 0))
            })
            .filter(|(at, goes_on)| command.is_none_or(|command| !goes_on && *at < command))
            .map(|(at, _)| at)
    } else {
        Some(0)
    };
    let Some(start) = start.filter(|_| !state.is_suspended()) else {
        return command.map_or_else(Batch::default, |at| alone(mail, at));
    };
    let begins = state.awaits_start();
    let status = |mail: &VecDeque<Envelope>| {
        let is_status = |e: &Envelope| matches!(e.message, Message::CustomStatus { .. });
        mail.iter().position(is_status)
    };
    let start = mail.remove(start);
    if begins && let Some(status) = status(mail).and_then(|at| mail.remove(at)) {
        mail.push_front(status);
    }
    if let Some(first) = start {
        mail.push_front(first);
    }
    let mut batch = Batch::default();
    let mut bytes = 0;
    while let Some(next) = mail.front() {
        bytes += next.message.size();
        let full = batch.envelopes.len() >= EVENTS_PER_TURN_MAX || bytes > BYTES_PER_TURN_MAX;
        if !batch.envelopes.is_empty() && (full || next.message.is_control()) {
            break;
        }
        let control = next.message.is_control();
        batch.envelopes.extend(mail.pop_front());
        if control {
            break;
        }
    }
    batch
}

/// Puts what came due before what came in later, and after what came in earlier. The rest stays in its order, whatever clock it came in by.
fn put_in_time(mail: &mut VecDeque<Envelope>) {
    if !mail.iter().any(Envelope::is_due) {
        return;
    }
    let (mut due, rest): (Vec<_>, Vec<_>) = std::mem::take(mail)
        .into_iter()
        .enumerate()
        .partition(|(_, envelope)| envelope.is_due());
    due.sort_by_key(|(place, envelope)| (envelope.at, *place));
    let mut due = due.into_iter().peekable();
    for (place, envelope) in rest {
        while let Some((_, first)) =
            due.next_if(|(before, first)| (first.at, *before) < (envelope.at, place))
        {
            mail.push_back(first);
        }
        mail.push_back(envelope);
    }
    mail.extend(due.map(|(_, envelope)| envelope));
}

/// How a turn goes on once its messages were folded in.
#[derive(Debug)]
pub enum TurnStep {
    /// Nothing is asked of the guest: the turn, or `None` if the messages change nothing.
    Complete(Option<Turn>),
    /// The guest is asked; the turn goes on with its answer.
    Ask(AskedTurn),
}

/// A turn that waits for the answer of its guest. The state that it was begun with belongs to it until then: if the answer never comes, the turn
/// did not happen, and that state is of no further use.
#[derive(Debug)]
pub struct AskedTurn {
    number: u32,
    first_event: u64,
    at: Timestamp,
    received: Vec<Event>,
    events: Vec<GuestEvent>,
    fuel: u64,
}

impl AskedTurn {
    /// What the guest is given.
    pub fn events(&self) -> &[GuestEvent] {
        &self.events
    }

    /// The events of the turn so far, with [`Event::TurnStarted`] first.
    pub fn received(&self) -> &[Event] {
        &self.received
    }

    /// The number of the turn within the execution.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The number of its first event.
    pub fn first_event(&self) -> u64 {
        self.first_event
    }

    /// The host's time.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// How it is to be run.
    pub fn mode(&self) -> Mode {
        Mode::Live { fuel: self.fuel }
    }

    /// Folds in what follows from the answer of the guest.
    ///
    /// # Errors
    /// [`TurnError::Host`] if the guest could not be run: the turn did not happen, and `state` is of no further use.
    ///
    /// # Panics
    /// As [`run_turn`].
    pub fn answered(
        self,
        state: &mut State,
        context: &mut TurnContext<'_>,
        answer: Result<Answer, Stop>,
    ) -> Result<Turn, TurnError> {
        let mut builder = TurnBuilder::new(state, context);
        builder.received = self.received;
        let answer = builder.answered(answer).map_err(TurnError::Host)?;
        let turn = complete(builder, self.number, self.first_event, self.at, answer);
        Ok(turn.unwrap_or_else(|| {
            unreachable!("a turn of a guest has at least the event that begins it")
        }))
    }
}

/// Begins a turn: folds what `messages` mean into `state`, and says what the guest is asked, if it is.
///
/// # Errors
/// [`TurnError::NoBatch`] if [`take_batch`] makes no such batch, as with a result for a suspended instance, which would be lost.
///
/// # Panics
/// As [`run_turn`].
pub fn begin_turn(
    state: &mut State,
    messages: Vec<Message>,
    context: &mut TurnContext<'_>,
) -> Result<TurnStep, TurnError> {
    if state.has_ended() {
        return Ok(TurnStep::Complete(None));
    }
    if let Some(problem) = no_batch(state, &messages) {
        return Err(TurnError::NoBatch(problem));
    }
    let (number, first_event) = (state.turns, state.next_event);
    let at = context.now;
    let staged = Stage::new(state, at, context.names).stage(messages);
    let may_ask = state.may_ask_guest();
    let mut builder = TurnBuilder::new(state, context);
    if may_ask && staged.iter().any(|event| event.to_guest().is_some()) {
        builder.start_guest_turn(staged);
        let (events, fuel) = builder.question();
        return Ok(TurnStep::Ask(AskedTurn {
            number,
            first_event,
            at,
            received: builder.received,
            events,
            fuel,
        }));
    }
    staged.into_iter().for_each(|event| builder.receive(event));
    Ok(TurnStep::Complete(complete(
        builder,
        number,
        first_event,
        at,
        None,
    )))
}

/// Runs one turn: [begins](begin_turn) it, asks the guest, and folds in what follows from its [answer](AskedTurn::answered).
///
/// `None` means that the messages change nothing, such as the result of a task that was cancelled.
///
/// # Errors
/// [`TurnError::Host`] if the guest could not be run: the turn did not happen, and `state` and `guest` are of no further use.
/// [`TurnError::NoBatch`] if [`take_batch`] makes no such batch, as with a result for a suspended instance, which would be lost.
///
/// # Panics
/// If it is about to write an event that [`State::apply`] refuses: that is a bug, and nothing was written.
pub fn run_turn(
    state: &mut State,
    messages: Vec<Message>,
    context: &mut TurnContext<'_>,
    guest: &mut dyn Guest,
) -> Result<Option<Turn>, TurnError> {
    match begin_turn(state, messages, context)? {
        TurnStep::Complete(turn) => Ok(turn),
        TurnStep::Ask(asked) => {
            let answer = guest.advance(asked.events(), asked.mode());
            asked.answered(state, context, answer).map(Some)
        }
    }
}

/// The turn, with the completion of an execution that has nothing left to wait for. `None` if nothing happened in it.
fn complete(
    mut builder: TurnBuilder<'_, '_>,
    number: u32,
    first_event: u64,
    at: Timestamp,
    answer: Option<u64>,
) -> Option<Turn> {
    builder.complete_if_done();
    if builder.received.is_empty() && builder.produced.is_empty() {
        return None;
    }
    builder.state.turns += 1;
    Some(Turn {
        number,
        first_event,
        at,
        received: builder.received,
        produced: builder.produced,
        answer,
        next: builder.next,
    })
}

/// Why the messages cannot be taken together now, if they cannot.
fn no_batch(state: &State, messages: &[Message]) -> Option<NoBatch> {
    let commands = messages.iter().filter(|m| m.is_control()).count();
    if commands > 0 && messages.len() > 1 {
        return Some(NoBatch::CommandNotAlone);
    }
    if state.is_suspended() && commands < messages.len() {
        return Some(NoBatch::Suspended);
    }
    let has = |wanted: fn(&Message) -> bool| messages.iter().any(wanted);
    let raised = has(|m| {
        matches!(
            m,
            Message::ExternalEvent { .. }
                | Message::Request { .. }
                | Message::Cancel { .. }
                | Message::TimeLimit { .. }
        )
    });
    if state.awaits_start() && raised && !has(|m| matches!(m, Message::Start(_))) {
        return Some(NoBatch::NotBegun);
    }
    None
}
