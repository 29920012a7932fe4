//! The sandbox of an orchestration: a virtual environment that is the same in every replay.
//!
//! The Rust standard library and the WASI adapter import a dozen interfaces, so this module provides them: an empty environment, no
//! arguments, no directories, an empty input, outputs that become log lines, clocks that stand at the turn's time, and randomness from the
//! seed in the start event. Access to the outside is [denied](super::denied) with an error if the function has one; other functions with
//! side effects or waits trap with their name.
//!
//! Invariant: an answer depends only on the earlier calls and events of this instance.

use perennial_core::Timestamp;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime::{Store, StoreContextMut};

use super::contract;
use super::denied::Denied;
use super::fuel::{charge, refuel};
use super::guest_log::{GuestLog, HasLog, Output};
use super::interface::Name;
use super::limiter::MemoryLimiter;
use super::link::{Exited, NO_EFFECTS, Provide};
use super::poll::{self, HasTimes, Pollable, Times};
use super::random::Random;

/// Random bytes that a guest may draw at once, to bound the host's memory.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// Bytes that a guest may write to its output at once.
const WRITE_PERMIT_BYTES: u64 = 64 << 10;

pub(super) const NANOS_PER_MILLI: u64 = 1_000_000;

/// The clock while a module's definitions are read, constant so that they depend only on the module: 2026-01-01T00:00:00Z. Some runtimes do
/// not start at an implausible time.
pub(super) const TIME_OF_DEFINITIONS: Timestamp = Timestamp(1_767_225_600_000);

/// Interfaces that exist in the sandbox; functions with effects outside are refused.
const INTERFACES: [&str; 22] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/timezone",
    "wasi:clocks/types",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Whether a component with only orchestrations may import this interface.
pub(super) fn harmless(interface: Name<'_>) -> bool {
    interface.track() == "0.2" && INTERFACES.contains(&interface.base)
}

/// The state of one orchestration's sandbox.
pub(super) struct Sandbox {
    /// The turn's time; before the first turn, the start time of the execution.
    pub(super) now: Timestamp,
    /// Seeded by the first turn.
    pub(super) random: Random,
    /// The open times that it may wait for.
    pub(super) times: Times,
    pub(super) log: GuestLog,
    pub(super) limiter: MemoryLimiter,
}

impl Sandbox {
    /// The sandbox of an execution that begins at this time.
    pub(super) fn new(now: Timestamp, log: GuestLog, memory_bytes: u64) -> Self {
        Self {
            now,
            random: Random::default(),
            times: Times::default(),
            log,
            limiter: MemoryLimiter::new(memory_bytes),
        }
    }

    /// The store of the sandbox, with fuel for the instantiation.
    pub(super) fn into_store(
        self,
        engine: &wasmtime::Engine,
        fuel: u64,
    ) -> wasmtime::Result<Store<Self>> {
        let mut store = Store::new(engine, self);
        store.limiter(|sandbox| &mut sandbox.limiter);
        refuel(&mut store, fuel)?;
        Ok(store)
    }
}

impl HasTimes for Sandbox {
    fn nanos(&self) -> u64 {
        self.now.0.saturating_mul(NANOS_PER_MILLI)
    }

    fn times(&mut self) -> &mut Times {
        &mut self.times
    }
}

impl HasLog for Sandbox {
    fn log(&mut self) -> &mut GuestLog {
        &mut self.log
    }
}

/// Provides the sandbox to a component.
pub(super) struct Virtual;

type Cx<'a> = StoreContextMut<'a, Sandbox>;

impl Provide for Virtual {
    type Data = Sandbox;

    const REFUSAL: &'static str = NO_EFFECTS;

    fn linked(&self, _interface: Name<'_>) -> bool {
        false
    }

    fn define(
        &self,
        to: &mut LinkerInstance<'_, Sandbox>,
        interface: Name<'_>,
        function: &str,
    ) -> wasmtime::Result<bool> {
        if contract::is_logging(interface) {
            return contract::define_logging(to, interface, function);
        }
        if !harmless(interface) {
            return Ok(false);
        }
        if poll::define(to, interface, function)? {
            return Ok(true);
        }
        let Some(interface) = interface.base.strip_prefix("wasi:") else {
            return Ok(false);
        };
        Ok(define_process(to, interface, function)?
            || define_streams(to, interface, function)?
            || define_clocks(to, interface, function)?
            || define_timezone(to, interface, function)?
            || define_random(to, interface, function)?)
    }

