//! A simulated disk under SQLite, for tests: records writes and syncs in a directory, computes what a power loss leaves of them, and
//! injects disk errors.
//!
//! It is a SQLite VFS that forwards everything to the usual one, and becomes the default VFS of this process. It records only files in
//! directories that a test named.
//!
//! This module needs `unsafe`: a VFS is a table of C functions, and nothing else can stand between SQLite and a file.
#![expect(
    unsafe_code,
    reason = "a VFS is a table of C functions, which SQLite gives pointers to files that it allocated"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

/// The size of an atomic write.
const SECTOR: usize = 512;

/// An operation on a disk.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Write {
        file: String,
        at: usize,
        data: Vec<u8>,
    },
    Truncate {
        file: String,
        len: usize,
    },
    Sync {
        file: String,
    },
    /// A test acknowledged something: what was written for it must be durable from now on.
    Mark(String),
}

/// A disk error to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The disk is full: writes fail.
    Full,
    /// Writes fail.
    Write,
    /// Syncs fail.
    Sync,
    /// All operations fail.
    Dead,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    trouble: Option<Trouble>,
    /// The number of failed operations.
    troubled: u64,
}

/// The disk under a directory. Dropping it ends the recording.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Recorded>);

struct Recorded {
    log: Arc<Mutex<Log>>,
    /// The content of the files when the recording began.
    base: BTreeMap<String, Vec<u8>>,
}

static DIRS: Mutex<Vec<(PathBuf, Arc<Mutex<Log>>)>> = Mutex::new(Vec::new());

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Recorded {
    fn drop(&mut self) {
        held(&DIRS).retain(|(_, log)| !Arc::ptr_eq(log, &self.log));
    }
}

impl Disk {
    /// Records SQLite's operations on files in a directory that it opens from now on. Existing content counts as synced.
    pub(crate) fn under(dir: &Path) -> Self {
        usual();
        let mut base = BTreeMap::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            base.insert(name, std::fs::read(path).unwrap());
        }
        let log = Arc::default();
        held(&DIRS).push((dir.canonicalize().unwrap(), Arc::clone(&log)));
        Self(Arc::new(Recorded { log, base }))
    }

    /// Records that a test acknowledged `what`.
    pub(crate) fn mark(&self, what: impl Into<String>) {
        held(&self.0.log).entries.push(Entry::Mark(what.into()));
    }

    /// Sets the error of all following operations; `None` ends it.
    pub(crate) fn has(&self, trouble: Option<Trouble>) {
        held(&self.0.log).trouble = trouble;
    }

    /// The number of failed operations.
    pub(crate) fn troubled(&self) -> u64 {
        held(&self.0.log).troubled
    }

    /// The number of syncs.
    pub(crate) fn syncs(&self) -> usize {
        let log = held(&self.0.log);
        let is_sync = |entry: &&Entry| matches!(entry, Entry::Sync { .. });
        log.entries.iter().filter(is_sync).count()
    }

    /// All recorded operations so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        held(&self.0.log).entries.clone()
    }

    /// Writes to `to` the files that a power loss after `entries` may leave. For each sector written after its file's last sync, `fate`
    /// decides whether it reached the disk.
    pub(crate) fn image(&self, entries: &[Entry], to: &Path, mut fate: impl FnMut() -> bool) {
        let mut files = self.0.base.clone();
        let mut synced: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            if let Entry::Sync { file } = entry {
                synced.insert(file, place);
            }
        }
        for (place, entry) in entries.iter().enumerate() {
            let is_synced = |file: &str| synced.get(file).is_some_and(|last| place < *last);
            match entry {
                Entry::Write { file, at, data } => {
                    let sure = is_synced(file);
                    let bytes = files.entry(file.clone()).or_default();
                    let mut done = 0;
                    while done < data.len() {
                        let from = at + done;
                        // Up to the next boundary of a sector.
                        let len = (SECTOR - from % SECTOR).min(data.len() - done);
                        if sure || fate() {
                            if bytes.len() < from + len {
                                bytes.resize(from + len, 0);
                            }
                            bytes[from..from + len].copy_from_slice(&data[done..done + len]);
                        }
                        done += len;
                    }
                }
                Entry::Truncate { file, len } if is_synced(file) || fate() => {
                    files.entry(file.clone()).or_default().resize(*len, 0);
                }
                Entry::Truncate { .. } | Entry::Sync { .. } | Entry::Mark(_) => {}
            }
        }
        for (name, bytes) in files {
            // The index that readers share is in memory, and is lost.
            if !name.ends_with("-shm") {
                std::fs::write(to.join(name), bytes).unwrap();
            }
        }
    }
}

// --- The VFS

/// An open file: SQLite's view of it, and its recording. The usual VFS's own file follows it in memory.
#[repr(C)]
struct File {
    base: sqlite3_file,
    tap: *mut Tap,
}

/// The recording of a file.
struct Tap {
    name: String,
    log: Arc<Mutex<Log>>,
}

/// The usual VFS. The first call registers this one as the default.
fn usual() -> *mut sqlite3_vfs {
    static USUAL: OnceLock<usize> = OnceLock::new();
    let usual = USUAL.get_or_init(|| {
        // SAFETY: SQLite returns its default VFS, which lives as long as the process; the registered one is leaked, and does too.
        unsafe {
            let usual = ffi::sqlite3_vfs_find(std::ptr::null());
            assert!(!usual.is_null());
            let mut recording = *usual;
            recording.pNext = std::ptr::null_mut();
            recording.zName = c"recording".as_ptr();
            recording.szOsFile += c_int::try_from(size_of::<File>()).unwrap();
            recording.xOpen = Some(open);
            let recording = Box::leak(Box::new(recording));
            assert_eq!(ffi::sqlite3_vfs_register(recording, 1), ffi::SQLITE_OK);
            usual as usize
        }
    });
    *usual as *mut sqlite3_vfs
}

