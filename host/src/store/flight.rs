//! Flight recorder: remembers across a crash which turns and attempts were running.
//!
//! One small file of this machine (beside the hub, if that is a file) has a slot for each worker and for each activity that may run at once. A slot is written when a turn or an
//! attempt starts, and cleared when it ends, without a sync: the file must survive only the death of the process (after a power loss no
//! work is to blame). The next owner reads the file and counts one more delivery for each entry. Work that was only queued is never
//! counted, and the hub itself is not written.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::{TaskId, Timestamp};

use crate::store::StoreError;
use crate::store::types::{InstanceKey, WasRunning};

/// A slot: the instance's key, the task (or `TURN`), the used mark, the start time, and the number of the attempt.
const SLOT_BYTES: usize = 2 * PART_BYTES;
/// An older version wrote only the first part of a slot.
const PART_BYTES: usize = 16;
const TURN: u32 = u32::MAX;

/// Marks a slot as used, in this version and in an older one. The second part has no mark at this position.
const USED: u8 = 2;
const USED_BEFORE: u8 = 1;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct FlightRecorder {
    path: PathBuf,
    file: File,
    /// Set once the file must not be written any more.
    closed: AtomicBool,
}

impl FlightRecorder {
    /// Opens the recorder of a hub that this process owns, in this file, and reads the last owner's entries.
    pub(in crate::store) fn open(path: PathBuf) -> Result<(Self, Vec<WasRunning>), StoreError> {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = open.map_err(StoreError::file("could not open", &path))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut &file, &mut bytes)
            .map_err(StoreError::file("could not read", &path))?;
        let closed = AtomicBool::new(false);
        Ok((Self { path, file, closed }, parse(&bytes)))
    }

    /// Deletes the last owner's entries, after they were counted.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        self.file
            .set_len(0)
            .map_err(StoreError::file("could not clear", &self.path))
    }

    /// Deletes all entries at an orderly shutdown, so that no work is blamed.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.clear() {
            tracing::debug!(%error, "could not clear the record of running work");
        }
    }

    /// Stops writing, since the file now belongs to another owner.
    pub(crate) fn let_go(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Records that a turn or an attempt starts in a slot.
    pub(crate) fn begin(
        &self,
        slot: usize,
        key: InstanceKey,
        attempt: Option<(TaskId, u32)>,
        at: Timestamp,
    ) {
        let (task, number) = attempt.unzip();
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&key.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&task.map_or(TURN, |task| task.0).to_le_bytes());
        bytes[12] = USED;
        bytes[16..24].copy_from_slice(&at.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&number.unwrap_or(0).to_le_bytes());
        self.write(slot, &bytes);
    }

    /// Clears a slot.
    pub(crate) fn end(&self, slot: usize) {
        self.write(slot, &[0; SLOT_BYTES]);
    }

    fn write(&self, slot: usize, bytes: &[u8]) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        // If the file cannot be written (a full disk, for example), only the count of deliveries suffers.
        if let Err(error) = self.file.write_all_at(bytes, (slot * SLOT_BYTES) as u64) {
            tracing::debug!(%error, "could not record running work");
        }
    }
}

/// Returns what the owner of a hub is running now, for other processes. Empty if the file cannot be read.
pub(in crate::store) fn look(path: &Path) -> Vec<WasRunning> {
    std::fs::read(path).map_or_else(|_| Vec::new(), |bytes| parse(&bytes))
}

/// Identifies the boot of this machine, if the system tells: the recorder is complete only as long as the machine runs.
pub(crate) fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

fn parse(bytes: &[u8]) -> Vec<WasRunning> {
    let mut parts = bytes.chunks_exact(PART_BYTES);
    let mut found = Vec::new();
    while let Some(part) = parts.next() {
        let Some((key, _)) = part.split_first_chunk::<8>() else {
            continue;
        };
        let (started_at, attempt) = match part[12] {
            USED => match parts.next() {
                Some(more) => {
                    let at = more.first_chunk::<8>().map(|at| u64::from_le_bytes(*at));
                    let number = u32::from_le_bytes([more[8], more[9], more[10], more[11]]);
                    (at.map(Timestamp), Some(number).filter(|number| *number > 0))
                }
                None => (None, None),
            },
            USED_BEFORE => (None, None),
            _ => continue,
        };
        let task = u32::from_le_bytes([part[8], part[9], part[10], part[11]]);
        found.push(WasRunning {
            key: InstanceKey(i64::from_le_bytes(*key)),
            task: (task != TURN).then_some(TaskId(task)),
            started_at,
            attempt,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_an_older_version_are_read() {
        let mut bytes = vec![0; 16];
        bytes.extend([7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0]);
        let was = WasRunning {
            key: InstanceKey(7),
            task: Some(TaskId(3)),
            started_at: None,
            attempt: None,
        };
        assert_eq!(parse(&bytes), [was]);
    }

    #[test]
    fn what_is_written_is_read_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.db.running");
        let (flight, before) = FlightRecorder::open(path.clone()).unwrap();
        assert_eq!(before, []);
        flight.begin(1, InstanceKey(-5), None, Timestamp(u64::MAX));
        flight.begin(2, InstanceKey(9), Some((TaskId(0), 7)), Timestamp(4));
        flight.begin(3, InstanceKey(9), Some((TaskId(1), 8)), Timestamp(4));
        flight.end(3);
        let was = |key, task: Option<u32>, at| WasRunning {
            key: InstanceKey(key),
            task: task.map(TaskId),
            started_at: Some(Timestamp(at)),
            attempt: task.map(|_| 7),
        };
        assert_eq!(look(&path), [was(-5, None, u64::MAX), was(9, Some(0), 4)]);
    }
}
