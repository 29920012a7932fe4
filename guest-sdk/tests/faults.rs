//! The first line of what the compiler says of a function that does not fit, and where it points.
//!
//! The compiler is called directly, with the library that this test was linked with: a `compile_fail` of the documentation only knows the
//! number of an error.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use expect_test::{Expect, expect};

const BEGINNING: &str = "#![allow(dead_code, unused_imports, unused_variables)]\nuse perennial_sdk::prelude::*;\nstruct Plain;\n";

/// What compiles where the library does.
const SOUND: &str = "#[activity] fn f() -> Result<(), Failure> { Ok(()) }\nperennial_sdk::export! { activities: [f] }\n";

/// The library that this test was linked with. Builds of other compilers and versions may lie beside it.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let dir = std::env::current_exe()
            .unwrap()
            .parent()
            .unwrap()
            .to_owned();
        let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
        let mut libraries: Vec<_> = entries
            .filter(|entry| {
                let name = entry.file_name().into_string().unwrap_or_default();
                name.starts_with("libperennial_sdk-") && name.ends_with(".rlib")
            })
            .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
            .collect();
        libraries.sort();
        let mut newest_first = libraries.into_iter().rev().map(|(_, path)| path);
        let found = newest_first.find(|path| compile(path, SOUND).is_empty());
        found.unwrap_or_else(|| panic!("no library in {} compiles:\n{SOUND}", dir.display()))
    })
}

/// What the compiler says of a program, a line for each error or warning.
fn compile(library: &Path, program: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("guest.rs");
    std::fs::write(&source, format!("{BEGINNING}{program}")).unwrap();
    let mut external = std::ffi::OsString::from("perennial_sdk=");
    external.push(library);
    let mut dependencies = std::ffi::OsString::from("dependency=");
    dependencies.push(library.parent().unwrap());
    let compiled = Command::new("rustc")
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--error-format=short",
            "--color=never",
        ])
        .arg("--extern")
        .arg(external)
        .arg("-L")
        .arg(dependencies)
        .arg("--out-dir")
        .arg(dir.path())
        .arg(&source)
        .output()
        .unwrap();
    let said = String::from_utf8(compiled.stderr).unwrap();
    let prefix = format!("{}:", source.display());
    let lines = said
        .lines()
        .filter(|line| !line.starts_with("error: aborting") && !line.ends_with(" emitted"));
    let mut lines: Vec<String> = lines
        .map(|line| line.strip_prefix(&prefix).unwrap_or(line))
        .map(|line| {
            line.split(": evaluation of `")
                .next()
                .unwrap_or(line)
                .to_owned()
                + "\n"
        })
        .collect();
    // With the test kit `export!` makes the definitions twice.
    lines.dedup();
    lines.concat()
}

/// Compares what is said of the lines from the fourth one on.
#[track_caller]
fn check(program: &str, expected: &Expect) {
    expected.assert_eq(&compile(library(), program));
}

/// The same, of what stands in a module.
#[track_caller]
fn check_module(program: &str, expected: &Expect) {
    check(&format!("mod guest {{ {program} }}"), expected);
}