/// The usual VFS's file behind a file of this one.
fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    file.wrapping_byte_add(size_of::<File>())
}

fn tap_of(name: *const c_char) -> *mut Tap {
    if name.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: SQLite gives a name that ends with a zero and lives as long as the file.
    let name = unsafe { CStr::from_ptr(name) };
    let path = Path::new(name.to_str().unwrap_or_default());
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return std::ptr::null_mut();
    };
    let dirs = held(&DIRS);
    match dirs.iter().find(|(recorded, _)| recorded == dir) {
        Some((_, log)) => Box::into_raw(Box::new(Tap {
            name: name.to_owned(),
            log: Arc::clone(log),
        })),
        None => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let usual = usual();
    // SAFETY: SQLite gives `szOsFile` bytes for the file, which are enough for this file and the usual one behind it.
    unsafe {
        (*file).pMethods = std::ptr::null();
        let code = match (*usual).xOpen {
            Some(open) => open(usual, name, real(file), flags, out),
            None => ffi::SQLITE_CANTOPEN,
        };
        if code == ffi::SQLITE_OK {
            (*file.cast::<File>()).tap = tap_of(name);
            (*file).pMethods = &raw const METHODS;
        }
        code
    }
}

/// Calls a method of the usual VFS's file.
macro_rules! hand_on {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let file = real($file);
        // SAFETY: the file was opened by the usual VFS, whose methods have the version that is asked for here.
        unsafe {
            match (*(*file).pMethods).$method {
                Some(method) => method(file $(, $argument)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    }};
}

/// Performs an operation on a file, and records it if the file is recorded and the operation succeeded.
fn recorded(
    file: *mut sqlite3_file,
    trouble: impl FnOnce(Trouble) -> Option<c_int>,
    entry: impl FnOnce(&str) -> Option<Entry>,
    done: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: it was set when the file was opened, and is freed when it is closed.
    let tap = unsafe { (*file.cast::<File>()).tap.as_ref() };
    let Some(tap) = tap else {
        return done();
    };
    // Held during the operation, so that the log has the order of the disk.
    let mut log = held(&tap.log);
    if let Some(code) = log.trouble.and_then(trouble) {
        log.troubled += 1;
        return code;
    }
    let code = done();
    if code == ffi::SQLITE_OK
        && let Some(entry) = entry(&tap.name)
    {
        log.entries.push(entry);
    }
    code
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let code = hand_on!(file, xClose);
    // SAFETY: it comes from a box, and SQLite closes a file once.
    unsafe {
        let tap = std::mem::replace(&mut (*file.cast::<File>()).tap, std::ptr::null_mut());
        if !tap.is_null() {
            drop(Box::from_raw(tap));
        }
    }
    code
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    to: *mut c_void,
    len: c_int,
    at: sqlite3_int64,
) -> c_int {
    let trouble = |trouble| (trouble == Trouble::Dead).then_some(ffi::SQLITE_IOERR_READ);
    recorded(
        file,
        trouble,
        |_| None,
        || hand_on!(file, xRead, to, len, at),
    )
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    len: c_int,
    at: sqlite3_int64,
) -> c_int {
    let trouble = |trouble| match trouble {
        Trouble::Full => Some(ffi::SQLITE_FULL),
        Trouble::Write | Trouble::Dead => Some(ffi::SQLITE_IOERR_WRITE),
        Trouble::Sync => None,
    };
    // SAFETY: SQLite gives that many bytes.
    let data = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len as usize) };
    let entry = |file: &str| {
        Some(Entry::Write {
            file: file.to_owned(),
            at: at as usize,
            data: data.to_vec(),
        })
    };
    recorded(file, trouble, entry, || {
        hand_on!(file, xWrite, from, len, at)
    })
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    let trouble = |trouble| match trouble {
        Trouble::Write | Trouble::Dead => Some(ffi::SQLITE_IOERR_TRUNCATE),
        Trouble::Full | Trouble::Sync => None,
    };
    let entry = |file: &str| {
        Some(Entry::Truncate {
            file: file.to_owned(),
            len: len as usize,
        })
    };
    recorded(file, trouble, entry, || hand_on!(file, xTruncate, len))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    let trouble = |trouble| match trouble {
        Trouble::Sync | Trouble::Dead => Some(ffi::SQLITE_IOERR_FSYNC),
        Trouble::Full | Trouble::Write => None,
    };
    let entry = |file: &str| {
        Some(Entry::Sync {
            file: file.to_owned(),
        })
    };
    recorded(file, trouble, entry, || hand_on!(file, xSync, flags))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    hand_on!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    hand_on!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    hand_on!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    hand_on!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, with: *mut c_void) -> c_int {
    hand_on!(file, xFileControl, op, with)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    hand_on!(file, xSectorSize)
}

unsafe extern "C" fn characteristics(file: *mut sqlite3_file) -> c_int {
    hand_on!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    hand_on!(file, xShmMap, page, size, extend, out)
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    at: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    hand_on!(file, xShmLock, at, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    let file = real(file);
    // SAFETY: the file was opened by the usual VFS.
    unsafe {
        if let Some(barrier) = (*(*file).pMethods).xShmBarrier {
            barrier(file);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    hand_on!(file, xShmUnmap, delete)
}

/// Version 2: without memory maps, whose writes could not be recorded.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
