//! The cache of compiled code on disk, so that a module is compiled once and not at every start.
//!
//! Invariant: a lost, truncated or exchanged file costs only a compilation.
//!
//! A cache file is native code, so a user who can write one can run code as the host. Therefore the directory belongs to the host's own
//! user and is closed to all others (mode 0700, set on every start; a directory that cannot be closed is not used), and only plain files of
//! that user that others cannot write to are loaded. The checksum in each file detects accidents, not attacks. A keyed hash would protect
//! nothing: the same user could read the key beside the files. For the same reason never copy a cache from another user; the hub's own file
//! contains everything that is worth copying.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::limits::CODE_CACHE_BYTES;
use perennial_core::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

/// First bytes of a cache file, and the version of its layout.
const MAGIC: &[u8; 8] = b"prncwsm1";

/// Magic, key, module, checksum.
const HEADER_BYTES: usize = 8 + 32 + 32 + 32;

/// Larger files are not read: no module compiles to that much.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// A used file is marked again if its last mark is older than this.
const MARK_AFTER: Duration = Duration::from_secs(60 * 60);

/// A temporary file older than this was left behind by a crash.
const UNFINISHED_AFTER: Duration = Duration::from_secs(60 * 60);

/// Free space that must remain on the disk after a file is cached: hubs need it more than code that can be compiled again.
const ROOM_LEFT: u64 = 64 << 20;

/// The maximum number of problems with single files that are logged, in case a whole directory is bad.
const SAID_MAX: usize = 20;

/// Directories that were already logged as unusable: each inspection opens the cache again.
static UNUSABLE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Identifies the code that a host can run: a hash of the engine's settings, wasmtime's version and the CPU's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key for engines of this `kind`.
    pub(super) fn of(engine: &Engine, kind: &str) -> Self {
        let mut hasher = ShaHasher(Sha256::new());
        kind.hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }
}

/// A directory of compiled code.
#[derive(Debug, Default)]
pub(super) struct CodeCache {
    /// `None` caches nothing.
    dir: Option<PathBuf>,
    /// Files whose problem was logged, and whether a write failure was logged.
    said: Mutex<(BTreeSet<PathBuf>, bool)>,
}

impl CodeCache {
    /// Opens a directory, and creates it if necessary. An unusable one is left unchanged, with a warning.
    pub(super) fn open(dir: Option<PathBuf>) -> Self {
        let dir = dir.filter(|dir| match prepare(dir) {
            Ok(()) => true,
            Err(error) => {
                let mut said = UNUSABLE.lock().unwrap_or_else(PoisonError::into_inner);
                if said.len() < SAID_MAX && said.insert(dir.clone()) {
                    tracing::warn!(dir = %dir.display(), %error, "compiled code is not cached");
                }
                false
            }
        });
        Self {
            dir,
            said: Mutex::default(),
        }
    }

    /// Whether there is a directory.
    pub(super) fn keeps(&self) -> bool {
        self.dir.is_some()
    }

    /// The code of a module, if it is cached and intact.
    pub(super) fn load(&self, module: Digest, key: Key) -> Option<Vec<u8>> {
        let path = self.path(module, key)?;
        match read(&path, module, key) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.say(&path, &error);
                None
            }
        }
    }

    /// Whether the code of a module is cached, without reading the file.
    pub(super) fn has(&self, module: Digest, key: Key) -> bool {
        self.path(module, key)
            .is_some_and(|path| fs::symlink_metadata(path).is_ok_and(|file| file.is_file()))
    }

    /// Caches the code of a module, atomically replacing any former file. Returns whether it was written.
    pub(super) fn store(&self, module: Digest, key: Key, code: &[u8]) -> bool {
        let (Some(dir), Some(path)) = (&self.dir, self.path(module, key)) else {
            return false;
        };
        let written = make_room(dir, code.len() as u64, ROOM_LEFT)
            .and_then(|()| replace(&path, &header(module, key, code), code));
        if let Err(error) = written {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::replace(&mut said.1, true) {
                tracing::warn!(path = %path.display(), %error, "compiled code is not cached");
            }
            return false;
        }
        prune(dir, &path, CODE_CACHE_BYTES);
        true
    }

    /// Removes all code of a module, for every key.
    pub(super) fn forget(&self, module: Digest) {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else {
            return;
        };
        let prefix = format!("{module}-");
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // A file left behind only costs disk space, and may even be used again.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, module: Digest, key: Key) -> Option<PathBuf> {
        let name = format!("{module}-{}.cwasm", Digest(key.0).short());
        self.dir.as_ref().map(|dir| dir.join(name))
    }

    fn say(&self, path: &Path, error: &io::Error) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.0.len() < SAID_MAX && said.0.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), %error, "compiled code is not loaded; it is made again");
        }
    }
}

