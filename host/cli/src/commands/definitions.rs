//! How definitions of modules are printed.

use perennial::{Definition, DefinitionKind};
use serde::Serialize;
use serde_json::value::RawValue;

/// The definitions of a kind, a line each.
pub(crate) fn names(definitions: &[Definition], kind: DefinitionKind) -> Vec<String> {
    let of_kind = definitions
        .iter()
        .filter(|definition| definition.kind == kind);
    let line = |definition: &Definition| {
        let version = definition
            .version
            .as_ref()
            .map(|version| format!(" {version}"))
            .unwrap_or_default();
        let description = definition
            .description
            .as_ref()
            .map(|text| format!(": {text}"))
            .unwrap_or_default();
        format!("{}{version}{description}", definition.name)
    };
    of_kind.map(line).collect()
}

/// What `--json` prints of a definition.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DefinitionJson<'a> {
    kind: DefinitionKind,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<&'a RawValue>,
}

impl<'a> From<&'a Definition> for DefinitionJson<'a> {
    fn from(definition: &'a Definition) -> Self {
        Self {
            kind: definition.kind,
            name: &definition.name,
            version: definition.version.as_deref(),
            description: definition.description.as_deref(),
            input_schema: definition
                .input_schema
                .as_deref()
                .and_then(|schema| serde_json::from_str(schema).ok()),
        }
    }
}
