//! What a module says about itself, and whether this host can run it.

use std::collections::BTreeSet;

use perennial_core::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::answer::is_json;
use super::guest_log::GuestLog;
use super::link::{LinkError, Name, link};
use super::module::MODULE_BYTES_MAX;
use super::sandbox::{Sandbox, Virtual, harmless};
use super::{stop, v0_1};

/// Fuel for starting a module and asking it what it defines: about a second.
pub(super) const START_FUEL: u64 = 1_000_000_000;

/// Memory for asking a module what it defines.
const MEMORY_BYTES: u64 = 64 << 20;

/// Names of one kind that a module may define.
const DEFINITIONS_MAX: usize = 10_000;

/// A module as it is stored, and what it defines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// The SHA-256 of `component`.
    pub digest: Digest,
    /// The bytes to store: those that were inspected, encoded as a component if they were not one.
    pub component: Vec<u8>,
    /// Version of the contract that it was built for.
    pub contract: &'static str,
    /// Its orchestrations, in the module's order.
    pub orchestrations: Vec<Definition>,
    /// Its activities, in the module's order.
    pub activities: Vec<Definition>,
    /// Names of the interfaces that it imports, sorted.
    pub imports: Vec<String>,
}

/// An orchestration or an activity that a module defines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definition {
    /// What it is called by. Not empty, and no other of its kind in the module has it.
    pub name: String,
    /// Its version, where it has one. Activities have none.
    pub version: Option<String>,
    /// What it does, for people.
    pub description: Option<String>,
    /// JSON Schema of its input.
    pub input_schema: Option<String>,
}

/// Why a file is not a module that this host can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// Over [`MODULE_BYTES_MAX`].
    #[error("a module of {bytes} bytes: the limit is {MODULE_BYTES_MAX} bytes")]
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
    /// Breaks off, does not validate, or uses a WebAssembly feature that hosts of this version do not have.
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

/// Checks a compiled component and asks it what it defines.
pub(super) fn inspect(
    engine: &Engine,
    bytes: Vec<u8>,
    component: &Component,
) -> Result<Inspected, ModuleError> {
    let exports = Exports::of(engine, component)?;
    let imports: BTreeSet<String> = component
        .component_type()
        .imports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    check_imports(&imports, exports.activities)?;

    let (orchestrations, activities) = definitions(engine, component, &exports)?;
    check_definitions("orchestration", &orchestrations)?;
    check_definitions("activity", &activities)?;
    if orchestrations.is_empty() && activities.is_empty() {
        return Err(ModuleError::Definitions("there are none".to_owned()));
    }
    Ok(Inspected {
        digest: digest(&bytes),
        component: bytes,
        contract: v0_1::CONTRACT,
        orchestrations,
        activities,
        imports: imports.into_iter().collect(),
    })
}

/// Names stored bytes.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Which interfaces of the contract a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exports {
    pub(super) orchestrations: bool,
    pub(super) activities: bool,
}

impl Exports {
    fn of(engine: &Engine, component: &Component) -> Result<Self, ModuleError> {
        let ty = component.component_type();
        let exported: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
        let has = |interface| {
            let interface = Name::of(interface);
            exported
                .iter()
                .map(|name| Name::of(name))
                .any(|name| name.base == interface.base && name.track() == interface.track())
        };
        let exports = Self {
            orchestrations: has(v0_1::ORCHESTRATIONS),
            activities: has(v0_1::ACTIVITIES),
        };
        if exports.orchestrations || exports.activities {
            return Ok(exports);
        }
        let bases = [
            Name::of(v0_1::ORCHESTRATIONS).base,
            Name::of(v0_1::ACTIVITIES).base,
        ];
        if let Some(export) = exported
            .iter()
            .find(|name| bases.contains(&Name::of(name).base))
        {
            return Err(ModuleError::UnknownContract {
                export: (*export).to_owned(),
            });
        }
        Err(ModuleError::NoContract {
            exports: exported.into_iter().map(str::to_owned).collect(),
        })
    }
}

fn check_imports(imports: &BTreeSet<String>, activities: bool) -> Result<(), ModuleError> {
    let names = || imports.iter().map(|name| Name::of(name));
    if let Some(unknown) =
        names().find(|name| name.base.starts_with("perennial:") && !v0_1::is_known_import(*name))
    {
        return Err(ModuleError::Unlinkable(format!(
            "this host has no {}; is it older than the component?",
            unknown.full
        )));
    }
    let effectful: Vec<String> = names()
        .filter(|name| !name.base.starts_with("perennial:") && !harmless(*name))
        .map(|name| name.full.to_owned())
        .collect();
    if !activities && !effectful.is_empty() {
        return Err(ModuleError::Effectful { imports: effectful });
    }
    Ok(())
}

fn definitions(
    engine: &Engine,
    component: &Component,
    exports: &Exports,
) -> Result<(Vec<Definition>, Vec<Definition>), ModuleError> {
    let mut linker = Linker::new(engine);
    link(&mut linker, component, &Virtual).map_err(|error| match error {
        LinkError::NotAFunction(..) => ModuleError::Unlinkable(error.to_string()),
        LinkError::Wasmtime(error) => ModuleError::Unlinkable(format!("{error:#}")),
    })?;
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| ModuleError::Unlinkable(format!("{error:#}")))?;
    let sandbox = Sandbox::new(GuestLog::new("definitions"), MEMORY_BYTES);
    let mut store = sandbox
        .into_store(engine, START_FUEL)
        .map_err(|error| ModuleError::Failed(error.to_string()))?;

    let instance = pre
        .instantiate(&mut store)
        .map_err(|error| failed(&mut store, &error))?;
    let wrong_types = |error: wasmtime::Error| ModuleError::WrongTypes {
        problem: format!("{error:#}"),
    };
    let mut found = (Vec::new(), Vec::new());
    if exports.orchestrations {
        let orchestrations =
            v0_1::Orchestrations::of(&mut store, &instance).map_err(wrong_types)?;
        found.0 = orchestrations
            .definitions(&mut store)
            .map_err(|error| failed(&mut store, &error))?;
    }
    if exports.activities {
        let activities = v0_1::Activities::of(&mut store, &instance).map_err(wrong_types)?;
        found.1 = activities
            .definitions(&mut store)
            .map_err(|error| failed(&mut store, &error))?;
    }
    Ok(found)
}

fn failed(store: &mut Store<Sandbox>, error: &wasmtime::Error) -> ModuleError {
    let sandbox = store.data_mut();
    ModuleError::Failed(stop::failure_of(error, &mut sandbox.log, &sandbox.limiter).to_string())
}

fn check_definitions(what: &str, definitions: &[Definition]) -> Result<(), ModuleError> {
    if definitions.len() > DEFINITIONS_MAX {
        let message = format!("more than {DEFINITIONS_MAX} of one kind");
        return Err(ModuleError::Definitions(message));
    }
    let mut names = BTreeSet::new();
    for definition in definitions {
        let name = &definition.name;
        if name.is_empty() {
            return Err(ModuleError::Definitions(format!(
                "an {what} has an empty name"
            )));
        }
        if !names.insert(name) {
            return Err(ModuleError::Definitions(format!(
                "the {what} {name:?} is defined twice"
            )));
        }
        if definition
            .input_schema
            .as_deref()
            .is_some_and(|schema| !is_json(schema))
        {
            return Err(ModuleError::Definitions(format!(
                "the input schema of {what} {name:?} is not JSON"
            )));
        }
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}
