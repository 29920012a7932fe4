//! Quarantine: stops an instance that this host cannot go on with.

use perennial_core::{Digest, Quarantine};

use crate::engine::Engine;
use crate::engine::memory::slots::Slot;
use crate::engine::tasks::backoff::PANICS_MAX;
use crate::shortage::{Resource, Shortage};
use crate::store::{Change, StoreError};

/// The host panicked for an instance. That says nothing about the instance before it happens time and again: then it is stopped, so that
/// it does not go on for ever.
pub(in crate::engine) fn panicked(
    engine: &Engine,
    slot: &Slot,
    module: Option<Digest>,
    why: String,
) -> Result<Change, StoreError> {
    if engine.trouble.backoff.panicked((slot.key, None)) < PANICS_MAX {
        return Err(Shortage::new(Resource::Host, why).into());
    }
    engine.trouble.backoff.over((slot.key, None));
    Ok(quarantine(engine, slot, Quarantine::because(why), module))
}

/// Stops an instance that this host cannot go on with: on this module, where it was asked.
pub(in crate::engine) fn quarantine(
    engine: &Engine,
    slot: &Slot,
    why: Quarantine,
    module: Option<Digest>,
) -> Change {
    let mut why = Box::new(why);
    (why.module, why.host, why.at) = (module, host_build(), engine.clock.now());
    Change::Quarantine {
        key: slot.key,
        why,
        seqs: Vec::new(),
    }
}

/// What is to be known of this program where it did not understand a history: another build may.
fn host_build() -> String {
    use std::env::consts::{ARCH, OS};
    format!("perennial {} on {OS} {ARCH}", env!("CARGO_PKG_VERSION"))
}
