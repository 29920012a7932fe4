//! Contract 0.2: all code that depends on its names and types.
//!
//! Modules that were built for this contract run for ever. So a later contract gets a module of its own beside this one. Until a release has
//! this contract it may still change; then it changes only to fix a bug.

mod activities;
mod attempts;
mod logging;
mod orchestrations;

pub(super) use activities::{Activities, ActivitiesPre};
pub(super) use attempts::{define_attempts, is_attempts};
pub(super) use logging::{define_logging, is_logging};
pub(super) use orchestrations::{Orchestrations, OrchestrationsPre};

use super::interface::Name;

/// The contract's version, as shown for a module.
pub(super) const CONTRACT: &str = "0.2";

/// The exported interface of orchestrations.
pub(super) const ORCHESTRATIONS: &str = "perennial:workflow/orchestrations@0.2.0";

/// The exported interface of activities.
pub(super) const ACTIVITIES: &str = "perennial:workflow/activities@0.2.0";

/// Whether a module may import this interface of the contract. The types contain no functions.
pub(super) fn is_known_import(interface: Name<'_>) -> bool {
    is_logging(interface)
        || is_attempts(interface)
        || (interface.base == "perennial:workflow/types" && interface.track() == CONTRACT)
}

mod bindings {
    //! The bindings that wasmtime generates from the contract. Payloads for a guest are borrowed, so that a turn copies each only once,
    //! into the guest's memory.

    pub(in crate::wasm::v0_2) mod orchestrations {
        wasmtime::component::bindgen!({
            path: "wit/0.2",
            inline: "
                package perennial:host;

                world with-orchestrations {
                    export perennial:workflow/orchestrations@0.2.0;
                }
            ",
            world: "perennial:host/with-orchestrations",
            ownership: Borrowing { duplicate_if_necessary: true },
        });
    }

    pub(in crate::wasm::v0_2) mod activities {
        wasmtime::component::bindgen!({
            path: "wit/0.2",
            inline: "
                package perennial:host;

                world with-activities {
                    export perennial:workflow/activities@0.2.0;
                }
            ",
            world: "perennial:host/with-activities",
            ownership: Borrowing { duplicate_if_necessary: true },
            exports: { "perennial:workflow/activities.run": async },
        });
    }
}