/// Removes all code of a module from a cache directory, which need not exist.
pub(crate) fn forget_compiled(dir: &Path, module: Digest) {
    CodeCache {
        dir: Some(dir.to_owned()),
        said: Mutex::default(),
    }
    .forget(module);
}

/// The header of a file with this code.
fn header(module: Digest, key: Key, code: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..40].copy_from_slice(&key.0);
    header[40..72].copy_from_slice(&module.0);
    header[72..].copy_from_slice(&Sha256::digest(code));
    header
}

fn prepare(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let owner = fs::metadata(dir)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(not_ours(owner));
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Reads the code from a file, after checking the file's owner, module, key and checksum.
fn read(path: &Path, module: Digest, key: Key) -> io::Result<Vec<u8>> {
    // Checks the opened file and not the path, which may change in between.
    let mut file = open(path)?;
    let length = check_file(&file)?;
    let mut found = [0; HEADER_BYTES];
    let mut code = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_exact(&mut found)
        .and_then(|()| (&file).take(FILE_BYTES_MAX).read_to_end(&mut code))
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(),
            _ => error,
        })?;
    if found != header(module, key, &code) {
        return Err(damaged());
    }
    mark_used(&file);
    Ok(code)
}

/// Opens a file without following links or blocking.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path).map_err(|error| {
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            return no_plain_file("a symbolic link");
        }
        error
    })
}

/// Checks that an opened file may be loaded, and returns its length.
fn check_file(file: &File) -> io::Result<u64> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(no_plain_file("no plain file"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(not_ours(found.uid()));
        }
        if found.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others than its owner can write to it",
            ));
        }
    }
    if found.len() > FILE_BYTES_MAX {
        return Err(damaged());
    }
    Ok(found.len())
}

#[cfg(unix)]
fn not_ours(owner: u32) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "it belongs to user {owner}, and this process runs as user {}",
            rustix::process::geteuid().as_raw()
        ),
    )
}

fn no_plain_file(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}"))
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it is damaged, or of another module",
    )
}

/// Marks a file as used, so that it is evicted later. If marking fails, the module is only compiled again one day.
fn mark_used(file: &File) {
    let now = SystemTime::now();
    let modified = file.metadata().and_then(|found| found.modified());
    if modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > MARK_AFTER)) {
        let _ = file.set_modified(now);
    }
}

fn replace(path: &Path, header: &[u8], code: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{unique}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(header)?;
            file.write_all(code)
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes sure that the disk keeps free space after writing `bytes`: if it would not, deletes all cached code.
fn make_room(dir: &Path, bytes: u64, room_left: u64) -> io::Result<()> {
    let has_room = || -> io::Result<bool> {
        let disk = rustix::fs::statvfs(dir)?;
        let room = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(room >= room_left.saturating_add(bytes))
    };
    if has_room()? {
        return Ok(());
    }
    prune(dir, Path::new(""), 0);
    if has_room()? {
        return Ok(());
    }
    let why = format!("the disk would have less than {} MiB left", room_left >> 20);
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

/// Evicts the least recently used files until the rest has at most `bytes_max` bytes, and removes unfinished files.
fn prune(dir: &Path, newest: &Path, bytes_max: u64) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut bytes = 0;
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        let path = entry.path();
        let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let is_old = used.elapsed().is_ok_and(|age| age > UNFINISHED_AFTER);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("tmp") if is_old => drop(fs::remove_file(&path)),
            Some("cwasm") if found.is_file() => {
                bytes += found.len();
                files.push((used, found.len(), path));
            }
            _ => {}
        }
    }
    files.sort();
    for (_, length, path) in files {
        if bytes <= bytes_max {
            return;
        }
        if path != newest && fs::remove_file(&path).is_ok() {
            bytes -= length;
        }
    }
}

