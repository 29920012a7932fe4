//! `perennial modules`.

use perennial::{DefinitionKind, DirGrant, Grants, ModuleInfo, ModuleLimits};
use serde::Serialize;

use super::definitions::{DefinitionJson, names};
use crate::args::{Modules, ModulesVerb};
use crate::error::Exit;
use crate::format::bytes;
use crate::output::Output;
use crate::session::Session;

/// Digits of a digest that tell modules apart for people.
const DIGEST_DIGITS: usize = 12;

pub(super) async fn modules(args: Modules, session: &Session) -> anyhow::Result<Exit> {
    if args.gc {
        return super::collect::collect(&args, session).await;
    }
    match args.verb {
        Some(ModulesVerb::Remove(args)) => super::collect::remove(args, session).await,
        Some(ModulesVerb::Save(args)) => super::stored::save(args, session).await,
        None if args.stored => super::stored::list(session).await,
        None => list(session).await,
    }
}

async fn list(session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let modules = session.client()?.modules().await?;
    if output.is_json() {
        output.json(&modules.iter().map(ModuleJson::from).collect::<Vec<_>>())?;
    } else if modules.is_empty() {
        output.note("nothing is deployed in this task hub yet: see `perennial deploy --help`");
    }
    if !output.is_json() {
        for (i, module) in modules.iter().enumerate() {
            if i > 0 {
                output.line("")?;
            }
            show(module, output)?;
        }
    }
    Ok(Exit::Ok)
}

/// A block for each module: what modules define and are granted does not fit into the columns of one table.
fn show(module: &ModuleInfo, output: &Output) -> anyhow::Result<()> {
    let digest: String = module.digest.chars().take(DIGEST_DIGITS).collect();
    let deployed: String = module
        .deployed_time
        .chars()
        .take("2026-01-31T12:00:00".len())
        .collect();
    let mut fields = vec![
        ("module", output.bold(&module.name)),
        (
            "digest",
            format!("{digest}  {}", output.dim(&bytes(module.size))),
        ),
        ("deployed", format!("{} UTC", deployed.replace('T', " "))),
    ];
    let lists = [
        (
            "orchestrations",
            names(&module.definitions, DefinitionKind::Orchestration),
        ),
        (
            "activities",
            names(&module.definitions, DefinitionKind::Activity),
        ),
        ("imports", outward(&module.imports)),
        ("granted", granted(&module.grants)),
        ("limits", limits(&module.limits)),
    ];
    if module.definitions.is_empty() {
        fields.push((
            "names",
            "none: other modules have taken over all that it had".to_owned(),
        ));
    }
    fields.extend(
        lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| (name, list.join("\n"))),
    );
    output.block(&fields)
}

/// The imports that reach outside the sandbox, in short: `filesystem`, `http`.
fn outward(imports: &[String]) -> Vec<String> {
    const OUTWARD: [&str; 4] = [
        "wasi:filesystem",
        "wasi:sockets",
        "wasi:http",
        "wasi:cli/environment",
    ];
    let found = OUTWARD
        .into_iter()
        .filter(|reach| imports.iter().any(|import| import.starts_with(reach)));
    let names: Vec<&str> = found
        .map(|reach| reach.rsplit([':', '/']).next().unwrap_or(reach))
        .collect();
    if names.is_empty() {
        Vec::new()
    } else {
        vec![names.join(", ")]
    }
}

/// The grants, a line each.
pub(super) fn granted(grants: &Grants) -> Vec<String> {
    let dir = |dir: &DirGrant| {
        let access = if dir.writable {
            "read and write"
        } else {
            "read"
        };
        format!("{access} {} as {}", dir.host.display(), dir.guest)
    };
    // A value may be a secret; its name is enough to know what is granted.
    let env = grants
        .env
        .iter()
        .map(|(name, _)| format!("see the variable {name}"));
    let http = grants
        .http_hosts
        .iter()
        .map(|host| format!("send HTTP requests to {host}"));
    grants.dirs.iter().map(dir).chain(env).chain(http).collect()
}

/// The module's own limits, if it has any.
fn limits(limits: &ModuleLimits) -> Vec<String> {
    let fuel = limits.fuel.map(|fuel| format!("{fuel} fuel for a turn"));
    let memory = limits
        .memory_bytes
        .map(|memory| format!("{} of memory", bytes(memory)));
    fuel.into_iter().chain(memory).collect()
}

/// What `--json` prints. A type of its own: scripts rely on it, and it leaves the values of variables out, which may be secrets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ModuleJson<'a> {
    name: &'a str,
    digest: &'a str,
    definitions: Vec<DefinitionJson<'a>>,
    imports: &'a [String],
    grants: GrantsJson<'a>,
    limits: ModuleLimits,
    deployed_time: &'a str,
    size: u64,
}

/// What is granted, for programs. A type of its own for the same reasons.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrantsJson<'a> {
    dirs: &'a [DirGrant],
    env: Vec<&'a str>,
    http_hosts: &'a [String],
}

impl<'a> From<&'a Grants> for GrantsJson<'a> {
    fn from(grants: &'a Grants) -> Self {
        Self {
            dirs: &grants.dirs,
            env: grants.env.iter().map(|(name, _)| name.as_str()).collect(),
            http_hosts: &grants.http_hosts,
        }
    }
}

impl<'a> From<&'a ModuleInfo> for ModuleJson<'a> {
    fn from(module: &'a ModuleInfo) -> Self {
        Self {
            name: &module.name,
            digest: &module.digest,
            definitions: module
                .definitions
                .iter()
                .map(DefinitionJson::from)
                .collect(),
            imports: &module.imports,
            grants: GrantsJson::from(&module.grants),
            limits: module.limits,
            deployed_time: &module.deployed_time,
            size: module.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_that_matter_reach_outside() {
        let imports = [
            "perennial:workflow/logging@0.1.0",
            "wasi:cli/environment@0.2.6",
            "wasi:cli/exit@0.2.6",
            "wasi:filesystem/types@0.2.6",
        ];
        assert_eq!(
            outward(&imports.map(str::to_owned)),
            ["filesystem, environment"]
        );
    }
}
