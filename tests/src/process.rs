//! The binary, as a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::{database_of, root, target};

/// The `perennial` binary, built from its source if that is newer.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let args = [
            "build",
            "--release",
            "--locked",
            "--quiet",
            // The whole workspace is what decides on features, as in the tests: nothing is built twice.
            "--workspace",
            "--bin",
            "perennial",
        ];
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(args).current_dir(root());
        // What cargo tells the tests about their own package is no business of another cargo: build scripts of dependencies that watch
        // these variables would run again, and with them everything that depends on them.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                build.env_remove(name);
            }
        }
        let built = build.output().unwrap();
        assert!(
            built.status.success(),
            "the binary was not built:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
    });
    target().join("release/perennial")
}

/// The binary, for the hubs of a data directory: nothing else says where they are.
pub fn perennial(data_dir: &Path) -> Command {
    let mut command = Command::new(binary());
    let variables = [
        "PERENNIAL_TASK_HUB",
        "PERENNIAL_LOG",
        "PERENNIAL_URL",
        "PERENNIAL_KEY",
        "PERENNIAL_STORE",
        "RUST_BACKTRACE",
    ];
    for variable in variables {
        command.env_remove(variable);
    }
    command.env("PERENNIAL_DATA_DIR", data_dir);
    if let Some(database) = database_of(data_dir) {
        command.env("PERENNIAL_STORE", database);
    }
    command
}

/// A process that is killed when dropped: a test that fails leaves nothing behind.
pub struct Process(pub Child);

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is gone already needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host in a process of its own. Killed when dropped.
pub struct Serve {
    child: Process,
    ready: String,
}

impl Serve {
    /// Starts `perennial serve` and returns when it says that it is ready.
    pub fn start(data_dir: &Path, args: &[&str]) -> Self {
        Self::start_into(data_dir, args, Stdio::null())
    }

    /// As [`start`](Self::start), and writes its log into a file.
    pub fn start_logged(data_dir: &Path, args: &[&str], log: &Path) -> Self {
        Self::start_into(data_dir, args, File::create(log).unwrap().into())
    }

    fn start_into(data_dir: &Path, args: &[&str], stderr: Stdio) -> Self {
        let mut child = perennial(data_dir)
            .arg("serve")
            .env("PERENNIAL_LISTEN", "none")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert!(!ready.is_empty(), "the host ended before it was ready");
        Self {
            child: Process(child),
            ready,
        }
    }

    /// The address of its HTTP API, where it was started with `--listen 127.0.0.1:0`.
    pub fn address(&self) -> std::net::SocketAddr {
        let url = self.ready.split("http://").nth(1).unwrap();
        let end = url.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'));
        url[..end.unwrap_or(url.len())].parse().unwrap()
    }

    /// The line with which it said that it is ready.
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its exit code when it has ended by itself.
    pub fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Kills it with SIGKILL, as a crash would, and returns when it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