/// Implements `Hasher` with SHA-256: unlike the standard library's hashers it returns the same in every process.
struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: Digest = Digest([7; 32]);
    const KEY: Key = Key([9; 32]);

    fn cache() -> (tempfile::TempDir, CodeCache, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(Some(dir.path().join("code")));
        cache.store(MODULE, KEY, b"some code");
        let path = cache.path(MODULE, KEY).unwrap();
        (dir, cache, path)
    }

    #[test]
    fn what_is_stored_comes_back() {
        let (_dir, cache, _) = cache();
        assert_eq!(cache.load(MODULE, KEY).as_deref(), Some(&b"some code"[..]));
        assert_eq!(cache.load(Digest([8; 32]), KEY), None);
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let (_dir, cache, path) = cache();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.load(MODULE, KEY), None, "byte {at}");
        }
        cache.store(MODULE, KEY, b"some code");
        assert!(cache.load(MODULE, KEY).is_some());
    }

    #[test]
    fn a_truncated_file_is_noticed() {
        let (_dir, cache, path) = cache();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.load(MODULE, KEY), None, "{length} bytes");
        }
    }

    #[test]
    fn a_file_of_another_module_or_host_is_noticed() {
        let (_dir, cache, path) = cache();
        for (module, key) in [(Digest([8; 32]), KEY), (MODULE, Key([8; 32]))] {
            fs::copy(&path, cache.path(module, key).unwrap()).unwrap();
            assert_eq!(cache.load(module, key), None);
        }
        fs::write(&path, "something else entirely").unwrap();
        assert_eq!(cache.load(MODULE, KEY), None);
    }

    #[test]
    fn nothing_of_a_forgotten_module_stays() {
        let (_dir, cache, path) = cache();
        cache.forget(Digest([8; 32]));
        assert!(path.exists());
        cache.forget(MODULE);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_used_means_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = CodeCache::open(Some(file.join("code")));
        cache.store(MODULE, KEY, b"some code");
        assert_eq!(cache.load(MODULE, KEY), None);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_look_inside() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, _, path) = cache();
        let mode = fs::metadata(path.parent().unwrap())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[cfg(unix)]
    mod of_somebody_else {
        use std::os::unix::fs::{PermissionsExt, symlink};

        use super::*;

        /// Replaces a good file by something that must not be loaded, must not block, and must not stay.
        #[track_caller]
        fn is_left_alone(put: impl FnOnce(&Path, &Path)) {
            let (_dir, cache, path) = cache();
            let good = path.with_extension("good");
            fs::rename(&path, &good).unwrap();
            put(&path, &good);
            assert_eq!(cache.load(MODULE, KEY), None);
            assert!(cache.store(MODULE, KEY, b"some code"));
            assert_eq!(cache.load(MODULE, KEY).as_deref(), Some(&b"some code"[..]));
        }

        #[test]
        fn a_symbolic_link_is_not_loaded() {
            is_left_alone(|path, good| symlink(good, path).unwrap());
        }

        #[test]
        fn a_pipe_holds_nobody_up() {
            is_left_alone(|path, _| {
                let made = std::process::Command::new("mkfifo").arg(path).status();
                assert!(made.unwrap().success());
            });
        }

        #[test]
        fn a_file_that_others_can_write_is_not_loaded() {
            for mode in [0o620, 0o602] {
                is_left_alone(|path, good| {
                    fs::rename(good, path).unwrap();
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                });
            }
        }

        #[test]
        fn a_directory_in_the_place_of_a_file_costs_a_compilation() {
            let (_dir, cache, path) = cache();
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "").unwrap();
            assert_eq!(cache.load(MODULE, KEY), None);
            assert!(!cache.store(MODULE, KEY, b"some code"));
        }

        #[test]
        fn what_belongs_to_another_user_is_not_loaded() {
            if !rustix::process::geteuid().is_root() {
                // Only root can give a file to another user.
                return;
            }
            is_left_alone(|path, good| {
                fs::rename(good, path).unwrap();
                std::os::unix::fs::chown(path, Some(12_345), None).unwrap();
            });
            let (_dir, _, path) = cache();
            let dir = path.parent().unwrap();
            std::os::unix::fs::chown(dir, Some(12_345), None).unwrap();
            assert!(!CodeCache::open(Some(dir.to_owned())).keeps());
        }
    }

    #[test]
    fn a_disk_keeps_room_for_what_cannot_be_made_again() {
        let (_dir, cache, path) = cache();
        let code = path.parent().unwrap();
        make_room(code, 1, 0).unwrap();
        assert!(path.exists());
        let refused = make_room(code, 1, u64::MAX - 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(!path.exists(), "what was there is given back");
        assert_eq!(cache.load(MODULE, KEY), None);
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let (dir, cache, path) = cache();
        let day = Duration::from_secs(86_400);
        for (n, age) in [(1, 3), (2, 2), (3, 1)] {
            let module = Digest([n; 32]);
            cache.store(module, KEY, &[0; 1_000]);
            let file = File::open(cache.path(module, KEY).unwrap()).unwrap();
            file.set_modified(SystemTime::now() - day * age).unwrap();
        }
        // Using it makes it the newest.
        assert!(cache.load(Digest([1; 32]), KEY).is_some());
        let unfinished = dir.path().join("code/x.tmp");
        fs::write(&unfinished, "").unwrap();
        let file = File::options().append(true).open(&unfinished).unwrap();
        file.set_modified(SystemTime::now() - day).unwrap();
        prune(&dir.path().join("code"), &path, 2_500);
        assert!(cache.has(MODULE, KEY) && cache.has(Digest([1; 32]), KEY));
        assert!(!cache.has(Digest([2; 32]), KEY) && !unfinished.exists());
    }
}
