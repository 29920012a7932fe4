//! Orchestrations that many tests use.

use super::world::{Logic, completes, waits};

/// Calls an activity `steps` times in sequence with the number of the call. Completes with the last result.
pub(crate) fn chain(activity: &'static str, steps: u32) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut next = 0;
        Box::new(move |seen, out| {
            if next > 0 && !seen.has(next - 1) {
                return waits();
            }
            if next == steps {
                return completes(seen.result(next - 1));
            }
            out.call(activity, next);
            next += 1;
            waits()
        })
    }
}

/// Waits for `events` external events, and completes with the data of all of them.
pub(crate) fn listens(events: usize) -> impl Fn() -> Logic + Send + Sync {
    move || {
        Box::new(move |seen, _| {
            if seen.events.len() < events {
                return waits();
            }
            let data: Vec<String> = seen
                .events
                .iter()
                .map(|(_, _, data)| data.as_ref().unwrap().to_string())
                .collect();
            completes(format!("[{}]", data.join(",")))
        })
    }
}

/// Sets a timer for `span` after its start, and completes with the time at which it fired.
pub(crate) fn sleeps(span: u64) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut set = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut set, true) {
                out.timer(seen.now.0 + span);
            }
            if seen.has(0) {
                completes(seen.now.0)
            } else {
                waits()
            }
        })
    }
}
