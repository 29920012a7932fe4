//! Why a file is not a module that this host can run.

use perennial_core::text::shortened;

use super::v0_1;
use crate::engine::executor::{Fault, Shortage};
use crate::limits::COMPONENT_BYTES;

/// Why a file is not a module that this host can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// Over [`MODULE_BYTES_MAX`](super::MODULE_BYTES_MAX).
    #[error("a module of {bytes} bytes: the limit is {COMPONENT_BYTES} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More than a compiler can be asked for.
    #[error("a module that would take too long to compile: {0}")]
    TooComplex(String),
    /// Not WebAssembly at all, and what it looks like.
    #[error("not a WebAssembly file: {0}")]
    NotWasm(String),
    /// WebAssembly of a version or layer that does not exist yet.
    #[error("unknown WebAssembly format ({}): neither a component nor a core module of version 1", hex(.0))]
    UnknownWasm([u8; 4]),
    /// Nothing is known of the module: the host lacked something that it takes to look at it.
    #[error("the module could not be looked at: {0}")]
    Host(#[source] Shortage),
    /// Uses a WebAssembly proposal that hosts of this version do not have.
    #[error("the module uses {proposal}, which this host does not have: {advice}")]
    Unsupported {
        /// Its name.
        proposal: &'static str,
        /// What to do without it.
        advice: &'static str,
    },
    /// Breaks off, or does not validate.
    #[error("damaged or truncated WebAssembly: {0}")]
    Corrupt(String),
    /// A core module that says nothing of the component model.
    #[error(
        "a core module without a component type: build it with the guest SDK or another wit-bindgen for the worlds of \
         perennial:workflow, and keep its custom sections when stripping it"
    )]
    NoComponentType,
    /// A core module that cannot be encoded as the component that it says it is.
    #[error("a core module that cannot be encoded as a component: {0}")]
    NotEncodable(String),
    /// A component of another world.
    #[error(
        "the component exports neither {} nor {}, but {}: is it a component for another host?",
        v0_1::ORCHESTRATIONS,
        v0_1::ACTIVITIES,
        list(.exports)
    )]
    NoContract {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// A component for a contract that this host does not know.
    #[error(
        "the component exports {export}, a version of the contract that this host does not know; it knows {}",
        v0_1::CONTRACT
    )]
    UnknownContract {
        /// The interface with its version.
        export: String,
    },
    /// A component that exports the right names with the wrong types.
    #[error("the component does not keep contract {}: {problem}", v0_1::CONTRACT)]
    WrongTypes {
        /// Where it differs.
        problem: String,
    },
    /// A component without activities that wants more than a sandbox.
    #[error(
        "the component only has orchestrations, which must not have side effects, but imports {}: move what needs them to an activity",
        list(.imports)
    )]
    Effectful {
        /// The interfaces.
        imports: Vec<String>,
    },
    /// A component that needs something of this host that it does not have.
    #[error("the component cannot be linked: {0}")]
    Unlinkable(String),
    /// A component that traps when it is started or asked what it defines.
    #[error("the component failed while it was asked what it defines: {0}")]
    Failed(String),
    /// A component that defines something that cannot be called.
    #[error("the component's definitions cannot be used: {0}")]
    Definitions(String),
}

impl ModuleError {
    /// Why a component could not be made ready.
    pub(super) fn from_fault(fault: Fault) -> Self {
        match fault {
            Fault::Host(shortage) => Self::Host(shortage),
            Fault::Module(why) | Fault::Instance(why) => Self::Corrupt(why),
        }
    }
}

fn list(names: &[String]) -> String {
    /// A file may have a hundred thousand.
    const SHOWN_MAX: usize = 20;
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let shown: Vec<_> = names
        .iter()
        .take(SHOWN_MAX)
        .map(|name| shortened(name, 200))
        .collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}
