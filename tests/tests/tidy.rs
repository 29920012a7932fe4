//! The rules of the house that the compiler does not know: which room may use what, and how large a room may get.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/promises.rs"]
mod promises;

use std::path::{Path, PathBuf};

use perennial_tests::root;

/// A longer file must be split along its ideas.
const LINES_MAX: usize = 600;

/// The same for tests.
const TEST_LINES_MAX: usize = 600;

fn sources(dir: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((relative(&path), text));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "there are no sources in {dir}");
    files
}

fn relative(path: &Path) -> String {
    let relative: PathBuf = path.strip_prefix(root()).unwrap().components().collect();
    relative.to_str().unwrap().to_owned()
}

/// Lines of code that use a name as a path, such as `rusqlite::` or `crate::store`; comments do not count.
fn uses(text: &str, name: &str) -> bool {
    text.lines()
        .map(|line| line.trim_start())
        .filter(|line| !line.starts_with("//"))
        .any(|line| {
            line.match_indices(name).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + name.len()..].chars().next();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                    && after
                        .is_some_and(|c| c == ':' || c == ';' || c == ' ' || c == ',' || c == '}')
            })
        })
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/")
}

/// Nothing outside `allowed` uses `name`; tests may look behind the walls.
fn only_in(dir: &str, name: &str, allowed: &[&str]) {
    let strays: Vec<String> = sources(dir)
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .filter(|(path, text)| {
            !allowed.iter().any(|room| path.starts_with(room)) && uses(text, name)
        })
        .map(|(path, _)| path)
        .collect();
    assert!(
        strays.is_empty(),
        "{name} belongs to {allowed:?}, and is used in {strays:?}"
    );
}

/// Nothing in `room` uses any of `names`.
fn not_in(room: &str, names: &[&str]) {
    for name in names {
        let strays: Vec<String> = sources(room)
            .into_iter()
            .filter(|(_, text)| uses(text, name))
            .map(|(path, _)| path)
            .collect();
        assert!(
            strays.is_empty(),
            "{room} must not use {name}, and does in {strays:?}"
        );
    }
}

#[test]
fn each_library_stays_in_its_room() {
    only_in("host", "rusqlite", &["host/src/store/sqlite"]);
    for library in ["tokio_postgres", "tokio_postgres_rustls"] {
        only_in("host", library, &["host/src/store/postgres"]);
    }
    only_in("host", "wasmtime", &["host/src/wasm"]);
    only_in("host", "wasmtime_wasi", &["host/src/wasm"]);
    only_in("host", "wit_component", &["host/src/wasm"]);
    only_in("host", "wasmparser", &["host/src/wasm"]);
    for library in [
        "axum",
        "hyper",
        "hyper_util",
        "tokio_rustls",
        "tower",
        "tower_http",
    ] {
        let rooms = ["host/src/http", "host/examples", "host/dashboard"];
        only_in("host", library, &rooms);
    }
    only_in(
        "host",
        "reqwest",
        &["host/src/builtin", "host/src/client/remote"],
    );
    for library in ["opentelemetry", "opentelemetry_otlp", "opentelemetry_sdk"] {
        only_in("host", library, &["host/src/telemetry.rs"]);
    }
    for library in ["tonic", "prost", "prost_types"] {
        only_in("host", library, &["host/src/grpc", "host/src/http"]);
    }
    only_in("host/cli", "notify", &["host/cli/src/project"]);
}

/// A new kind of event must be thought of wherever events are told apart.
#[test]
fn no_match_over_events_has_a_wildcard() {
    let is_arm = |line: &str| {
        let line = line.trim_start();
        line.starts_with("| Event::") || line.starts_with("Event::") && line.contains("=>")
    };
    let held = "clippy::wildcard_enum_match_arm";
    let strays: Vec<String> = ["host/src", "host/cli/src", "host/dashboard/src"]
        .into_iter()
        .flat_map(sources)
        .filter(|(path, text)| !is_test(path) && text.lines().any(is_arm) && !text.contains(held))
        .map(|(path, _)| path)
        .collect();
    assert!(strays.is_empty(), "{held} must be on in {strays:?}");
}

