//! Repeating recorded turns on a fresh guest.

use crate::writer::derived_child_id;
use crate::{
    Action, Answer, Corrupt, Ending, Event, Guest, GuestEvent, Mode, State, Stop, Turn, Waiting,
    answer_hash,
};

/// How a guest's answer differs from the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "turn {turn} does not repeat: event {event} was recorded as {recorded}, and now it is {asked}"
)]
pub struct Nondeterminism {
    /// The turn.
    pub turn: u32,
    /// The number of the first event that differs.
    pub event: u64,
    /// What is recorded there.
    pub recorded: String,
    /// What the guest asks for now.
    pub asked: String,
}

/// Why a turn could not be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The guest answered something else.
    #[error(transparent)]
    Differs(#[from] Nondeterminism),
    /// The history cannot be what an engine wrote.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The guest came to an end that is not recorded.
    #[error(
        "turn {turn} does not repeat: it was recorded as answered, and now it fails with {failure}"
    )]
    Stopped {
        /// The turn.
        turn: u32,
        /// How it ended.
        failure: crate::Failure,
    },
    /// The host could not run the guest.
    #[error("the guest could not be run: {0}")]
    Host(String),
}

/// Repeats one recorded turn: feeds the guest exactly what it was given, compares what it answers, and folds the turn into `state`.
///
/// A turn that ended in a verdict is not given to the guest again: the verdict was about that moment, and it is recorded.
///
/// # Errors
/// See [`ReplayError`]; `state` and `guest` are then of no further use.
pub fn replay_turn(
    state: &mut State,
    turn: &Turn,
    guest: &mut dyn Guest,
) -> Result<(), ReplayError> {
    if turn.first_event != state.next_event {
        let why = format!("its turn begins with event {}", turn.first_event);
        return Err(Corrupt {
            number: state.next_event,
            event: "Turn",
            why,
        }
        .into());
    }
    for event in &turn.received {
        state.apply(event)?;
    }
    let mut waiting = Waiting::default();
    if let Some(recorded) = turn.answer {
        let events: Vec<GuestEvent> = turn.received.iter().filter_map(Event::to_guest).collect();
        let answer = guest
            .advance(&events, Mode::Replay)
            .map_err(|stop| match stop {
                Stop::Verdict(failure) => ReplayError::Stopped {
                    turn: turn.number,
                    failure,
                },
                Stop::Host(reason) => ReplayError::Host(reason),
            })?;
        if answer_hash(&answer) != recorded {
            return Err(difference(state, turn, &answer).into());
        }
        if let Ending::Waiting(said) = answer.ending {
            waiting = said;
        }
    }
    for event in &turn.produced {
        state.apply(event)?;
    }
    if turn.answer.is_some() {
        state.waiting = waiting;
    }
    state.turns += 1;
    Ok(())
}

/// The first event of the turn that the answer does not ask for in the same way.
fn difference(state: &State, turn: &Turn, answer: &Answer) -> Nondeterminism {
    let first = turn.first_event + turn.received.len() as u64;
    let mut recorded = turn.produced.iter().enumerate().peekable();
    let differs = |at: usize, recorded: Option<&Event>, asked: String| Nondeterminism {
        turn: turn.number,
        event: first + at as u64,
        recorded: recorded.map_or_else(|| "nothing".to_owned(), |event| format!("{event:?}")),
        asked,
    };
    for action in &answer.actions {
        let next = recorded.peek().copied();
        if next.is_some_and(|(_, event)| records(state, event, action)) {
            recorded.next();
        } else if !matches!(action, Action::CancelTask(_)) {
            let at = next.map_or(turn.produced.len(), |(at, _)| at);
            return differs(at, next.map(|(_, event)| event), format!("{action:?}"));
        }
    }
    let next = recorded.next();
    differs(
        next.map_or(turn.produced.len(), |(at, _)| at),
        next.map(|(_, event)| event),
        format!("{:?}", answer.ending),
    )
}

/// Whether `event` is what is recorded of `action`. What the host resolved (targets, versions and ids that the guest left open) and what
/// it left out (an input over the limit) does not count.
fn records(state: &State, event: &Event, action: &Action) -> bool {
    match (event, action) {
        (
            Event::ActivityScheduled {
                task,
                name,
                input,
                retry,
                attempt_timeout,
                ..
            },
            Action::CallActivity(call),
        ) => {
            (task, name, retry, attempt_timeout)
                == (&call.task, &call.name, &call.retry, &call.attempt_timeout)
                && (input.is_none() || *input == call.input)
        }
        (
            Event::ChildScheduled {
                task,
                name,
                version,
                instance_id,
                input,
                tags,
                retry,
                ..
            },
            Action::CallChild(call),
        ) => {
            let id = call
                .instance_id
                .clone()
                .unwrap_or_else(|| derived_child_id(state, call.task));
            (task, name, instance_id, tags, retry)
                == (&call.task, &call.name, &id, &call.tags, &call.retry)
                && (call.version.is_none() || *version == call.version)
                && (input.is_none() || *input == call.input)
        }
        (
            Event::TimerSet { task, fire_at },
            Action::SetTimer {
                task: asked,
                fire_at: at,
            },
        ) => (task, fire_at) == (asked, at),
        (Event::TaskCanceled { task }, Action::CancelTask(asked)) => task == asked,
        (
            Event::EventSent {
                instance_id,
                name,
                data,
            },
            Action::SendEvent(sent),
        ) => (instance_id, name, data) == (&sent.instance_id, &sent.name, &sent.data),
        (
            Event::InstanceStarted {
                instance_id,
                name,
                version,
                input,
                tags,
                ..
            },
            Action::StartInstance {
                instance_id: id,
                name: asked,
                version: v,
                input: i,
                tags: t,
            },
        ) => (instance_id, name, input, tags) == (id, asked, i, t) && (v.is_none() || version == v),
        (Event::CustomStatusSet { value }, Action::SetCustomStatus(asked)) => value == asked,
        _ => false,
    }
}
