//! Compiled code on disk, so that a module is compiled once and not once for every start of the host.
//!
//! Invariant: losing, truncating or mixing up any file here costs a compilation and nothing else.
//!
//! A cache file is native code, and whoever can write one can run code as the host. So the directory is as trusted as the program that
//! is running: it belongs to the host's own user and is closed to all others (mode 0700, set on every start; a directory that cannot be
//! closed is not used). The checksum in each file finds accidents, not attackers. It is no keyed hash on purpose: the key would have to lie
//! where the same user can read it, next to the files, and protect nothing. For the same reason a cache must not be copied from anybody
//! else; the hub's own file holds everything that is worth copying.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use perennial_core::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

/// First bytes of a cache file, and the version of its layout.
const MAGIC: &[u8; 8] = b"prncwsm1";

/// Magic, key, module, checksum.
const HEADER_BYTES: usize = 8 + 32 + 32 + 32;

/// Says which code a host can run: the engine's settings, wasmtime's version and the CPU's features go into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of code for `engine`, which belongs to engines of this `kind`.
    pub(super) fn of(engine: &Engine, kind: &str) -> Self {
        let mut hasher = ShaHasher(Sha256::new());
        kind.hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }
}

/// A directory of compiled code.
#[derive(Debug)]
pub(super) struct CodeCache {
    /// `None` keeps nothing.
    dir: Option<PathBuf>,
}

impl CodeCache {
    /// Opens a directory, making it if need be. One that cannot be used is left alone, with a warning.
    pub(super) fn open(dir: Option<PathBuf>) -> Self {
        let dir = dir.filter(|dir| match prepare(dir) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "compiled code is not cached");
                false
            }
        });
        Self { dir }
    }

    /// The code of a module, if it is here and whole.
    pub(super) fn load(&self, module: Digest, key: Key) -> Option<Vec<u8>> {
        let path = self.path(module, key)?;
        let mut file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code cannot be read");
                return None;
            }
        };
        if file.len() < HEADER_BYTES
            || file[..HEADER_BYTES] != header(module, key, &file[HEADER_BYTES..])
        {
            tracing::warn!(path = %path.display(), "compiled code is damaged; it is made again");
            return None;
        }
        file.drain(..HEADER_BYTES);
        Some(file)
    }

    /// Keeps the code of a module, replacing what was there in one step.
    pub(super) fn store(&self, module: Digest, key: Key, code: &[u8]) {
        let Some(path) = self.path(module, key) else {
            return;
        };
        if let Err(error) = replace(&path, &header(module, key, code), code) {
            tracing::warn!(path = %path.display(), %error, "compiled code is not cached");
        }
    }

    /// Removes all code of a module, whatever it was compiled for.
    pub(super) fn forget(&self, module: Digest) {
        let Some(entries) = self.dir.as_ref().and_then(|dir| fs::read_dir(dir).ok()) else {
            return;
        };
        let prefix = format!("{module}-");
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // Left behind it costs disk space; a module that comes back may even use it.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, module: Digest, key: Key) -> Option<PathBuf> {
        let name = format!("{module}-{}.cwasm", Digest(key.0).short());
        self.dir.as_ref().map(|dir| dir.join(name))
    }
}

/// Removes all code of a module from a directory of compiled code, which need not be there.
pub(crate) fn forget_compiled(dir: &Path, module: Digest) {
    let dir = Some(dir.to_owned());
    CodeCache { dir }.forget(module);
}

/// What a whole file with this code begins with.
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
        use std::os::unix::fs::PermissionsExt;
        // Only the owner can do this, so it also proves whose directory it is.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn replace(path: &Path, header: &[u8], code: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{unique}.tmp", std::process::id()));
    let written = fs::File::create_new(&temporary)
        .and_then(|mut file| {
            file.write_all(header)?;
            file.write_all(code)
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Feeds what is hashed to SHA-256: unlike the hashers of the standard library it is the same in every process.
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
}
