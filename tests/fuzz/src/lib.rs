//! What the fuzzers do with the bytes they make up, and the inputs that they begin with.
//!
//! [`deploy`] takes bytes that somebody deploys: they are refused in words, or are a module, which then runs a turn and repeats it. [`advance`]
//! takes the memory that a guest answers with, turn after turn: whatever is in it, each turn ends lawfully, and all of them repeat.

mod guests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use perennial::executor::{Executor, Fault, ResidentGuest};
use perennial::wasm::{GrantsOf, ModuleError, Source, Wasm, WasmConfig};
use perennial::{Digest, Grants, Json, Limits, Timestamp};
use perennial_core::{
    Envelope, Event, GuestEvent, Message, Mode, Names, Resolved, SEMANTICS_VERSION, Start, State,
    Stop, Turn, TurnContext, replay_turn, run_turn, take_batch,
};

pub use guests::{answers, modules};

/// Gets a fuzzer ready, before it reads any input: writes those that it begins with into the directory that `PERENNIAL_SEEDS` names, and
/// lets the host deal with the panics that it deals with.
///
/// # Panics
/// If it cannot.
pub fn prepare(seeds: Vec<Vec<u8>>) {
    let ends = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |location| location.file());
        if !CAUGHT.iter().any(|library| file.contains(library)) {
            ends(panic);
        }
    }));
    let Some(dir) = std::env::var_os("PERENNIAL_SEEDS").map(PathBuf::from) else {
        return;
    };
    std::fs::create_dir_all(&dir).expect("the directory is made");
    for (number, seed) in seeds.into_iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number:02}")), seed).expect("the seed is written");
    }
}

/// Fuel of a turn: so little that a guest that spins is soon over.
const FUEL: u64 = 1_000_000;

/// Libraries that panic over some modules, which the host takes for a refusal: there it is no finding.
const CAUGHT: &[&str] = &["/wit-parser-", "/wit-component-"];

/// Messages longer than this quote what they should not.
const MESSAGE_BYTES_MAX: usize = 20_000;

/// A host's WebAssembly without a hub: the module that is tried is its only one.
pub struct Bench {
    wasm: Wasm,
    module: Arc<Mutex<Vec<u8>>>,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// One without a cache.
    ///
    /// # Panics
    /// If this machine cannot run WebAssembly.
    #[must_use]
    pub fn new() -> Self {
        let module: Arc<Mutex<Vec<u8>>> = Arc::default();
        let source: Source = {
            let module = Arc::clone(&module);
            Arc::new(move |_| {
                let module = module.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(module.clone())
            })
        };
        let grants: GrantsOf = Arc::new(|_| Ok(Grants::default()));
        let mut config = WasmConfig::default();
        config.resident_max = 4;
        let wasm = Wasm::new(config, source, grants).expect("this machine runs WebAssembly");
        Self { wasm, module }
    }

    fn add(&self, bytes: &[u8]) -> Result<Digest, ModuleError> {
        let inspected = self.wasm.inspect(bytes)?;
        *self.module.lock().unwrap_or_else(PoisonError::into_inner) = inspected.component;
        Ok(inspected.digest)
    }

    fn guest(&self, module: Digest) -> Result<Box<dyn ResidentGuest>, Fault> {
        self.wasm
            .instantiate(module, &limits(), "order", Timestamp(1))
    }
}

fn limits() -> Limits {
    Limits {
        fuel_base: FUEL,
        fuel_per_event: 0,
        // What the guest of `advance` needs for its input.
        fuel_per_byte: 100,
        ..Limits::default()
    }
}

/// Deploys `bytes`. A module is the same once it is encoded, answers a turn or ends it, and gives the same answer again.
///
/// # Panics
/// If one of that is not so.
pub fn deploy(bench: &Bench, bytes: &[u8]) {
    let module = match bench.add(bytes) {
        Ok(module) => module,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && said.len() < MESSAGE_BYTES_MAX, "{said}");
            return;
        }
    };
    let stored = bench.module.lock().expect("nobody panicked").clone();
    let again = bench
        .wasm
        .inspect(&stored)
        .expect("what is stored is a module");
    assert_eq!(again.digest, module, "what is stored is not encoded again");
    if !again.orchestrations.is_empty() {
        let answer = |mode| {
            let mut guest = bench.guest(module).ok()?;
            match guest.advance(&first_turn(), mode) {
                Ok(answer) => Some(answer),
                Err(Stop::Verdict(failure)) => {
                    assert!(failure.to_string().len() < MESSAGE_BYTES_MAX, "{failure}");
                    None
                }
                Err(Stop::Host(reason)) => panic!("the host is blamed: {reason}"),
            }
        };
        if let Some(first) = answer(Mode::Live { fuel: FUEL }) {
            assert_eq!(answer(Mode::Replay).as_ref(), Some(&first), "it repeats");
        }
    }
    bench.wasm.forget(module);
}

