//! `perennial inspect`: what a file defines, imports and can be granted. It needs no hub.

use perennial::DefinitionKind;
use serde::Serialize;

use crate::cli::args::Inspect;
use crate::cli::commands::deploy::open;
use crate::cli::commands::modules::{DefinitionJson, names};
use crate::cli::error::Exit;
use crate::cli::output::{Output, bytes};
use crate::cli::session::Session;

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InspectJson<'a> {
    name: &'a str,
    digest: String,
    contract: &'a str,
    size: usize,
    definitions: Vec<DefinitionJson<'a>>,
    imports: &'a [String],
    grantable: Vec<&'static str>,
}

/// What can be granted: an option, and the imports with which a module would use it.
const GRANTABLE: [(&str, &str, &str); 3] = [
    ("directories", "--grant-dir", "wasi:filesystem/"),
    ("environment", "--grant-env", "wasi:cli/environment"),
    ("http", "--grant-http", "wasi:http/"),
];

pub(crate) async fn inspect(args: Inspect, session: &Session) -> anyhow::Result<Exit> {
    let module = tokio::task::spawn_blocking(move || open(&args.file)).await??;
    let output = session.output();
    let grantable = grantable(module.definitions(), module.imports());
    if output.is_json() {
        output.json(&InspectJson {
            name: module.name(),
            digest: module.digest().to_string(),
            contract: module.contract(),
            size: module.size(),
            definitions: module
                .definitions()
                .iter()
                .map(DefinitionJson::from)
                .collect(),
            imports: module.imports(),
            grantable: grantable.iter().map(|(what, _)| *what).collect(),
        })?;
        return Ok(Exit::Ok);
    }
    show(&module, &grantable, output)?;
    Ok(Exit::Ok)
}

fn show(
    module: &perennial::Module,
    grantable: &[(&str, &str)],
    output: &Output,
) -> anyhow::Result<()> {
    let of_kind = |kind| names(module.definitions(), kind);
    let mut fields = vec![
        ("module", output.bold(module.name())),
        (
            "digest",
            format!(
                "{}  {}",
                module.digest().short(),
                output.dim(&bytes(module.size() as u64))
            ),
        ),
        ("contract", module.contract().to_owned()),
    ];
    let may: Vec<String> = grantable
        .iter()
        .map(|(what, option)| format!("{what}, with {option}"))
        .collect();
    let lists = [
        ("orchestrations", of_kind(DefinitionKind::Orchestration)),
        ("activities", of_kind(DefinitionKind::Activity)),
        ("imports", module.imports().to_vec()),
        (
            "can be granted",
            match may {
                none if none.is_empty() => vec!["nothing".to_owned()],
                some => some,
            },
        ),
    ];
    fields.extend(
        lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| (name, list.join("\n"))),
    );
    output.block(&fields)
}

/// What activities could use if they were granted it. Orchestrations are granted nothing, whatever they import.
fn grantable(
    definitions: &[perennial::Definition],
    imports: &[String],
) -> Vec<(&'static str, &'static str)> {
    if !definitions
        .iter()
        .any(|definition| definition.kind == DefinitionKind::Activity)
    {
        return Vec::new();
    }
    GRANTABLE
        .into_iter()
        .filter(|(_, _, interface)| imports.iter().any(|import| import.starts_with(interface)))
        .map(|(what, option, _)| (what, option))
        .collect()
}
