//! `perennial new`: writes a guest project that builds without further setup.
//!
//! The SDK and the contract are in this binary and are written beside the project's sources, with the versions of their dependencies that
//! they were tested with. So the project needs nothing but cargo and a way to compile to WebAssembly.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::args::New;
use crate::error::{CliError, Exit};
use crate::session::Session;

/// Names and texts of files that lie together in the repository.
macro_rules! files {
    ($dir:literal: $($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../assets/", $dir, "/", $name)))),*]
    };
}

/// The sources of the SDK, without its tests.
const SDK: &[(&str, &str)] = files!("sdk":
    "activity.rs" "annotated.rs" "bindings.rs" "cancel.rs" "combine.rs" "context.rs" "definition.rs" "event.rs" "execution.rs" "export.rs" "failure.rs" "failure_kind.rs" "http.rs"
    "instance.rs" "kind.rs" "lib.rs" "limit.rs" "log.rs" "machine.rs" "mailbox.rs" "no_threads.rs" "payload.rs"
    "print.rs" "random.rs" "request.rs" "retry.rs" "saga.rs" "task.rs" "ticket.rs" "time.rs" "timer.rs" "typed.rs" "validator.rs"
    "testing/attempts.rs" "testing/convert.rs" "testing/environment.rs" "testing/exported.rs" "testing/family.rs" "testing/guest.rs" "testing/instance.rs"
    "testing/mod.rs" "testing/report.rs" "testing/requests.rs" "testing/run.rs" "testing/show.rs" "testing/world.rs");

/// The sources of the SDK's macros, without their tests.
const MACROS: &[(&str, &str)] = files!("sdk-macros":
    "annotated.rs" "documented.rs" "failure_kind.rs" "lib.rs" "options.rs" "signature.rs");

/// The rules of the engine, by which the test kit of the SDK runs orchestrations.
const CORE: &[(&str, &str)] = files!("core":
    "answer.rs" "attempt.rs" "bounds.rs" "check.rs" "closest.rs" "context.rs" "convert.rs" "corrupt.rs" "cut.rs" "decide.rs" "describe.rs"
    "event.rs" "failure.rs" "family.rs" "guest.rs" "lib.rs" "limits.rs" "message.rs" "phase.rs" "quarantine.rs" "replay.rs" "retry.rs" "rewind.rs" "rewound.rs"
    "stage.rs" "state.rs" "target.rs" "task.rs" "text.rs" "told.rs" "trace.rs" "turn.rs" "turn_builder.rs" "unread.rs" "unreadable.rs" "value.rs" "xxh64.rs");

/// The contract.
const WIT: &[(&str, &str)] = files!("wit":
    "activities.wit" "attempts.wit" "logging.wit" "orchestrations.wit" "types.wit" "world.wit");

/// The versions that the SDK was tested with. Cargo leaves out of it what a project does not use.
const LOCK: &str = include_str!("../../assets/Cargo.lock");

const PROJECT: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("README.md", include_str!("template/README.md")),
    ("src/lib.rs", include_str!("template/lib.rs")),
    (
        "vendor/perennial-sdk/Cargo.toml",
        include_str!("template/sdk-Cargo.toml.in"),
    ),
    (
        "vendor/perennial-sdk/macros/Cargo.toml",
        include_str!("template/macros-Cargo.toml.in"),
    ),
    (
        "vendor/perennial-core/Cargo.toml",
        include_str!("template/core-Cargo.toml.in"),
    ),
    (".gitignore", "/target\n/.perennial\n"),
];

/// Words that cannot be the name of a crate.
const RESERVED: [&str; 14] = [
    "perennial-sdk",
    "perennial_sdk",
    "perennial-sdk-macros",
    "perennial_sdk_macros",
    "std",
    "core",
    "alloc",
    "test",
    "self",
    "super",
    "crate",
    "async",
    "fn",
    "mod",
];

#[derive(Serialize)]
struct NewJson<'a> {
    name: &'a str,
    dir: String,
    orchestration: &'a str,
}

pub(crate) fn new(args: &New, session: &Session) -> anyhow::Result<Exit> {
    let path = &args.path;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    if path.is_dir() && name.is_empty() {
        let said = CliError::new(Exit::Usage, format!("{} is there already", path.display()));
        return Err(said
            .hint("`new` makes a directory: give it a name, such as order-flow")
            .into());
    }
    check_name(&name)?;
    if path.exists() {
        let said = CliError::new(
            Exit::WrongState,
            format!("{} is there already", path.display()),
        );
        return Err(said
            .hint("give the project another name, or remove what is there")
            .into());
    }
    let orchestration = pascal(&name);
    write(path, &name, &orchestration)?;
    let output = session.output();
    let dir = path.display();
    if output.is_json() {
        output.json(&NewJson {
            name: &name,
            dir: dir.to_string(),
            orchestration: &orchestration,
        })?;
    } else {
        output.line(&dir.to_string())?;
    }
    output.note(&format!(
        "next: cd {dir} && perennial build && perennial run target/{name}.wasm"
    ));
    Ok(Exit::Ok)
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if fits && !RESERVED.contains(&name) {
        return Ok(());
    }
    let message = format!("{name:?} cannot be the name of a project");
    let hint = if fits {
        "Rust, or a crate that the project uses, has that name already; take another, such as order-flow"
    } else {
        "take up to 64 lower-case letters, digits, dashes and underscores, a letter first: order-flow"
    };
    Err(CliError::new(Exit::Usage, message).hint(hint).into())
}

