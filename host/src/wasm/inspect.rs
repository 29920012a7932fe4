//! Inspects a module: its definitions, imports and exports, and whether this host can run it.

use std::collections::BTreeSet;

use perennial_core::bounds::{
    DEFINITIONS, DEFINITIONS_BYTES, DESCRIPTION_BYTES, FAILURE_MESSAGE_BYTES, IMPORTS,
    INPUT_SCHEMA_BYTES, NAME_CHARS,
};
use perennial_core::text::shortened;
use perennial_core::{Digest, check_name, check_readable};
use sha2::{Digest as _, Sha256};
use wasmparser::{BinaryReaderError, Parser, Payload};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::answer::is_json;
use super::contract::{self, Activities, Contract, Orchestrations};
use super::definition::Definition;
use super::guest_log::GuestLog;
use super::interface::Name;
use super::link::{LinkError, link};
use super::module_error::ModuleError;
use super::sandbox::{Sandbox, TIME_OF_DEFINITIONS, Virtual, harmless};
use super::{code, denied, stop};
use crate::engine::executor::Fault;

/// Fuel for instantiating a module and reading its definitions: about a second.
pub(super) const START_FUEL: u64 = 1_000_000_000;

/// Memory limit while a module's definitions are read.
const MEMORY_BYTES: u64 = 64 << 20;

/// An inspected module: the bytes to store, and its definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// The SHA-256 of `component`.
    pub digest: Digest,
    /// The bytes to store: the inspected ones, encoded as a component if necessary.
    pub component: Vec<u8>,
    /// The version of the contract that the module uses.
    pub contract: &'static str,
    /// The orchestrations, in the module's order.
    pub orchestrations: Vec<Definition>,
    /// The activities, in the module's order.
    pub activities: Vec<Definition>,
    /// Names of the imported interfaces, sorted.
    pub imports: Vec<String>,
}

/// The digest that identifies stored bytes.
pub(super) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The names of a component's exports and imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exports {
    /// The contract of the orchestrations that it exports, if it does.
    pub(super) orchestrations: Option<Contract>,
    /// The contract of the activities that it exports, if it does.
    pub(super) activities: Option<Contract>,
    /// Names of the imports.
    pub(super) imports: BTreeSet<String>,
}

impl Exports {
    /// Reads only the names: the rest of the component need not be valid.
    ///
    /// # Errors
    /// [`ModuleError`] if the component belongs to another world.
    pub(super) fn of(component: &[u8]) -> Result<Self, ModuleError> {
        let (exported, imports) = names(component)
            .map_err(|error: BinaryReaderError| ModuleError::Corrupt(format!("{error:#}")))?;
        let exports = Self {
            orchestrations: Contract::among(&exported, Contract::orchestrations),
            activities: Contract::among(&exported, Contract::activities),
            imports,
        };
        if exports.orchestrations.is_some() || exports.activities.is_some() {
            return Ok(exports);
        }
        let bases = [
            Name::of(Contract::V0_2.orchestrations()).base,
            Name::of(Contract::V0_2.activities()).base,
        ];
        if let Some(export) = exported
            .iter()
            .find(|name| bases.contains(&Name::of(name).base))
        {
            return Err(ModuleError::UnknownContract {
                export: export.clone(),
            });
        }
        Err(ModuleError::NoContract { exports: exported })
    }

    /// The contract that a module is shown with: the newer one, if it has orchestrations and activities of two.
    pub(super) fn contract(&self) -> Contract {
        let newest = self.orchestrations.max(self.activities);
        newest.unwrap_or(Contract::V0_1)
    }
}