#[test]
fn a_type_that_does_not_fit_is_named_where_it_stands() {
    check(
        "#[orchestration] async fn pay(ctx: u64) -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:36: error[E0277]: `u64` cannot be the first parameter of an orchestration: that is its `Context`: not `Context`
        "#]],
    );
    check(
        "#[orchestration] async fn pay(ctx: &Context) -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:36: error[E0277]: `&perennial_sdk::Context` cannot be the first parameter of an orchestration: that is its `Context`: not `Context`
        "#]],
    );
    check(
        "#[orchestration] async fn pay(ctx: ActivityContext) -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:36: error[E0277]: `perennial_sdk::ActivityContext` cannot be the first parameter of an orchestration: that is its `Context`: not `Context`
        "#]],
    );
    check(
        "#[orchestration] async fn pay(ctx: Context, of: Plain) -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:49: error[E0277]: `Plain` cannot be an input: serde cannot read it: does not implement `serde::Deserialize`
        "#]],
    );
    check(
        "#[activity] fn charge(of: Plain) -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:27: error[E0277]: `Plain` cannot be an input: serde cannot read it: does not implement `serde::Deserialize`
        "#]],
    );
    check(
        "#[activity] fn charge(ctx: ActivityContext, of: Vec<Plain>) -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:49: error[E0277]: `Vec<Plain>` cannot be an input: serde cannot read it: does not implement `serde::Deserialize`
        "#]],
    );
    check(
        "#[activity] fn charge() -> String { String::new() }",
        &expect![[r#"
            4:28: error[E0277]: `std::string::String` is not a `Result`: orchestrations and activities return `Result<O, E>`: not a `Result`
        "#]],
    );
    check(
        "#[orchestration] async fn pay(ctx: Context) -> String { String::new() }",
        &expect![[r#"
            4:48: error[E0277]: `std::string::String` is not a `Result`: orchestrations and activities return `Result<O, E>`: not a `Result`
        "#]],
    );
    check(
        "#[activity] fn charge() -> Result<Plain, Failure> { Ok(Plain) }",
        &expect![[r#"
            4:28: error[E0277]: `Plain` cannot be an output: serde cannot write it: returns a `Plain`, which does not implement `serde::Serialize`
        "#]],
    );
    check(
        "#[orchestration] async fn pay(ctx: Context) -> Result<Plain, Failure> { Ok(Plain) }",
        &expect![[r#"
            4:48: error[E0277]: `Plain` cannot be an output: serde cannot write it: returns a `Plain`, which does not implement `serde::Serialize`
        "#]],
    );
    check(
        "#[activity] fn charge() -> Result<(), String> { Ok(()) }",
        &expect![[r#"
            4:28: error[E0277]: `std::string::String` cannot be the error: it does not become a `Failure`: fails with `std::string::String`
        "#]],
    );
    check(
        "#[orchestration] async fn pay(ctx: Context) -> Result<(), Plain> { Ok(()) }",
        &expect![[r#"
            4:48: error[E0277]: `Plain` cannot be the error: it does not become a `Failure`: fails with `Plain`
        "#]],
    );
}

#[test]
fn a_signature_that_does_not_fit_is_the_only_error_also_where_it_is_listed() {
    check(
        "#[orchestration] fn pay(ctx: Context) -> Result<(), Failure> { Ok(()) }\nperennial_sdk::export! { orchestrations: [pay] }",
        &expect![[r#"
            4:18: error: an orchestration is an `async fn`: write `async fn pay`
        "#]],
    );
    check(
        "#[orchestration] async fn pay() -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:30: error: an orchestration needs its context: write `async fn pay(ctx: Context)`
        "#]],
    );
    check(
        "#[orchestration] async fn pay(ctx: Context) {}",
        &expect![[r#"
        4:27: error: an orchestration returns a `Result`: write `-> Result<(), Failure>` if it has nothing to return
    "#]],
    );
    check(
        "#[activity] fn charge(a: u32, b: u32) -> Result<(), Failure> { Ok(()) }\nperennial_sdk::export! { activities: [charge] }",
        &expect![[r#"
            4:34: error: an activity has one input: put several values into a struct or a tuple
        "#]],
    );
    check(
        "#[activity] async fn charge() -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:13: error: an activity is not `async`: write `fn charge`
        "#]],
    );
    check(
        "#[activity(names = \"A\")] fn charge() -> Result<(), Failure> { Ok(()) }",
        &expect![[r#"
            4:12: error: an activity has no such option: it has `name`, `description` and `input_schema`
        "#]],
    );
}

#[test]
fn a_list_says_what_it_takes() {
    check(
        "#[activity] fn charge() -> Result<(), Failure> { Ok(()) }\nperennial_sdk::export! { orchestrations: [charge] }",
        &expect![[r#"
            5:1: error[E0308]: mismatched types: expected `Orchestration`, found `Activity`
        "#]],
    );
    check(
        "fn charge() -> Result<(), Failure> { Ok(()) }\nperennial_sdk::export! { activities: [charge] }",
        &expect![[r#"
            5:39: error[E0573]: expected type, found function `charge`
        "#]],
    );
    check(
        "#[activity] fn charge() -> Result<(), Failure> { Ok(()) }\n#[activity(name = \"Charge\")] fn other() -> Result<(), Failure> { Ok(()) }\n\
         perennial_sdk::export! { activities: [charge, other] }",
        &expect![[r#"
            6:1: error[E0080]: evaluation panicked: `export!` lists a name twice: in one component a name stands for one function
        "#]],
    );
    check(
        "fn charge(of: Plain) -> Result<(), Failure> { Ok(()) }\nperennial_sdk::export! { activities: { \"Charge\" => charge } }",
        &expect![[r#"
            5:52: error[E0277]: `fn(Plain) -> Result<(), perennial_sdk::Failure> {charge}` is not an activity: the trait `ActivityFn<_>` is not implemented for fn item `fn(Plain) -> Result<(), perennial_sdk::Failure> {charge}`
        "#]],
    );
    check(
        "async fn pay(of: u32) -> Result<(), Failure> { Ok(()) }\nperennial_sdk::export! { orchestrations: { \"Pay\" => pay } }",
        &expect![[r#"
            5:53: error[E0277]: `fn(u32) -> impl std::future::Future<Output = Result<(), perennial_sdk::Failure>> {pay}` is not an orchestration: unsatisfied trait bound
        "#]],
    );
}

#[test]
fn a_validator_that_does_not_fit_is_told_where_it_is_listed() {
    let with = |option: &str, validator: &str| {
        format!(
            "#[orchestration({option})] async fn cart(ctx: Context) -> Result<(), Failure> {{ Ok(()) }}\n{validator}\n\
             perennial_sdk::export! {{ orchestrations: [cart] }}"
        )
    };
    for (validator, expected) in [
        (
            "fn judge(of: &u32) -> Result<(), Failure> { Ok(()) }",
            expect![""],
        ),
        (
            "fn judge(of: u32) -> Result<(), Failure> { Ok(()) }",
            expect![[r#"
                4:36: error[E0631]: type mismatch in function arguments: expected due to this
            "#]],
        ),
        (
            "fn judge(of: &Plain) -> Result<(), Failure> { Ok(()) }",
            expect![[r#"
                4:36: error[E0277]: `Plain` cannot be an input: serde cannot read it: does not implement `serde::Deserialize`
            "#]],
        ),
        (
            "fn judge(of: &u32) -> bool { true }",
            expect![[r#"
            4:36: error[E0277]: `bool` is not `Result<(), E>`, which a validator returns: not `Result<(), E>`
        "#]],
        ),
        (
            "fn judge(of: &u32) -> Result<(), String> { Ok(()) }",
            expect![[r#"
                4:36: error[E0277]: `std::string::String` cannot be the error: it does not become a `Failure`: fails with `std::string::String`
            "#]],
        ),
        (
            "fn judge(of: &u32) -> Result<u32, Failure> { Ok(*of) }",
            expect![[r#"
                4:36: error[E0277]: `Result<u32, perennial_sdk::Failure>` is not `Result<(), E>`, which a validator returns: not `Result<(), E>`
            "#]],
        ),
    ] {
        check(&with("validate(AddItem = judge)", validator), &expected);
    }
    check(
        &with(
            "validate(Add = judge, add = judge)",
            "fn judge(of: &u32) -> Result<(), Failure> { Ok(()) }",
        ),
        &expect![[r#"
            4:1: error[E0080]: evaluation panicked: two validators are for one request: a request has at most one
            6:1: note: erroneous constant encountered
        "#]],
    );
    check(
        &with("validate(Add = misspelt)", ""),
        &expect![[r#"
        4:32: error[E0425]: cannot find value `misspelt` in this scope: not found in this scope
    "#]],
    );
    check(
        "async fn cart(ctx: Context) -> Result<(), Failure> { Ok(()) }\nfn judge(of: u32) -> Result<(), Failure> { Ok(()) }\n\
         perennial_sdk::export! { orchestrations: { \"Cart\" (validate(Add = judge)) => cart } }",
        &expect![[r#"
            6:67: error[E0631]: type mismatch in function arguments: expected due to this
        "#]],
    );
}

#[test]
fn a_function_that_is_not_listed_is_told() {
    let warns = "#![warn(dead_code)]\nuse perennial_sdk::prelude::*;\n";
    let charge = "#[activity] fn charge() -> Result<(), Failure> { Ok(()) }\n";
    let pay = "#[orchestration] async fn pay(ctx: Context) -> Result<(), Failure> { ctx.call(charge, ()).await }\n";
    check_module(
        &format!(
            "{warns}{charge}{pay}perennial_sdk::export! {{ activities: [charge], orchestrations: [pay] }}"
        ),
        &expect![""],
    );
    check_module(
        &format!("{warns}{charge}"),
        &expect![[r#"
            6:16: warning: function `charge` is never used
            6:16: warning: enum `charge` is never used
            6:16: warning: associated constant `DEFINITION` is never used: associated constant in this implementation
        "#]],
    );
    check_module(
        &format!("{warns}{charge}{pay}perennial_sdk::export! {{ orchestrations: [pay] }}"),
        &expect![[r#"
            6:16: warning: enum `charge` is never used
            6:16: warning: associated constant `DEFINITION` is never used: associated constant in this implementation
        "#]],
    );
}

#[test]
fn a_message_names_what_there_is() {
    check(
        "#[derive(FailureKind)] enum E { #[failure(\"{other}\")] A { what: u8 } }",
        &expect![[r#"
            4:45: error[E0425]: cannot find value `other` in this scope: not found in this scope
        "#]],
    );
    check(
        "#[derive(FailureKind)] enum E { #[failure(\"{0} {1}\")] A(u8) }",
        &expect![[r#"
            4:43: error[E0425]: cannot find value `__1` in this scope
        "#]],
    );
}
