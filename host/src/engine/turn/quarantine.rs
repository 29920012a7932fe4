//! Quarantine: stops an instance that this host cannot continue.

use perennial_core::{Digest, Quarantine};

use crate::engine::Engine;
use crate::engine::memory::slots::Slot;
use crate::engine::tasks::backoff::PANICS_MAX;
use crate::shortage::{Resource, Shortage};
use crate::store::{Change, StoreError};

/// Handles a panic of the host in a turn of an instance. Quarantines the instance only after several successive panics, since a single one
/// proves nothing about it.
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

/// The change that quarantines an instance. `module` is the module that a resume named, if it named one.
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

/// Identifies this build in the quarantine, since another build may be able to replay the history.
fn host_build() -> String {
    use std::env::consts::{ARCH, OS};
    format!("perennial {} on {OS} {ARCH}", env!("CARGO_PKG_VERSION"))
}