#[test]
fn rooms_know_only_what_is_below_them() {
    let above_store = [
        "crate::engine",
        "crate::wasm",
        "crate::client",
        "crate::runtime",
    ];
    not_in("host/src/store", &above_store);
    // The rules of a change are the same on every store.
    for room in ["host/src/store/rules", "host/src/store/rows"] {
        not_in(room, &["crate::store::sqlite", "rusqlite"]);
    }
    not_in(
        "host/src/engine",
        &["crate::wasm", "crate::client", "crate::runtime"],
    );
    not_in(
        "host/src/wasm",
        &["crate::store", "crate::client", "crate::runtime"],
    );
    not_in("host/src/client", &["crate::runtime"]);
    not_in(
        "host/src/builtin",
        &[
            "crate::store",
            "crate::wasm",
            "crate::client",
            "crate::runtime",
        ],
    );
    not_in(
        "host/src/grpc",
        &[
            "crate::store",
            "crate::http",
            "crate::runtime",
            "crate::wasm",
        ],
    );
    not_in(
        "host/src/http",
        &[
            "crate::store",
            "crate::engine",
            "crate::runtime",
            "crate::wasm",
        ],
    );
    not_in(
        "host/core/src",
        &[
            "tokio",
            "rusqlite",
            "wasmtime",
            "std::time::SystemTime",
            "std::time::Instant",
            "std::fs",
        ],
    );
}

#[test]
fn unsafe_code_has_two_places_and_the_disk_of_tests_another() {
    let places: Vec<String> = sources("host")
        .into_iter()
        .filter(|(_, text)| {
            text.lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"))
        })
        .map(|(path, _)| path)
        .collect();
    // One loads compiled code, one asks the system what a thread has touched. The disk is a table of C functions under SQLite, and is compiled for tests only.
    assert_eq!(
        places,
        [
            "host/src/store/sqlite/file/disk.rs",
            "host/src/wasm/code.rs",
            "host/src/wasm/held.rs"
        ]
    );
}

#[test]
fn no_file_ate_the_design() {
    for dir in ["host", "guest-sdk", "tests", "samples"] {
        for (path, text) in sources(dir) {
            if path.ends_with("/generated.rs") {
                continue;
            }
            let lines = text.lines().count();
            let most = if is_test(&path) {
                TEST_LINES_MAX
            } else {
                LINES_MAX
            };
            assert!(
                lines <= most,
                "{path} has {lines} lines; {most} is the most"
            );
        }
    }
}

#[test]
fn every_test_runs_and_none_sleeps() {
    let (ignored, sleeps) = (concat!("#[", "ignore"), concat!("thread::", "sleep("));
    for (path, text) in sources("tests/tests")
        .into_iter()
        .chain(sources("host/core"))
    {
        assert!(!text.contains(ignored), "{path} ignores a test");
        assert!(!text.contains(sleeps), "{path} waits by sleeping");
    }
}

#[test]
fn the_packages_that_the_readme_has_optimised_are_those_that_compile() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let (readme, lock) = (read("README.md"), read("Cargo.lock"));
    let named = readme
        .lines()
        .filter_map(|line| line.split_once(".opt-level = 2"))
        .map(|(name, _)| name);
    let mut count = 0;
    for name in named {
        assert!(lock.contains(&format!("name = \"{name}\"\n")), "{name}");
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn no_files_import_each_other_in_circles() {
    // All at once: one that hides behind another would be found only after the first is mended.
    let mut found = String::new();
    for krate in [
        "host/core/src/lib.rs",
        "host/src/lib.rs",
        "host/dashboard/src/lib.rs",
        "host/cli/src/main.rs",
        "guest-sdk/src/lib.rs",
        "guest-sdk/macros/src/lib.rs",
    ] {
        let circles = imports::Crate::read(&root().join(krate)).circles();
        if !circles.is_empty() {
            found += &format!("{krate}:\n{}\n", circles.join("\n"));
        }
    }
    assert!(found.is_empty(), "{found}");
}
