//! Translates how a guest ended (trap, out of fuel, exit) into a failure.

use perennial_core::{Failure, kind};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::guest_log::GuestLog;
use super::limiter::MemoryLimiter;
use super::link::{Exited, NotProvided};

/// Converts the error of a guest's call into a failure.
///
/// All errors that wasmtime reports from inside a call are the guest's: a trap, a refused import, or an invalid result. The guest's last
/// message, and whether it was refused memory, explain an unspecific trap.
pub(super) fn failure_of(
    error: &wasmtime::Error,
    log: &mut GuestLog,
    limiter: &MemoryLimiter,
) -> Failure {
    log.flush();
    let panicking = log.take_panicking();
    let trap = error.downcast_ref::<Trap>();
    if let Some(refused) = error.downcast_ref::<NotProvided>() {
        return traced(kind::FORBIDDEN_IMPORT, refused.to_string(), error);
    }
    match trap {
        Some(Trap::OutOfFuel) => {
            return traced(
                kind::OUT_OF_FUEL,
                "the turn ran out of fuel (an endless loop? move heavy work to an activity, or deploy with more --fuel)",
                error,
            );
        }
        Some(Trap::StackOverflow) => {
            return traced(kind::STACK_OVERFLOW, "the call stack is exhausted", error);
        }
        _ => {}
    }
    // The sandbox of orchestrations uses the first type, the WASI of activities the second.
    let exited = (error.is::<Exited>() || error.is::<I32Exit>()).then_some(Exited);
    if let (true, Some(panicking)) = (trap.is_some() || exited.is_some(), panicking) {
        return Failure {
            trace: Some(panicking.location),
            ..Failure::permanent(kind::PANIC, panicking.message)
        };
    }
    if limiter.refused() {
        let message = format!("more than the limit of {} bytes of memory", limiter.limit());
        return traced(kind::OUT_OF_MEMORY, message, error);
    }
    match (trap, exited) {
        (Some(trap), _) => traced(kind::TRAP, trap.to_string(), error),
        (None, Some(exited)) => traced(kind::TRAP, exited.to_string(), error),
        (None, None) => traced(kind::INVALID_ANSWER, error.root_cause().to_string(), error),
    }
}

/// Whether an error during a guest's start is the guest's own, as far as that can be told.
pub(super) fn is_guests(error: &wasmtime::Error) -> bool {
    error.is::<Trap>() || error.is::<NotProvided>() || error.is::<Exited>()
}

fn traced(kind: &str, message: impl Into<String>, error: &wasmtime::Error) -> Failure {
    Failure {
        trace: error
            .downcast_ref::<WasmBacktrace>()
            .map(ToString::to_string),
        ..Failure::permanent(kind, message)
    }
}
