//! Flight recorder: remembers across a crash which turns and attempts were running.
//!
//! One small file beside the hub has a slot for each worker and for each activity that may run at once. A slot is written when something
//! starts in it and cleared when it ends, without a sync: what the file says survives the death of the process, which is all it is for
//! (after a power loss nothing that ran is to blame). The next owner reads it, and counts one more delivery for each. So work that was
//! only queued is never counted, and nothing is written to the hub itself.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::{TaskId, Timestamp};

use crate::store::{InstanceKey, StoreError, WasRunning, with_suffix};

/// Key, task (or the mark of a turn), whether the slot is in use, and when that began.
const SLOT_BYTES: usize = 2 * PART_BYTES;
/// A slot of an older version has the first part alone.
const PART_BYTES: usize = 16;
const TURN: u32 = u32::MAX;

/// Marks a slot in use: of this version, and of an older one. The same place of a second part holds no mark.
const USED: u8 = 2;
const USED_BEFORE: u8 = 1;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct FlightRecorder {
    file: File,
    /// Whether the file is the next owner's.
    closed: AtomicBool,
}

impl FlightRecorder {
    /// Opens the recorder of a hub that is owned, and reads what the last owner left in it.
    pub(crate) fn open(hub: &Path) -> Result<(Self, Vec<WasRunning>), StoreError> {
        let path = with_suffix(hub, ".running");
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
        Ok((Self { file, closed }, parse(&bytes)))
    }

    /// Forgets what the last owner left, once it is counted.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        self.file.set_len(0)
    }

    /// Forgets what runs: the host ends in peace, and nothing is to blame.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.clear() {
            tracing::debug!(%error, "could not clear what was running");
        }
    }

    /// Writes nothing more: the recorder is another owner's, and tells what runs there.
    pub(crate) fn let_go(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Something starts in a slot, at this time.
    pub(crate) fn begin(&self, slot: usize, key: InstanceKey, task: Option<TaskId>, at: Timestamp) {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&key.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&task.map_or(TURN, |task| task.0).to_le_bytes());
        bytes[12] = USED;
        bytes[16..24].copy_from_slice(&at.0.to_le_bytes());
        self.write(slot, &bytes);
    }

    /// What started in a slot has ended.
    pub(crate) fn end(&self, slot: usize) {
        self.write(slot, &[0; SLOT_BYTES]);
    }

    fn write(&self, slot: usize, bytes: &[u8]) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        // A recorder that cannot be written (a full disk, say) only fails to count; nothing depends on it.
        if let Err(error) = self.file.write_all_at(bytes, (slot * SLOT_BYTES) as u64) {
            tracing::debug!(%error, "could not record what is running");
        }
    }
}

/// What runs now in the host that owns a hub, for whoever asks from outside. Empty where that cannot be read.
pub(crate) fn look(hub: &Path) -> Vec<WasRunning> {
    std::fs::read(with_suffix(hub, ".running")).map_or_else(|_| Vec::new(), |bytes| parse(&bytes))
}

fn parse(bytes: &[u8]) -> Vec<WasRunning> {
    let mut parts = bytes.chunks_exact(PART_BYTES);
    let mut found = Vec::new();
    while let Some(part) = parts.next() {
        let Some((key, _)) = part.split_first_chunk::<8>() else {
            continue;
        };
        let started_at = match part[12] {
            USED => parts.next().and_then(|more| {
                let (at, _) = more.split_first_chunk::<8>()?;
                Some(Timestamp(u64::from_le_bytes(*at)))
            }),
            USED_BEFORE => None,
            _ => continue,
        };
        let task = u32::from_le_bytes([part[8], part[9], part[10], part[11]]);
        found.push(WasRunning {
            key: InstanceKey(i64::from_le_bytes(*key)),
            task: (task != TURN).then_some(TaskId(task)),
            started_at,
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
        };
        assert_eq!(parse(&bytes), [was]);
    }

    #[test]
    fn what_is_written_is_read_from_outside() {
        let dir = tempfile::tempdir().unwrap();
        let hub = dir.path().join("hub.db");
        let (flight, before) = FlightRecorder::open(&hub).unwrap();
        assert_eq!(before, []);
        flight.begin(1, InstanceKey(-5), None, Timestamp(u64::MAX));
        flight.begin(2, InstanceKey(9), Some(TaskId(0)), Timestamp(4));
        flight.begin(3, InstanceKey(9), Some(TaskId(1)), Timestamp(4));
        flight.end(3);
        let was = |key, task: Option<u32>, at| WasRunning {
            key: InstanceKey(key),
            task: task.map(TaskId),
            started_at: Some(Timestamp(at)),
        };
        assert_eq!(look(&hub), [was(-5, None, u64::MAX), was(9, Some(0), 4)]);
    }
}
