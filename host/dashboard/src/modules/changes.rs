//! What a deployment would change: the names that a module defines, their versions, and what it imports.
//!
//! It is computed from what is deployed, without running anything; whether live instances could continue is a check of its own.

use std::collections::BTreeMap;

use perennial::{Definition, DefinitionKind, Module, ModuleInfo};

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
    pub(crate) fn of(module: &Module, deployed: &[ModuleInfo]) -> Self {
        let before = deployed.iter().find(|info| info.name == module.name());
        let is_same = before.is_some_and(|info| info.digest == module.digest().to_string());
        let imports: &[String] = before.map_or(&[], |info| &info.imports);
        Self {
            names: names(module.name(), module.definitions(), deployed, is_same),
            imports_added: missing(module.imports(), imports),
            imports_removed: missing(imports, module.imports()),
        }
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
