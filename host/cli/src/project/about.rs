//! `perennial completions` and `perennial man`: shell completions and manual pages.

use std::io;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Cli, Completions, Man};
use crate::error::Exit;
use crate::session::Session;

/// Variables of the environment that stand in for options.
const VARIABLES: [(&str, &str); 7] = [
    (
        "PERENNIAL_DATA_DIR",
        "Directory that the task hubs are in: --data-dir",
    ),
    ("PERENNIAL_TASK_HUB", "Task hub: --task-hub"),
    (
        "PERENNIAL_URL",
        "Address of a running host that commands are sent to: --url",
    ),
    (
        "PERENNIAL_KEY",
        "Key of the task hub, for commands that are sent to a host that requires one",
    ),
    ("PERENNIAL_LISTEN", "Where serve listens: --listen"),
    ("PERENNIAL_LOG", "What serve, run and dev log: --log"),
    (
        "NO_COLOR",
        "Where it is set and not empty, nothing is coloured",
    ),
];

pub(crate) fn completions(args: &Completions, session: &Session) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "perennial", &mut script);
    let script = String::from_utf8(script).context("a script of clap's is no text")?;
    session.output().line(script.trim_end())?;
    Ok(Exit::Ok)
}

pub(crate) fn man(args: &Man, session: &Session) -> anyhow::Result<Exit> {
    let dir = args.dir.display();
    let mut command = Cli::command();
    command.build();
    let mut files = Vec::new();
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| write_pages(&command, &args.dir, &mut files))
        .with_context(|| format!("could not write the manual to {dir}"))?;
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

/// Writes the page of a command and those of the commands below it, and adds their names.
fn write_pages(command: &clap::Command, dir: &Path, files: &mut Vec<String>) -> io::Result<()> {
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        write_pages(below, dir, files)?;
    }
    let file = clap_mangen::Man::new(command.clone()).get_filename();
    std::fs::write(dir.join(&file), page(command)?)?;
    files.push(file);
    Ok(())
}

/// The manual page of a command, as roff.
fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let help = command.get_after_long_help().or(command.get_after_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let mut closing = Roff::new();
    for (heading, body) in sections(&help) {
        closing.control("SH", [heading]);
        // What is typed or parsed is shown as it is, and no line of it is filled or broken.
        let as_it_is = body.starts_with(' ');
        if as_it_is {
            closing.control("nf", []);
        }
        closing.text([roman(body)]);
        if as_it_is {
            closing.control("fi", []);
        }
    }
    closing.control("SH", ["ENVIRONMENT"]);
    for (name, what) in VARIABLES {
        closing.control("TP", []);
        closing.text([bold(name)]);
        closing.text([roman(what)]);
    }
    closing.to_writer(&mut page)?;
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

/// The closing text of a help as sections with headings of manual pages.
fn sections(help: &str) -> Vec<(&'static str, &str)> {
    const HEADINGS: [(&str, &str); 5] = [
        ("Examples:", "EXAMPLES"),
        ("Exit codes:", "EXIT STATUS"),
        ("JSON:", "JSON"),
        ("Stdout:", "STDOUT"),
        ("", "NOTES"),
    ];
    let paragraphs = help.split("\n\n").filter(|text| !text.trim().is_empty());
    let named = paragraphs.map(|text| {
        let is_heading = |(begins, _): &&(&str, &str)| text.starts_with(begins);
        let (begins, heading) = HEADINGS.iter().find(is_heading).unwrap_or(&HEADINGS[4]);
        let body = text.strip_prefix(begins).unwrap_or(text);
        let body = body.strip_prefix('\n').unwrap_or_else(|| body.trim_start());
        (*heading, body)
    });
    named.collect()
}