    fn define_resource(
        &self,
        to: &mut LinkerInstance<'_, Sandbox>,
        name: &str,
    ) -> wasmtime::Result<()> {
        let behind = match name {
            "pollable" => {
                let ty = ResourceType::host::<Pollable>();
                return to.resource(name, ty, |mut cx, number| {
                    cx.data_mut().times.close(number);
                    Ok(())
                });
            }
            "input-stream" => ResourceType::host::<InputStream>(),
            "output-stream" => ResourceType::host::<OutputStream>(),
            "error" => ResourceType::host::<IoError>(),
            "terminal-input" => ResourceType::host::<TerminalInput>(),
            "terminal-output" => ResourceType::host::<TerminalOutput>(),
            "descriptor" => ResourceType::host::<Descriptor>(),
            _ => ResourceType::host::<Denied>(),
        };
        to.resource(name, behind, |_, _| Ok(()))
    }
}

/// Defines an empty environment without arguments.
fn define_process(
    to: &mut LinkerInstance<'_, Sandbox>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<bool> {
    match (interface, function) {
        ("cli/environment", "get-environment") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| {
                Ok((Vec::<(String, String)>::new(),))
            })?;
        }
        ("cli/environment", "get-arguments") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| Ok((Vec::<String>::new(),)))?;
        }
        ("cli/environment", "initial-cwd") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| Ok((None::<String>,)))?;
        }
        ("cli/exit", _) => {
            to.func_new(function, |_, _, _, _| Err(wasmtime::Error::new(Exited)))?;
        }
        ("cli/terminal-stdin", "get-terminal-stdin") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| {
                Ok((None::<Resource<TerminalInput>>,))
            })?;
        }
        ("cli/terminal-stdout", "get-terminal-stdout")
        | ("cli/terminal-stderr", "get-terminal-stderr") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| {
                Ok((None::<Resource<TerminalOutput>>,))
            })?;
        }
        ("filesystem/preopens", "get-directories") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| {
                Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Defines an empty input, and outputs that become log lines.
fn define_streams(
    to: &mut LinkerInstance<'_, Sandbox>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<bool> {
    match (interface, function) {
        ("cli/stdin", "get-stdin") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| {
                Ok((Resource::<InputStream>::new_own(0),))
            })?;
        }
        ("cli/stdout", "get-stdout") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| {
                Ok((OutputStream::handle(Output::Out),))
            })?;
        }
        ("cli/stderr", "get-stderr") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| {
                Ok((OutputStream::handle(Output::Err),))
            })?;
        }
        ("io/streams", "[method]input-stream.read" | "[method]input-stream.blocking-read") => {
            to.func_wrap(
                function,
                |_: Cx<'_>, (_, _): (Resource<InputStream>, u64)| {
                    Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
                },
            )?;
        }
        ("io/streams", "[method]input-stream.skip" | "[method]input-stream.blocking-skip") => {
            to.func_wrap(
                function,
                |_: Cx<'_>, (_, _): (Resource<InputStream>, u64)| {
                    Ok((Err::<u64, _>(StreamError::Closed),))
                },
            )?;
        }
        ("io/streams", "[method]input-stream.subscribe") => {
            to.func_wrap(function, |_: Cx<'_>, (_,): (Resource<InputStream>,)| {
                Ok((Pollable::ready(),))
            })?;
        }
        ("io/streams", _) => return define_output(to, function),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Defines output streams that become log lines.
