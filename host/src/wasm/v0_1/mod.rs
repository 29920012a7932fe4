//! Contract 0.1: everything in the adapter that knows its names and shapes.
//!
//! Modules that were built for this contract run for ever, so a later contract gets a module of its own beside this one, and nothing
//! here changes but to fix a fault.

mod activities;
mod logging;
mod orchestrations;

pub(super) use activities::{Activities, ActivitiesPre};
pub(super) use logging::{define_logging, is_logging};
pub(super) use orchestrations::{Orchestrations, OrchestrationsPre};

use super::interface::Name;

/// The contract's version as a module's manifest shows it.
pub(super) const CONTRACT: &str = "0.1";

/// The interface of orchestrations, as a module exports it.
pub(super) const ORCHESTRATIONS: &str = "perennial:workflow/orchestrations@0.1.0";

/// The interface of activities, as a module exports it.
pub(super) const ACTIVITIES: &str = "perennial:workflow/activities@0.1.0";

/// Whether a module may import this interface of the contract. The types are no more than names.
pub(super) fn is_known_import(interface: Name<'_>) -> bool {
    is_logging(interface)
        || (interface.base == "perennial:workflow/types" && interface.track() == CONTRACT)
}

mod bindings {
    //! What wasmtime generates from the contract. The payloads that go into a guest are borrowed, so that a turn copies each once, into
    //! the guest's memory.

    pub(in crate::wasm::v0_1) mod orchestrations {
        wasmtime::component::bindgen!({
            path: "wit",
            inline: "
                package perennial:host;

                world with-orchestrations {
                    export perennial:workflow/orchestrations@0.1.0;
                }
            ",
            world: "perennial:host/with-orchestrations",
            ownership: Borrowing { duplicate_if_necessary: true },
        });
    }

    pub(in crate::wasm::v0_1) mod activities {
        wasmtime::component::bindgen!({
            path: "wit",
            inline: "
                package perennial:host;

                world with-activities {
                    export perennial:workflow/activities@0.1.0;
                }
            ",
            world: "perennial:host/with-activities",
            ownership: Borrowing { duplicate_if_necessary: true },
            exports: { "perennial:workflow/activities.run": async },
        });
    }
}
