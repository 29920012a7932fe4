//! `perennial inspect`: what a file defines, imports and can be granted. It needs no hub.

use perennial::DefinitionKind;
use serde::Serialize;

use crate::args::Inspect;
use crate::commands::definitions::{DefinitionJson, names};
use crate::commands::deploy::open_here;
use crate::error::Exit;
use crate::format::bytes;
use crate::output::Output;
use crate::session::Session;

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
const GRANTABLE: [(&str, &str, &str); 2] = [
    ("directories", "--grant-dir", "wasi:filesystem/"),
    ("environment", "--grant-env", "wasi:cli/environment"),
];

pub(crate) async fn inspect(args: Inspect, session: &Session) -> anyhow::Result<Exit> {
    let module = open_here(args.file, session).await?;
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

/// What the module could use if it was granted it: its activities what they import, its orchestrations calls of the activity `http`, which
/// comes with the host.
fn grantable(
    definitions: &[perennial::Definition],
    imports: &[String],
) -> Vec<(&'static str, &'static str)> {
    let defines = |kind| definitions.iter().any(|definition| definition.kind == kind);
    let imported = GRANTABLE.into_iter().filter(|(_, _, interface)| {
        defines(DefinitionKind::Activity)
            && imports.iter().any(|import| import.starts_with(interface))
    });
    let http = defines(DefinitionKind::Orchestration).then_some(("http", "--allow-http"));
    imported
        .map(|(what, option, _)| (what, option))
        .chain(http)
        .collect()
}