fn define_output(to: &mut LinkerInstance<'_, Sandbox>, function: &str) -> wasmtime::Result<bool> {
    match function {
        "[method]output-stream.subscribe" => {
            to.func_wrap(function, |_: Cx<'_>, (_,): (Resource<OutputStream>,)| {
                Ok((Pollable::ready(),))
            })?;
        }
        "[method]output-stream.write-zeroes"
        | "[method]output-stream.blocking-write-zeroes-and-flush" => {
            to.func_wrap(
                function,
                |mut cx: Cx<'_>, (output, length): (Resource<OutputStream>, u64)| {
                    wasmtime::ensure!(
                        length <= WRITE_PERMIT_BYTES,
                        "{length} zeroes at once, at most {WRITE_PERMIT_BYTES} are allowed"
                    );
                    let zeroes = vec![0; usize::try_from(length)?];
                    charge(&mut cx, zeroes.len())?;
                    cx.data_mut()
                        .log
                        .write(OutputStream::behind(&output), &zeroes);
                    Ok((Ok::<(), StreamError>(()),))
                },
            )?;
        }
        // The only input stream is empty.
        "[method]output-stream.splice" | "[method]output-stream.blocking-splice" => {
            to.func_wrap(
                function,
                |_: Cx<'_>, (_, _, _): (Resource<OutputStream>, Resource<InputStream>, u64)| {
                    Ok((Err::<u64, _>(StreamError::Closed),))
                },
            )?;
        }
        "[method]output-stream.check-write" => {
            to.func_wrap(function, |_: Cx<'_>, (_,): (Resource<OutputStream>,)| {
                Ok((Ok::<_, StreamError>(WRITE_PERMIT_BYTES),))
            })?;
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            to.func_wrap(
                function,
                |mut cx: Cx<'_>, (output, bytes): (Resource<OutputStream>, Vec<u8>)| {
                    charge(&mut cx, bytes.len())?;
                    cx.data_mut()
                        .log
                        .write(OutputStream::behind(&output), &bytes);
                    Ok((Ok::<(), StreamError>(()),))
                },
            )?;
        }
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            to.func_wrap(function, |_: Cx<'_>, (_,): (Resource<OutputStream>,)| {
                Ok((Ok::<(), StreamError>(()),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Defines clocks that stand at the turn's time.
fn define_clocks(
    to: &mut LinkerInstance<'_, Sandbox>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<bool> {
    match (interface, function) {
        ("clocks/wall-clock", "now") => {
            to.func_wrap(function, |cx: Cx<'_>, (): ()| {
                Ok((DateTime::at(cx.data().now.0),))
            })?;
        }
        ("clocks/wall-clock", "resolution") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| Ok((DateTime::at(1),)))?;
        }
        ("clocks/monotonic-clock", "now") => {
            to.func_wrap(function, |cx: Cx<'_>, (): ()| Ok((cx.data().nanos(),)))?;
        }
        ("clocks/monotonic-clock", "resolution") => {
            to.func_wrap(function, |_: Cx<'_>, (): ()| Ok((NANOS_PER_MILLI,)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The time zone of orchestrations and activities: UTC.
pub(super) fn define_timezone<T: 'static>(
    to: &mut LinkerInstance<'_, T>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<bool> {
    match (interface, function) {
        ("clocks/timezone", "display") => {
            to.func_wrap(function, |_: StoreContextMut<'_, T>, (_,): (DateTime,)| {
                Ok((TimezoneDisplay {
                    utc_offset: 0,
                    name: "UTC".to_owned(),
                    in_daylight_saving_time: false,
                },))
            })?;
        }
        ("clocks/timezone", "utc-offset") => {
            to.func_wrap(function, |_: StoreContextMut<'_, T>, (_,): (DateTime,)| {
                Ok((0_i32,))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Defines randomness from the seed. The three interfaces draw from one stream.
fn define_random(
    to: &mut LinkerInstance<'_, Sandbox>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<bool> {
    match (interface, function) {
        ("random/random", "get-random-bytes")
        | ("random/insecure", "get-insecure-random-bytes") => {
            to.func_wrap(function, |mut cx: Cx<'_>, (length,): (u64,)| {
                wasmtime::ensure!(
                    length <= RANDOM_BYTES_MAX,
                    "{length} random bytes at once, at most {RANDOM_BYTES_MAX} are allowed"
                );
                let length = usize::try_from(length)?;
                charge(&mut cx, length)?;
                Ok((cx.data_mut().random.bytes(length),))
            })?;
        }
        ("random/random", "get-random-u64") | ("random/insecure", "get-insecure-random-u64") => {
            to.func_wrap(function, |mut cx: Cx<'_>, (): ()| {
                Ok((cx.data_mut().random.number(),))
            })?;
        }
        ("random/insecure-seed", "insecure-seed" | "get-insecure-seed") => {
            to.func_wrap(function, |mut cx: Cx<'_>, (): ()| {
                let random = &mut cx.data_mut().random;
                Ok(((random.number(), random.number()),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `wasi:io/streams.stream-error`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

/// `wasi:clocks/wall-clock.datetime`.
#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
struct DateTime {
    seconds: u64,
    nanoseconds: u32,
}

/// `wasi:clocks/timezone.timezone-display`.
#[derive(Clone, ComponentType, Lower)]
#[component(record)]
struct TimezoneDisplay {
    #[component(name = "utc-offset")]
    utc_offset: i32,
    name: String,
    #[component(name = "in-daylight-saving-time")]
    in_daylight_saving_time: bool,
}

impl DateTime {
    fn at(millis: u64) -> Self {
        Self {
            seconds: millis / 1000,
            nanoseconds: (millis % 1000) as u32 * NANOS_PER_MILLI as u32,
        }
    }
}

struct InputStream;

struct OutputStream;

impl OutputStream {
    fn handle(output: Output) -> Resource<Self> {
        Resource::new_own(output as u32)
    }

    fn behind(handle: &Resource<Self>) -> Output {
        if handle.rep() == Output::Err as u32 {
            Output::Err
        } else {
            Output::Out
        }
    }
}

struct IoError;

struct TerminalInput;

struct TerminalOutput;

struct Descriptor;
