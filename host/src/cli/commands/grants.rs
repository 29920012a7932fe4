//! `perennial grants`: what modules are granted, shown and changed without a deployment.

use std::collections::BTreeMap;

use perennial::{Client, Grants, ModuleInfo};

use super::modules::{GrantsJson, granted};
use crate::cli::args::GrantsArgs;
use crate::cli::error::{Exit, Said};
use crate::cli::output::Output;
use crate::cli::session::Session;

pub(super) async fn grants(args: GrantsArgs, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let given = super::deploy::grants(&args.grants)?;
    let Some(name) = &args.module else {
        if given.is_some() {
            let said = Said::new(Exit::Usage, "there is no module to grant this to");
            return Err(said
                .hint("name it first: perennial grants MODULE --grant-dir DIR")
                .into());
        }
        let all = client.modules().await?;
        return show(&all.iter().collect::<Vec<_>>(), session.output());
    };
    let before = find(&client, name).await?;
    let after = match (args.set, given) {
        (true, given) => Some(given.unwrap_or_default()),
        (false, Some(given)) => Some(added(before.grants.clone(), given)),
        (false, None) => None,
    };
    if let Some(after) = after {
        client.grant(name, &after).await?;
        session
            .output()
            .note(&format!("from the next attempt on, {name} is granted:"));
    }
    show(&[&find(&client, name).await?], session.output())
}

async fn find(client: &Client, name: &str) -> anyhow::Result<ModuleInfo> {
    let modules = client.modules().await?;
    let found = modules.into_iter().find(|module| module.name == name);
    found.ok_or_else(|| {
        let said = Said::new(
            Exit::NotFound,
            format!("there is no module {name:?} in this task hub"),
        );
        said.hint("`perennial modules` lists them").into()
    })
}

/// What there is, and what is given; where both say something of the same thing, what is given.
fn added(mut grants: Grants, given: Grants) -> Grants {
    for dir in given.dirs {
        grants.dirs.retain(|before| before.guest != dir.guest);
        grants.dirs.push(dir);
    }
    for (name, value) in given.env {
        grants.env.retain(|(before, _)| *before != name);
        grants.env.push((name, value));
    }
    for host in given.http_hosts {
        if !grants.http_hosts.contains(&host) {
            grants.http_hosts.push(host);
        }
    }
    grants
}

fn show(modules: &[&ModuleInfo], output: &Output) -> anyhow::Result<Exit> {
    if output.is_json() {
        let json: BTreeMap<&str, GrantsJson<'_>> = modules
            .iter()
            .map(|module| (module.name.as_str(), GrantsJson::from(&module.grants)))
            .collect();
        output.json(&json)?;
        return Ok(Exit::Ok);
    }
    if modules.is_empty() {
        output.note("nothing is deployed in this task hub yet: see `perennial deploy --help`");
        return Ok(Exit::Ok);
    }
    let line = |module: &&ModuleInfo| {
        let lines = granted(&module.grants);
        let lines = if lines.is_empty() {
            "nothing".to_owned()
        } else {
            lines.join("\n")
        };
        (module.name.clone(), lines)
    };
    let fields: Vec<(String, String)> = modules.iter().map(line).collect();
    let fields: Vec<(&str, String)> = fields
        .iter()
        .map(|(name, lines)| (name.as_str(), lines.clone()))
        .collect();
    output.block(&fields)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_added_and_wins() {
        let grants = |env: &[(&str, &str)], hosts: &[&str]| Grants {
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            http_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..Grants::default()
        };
        let before = grants(&[("A", "1"), ("B", "2")], &["a.b"]);
        let given = grants(&[("A", "3")], &["a.b", "c.d"]);
        let after = grants(&[("B", "2"), ("A", "3")], &["a.b", "c.d"]);
        assert_eq!(added(before, given), after);
    }
}
