//! Finds a toolchain on this machine that compiles Rust to WebAssembly.
//!
//! There are two. Where the compiler in use has its target `wasm32-wasip2`, as rustup adds it, that is the one. Else, on Debian, the
//! distribution's packages hold a compiler with the source of exactly its standard library, which cargo compiles as part of the build.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{CliError, Exit};

const TARGET: &str = "wasm32-wasip2";
const DEBIAN_TARGET: &str = "wasm32-wasip1";
const DEBIAN_PACKAGES: &str = "rustc-web rust-web-src wasi-libc";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

/// The oldest compiler that the SDK compiles with: that of its Cargo.toml, which is that of this program.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// The target, variables and arguments for cargo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toolchain {
    /// The target, for cargo.
    pub(super) target: &'static str,
    /// The compiler, for people.
    pub(super) version: String,
    /// Variables for cargo.
    pub(super) env: Vec<(&'static str, String)>,
    /// Arguments for cargo.
    pub(super) args: &'static [&'static str],
}

/// Looks for a toolchain, first with the compiler that is in use in a directory.
pub(super) fn find(dir: &Path) -> Result<Toolchain, CliError> {
    let in_use = tell(Command::new("rustc").arg("--version").current_dir(dir));
    let sysroot = tell(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(dir),
    );
    let sysroot = sysroot.map(PathBuf::from);
    if let (Some(version), Some(sysroot)) = (&in_use, &sysroot)
        && sysroot
            .join("lib/rustlib")
            .join(TARGET)
            .join("lib")
            .is_dir()
    {
        return Ok(Toolchain {
            target: TARGET,
            version: version.clone(),
            env: Vec::new(),
            args: &[],
        });
    }
    debian(sysroot.as_deref()).ok_or_else(|| missing(in_use.is_some()))
}

fn missing(has_rust: bool) -> CliError {
    let message = if has_rust {
        "this machine's Rust cannot compile to WebAssembly yet"
    } else {
        "there is no Rust on this machine: `rustc` was not found"
    };
    let rustup = "rustup target add wasm32-wasip2";
    let rustup = if has_rust {
        rustup.to_owned()
    } else {
        format!("install https://rustup.rs, then {rustup}")
    };
    CliError::new(Exit::Error, message).hint(format!(
        "{rustup}; or on Debian: apt-get update && apt-get install {DEBIAN_PACKAGES} (Rust {RUST_VERSION} or newer)"
    ))
}

/// Whether a compiler that says this of itself, such as `rustc 1.96.0 (ac68faa20 2026-05-25)`, is not too old.
fn is_new_enough(version: &str) -> bool {
    let number = |version: &str| -> Vec<u32> {
        version
            .split('.')
            .map_while(|part| part.parse().ok())
            .collect()
    };
    let has = version.split_whitespace().nth(1).map(number);
    has.is_some_and(|has| has >= number(RUST_VERSION))
}

/// A library of another version than its compiler does not compile, so both must come from the same build.
fn debian(sysroot: Option<&Path>) -> Option<Toolchain> {
    let crt = Path::new(WASI_LIBC).join("crt1-reactor.o");
    let version = tell(Command::new(DEBIAN_RUSTC).arg("--version"))?;
    let own = tell(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))?;
    let library = Path::new(&own).join("lib/rustlib/src/rust/library/std/Cargo.toml");
    let package =
        |name| tell(Command::new("dpkg-query").args(["-W", "-f", "${source:Version}", name]));
    let matched = package("rustc-web").is_some() && package("rustc-web") == package("rust-web-src");
    if !crt.is_file() || !library.is_file() || !matched || !is_new_enough(&version) {
        return None;
    }
    let mut flags = format!(
        "-L native={WASI_LIBC} -C link-arg={} -C link-self-contained=no",
        crt.display()
    );
    // The standard library calls functions for threads, if only to hear that there are none. An old libc does not have them; the SDK has.
    if !has_threads(&Path::new(WASI_LIBC).join("libc.a")) {
        flags.push_str(" --cfg perennial_no_pthreads");
    }
    let mut env = vec![
        ("RUSTC", DEBIAN_RUSTC.to_owned()),
        ("RUSTC_BOOTSTRAP", "1".to_owned()),
    ];
    // A toolchain of rustup's brings the linker, rust-lld; a machine without it can have wasm-ld from the package lld.
    match sysroot.and_then(with_lld) {
        Some(bin) => env.push(("PATH", before_path(&bin))),
        None if tell(Command::new("wasm-ld").arg("--version")).is_some() => {
            flags.push_str(" -C linker=wasm-ld");
        }
        None => return None,
    }
    env.push(("RUSTFLAGS", flags));
    Some(Toolchain {
        target: DEBIAN_TARGET,
        version,
        env,
        args: &["-Zbuild-std=std,panic_abort"],
    })
}

fn has_threads(libc: &Path) -> bool {
    const NAME: &[u8] = b"pthread_create";
    std::fs::read(libc).is_ok_and(|bytes| bytes.windows(NAME.len()).any(|window| window == NAME))
}

fn with_lld(sysroot: &Path) -> Option<PathBuf> {
    let targets = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    targets
        .filter_map(|target| Some(target.ok()?.path().join("bin")))
        .find(|bin| bin.join("rust-lld").is_file())
}

fn before_path(dir: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", dir.display())
}

/// The one line that a program prints; `None` if it is not there or fails.
pub(super) fn tell(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_that_is_too_old_for_the_sdk_is_no_way() {
        for new in [
            "rustc 1.95.0 (59807616e 2026-04-14)",
            "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)",
            "rustc 1.100.0-nightly (a b)",
            "rustc 2.0.0",
        ] {
            assert!(is_new_enough(new), "{new}");
        }
        for old in [
            "rustc 1.85.0 (4d91de4e4 2025-02-17)",
            "rustc 1.9.0",
            "rustc",
            "",
        ] {
            assert!(!is_new_enough(old), "{old}");
        }
    }
}
