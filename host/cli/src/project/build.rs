//! `perennial build`: compiles a guest project to a component.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use perennial::Module;
use serde::Deserialize;
use serde::Serialize;

use crate::args::Build;
use crate::error::{CliError, Exit};
use crate::format::{bytes, count};
use crate::session::Session;

use super::toolchain;

/// How guests are compiled: small, quick to load, and with the panic hook as their only way to report a panic. A project need not know it.
const PROFILE: [&str; 11] = [
    "profile.guest.inherits=\"release\"",
    "profile.guest.opt-level=3",
    "profile.guest.lto=true",
    "profile.guest.codegen-units=1",
    "profile.guest.panic=\"abort\"",
    "profile.guest.strip=true",
    "profile.guest.debug=false",
    "profile.guest.debug-assertions=false",
    "profile.guest.overflow-checks=true",
    "profile.guest.package.\"*\".debug=false",
    "profile.guest.package.\"*\".debug-assertions=false",
];

/// Dependencies do not check; a profile key of its own, as in the repository, so that both share what is compiled.
const PROFILE_DEPENDENCIES: &str = "profile.guest.package.\"*\".overflow-checks=false";

/// A component that was built.
pub(super) struct Built {
    pub(super) file: PathBuf,
    pub(super) module: Module,
}

#[derive(Serialize)]
struct BuiltJson<'a> {
    name: &'a str,
    file: String,
    digest: String,
    size: usize,
}

pub(crate) async fn build(args: Build, session: &Session) -> anyhow::Result<Exit> {
    let data_dir = session.data_dir().to_owned();
    let built = tokio::task::spawn_blocking(move || compile(&args.dir, &data_dir)).await??;
    let output = session.output();
    if output.is_json() {
        let json = built.iter().map(|built| BuiltJson {
            name: built.module.name(),
            file: built.file.display().to_string(),
            digest: built.module.digest().to_string(),
            size: built.module.size(),
        });
        output.json(&json.collect::<Vec<_>>())?;
        return Ok(Exit::Ok);
    }
    for built in &built {
        output.line(&built.file.display().to_string())?;
        output.note(&format!(
            "{}: {}, {}",
            built.module.name(),
            count(built.module.definitions().len() as u64, "definition"),
            bytes(built.module.size() as u64)
        ));
    }
    Ok(Exit::Ok)
}

/// Compiles a project, and looks at what came of it, with what is compiled in a data directory already. Cargo tells on stderr how it goes.
pub(super) fn compile(dir: &Path, data_dir: &Path) -> anyhow::Result<Vec<Built>> {
    if !dir.join("Cargo.toml").is_file() {
        let said = CliError::new(
            Exit::NotFound,
            format!(
                "there is no project in {}: it has no Cargo.toml",
                dir.display()
            ),
        );
        return Err(said.hint("`perennial new NAME` makes one").into());
    }
    let toolchain = toolchain::find(dir)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--profile", "guest", "--target", toolchain.target])
        .args(toolchain.args)
        .arg("--message-format=json-render-diagnostics")
        .envs(toolchain.env.iter().map(|(name, value)| (name, value)))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for key in PROFILE.iter().chain([&PROFILE_DEPENDENCIES]) {
        cargo.args(["--config", key]);
    }
    let mut cargo = cargo.spawn().context("could not run cargo")?;
    let messages = cargo.stdout.take().map(BufReader::new);
    let files = messages
        .map(files_of)
        .transpose()
        .context("could not read the output of cargo")?;
    if !cargo.wait().context("could not wait for cargo")?.success() {
        return Err(CliError::new(
            Exit::Error,
            format!(
                "{} does not compile; the output of cargo above says why",
                dir.display()
            ),
        )
        .into());
    }
    let files = files.unwrap_or_default();
    if files.is_empty() {
        let said = CliError::new(
            Exit::Error,
            format!(
                "{} is no guest project: cargo made no .wasm file of it",
                dir.display()
            ),
        );
        return Err(said
            .hint("its Cargo.toml needs [lib] with crate-type = [\"cdylib\"]")
            .into());
    }
    files.iter().map(|file| place(file, data_dir)).collect()
}

/// The parts of cargo's messages that are read.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Cargo says which files it made, or found fresh; nothing here guesses their names.
fn files_of(messages: impl BufRead) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for line in messages.lines() {
        if let Ok(message) = serde_json::from_str::<Message>(&line?) {
            let wasm = message.filenames.into_iter();
            files.extend(wasm.filter(|file| file.extension().is_some_and(|found| found == "wasm")));
        }
    }
    Ok(files)
}

/// Copies a file from cargo's depths, `target/TARGET/guest/my_flow.wasm`, to where people find it: `target/my-flow.wasm`.
fn place(file: &Path, data_dir: &Path) -> anyhow::Result<Built> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.replace('_', "-");
    let target = file.ancestors().nth(3).unwrap_or(Path::new("."));
    let copy = target.join(format!("{name}.wasm"));
    // Beside cargo's own files, where no file of a user's is, and each build has a name of its own.
    let unique = uuid::Uuid::new_v4().simple();
    let new = file.with_file_name(format!(".{name}.{unique}.wasm"));
    let copied = std::fs::copy(file, &new).and_then(|_| std::fs::rename(&new, &copy));
    if copied.is_err() {
        // That it could not be written is the news.
        let _ = std::fs::remove_file(&new);
    }
    copied.with_context(|| format!("could not write {}", copy.display()))?;
    let module = Module::from_file_in(&copy, data_dir).map_err(|error| {
        CliError::new(Exit::Error, error.to_string())
            .hint("a guest exports its orchestrations and activities with `perennial_sdk::export!`")
    })?;
    let here = std::env::current_dir().unwrap_or_default();
    let shown = copy
        .strip_prefix(&here)
        .map_or(copy.clone(), Path::to_owned);
    Ok(Built {
        file: shown,
        module,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_which_files_it_made() {
        let said = "{\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/libserde.rlib\"]}\n\
            {\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/wasm32-wasip2/guest/my_flow.wasm\"]}\n\
            {\"reason\":\"build-finished\",\"success\":true}\nnot json\n";
        assert_eq!(
            files_of(said.as_bytes()).unwrap(),
            [PathBuf::from("/t/wasm32-wasip2/guest/my_flow.wasm")]
        );
    }
}
