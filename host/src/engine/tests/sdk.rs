//! Runs orchestrations of the SDK natively. Each guest has its own thread, as a component instance has its own memory.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use perennial_core::{
    Answer, Digest, Failure, Guest, GuestEvent, Limits, Mode, Stop, Timestamp, kind,
};
use perennial_sdk::Orchestration;
use perennial_sdk::bindings::orchestrations as wit;
use perennial_sdk::testing::convert;

use crate::engine::executor::{Executor, Fault, ResidentGuest};

/// Creates guests of these orchestrations.
pub(crate) struct Native(pub(crate) &'static [Orchestration]);

impl Executor for Native {
    fn instantiate(
        &self,
        _: Digest,
        _: &Limits,
        _: &str,
        _: Timestamp,
    ) -> Result<Box<dyn ResidentGuest>, Fault> {
        let orchestrations = self.0;
        let (events, told) = channel::<Vec<wit::Event>>();
        let (answer, answers) = channel();
        let thread = std::thread::spawn(move || {
            for events in told {
                let advance = || perennial_sdk::export::advance(orchestrations, &[], events);
                let turn = std::panic::catch_unwind(AssertUnwindSafe(advance));
                if answer.send(turn.map_err(|_| ())).is_err() {
                    return;
                }
            }
        });
        Ok(Box::new(NativeGuest {
            events: Some(events),
            answers,
            thread: Some(thread),
        }))
    }
}

struct NativeGuest {
    events: Option<Sender<Vec<wit::Event>>>,
    answers: Receiver<Result<wit::Turn, ()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for NativeGuest {
    fn drop(&mut self) {
        self.events = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

impl ResidentGuest for NativeGuest {
    fn resident_bytes(&self) -> usize {
        1_000
    }
}

impl Guest for NativeGuest {
    fn advance(&mut self, events: &[GuestEvent], _: Mode) -> Result<Answer, Stop> {
        let events = events.iter().cloned().map(convert::event).collect();
        self.events.as_ref().unwrap().send(events).unwrap();
        let turn = self.answers.recv().unwrap();
        let turn = turn.map_err(|()| Stop::Verdict(Failure::permanent(kind::PANIC, "")))?;
        Ok(convert::answer(turn))
    }
}
