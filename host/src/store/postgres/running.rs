//! The files in which owners on this machine record what they run.
//!
//! An owner of a whole hub has one file. Each of those that share a hub has its own, with its epoch in the name: whoever takes a partition
//! from a dead owner finds there what ran in it, if that one ran on this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::store::sqlite::file::paths::{remove, with_suffix};
use crate::store::types::WasRunning;
use crate::store::{StoreError, flight};

/// The file of an owner that shares a hub.
pub(super) fn file_of(base: &Path, epoch: i64) -> PathBuf {
    with_suffix(base, &format!("-{epoch}"))
}

/// What an owner that shared a hub recorded last.
pub(super) fn of_owner(base: &Path, epoch: i64) -> Vec<WasRunning> {
    flight::look(&file_of(base, epoch))
}

/// Whether that is all there is to know: the owner ran on this machine, which was not started again since.
pub(super) fn is_complete(base: &Path, epoch: i64) -> bool {
    let written = std::fs::metadata(file_of(base, epoch)).and_then(|file| file.modified());
    let up = std::fs::read_to_string("/proc/uptime").ok();
    let up = up.and_then(|text| text.split('.').next()?.parse().ok());
    let booted = up.and_then(|up| SystemTime::now().checked_sub(Duration::from_secs(up)));
    match (written, booted) {
        (Ok(written), Some(booted)) => written > booted,
        _ => false,
    }
}

/// The epochs of all owners that have a file here.
pub(super) fn epochs(base: &Path) -> Vec<i64> {
    let (Some(dir), Some(name)) = (base.parent(), base.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let epoch = |entry: std::fs::DirEntry| {
        let file = entry.file_name().into_string().ok()?;
        file.strip_prefix(&*name)?.strip_prefix('-')?.parse().ok()
    };
    entries.filter_map(epoch).collect()
}

/// Removes the files of all owners that shared a hub.
pub(in crate::store) fn remove_every(base: &Path) -> Result<(), StoreError> {
    remove_all(base, &epochs(base))
}

/// Removes the files of some owners.
pub(super) fn remove_all(base: &Path, of: &[i64]) -> Result<(), StoreError> {
    of.iter()
        .try_for_each(|epoch| remove(&file_of(base, *epoch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_owners_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("hub.running");
        for name in [
            "hub.running",
            "hub.running-7",
            "hub.running-x",
            "other.running-8",
        ] {
            std::fs::write(dir.path().join(name), []).unwrap();
        }
        assert_eq!(epochs(&base), [7]);
        remove_all(&base, &[7, 9]).unwrap();
        assert_eq!(epochs(&base), [0; 0]);
        assert!(of_owner(&base, 7).is_empty());
    }
}