/// `order-flow` as the name of an orchestration: `OrderFlow`.
fn pascal(name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

/// Writes all of it beside the place and moves it there, so that a project is there whole or not at all.
fn write(path: &Path, name: &str, orchestration: &str) -> anyhow::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let unique = uuid::Uuid::new_v4().simple();
    let made = parent.join(format!(".{name}.{unique}"));
    let filled = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{Name}}", orchestration)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let project = PROJECT
        .iter()
        .map(|(file, text)| ((*file).to_owned(), filled(text)));
    let vendored = [
        ("perennial-sdk/src", SDK),
        ("perennial-sdk/macros/src", MACROS),
        ("perennial-sdk/wit/0.2", WIT),
        ("perennial-core/src", CORE),
    ];
    let vendored = vendored.into_iter().flat_map(|(dir, files)| {
        let path = move |file: &str| format!("vendor/{dir}/{file}");
        files
            .iter()
            .map(move |(file, text)| (path(file), (*text).to_owned()))
    });
    let lock = [("Cargo.lock".to_owned(), LOCK.to_owned())];
    let written = project
        .chain(vendored)
        .chain(lock)
        .try_for_each(|(file, text)| {
            let file = made.join(file);
            std::fs::create_dir_all(file.parent().unwrap_or(&made))?;
            std::fs::write(file, text)
        })
        .and_then(|()| std::fs::rename(&made, path));
    if written.is_err() {
        // What could not be written whole is not left behind; that it could not be removed either is not the news.
        let _ = std::fs::remove_dir_all(&made);
    }
    written.with_context(|| format!("could not write the project {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn names_in(dir: &str, extension: &str) -> Vec<String> {
        let entries = std::fs::read_dir(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("assets")
                .join(dir),
        )
        .unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = paths
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_of_the_sdk_and_of_the_contract_is_carried() {
        let carried = |files: &[(&str, &str)]| {
            let mut names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
            names.sort();
            names
        };
        let kit = names_in("sdk/testing", "rs");
        let kit = kit.iter().map(|name| format!("testing/{name}"));
        let mut sdk: Vec<String> = names_in("sdk", "rs").into_iter().chain(kit).collect();
        sdk.sort();
        assert_eq!(carried(SDK), sdk);
        assert_eq!(carried(MACROS), names_in("sdk-macros", "rs"));
        assert_eq!(carried(CORE), names_in("core", "rs"));
        assert_eq!(carried(WIT), names_in("wit", "wit"));
    }

    #[test]
    fn the_crates_that_are_carried_have_the_dependencies_of_those_that_are_tested() {
        for (krate, sources) in [
            ("perennial-sdk", "guest-sdk"),
            ("perennial-sdk/macros", "guest-sdk/macros"),
            ("perennial-core", "host/core"),
        ] {
            let (_, carried) = PROJECT
                .iter()
                .find(|(file, _)| *file == format!("vendor/{krate}/Cargo.toml"))
                .unwrap();
            let carried = carried.split("[dependencies]\n").nth(1).unwrap();
            let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
            let (workspace, own) = (read("Cargo.toml"), read(&format!("{sources}/Cargo.toml")));
            let own = own.split("[dependencies]\n").nth(1).unwrap();
            let own: Vec<&str> = own
                .lines()
                .take_while(|line| !line.is_empty())
                .filter(|line| !line.starts_with('#') && !line.contains("optional"))
                .collect();
            assert_eq!(
                carried.lines().count(),
                own.len(),
                "{carried}\nis not\n{own:?}"
            );
            for line in carried.lines() {
                assert!(
                    workspace.contains(&format!("\n{line}\n"))
                        || own.contains(&line)
                        || line == r#"perennial-sdk-macros = { path = "macros" }"#,
                    "{line} is no dependency of {krate}"
                );
            }
        }
    }

    #[test]
    fn names_of_projects_become_names_of_orchestrations() {
        assert_eq!(
            ["hello", "order-flow", "a_b2"].map(pascal),
            ["Hello", "OrderFlow", "AB2"]
        );
        for bad in ["", "Hello", "1st", "a b", "../x", "crate", "ü"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
