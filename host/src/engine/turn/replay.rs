//! Replays the recorded turns of an execution, for the engine and for checks.

use perennial_core::{Event, Quarantine, ReplayError, Start, State, Turn, replay_turn};

use crate::engine::executor::{Fault, ResidentGuest, Resource, Shortage};
use crate::foreign::guarded;
use crate::store::{InstanceRow, Reader, StoreError};

/// Turns read per page.
const PAGE: u32 = 512;

/// Why an execution could not be loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The hub could not be read, or the host lacked something else. A retry may help.
    Store(StoreError),
    /// Code of the guest's executor or of the core panicked, with this message.
    Panicked(String),
    /// The instance cannot continue without intervention.
    Quarantine(Box<Quarantine>),
}

impl LoadError {
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self::Quarantine(Box::new(Quarantine::because(reason)))
    }
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Instance(why) | Fault::Module(why) => Self::because(why),
            Fault::Host(shortage) => Self::Store(StoreError::Lacks(shortage)),
        }
    }
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(why) => Self::because(why),
            other => Self::Store(other),
        }
    }
}

/// Creates the guest for a replay.
pub(crate) type MakeGuest<'a> = dyn FnMut(&Start) -> Result<Box<dyn ResidentGuest>, LoadError> + 'a;

/// Replays the turns of one execution, wherever they come from: a hub, or a file. `bring` creates the guest when it is first needed;
/// without it, the turns are only applied to the state.
pub(crate) struct Replaying<'b, 'a> {
    state: State,
    guest: Option<Box<dyn ResidentGuest>>,
    bring: Option<&'b mut MakeGuest<'a>>,
}

impl<'b, 'a> Replaying<'b, 'a> {
    pub(crate) fn new(generation: u32, bring: Option<&'b mut MakeGuest<'a>>) -> Self {
        Self {
            state: State::new(generation),
            guest: None,
            bring,
        }
    }

    /// Replays the next turn.
    ///
    /// # Errors
    /// [`LoadError::Quarantine`] says how it does not match.
    pub(crate) fn turn(&mut self, turn: &Turn) -> Result<(), LoadError> {
        if turn.number != self.state.turns {
            return Err(LoadError::because(format!(
                "turn {} is missing",
                self.state.turns
            )));
        }
        if self.guest.is_none()
            && turn.answer.is_some()
            && let Some(bring) = &mut self.bring
        {
            let start = turn.received.iter().find_map(started);
            let start = start.ok_or_else(|| LoadError::because("the first turn has no start"))?;
            self.guest = Some(bring(start)?);
        }
        let (state, guest) = (&mut self.state, &mut self.guest);
        guarded(|| match guest {
            Some(guest) => replay_turn(state, turn, guest.as_mut()),
            None => fold(state, turn),
        })
        .map_err(LoadError::Panicked)?
        .map_err(|error| match error {
            // A shortage of the host says nothing about the instance.
            ReplayError::Host(why) => Fault::Host(Shortage::new(Resource::Host, why)).into(),
            proof => LoadError::Quarantine(Box::new(Quarantine::from(&proof))),
        })
    }

    /// Where the execution stands after the turns so far.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }
}

/// Replays all turns of an execution up to the position in its row, as [`Replaying`] does. Calls `sink` after each turn that matches. Writes
/// nothing.
///
/// # Errors
/// [`LoadError::Quarantine`] says which turn does not match, and how.
pub(crate) fn replay(
    reader: &Reader,
    row: &InstanceRow,
    bring: Option<&mut MakeGuest<'_>>,
    sink: &mut dyn FnMut(&Turn),
) -> Result<(State, Option<Box<dyn ResidentGuest>>), LoadError> {
    let mut replaying = Replaying::new(row.generation, bring);
    while replaying.state.turns < row.turns {
        let left = (row.turns - replaying.state.turns).min(PAGE);
        let turns = reader.turns(row.key, row.execution, replaying.state.turns, left)?;
        if turns.is_empty() {
            return Err(LoadError::because(format!(
                "turn {} of {} is missing",
                replaying.state.turns, row.turns
            )));
        }
        for turn in &turns {
            replaying.turn(turn)?;
            sink(turn);
        }
    }
    let Replaying {
        mut state, guest, ..
    } = replaying;
    if state.next_event != row.next_event {
        return Err(LoadError::because(format!(
            "the history has {} events where the instance has {}",
            state.next_event, row.next_event
        )));
    }
    if let Some(module) = row.module {
        state.pin_to(module);
    }
    Ok((state, guest))
}

fn fold(state: &mut State, turn: &Turn) -> Result<(), ReplayError> {
    for event in turn.events() {
        state.apply(event)?;
    }
    state.turns += 1;
    Ok(())
}

/// The start in this event, if it is a start event.
pub(crate) fn started(event: &Event) -> Option<&Start> {
    let Event::ExecutionStarted(start) = event else {
        return None;
    };
    Some(start)
}
