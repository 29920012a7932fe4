//! What the tests of the whole share: guests built from their sources, hubs in directories of their own, and the binary.

pub mod postgres;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use perennial::{Client, Host, HostBuilder, Module, Store};

pub use process::{Process, Serve, binary, perennial};

/// Random numbers from a seed (SplitMix64): the same seed gives the same test.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

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

/// A way to build guests; see `.ci/setup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// rustup's `wasm32-wasip2`.
    Rustup,
    /// Debian's packages, for `wasm32-wasip1`.
    Debian,
    /// `wasm32-unknown-unknown`: a standard library without a system below it.
    Unknown,
}

impl Way {
    /// The one that the guests of this run were built by: what `GUEST_WAY` names, or what `.ci/setup` found.
    pub fn here() -> Self {
        let found = std::env::var("GUEST_WAY").ok();
        let found = found.filter(|way| !way.is_empty()).unwrap_or_else(|| {
            let found = std::fs::read_to_string(target().join("guest-toolchain.env")).unwrap();
            let line = found
                .lines()
                .find_map(|line| line.strip_prefix("guest_way="));
            line.unwrap().to_owned()
        });
        match found.as_str() {
            "rustup" => Self::Rustup,
            "debian" => Self::Debian,
            "unknown" => Self::Unknown,
            other => panic!("{other:?} is no way to build guests"),
        }
    }

    /// Whether the standard library of a guest has a system to ask for the time, files and outputs.
    pub fn has_system(self) -> bool {
        self != Self::Unknown
    }
}

/// Where the guests are that `.ci/guests` makes.
pub fn guests() -> PathBuf {
    let guests = target().join("guests");
    match std::env::var("GUEST_WAY") {
        Ok(way) if !way.is_empty() => guests.join(format!("by-{way}")),
        _ => guests,
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
    let path = guests().join(format!("{package}.wasm"));
    assert!(path.is_file(), "there is no guest at {}", path.display());
    path
}

/// A guest package, ready to be deployed.
pub fn module(package: &str) -> Module {
    Module::from_file(guest(package)).unwrap()
}

/// A data directory of a test's own, gone when dropped, and the hubs of it: files in there or, with `PERENNIAL_TEST_STORE=postgres`, in a
/// database of their own.
pub struct DataDir {
    dir: tempfile::TempDir,
    database: Option<String>,
}

/// The databases of data directories.
static DATABASES: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

fn databases() -> MutexGuard<'static, BTreeMap<PathBuf, String>> {
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The database of the hubs of a data directory, if they are in one.
pub(crate) fn database_of(dir: &Path) -> Option<String> {
    databases().get(dir).cloned()
}

impl DataDir {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let database = postgres::is_wanted().then(|| {
            let database = postgres::database();
            database.expect("PERENNIAL_TEST_STORE=postgres needs the programs of PostgreSQL")
        });
        let dir = tempfile::tempdir().unwrap();
        if let Some(database) = &database {
            databases().insert(dir.path().to_owned(), database.clone());
        }
        Self { dir, database }
    }

    /// An empty one whose hubs are files, whatever else is wanted.
    pub fn of_files() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            database: None,
        }
    }

    /// As [`of_files`](Self::of_files), in a directory that exists, on its disk.
    pub fn within(dir: &Path) -> Self {
        Self {
            dir: tempfile::tempdir_in(dir).unwrap(),
            database: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The database of its hubs, if they are in one.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Where its hubs are.
    pub fn store(&self) -> Store {
        store_in(self.path(), self.database())
    }

    /// The set-up of a host of its hub.
    pub fn host(&self) -> HostBuilder {
        Host::builder().store(self.store())
    }

    /// A client of its hub, in no host.
    pub fn client(&self) -> Client {
        Client::open(self.store(), perennial::DEFAULT_TASK_HUB).unwrap()
    }
}

/// Where the hubs of a data directory are, and of its database if they are in one.
pub fn store_in(dir: &Path, database: Option<&str>) -> Store {
    match database {
        Some(database) => Store::postgres(database).unwrap().data_dir(dir),
        None => Store::dir(dir),
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        databases().remove(self.path());
    }
}
