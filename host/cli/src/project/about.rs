//! `perennial completions` and `perennial man`: shell completions and manual pages.

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Cli, Completions, Man};
use crate::error::Exit;
use crate::session::Session;

pub(crate) fn completions(args: &Completions, session: &Session) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "perennial", &mut script);
    let script = String::from_utf8(script).context("a script of clap's is no text")?;
    session.output().line(script.trim_end())?;
    Ok(Exit::Ok)
}

pub(crate) fn man(args: &Man, session: &Session) -> anyhow::Result<Exit> {
    let dir = args.dir.display();
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir))
        .with_context(|| format!("could not write the manual to {dir}"))?;
    let entries = std::fs::read_dir(&args.dir).with_context(|| format!("could not read {dir}"))?;
    let mut files: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.starts_with("perennial") && name.ends_with(".1"))
        .collect();
    files.sort();
    let output = session.output();
    if output.is_json() {
        output.json(&serde_json::json!({ "dir": args.dir, "files": files }))?;
    } else {
        output.line(&files.join("\n"))?;
        output.note(&format!("read it with: man -l {dir}/perennial.1"));
    }
    Ok(Exit::Ok)
}
