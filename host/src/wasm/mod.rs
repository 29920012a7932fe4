//! WebAssembly: inspects modules, and runs their orchestrations and activities.
//!
//! A module is a component of the world `perennial:workflow/orchestrator`, `worker` or `app`. [`Wasm::inspect`] turns a file into one, or
//! reports why that fails; the bytes that it returns are stored, and their digest identifies them from then on. [`Wasm`] asks for the bytes
//! of a digest when it first needs them, compiles them (or finds compiled code on disk or in memory), and is the engine's executor for both
//! kinds of guest:
//!
//! - **Orchestrations** run in a sandbox, on fuel, in a pool of prepared slots. They can observe only the events of their turns. The same
//!   bytes, limits and events give the same answers on every host and for ever.
//! - **Activities** run as ordinary programs with WASI, each attempt in a fresh instance, with the grants of their deployment and no more.
//!   They are interrupted at their deadline.
//!
//! Invariants: a guest's mistake is a [`Failure`](perennial_core::Failure) and a problem of the host is an error; neither becomes the
//! other. This module does not know where modules are stored. Code for one version of the contract is in a module of that version.

mod activity;
mod ambient;
mod answer;
mod bounds;
mod cache;
mod code;
mod config;
mod contract;
mod definition;
mod denied;
mod engines;
mod files;
mod fuel;
mod granted;
mod guest_log;
mod held;
mod host;
mod inspect;
mod interface;
mod limiter;
mod link;
mod log_budget;
mod look;
mod module;
mod module_cache;
mod module_error;
mod orchestration;
mod output;
mod poll;
mod random;
mod sandbox;
mod stop;
mod ticker;
mod v0_1;
mod v0_2;

pub use crate::engine::executor::{DirGrant, Grants};
pub use bounds::{FUNCTION_BYTES_MAX, FUNCTIONS_MAX};
pub(crate) use cache::forget_compiled;
#[doc(hidden)]
pub use code::compilations;
pub use config::{WasmConfig, WasmError};
pub use definition::Definition;
pub(crate) use host::undamaged;
pub use host::{GrantsOf, Source, Wasm};
pub use inspect::Inspected;
pub(crate) use look::{keep_compiled, look_at};
pub use module::MODULE_BYTES_MAX;
pub use module_error::ModuleError;

/// The directory of compiled code, beside the hubs.
pub(crate) const CACHE_DIR: &str = "cache";

#[cfg(test)]
pub(crate) mod tests;
