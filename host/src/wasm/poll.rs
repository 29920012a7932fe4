//! `wasi:io/poll` for orchestrations: everything they can poll is ready already.
//!
//! Time stands still during a turn, and nothing else happens. So a wait for what is ready ends at once, and a wait for nothing but a later
//! time would never end: it is refused by the name of the function that asked for that time.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource};

use super::fuel::charge;
use super::interface::Name;
use super::link::{NO_EFFECTS, NotProvided};

/// Times that one guest may wait for at once. An attack on the host's memory has more.
const TIMES_MAX: usize = 10_000;

/// Bytes that one pollable takes in a list of them.
const HANDLE_BYTES: usize = 4;

/// `wasi:io/poll.pollable`. Number 0 is always ready; the others stand for a [`Time`].
pub(super) struct Pollable;

impl Pollable {
    /// One that is ready whenever it is asked.
    pub(super) fn ready() -> Resource<Self> {
        Resource::new_own(0)
    }
}

/// A time that a guest asked to be told of.
#[derive(Debug)]
struct Time {
    /// In nanoseconds of the guest's clock.
    at: u64,
    /// The function that it was asked for with.
    function: Arc<str>,
}

/// The times that a guest may wait for.
#[derive(Debug, Default)]
pub(super) struct Times {
    last: u32,
    open: BTreeMap<u32, Time>,
}

impl Times {
    fn open(&mut self, at: u64, function: &Arc<str>) -> wasmtime::Result<Resource<Pollable>> {
        wasmtime::ensure!(
            self.open.len() < TIMES_MAX,
            "more than {TIMES_MAX} times to wait for at once"
        );
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.open.contains_key(&self.last) {
                break;
            }
        }
        let function = Arc::clone(function);
        self.open.insert(self.last, Time { at, function });
        Ok(Resource::new_own(self.last))
    }

    /// Forgets one that was dropped.
    pub(super) fn close(&mut self, number: u32) {
        self.open.remove(&number);
    }

    fn is_ready(&self, number: u32, now: u64) -> bool {
        self.open.get(&number).is_none_or(|time| time.at <= now)
    }

    /// What a guest is told that waits for nothing else.
    fn refusal(&self, number: u32) -> wasmtime::Error {
        let function = self.open.get(&number).map(|time| &*time.function);
        NotProvided::new(function.unwrap_or_default(), NO_EFFECTS).into()
    }
}

/// What a guest has that may wait for times.
pub(super) trait HasTimes {
    /// The time on the guest's clock, in nanoseconds.
    fn nanos(&self) -> u64;

    /// What it may wait for.
    fn times(&mut self) -> &mut Times;
}

/// Whether what a guest waits for is ready.
fn is_ready<T: HasTimes>(guest: &mut T, number: u32) -> bool {
    let now = guest.nanos();
    guest.times().is_ready(number, now)
}

/// Waits, and the times that they may be for.
pub(super) fn define<T: HasTimes + 'static>(
    to: &mut LinkerInstance<'_, T>,
    interface: Name<'_>,
    function: &str,
) -> wasmtime::Result<bool> {
    let named: Arc<str> = format!("{}#{function}", interface.full).into();
    match (interface.base, function) {
        ("wasi:clocks/monotonic-clock", "subscribe-instant") => {
            to.func_wrap(
                function,
                move |mut cx: StoreContextMut<'_, T>, (at,): (u64,)| subscribe(&mut cx, at, &named),
            )?;
        }
        ("wasi:clocks/monotonic-clock", "subscribe-duration") => {
            to.func_wrap(
                function,
                move |mut cx: StoreContextMut<'_, T>, (span,): (u64,)| {
                    let at = cx.data().nanos().saturating_add(span);
                    subscribe(&mut cx, at, &named)
                },
            )?;
        }
        ("wasi:io/poll", "[method]pollable.ready") => {
            to.func_wrap(
                function,
                |mut cx: StoreContextMut<'_, T>, (pollable,): (Resource<Pollable>,)| {
                    Ok((is_ready(cx.data_mut(), pollable.rep()),))
                },
            )?;
        }
        ("wasi:io/poll", "[method]pollable.block") => {
            to.func_wrap(
                function,
                |mut cx: StoreContextMut<'_, T>, (pollable,): (Resource<Pollable>,)| {
                    let guest = cx.data_mut();
                    if is_ready(guest, pollable.rep()) {
                        return Ok(());
                    }
                    Err(guest.times().refusal(pollable.rep()))
                },
            )?;
        }
        ("wasi:io/poll", "poll") => {
            to.func_wrap(
                function,
                |mut cx: StoreContextMut<'_, T>, (pollables,): (Vec<Resource<Pollable>>,)| {
                    charge(&mut cx, pollables.len().saturating_mul(HANDLE_BYTES))?;
                    let guest = cx.data_mut();
                    let ready: Vec<u32> = (0..)
                        .zip(&pollables)
                        .filter(|(_, pollable)| is_ready(guest, pollable.rep()))
                        .map(|(at, _)| at)
                        .collect();
                    if !ready.is_empty() {
                        return Ok((ready,));
                    }
                    match pollables.first() {
                        Some(first) => Err(guest.times().refusal(first.rep())),
                        None => Err(wasmtime::Error::msg("a wait for nothing")),
                    }
                },
            )?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn subscribe<T: HasTimes>(
    cx: &mut StoreContextMut<'_, T>,
    at: u64,
    function: &Arc<str>,
) -> wasmtime::Result<(Resource<Pollable>,)> {
    charge(cx, HANDLE_BYTES)?;
    let guest = cx.data_mut();
    if at <= guest.nanos() {
        return Ok((Pollable::ready(),));
    }
    Ok((guest.times().open(at, function)?,))
}
