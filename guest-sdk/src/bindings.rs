//! The contract, as generated from `wit/`.
//!
//! Two worlds are generated, and their types are shared. A component with both kinds of code exports both: the tool that encodes a
//! component takes the union of the worlds it finds, so the third world, `app`, needs no code of its own.
//!
//! Only [`export!`](crate::export!) uses these modules from outside; they are not for people.

#![allow(
    missing_docs,
    unsafe_code,
    unused_qualifications,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::use_self,
    reason = "generated code; which of these it needs depends on the target"
)]

pub mod orchestrator {
    wit_bindgen::generate!({
        path: "wit/0.2",
        world: "orchestrator",
        pub_export_macro: true,
        export_macro_name: "export_orchestrator",
        default_bindings_module: "perennial_sdk::bindings::orchestrator",
        additional_derives: [PartialEq],
    });
}

pub mod worker {
    wit_bindgen::generate!({
        path: "wit/0.2",
        world: "worker",
        pub_export_macro: true,
        export_macro_name: "export_worker",
        default_bindings_module: "perennial_sdk::bindings::worker",
        with: {
            "perennial:workflow/types@0.2.0": crate::bindings::orchestrator::perennial::workflow::types,
            "perennial:workflow/logging@0.2.0": crate::bindings::orchestrator::perennial::workflow::logging,
        },
    });
}

pub use orchestrator::exports::perennial::workflow::orchestrations;
pub use orchestrator::perennial::workflow::{logging, types};
pub use worker::exports::perennial::workflow::activities;
pub use worker::perennial::workflow::attempts;
