//! Guests that run natively: the machine of the SDK, and stand-ins for orchestrations of other modules.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use perennial_core::{Answer, Ending, Failure, Guest, GuestEvent, Json, Mode, Stop, kind};

use super::convert;
use crate::definition::Component;
use crate::log::{self, Level};
use crate::machine::Machine;

/// The log of an instance.
pub(super) type Log = Rc<RefCell<Vec<(Level, String)>>>;

/// A stand-in for an orchestration: from the input to the outcome.
pub(super) type Standin = Rc<dyn Fn(Option<String>) -> Result<Option<String>, crate::Failure>>;

/// One execution on the machine that also drives it inside a component.
pub(super) struct MachineGuest {
    machine: Machine,
    log: Log,
}

impl MachineGuest {
    pub(super) fn new(component: Component, log: Log) -> Self {
        Self {
            machine: Machine::new(component),
            log,
        }
    }
}

impl Guest for MachineGuest {
    fn advance(&mut self, events: &[GuestEvent], mode: Mode) -> Result<Answer, Stop> {
        let events = events.iter().cloned().map(convert::event).collect();
        let advance = || catch_unwind(AssertUnwindSafe(|| self.machine.advance(events)));
        let (turn, written) = log::collect(advance);
        if let Mode::Live { .. } = mode {
            self.log.borrow_mut().extend(written);
        }
        match turn {
            Ok(turn) => Ok(convert::answer(turn)),
            Err(panic) => Err(Stop::Verdict(Failure::permanent(
                kind::PANIC,
                message_of(&*panic),
            ))),
        }
    }
}

/// An execution that ends in its first turn, as its stand-in says.
pub(super) struct StandinGuest(pub(super) Standin);

impl Guest for StandinGuest {
    fn advance(&mut self, events: &[GuestEvent], _: Mode) -> Result<Answer, Stop> {
        let input = events.iter().find_map(|event| match event {
            GuestEvent::ExecutionStarted { input, .. } => Some(input.clone()),
            _ => None,
        });
        let outcome = (self.0)(convert::text(input.flatten()));
        let ending = match outcome {
            Ok(output) => Ending::Completed(output.map(Json::from_text)),
            Err(failure) => Ending::Failed {
                failure: convert::of_wit(failure.into_wit()),
                cause: None,
            },
        };
        Ok(Answer {
            actions: Vec::new(),
            ending,
        })
    }
}

/// The message of a panic.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
