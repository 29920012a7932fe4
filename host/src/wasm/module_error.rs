//! Why a file is not a module that this host can run.

use perennial_core::text::shortened;

use super::contract::Contract;
use crate::engine::executor::{Fault, Shortage};
use crate::limits::COMPONENT_BYTES;

/// Why a file is not a module that this host can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The file is larger than [`MODULE_BYTES_MAX`](super::MODULE_BYTES_MAX).
    #[error("a module of {bytes} bytes: the limit is {COMPONENT_BYTES} bytes")]
    TooLarge {
        /// The size of the file.
        bytes: usize,
    },
    /// The module exceeds the bounds of compilation, with the exceeded bound.
    #[error("a module that would take too long to compile: {0}")]
    TooComplex(String),
    /// The file is not WebAssembly, with a description of what it looks like.
    #[error("not a WebAssembly file: {0}")]
    NotWasm(String),
    /// WebAssembly of an unknown version or layer, with those four bytes.
    #[error("unknown WebAssembly format ({}): neither a component nor a core module of version 1", hex(.0))]
    UnknownWasm([u8; 4]),
    /// The host lacked a resource to inspect the module; nothing is known about it.
    #[error("the module could not be looked at: {0}")]
    Host(#[source] Shortage),
    /// The module uses a WebAssembly proposal that this version does not support.
    #[error("the module uses {proposal}, which this host does not have: {advice}")]
    Unsupported {
        /// The common name of the proposal.
        proposal: &'static str,
        /// How to build without it.
        advice: &'static str,
    },
    /// The file is truncated, or fails validation.
    #[error("damaged or truncated WebAssembly: {0}")]
    Corrupt(String),
    /// A core module without a component type section.
    #[error(
        "a core module without a component type: build it with the guest SDK or another wit-bindgen for the worlds of \
         perennial:workflow, and keep its custom sections when stripping it"
    )]
    NoComponentType,
    /// A core module that does not fit its component type.
    #[error("a core module that cannot be encoded as a component: {0}")]
    NotEncodable(String),
    /// A component of another world.
    #[error(
        "the component exports neither {} nor {}, but {}: is it a component for another host?",
        Contract::V0_2.orchestrations(),
        Contract::V0_2.activities(),
        list(.exports)
    )]
    NoContract {
        /// The component's actual exports.
        exports: Vec<String>,
    },
    /// A component for a version of the contract that this host does not know.
    #[error(
        "the component exports {export}, a version of the contract that this host does not know; it knows {} and {}",
        Contract::V0_1.version(),
        Contract::V0_2.version()
    )]
    UnknownContract {
        /// The interface with its version.
        export: String,
    },
    /// A component whose exports have the right names but wrong types.
    #[error("the component does not keep contract {contract}: {problem}")]
    WrongTypes {
        /// The version of the contract.
        contract: &'static str,
        /// The difference.
        problem: String,
    },
    /// A component without activities that imports interfaces with side effects.
    #[error(
        "the component only has orchestrations, which must not have side effects, but imports {}: move what needs them to an activity",
        list(.imports)
    )]
    Effectful {
        /// The interfaces.
        imports: Vec<String>,
    },
    /// A component with an import that this host cannot satisfy.
    #[error("the component cannot be linked: {0}")]
    Unlinkable(String),
    /// A component that traps when it is instantiated or asked for its definitions.
    #[error("the component failed while it was asked what it defines: {0}")]
    Failed(String),
    /// A component with invalid definitions.
    #[error("the component's definitions cannot be used: {0}")]
    Definitions(String),
}

impl ModuleError {
    /// Converts the fault of a component that could not be prepared.
    pub(super) fn from_fault(fault: Fault) -> Self {
        match fault {
            Fault::Host(shortage) => Self::Host(shortage),
            Fault::Module(why) | Fault::Instance(why) => Self::Corrupt(why),
        }
    }
}

fn list(names: &[String]) -> String {
    /// A file may export a hundred thousand names.
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
