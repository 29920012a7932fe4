//! What a deployment would change: the names that a module defines, their versions, and what it imports.
//!
//! It is computed from what is deployed, without running anything; whether live instances could continue is a check of its own.

use std::collections::BTreeMap;

use perennial::{Definition, DefinitionKind, Module, ModuleInfo, StoredModule};

/// A component that may be deployed under a name: one that was uploaded, or one that is stored.
#[derive(Clone, Debug)]
pub(crate) struct Offered<'a> {
    pub(crate) name: &'a str,
    pub(crate) digest: String,
    pub(crate) contract: &'a str,
    pub(crate) definitions: &'a [Definition],
    pub(crate) imports: &'a [String],
    /// Bytes.
    pub(crate) size: u64,
}

impl<'a> Offered<'a> {
    pub(crate) fn uploaded(module: &'a Module) -> Self {
        Self {
            name: module.name(),
            digest: module.digest().to_string(),
            contract: module.contract(),
            definitions: module.definitions(),
            imports: module.imports(),
            size: u64::try_from(module.size()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn stored(module: &'a StoredModule, name: &'a str) -> Self {
        Self {
            name,
            digest: module.digest.to_string(),
            contract: &module.contract,
            definitions: &module.definitions,
            imports: &module.imports,
            size: module.size,
        }
    }

    /// What is deployed under its name.
    pub(crate) fn before<'b>(&self, deployed: &'b [ModuleInfo]) -> Option<&'b ModuleInfo> {
        deployed.iter().find(|info| info.name == self.name)
    }
}

/// What becomes of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) kind: DefinitionKind,
    pub(crate) name: String,
    pub(crate) change: Change,
    pub(crate) version_before: Option<String>,
    pub(crate) version: Option<String>,
    /// Whether the schema of the input differs.
    pub(crate) new_schema: bool,
}

/// How it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// No module defines it yet.
    New,
    /// The same component is deployed under this name already.
    Unchanged,
    /// Its code changes.
    Updated,
    /// Another module owns it, and would lose it.
    Taken(String),
    /// It could not be started or called any more.
    Dropped,
}

/// What a deployment would change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) names: Vec<Name>,
    pub(crate) imports_added: Vec<String>,
    pub(crate) imports_removed: Vec<String>,
}

impl Changes {
    pub(crate) fn of(offered: &Offered<'_>, deployed: &[ModuleInfo]) -> Self {
        let before = offered.before(deployed);
        let is_same = before.is_some_and(|info| info.digest == offered.digest);
        let imports: &[String] = before.map_or(&[], |info| &info.imports);
        Self {
            names: names(offered.name, offered.definitions, deployed, is_same),
            imports_added: missing(offered.imports, imports),
            imports_removed: missing(imports, offered.imports),
        }
    }

    /// The orchestrations whose live instances a check replays.
    pub(crate) fn orchestrations(&self) -> impl Iterator<Item = &str> {
        let orchestrations = self.names.iter();
        let orchestrations =
            orchestrations.filter(|name| name.kind == DefinitionKind::Orchestration);
        orchestrations.map(|name| name.name.as_str())
    }

    /// The names that the deployment would take from other modules.
    pub(crate) fn taken(&self) -> impl Iterator<Item = &Name> {
        self.names
            .iter()
            .filter(|name| matches!(name.change, Change::Taken(_)))
    }
}

/// What is in the one list and not in the other.
fn missing(of: &[String], others: &[String]) -> Vec<String> {
    of.iter()
        .filter(|one| !others.contains(one))
        .cloned()
        .collect()
}

fn names(
    module: &str,
    defined: &[Definition],
    deployed: &[ModuleInfo],
    is_same: bool,
) -> Vec<Name> {
    let mut owners = BTreeMap::new();
    for info in deployed {
        for definition in &info.definitions {
            owners.insert(
                (definition.kind, definition.name.as_str()),
                (info.name.as_str(), definition),
            );
        }
    }
    let mut names = BTreeMap::new();
    for definition in defined {
        let key = (definition.kind, definition.name.as_str());
        let owner = owners.remove(&key);
        let change = match owner {
            None => Change::New,
            Some((owner, _)) if owner != module => Change::Taken(owner.to_owned()),
            Some(_) if is_same => Change::Unchanged,
            Some(_) => Change::Updated,
        };
        let name = Name {
            kind: definition.kind,
            name: definition.name.clone(),
            change,
            version_before: owner.and_then(|(_, before)| before.version.clone()),
            version: definition.version.clone(),
            new_schema: owner
                .is_some_and(|(_, before)| before.input_schema != definition.input_schema),
        };
        names.insert(key, name);
    }
    // What is left of this module is what the new component does not define.
    for (key, (_, before)) in owners
        .into_iter()
        .filter(|(_, (owner, _))| *owner == module)
    {
        let name = Name {
            kind: before.kind,
            name: before.name.clone(),
            change: Change::Dropped,
            version_before: before.version.clone(),
            version: None,
            new_schema: false,
        };
        names.insert(key, name);
    }
    names.into_values().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(name: &str, version: Option<&str>) -> Definition {
        let value = json!({ "kind": "orchestration", "name": name, "version": version });
        serde_json::from_value(value).unwrap()
    }

    fn info(name: &str, definitions: &[Definition]) -> ModuleInfo {
        let value = json!({
            "name": name, "digest": "aa", "definitions": definitions, "imports": [], "grants": { "dirs": [], "env": [], "httpHosts": [] },
            "deployedTime": "2026-01-01T00:00:00Z", "size": 1,
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_name_is_new_changed_taken_or_dropped() {
        let deployed = [
            info(
                "shop",
                &[definition("Pay", Some("1")), definition("Old", None)],
            ),
            info("bank", &[definition("Move", None)]),
        ];
        let new = [
            definition("Pay", Some("2")),
            definition("Move", None),
            definition("Ask", None),
        ];
        let found = names("shop", &new, &deployed, false);
        let found: Vec<_> = found
            .iter()
            .map(|name| (name.name.as_str(), name.change.clone()))
            .collect();
        let expected = [
            ("Ask", Change::New),
            ("Move", Change::Taken("bank".to_owned())),
            ("Old", Change::Dropped),
            ("Pay", Change::Updated),
        ];
        assert_eq!(found, expected);
        let pay = names("shop", &new, &deployed, false).pop().unwrap();
        assert_eq!(
            (pay.version_before.as_deref(), pay.version.as_deref()),
            (Some("1"), Some("2"))
        );
        let same = names("bank", &[definition("Move", None)], &deployed, true);
        assert_eq!(same[0].change, Change::Unchanged);
    }
}
