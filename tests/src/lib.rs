//! What the tests of the whole share: guests built from their sources, hubs in directories of their own, and the binary.

mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use perennial::{Client, Host, HostBuilder, Module};

pub use process::{Process, Serve, binary};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Where builds go.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The `.wasm` file of a guest package, built from its source if that is newer.
pub fn guest(package: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new("bash")
            .arg(root().join(".ci/guests"))
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "the guests were not built:\n{}",
            String::from_utf8_lossy(&built.stderr)
        );
    });
    let path = target().join("guests").join(format!("{package}.wasm"));
    assert!(path.is_file(), "there is no guest at {}", path.display());
    path
}

/// A guest package, ready to be deployed.
pub fn module(package: &str) -> Module {
    Module::from_file(guest(package)).unwrap()
}

/// A data directory of a test's own, gone when dropped.
pub struct DataDir(tempfile::TempDir);

impl DataDir {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// An empty one in a directory that exists, on its disk.
    pub fn within(dir: &Path) -> Self {
        Self(tempfile::tempdir_in(dir).unwrap())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The set-up of a host of its hub.
    pub fn host(&self) -> HostBuilder {
        Host::builder().data_dir(self.path())
    }

    /// A client of its file.
    pub fn client(&self) -> Client {
        Client::open(self.path(), perennial::DEFAULT_TASK_HUB).unwrap()
    }
}
