//! `wasi:io/poll` for orchestrations: everything that they can poll is already ready.
//!
//! Time stands still during a turn, and nothing else happens. So a wait with a ready pollable ends at once, and a wait for later times only
//! would never end: it is refused, and the error names the function that requested the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource};

use super::fuel::charge;
use super::interface::Name;
use super::link::{NO_EFFECTS, NotProvided};

/// Times that a guest may wait for at once, to bound the host's memory.
const TIMES_MAX: usize = 10_000;

/// Bytes of a pollable in a list.
const HANDLE_BYTES: usize = 4;

/// `wasi:io/poll.pollable`. Number 0 is always ready; the others stand for a [`Time`].
pub(super) struct Pollable;

impl Pollable {
    /// A pollable that is always ready.
    pub(super) fn ready() -> Resource<Self> {
        Resource::new_own(0)
    }
}

/// A time that a guest may wait for.
#[derive(Debug)]
struct Time {
    /// In nanoseconds of the guest's clock.
    at: u64,
    /// The function that requested it.
    function: Arc<str>,
}

/// The open times of a guest.
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

    /// Removes a dropped one.
    pub(super) fn close(&mut self, number: u32) {
        self.open.remove(&number);
    }

    fn is_ready(&self, number: u32, now: u64) -> bool {
        self.open.get(&number).is_none_or(|time| time.at <= now)
    }

    /// The error for a guest that waits only for this time.
    fn refusal(&self, number: u32) -> wasmtime::Error {
        let function = self.open.get(&number).map(|time| &*time.function);
        NotProvided::new(function.unwrap_or_default(), NO_EFFECTS).into()
    }
}

/// The state of a guest that may wait for times.
pub(super) trait HasTimes {
    /// The time on the guest's clock, in nanoseconds.
    fn nanos(&self) -> u64;

    /// The open times.
    fn times(&mut self) -> &mut Times;
}

/// Whether a pollable is ready.
fn is_ready<T: HasTimes>(guest: &mut T, number: u32) -> bool {
    let now = guest.nanos();
    guest.times().is_ready(number, now)
}

/// Defines the poll functions and the subscriptions to times.
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