fn first_turn() -> Vec<GuestEvent> {
    vec![
        GuestEvent::TurnStarted {
            now: Timestamp(1000),
            history_events: 0,
            history_bytes: 0,
        },
        GuestEvent::ExecutionStarted {
            instance_id: "order".to_owned(),
            execution_id: "e".to_owned(),
            name: "F".to_owned(),
            version: None,
            input: None,
            parent: None,
            tags: Vec::new(),
            trace_parent: None,
            seed: 7,
        },
    ]
}

/// A guest that answers with the memory that its input names.
pub struct Echo {
    bench: Bench,
    module: Digest,
}

impl Echo {
    /// Deploys it.
    ///
    /// # Panics
    /// If it is no module.
    #[must_use]
    pub fn new(bench: Bench) -> Self {
        let module = bench.add(&guests::echo()).expect("the guest is a module");
        Self { bench, module }
    }
}

/// Every name is there.
struct Deployed(Digest);

impl Names for Deployed {
    fn activity(&self, _: Option<Digest>, _: &str) -> Resolved {
        Resolved::Module(self.0, None)
    }

    fn orchestration(
        &self,
        _caller: Option<Digest>,
        name: &str,
        version: Option<&str>,
    ) -> Resolved {
        match name {
            "" => Resolved::Unknown,
            _ => Resolved::Module(self.0, version.map(str::to_owned)),
        }
    }
}

/// Splits `bytes` into the memory of one turn after the other, each behind its length.
fn turns(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut turns = Vec::new();
    while let Some((&[low, high], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let (turn, rest) = rest.split_at(length.min(rest.len()));
        turns.push(turn);
        bytes = rest;
    }
    turns
}

/// Bytes as the JSON text that the guest reads: long enough to be told from every other text it is given.
fn told(bytes: &[u8]) -> Json {
    let mut text = String::from("\"");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    while text.len() < guests::TOLD_BYTES_MIN {
        text.push_str("00");
    }
    text.push('"');
    Json::from_text(text)
}

/// Runs an execution whose guest answers with this memory, turn after turn, then repeats it.
///
/// # Panics
/// If a turn does not end lawfully, is not read as it is written, or does not repeat.
pub fn advance(echo: &Echo, bytes: &[u8]) {
    let names = Deployed(echo.module);
    let mut guest = echo.bench.guest(echo.module).expect("there is room");
    let mut state = State::new(0);
    let mut recorded: Vec<Turn> = Vec::new();
    for (number, memory) in turns(bytes).into_iter().enumerate() {
        let message = if number == 0 {
            Message::Start(Box::new(start(echo.module, told(memory))))
        } else {
            Message::ExternalEvent {
                number: None,
                name: "Answer".to_owned(),
                data: Some(told(memory)),
            }
        };
        let now = Timestamp(1000 + number as u64);
        let mut mail = VecDeque::from([Envelope::in_memory(message)]);
        let batch = take_batch(&state, &mut mail, now).envelopes;
        let mut context = TurnContext {
            now,
            names: &names,
            fresh: &mut || ("next".to_owned(), 8),
        };
        let messages = batch.into_iter().map(|envelope| envelope.message).collect();
        let turn = run_turn(&mut state, messages, &mut context, &mut *guest)
            .unwrap_or_else(|reason| panic!("the host is blamed: {reason}"));
        let Some(turn) = turn else { break };
        for event in turn.events() {
            let stored = postcard::to_allocvec(event).expect("an event is stored");
            let read: Event = postcard::from_bytes(&stored).expect("and is read");
            assert!(same(&read, event), "{read:?} was {event:?}");
        }
        recorded.push(turn);
        if state.has_ended() {
            break;
        }
    }
    let mut guest = echo.bench.guest(echo.module).expect("there is room");
    let mut again = State::new(0);
    for turn in &recorded {
        replay_turn(&mut again, turn, &mut *guest).expect("a recorded turn repeats");
    }
    // Written down: a guest may have answered with a number that is none, which equals nothing.
    assert_eq!(format!("{again:?}"), format!("{state:?}"));
}

fn same(one: &Event, other: &Event) -> bool {
    one == other || format!("{one:?}") == format!("{other:?}")
}

fn start(module: Digest, input: Json) -> Start {
    Start {
        instance_id: "order".to_owned(),
        execution_id: "e0".to_owned(),
        execution: 0,
        name: "F".to_owned(),
        version: None,
        input: Some(input),
        parent: None,
        tags: Vec::new(),
        trace_parent: None,
        seed: 7,
        module: Some(module),
        limits: limits(),
        next_external: 0,
        semantics: SEMANTICS_VERSION,
        accepted_at: Timestamp(900),
        scheduled_for: None,
    }
}