/// The names of the component's own exports and imports, without those of nested parts.
fn names(component: &[u8]) -> Result<(Vec<String>, BTreeSet<String>), BinaryReaderError> {
    let (mut exports, mut imports, mut depth) = (Vec::new(), BTreeSet::new(), 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.insert(import?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((exports, imports))
}

/// Checks that a component imports only what a host can provide.
///
/// # Errors
/// [`ModuleError`] names the first other import.
pub(super) fn check_imports(exports: &Exports) -> Result<(), ModuleError> {
    let names = || exports.imports.iter().map(|name| Name::of(name));
    if let Some(unknown) = names()
        .find(|name| name.base.starts_with("perennial:") && !contract::is_known_import(*name))
    {
        return Err(ModuleError::Unlinkable(format!(
            "this host has no {}; is it older than the component?",
            unknown.full
        )));
    }
    // The names are stored, listed and printed.
    if let Some(name) = exports.imports.iter().find(|name| name.len() > NAME_CHARS) {
        let name = shortened(name, 200);
        return Err(ModuleError::Unlinkable(format!(
            "the name of the import {name:?} has more than {NAME_CHARS} characters"
        )));
    }
    if exports.imports.len() > IMPORTS {
        let count = exports.imports.len();
        return Err(ModuleError::Unlinkable(format!(
            "it has {count} imports; at most {IMPORTS} are allowed"
        )));
    }
    let effectful: Vec<String> = names()
        .filter(|name| {
            !name.base.starts_with("perennial:") && !harmless(*name) && !denied::answers(*name)
        })
        .map(|name| name.full.to_owned())
        .collect();
    if exports.activities.is_none() && !effectful.is_empty() {
        return Err(ModuleError::Effectful { imports: effectful });
    }
    Ok(())
}

/// Reads the orchestrations and activities that a compiled component defines.
///
/// # Errors
/// [`ModuleError`] if the component does not return them, or if they are invalid.
pub(super) fn definitions(
    engine: &Engine,
    component: &Component,
    exports: &Exports,
) -> Result<(Vec<Definition>, Vec<Definition>), ModuleError> {
    let (orchestrations, activities) = ask(engine, component, exports)?;
    check_definitions("orchestration", &orchestrations)?;
    check_definitions("activity", &activities)?;
    if orchestrations.is_empty() && activities.is_empty() {
        return Err(ModuleError::Definitions("there are none".to_owned()));
    }
    Ok((orchestrations, activities))
}

fn ask(
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
        .map_err(|error| match code::fault(&error) {
            Fault::Host(shortage) => ModuleError::Host(shortage),
            Fault::Module(why) | Fault::Instance(why) => ModuleError::Unlinkable(why),
        })?;
    let log = GuestLog::keeping("definitions");
    let sandbox = Sandbox::new(TIME_OF_DEFINITIONS, log, MEMORY_BYTES);
    let mut store = sandbox
        .into_store(engine, START_FUEL)
        .map_err(|error| ModuleError::Failed(error.to_string()))?;

    let instance = pre
        .instantiate(&mut store)
        .map_err(|error| failed(&mut store, &error))?;
    let wrong_types = |contract: Contract, error: wasmtime::Error| ModuleError::WrongTypes {
        contract: contract.version(),
        problem: format!("{error:#}"),
    };
    let mut found = (Vec::new(), Vec::new());
    if let Some(contract) = exports.orchestrations {
        let orchestrations = Orchestrations::of(contract, &mut store, &instance)
            .map_err(|error| wrong_types(contract, error))?;
        found.0 = orchestrations
            .definitions(&mut store)
            .map_err(|error| failed(&mut store, &error))?;
    }
    if let Some(contract) = exports.activities {
        let activities = Activities::of(contract, &mut store, &instance)
            .map_err(|error| wrong_types(contract, error))?;
        found.1 = activities
            .definitions(&mut store)
            .map_err(|error| failed(&mut store, &error))?;
    }
    Ok(found)
}

fn failed(store: &mut Store<Sandbox>, error: &wasmtime::Error) -> ModuleError {
    if let Fault::Host(shortage) = code::fault(error) {
        return ModuleError::Host(shortage);
    }
    let sandbox = store.data_mut();
    let failure = stop::failure_of(error, &mut sandbox.log, &sandbox.limiter);
    let mut said = shortened(&failure.to_string(), FAILURE_MESSAGE_BYTES).into_owned();
    if let Some(written) = sandbox.log.take_kept() {
        said.push_str("; it wrote: ");
        said.push_str(&written);
    }
    ModuleError::Failed(said)
}

/// Checks a module's definitions before they are stored: from then on they are listed, printed and logged.
fn check_definitions(what: &str, definitions: &[Definition]) -> Result<(), ModuleError> {
    let refuse = |message: String| Err(ModuleError::Definitions(message));
    if definitions.len() > DEFINITIONS {
        let defined = definitions.len();
        return refuse(format!(
            "it defines {defined}; at most {DEFINITIONS} are allowed"
        ));
    }
    let bytes: usize = definitions.iter().map(Definition::size).sum();
    if bytes > DEFINITIONS_BYTES {
        return refuse(format!(
            "the names, versions, descriptions and schemas have {bytes} bytes; at most {DEFINITIONS_BYTES} are allowed"
        ));
    }
    let mut names = BTreeSet::new();
    for definition in definitions {
        let name = &*shortened(&definition.name, 200);
        if let Err(problem) = check_name(&definition.name, NAME_CHARS) {
            return refuse(format!("the name {name:?} of an {what} {problem}"));
        }
        if let Some(Err(problem)) = definition
            .version
            .as_deref()
            .map(|version| check_name(version, NAME_CHARS))
        {
            return refuse(format!("the version of {what} {name:?} {problem}"));
        }
        if !names.insert(&definition.name) {
            return refuse(format!("the {what} {name:?} is defined twice"));
        }
        let (description, schema) = (&definition.description, &definition.input_schema);
        let parts = [
            ("description", description, DESCRIPTION_BYTES),
            ("input schema", schema, INPUT_SCHEMA_BYTES),
        ];
        for (part, text, max) in parts {
            let bytes = text.as_ref().map_or(0, String::len);
            if bytes > max {
                return refuse(format!(
                    "the {part} of {what} {name:?} has {bytes} bytes; at most {max} are allowed"
                ));
            }
        }
        if schema.as_deref().is_some_and(|schema| !is_json(schema)) {
            return refuse(format!("the input schema of {what} {name:?} is not JSON"));
        }
        if let Some(Err(deep)) = schema.as_deref().map(check_readable) {
            return refuse(format!("the input schema of {what} {name:?} has {deep}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A definition with the maximum size.
    fn large() -> Definition {
        Definition {
            name: "Größe".repeat(51),
            version: Some("1".repeat(256)),
            description: Some("x".repeat(16 << 10)),
            input_schema: Some(format!("{:?}", "x".repeat((256 << 10) - 2))),
        }
    }

    #[test]
    fn what_a_module_says_of_itself_is_bounded() {
        let fine = large();
        let check = |definition: Definition| {
            let checked = check_definitions("activity", &[definition]);
            checked.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
        };
        assert_eq!(check(fine.clone()), "fine");
        let unusable = "the component's definitions cannot be used:";
        let named = |name: &str| {
            let (name, description) = (name.to_owned(), None);
            check(Definition {
                name,
                description,
                ..fine.clone()
            })
        };
        let pay = |set: &dyn Fn(&mut Definition)| {
            let mut pay = fine.clone();
            pay.name = "Pay".to_owned();
            set(&mut pay);
            check(pay)
        };
        let cases = [
            (named(""), "the name \"\" of an activity must not be empty"),
            (
                named("a\u{1b}[2J"),
                "the name \"a\\u{1b}[2J\" of an activity must not contain '\\u{1b}'",
            ),
            (
                named("a\u{202e}b"),
                "the name \"a\\u{202e}b\" of an activity must not contain '\\u{202e}'",
            ),
            (
                pay(&|pay| pay.version = Some("1".repeat(257))),
                "the version of activity \"Pay\" has at most 256 characters, this one has 257",
            ),
            (
                pay(&|pay| pay.description = Some("x".repeat((16 << 10) + 1))),
                "the description of activity \"Pay\" has 16385 bytes; at most 16384 are allowed",
            ),
            (
                pay(&|pay| pay.input_schema = Some("1".repeat((256 << 10) + 1))),
                "the input schema of activity \"Pay\" has 262145 bytes; at most 262144 are allowed",
            ),
            (
                pay(&|pay| pay.input_schema = Some("[".repeat(129) + &"]".repeat(129))),
                "the input schema of activity \"Pay\" has arrays and objects nested deeper",
            ),
        ];
        for (said, expected) in cases {
            assert!(
                said.starts_with(&format!("{unusable} {expected}")),
                "{said}"
            );
        }
        let huge = named(&"x".repeat(1 << 20));
        assert!(
            huge.len() < 500 && huge.contains("this one has 1048576"),
            "{huge}"
        );
        let many: Vec<_> = (0..40)
            .map(|i| Definition {
                name: format!("A{i}"),
                ..fine.clone()
            })
            .collect();
        let all = check_definitions("activity", &many)
            .unwrap_err()
            .to_string();
        assert!(all.contains("at most 8388608 are allowed"), "{all}");
    }
}
