//! A flight recorder: what was running at the moment a host died.
//!
//! One small file beside the hub has a slot for each worker and for each activity that may run at once. A slot is written when something
//! starts in it and cleared when it ends, without a sync: what the file says survives the death of the process, which is all it is for
//! (after a power loss nothing that ran is to blame). The next owner reads it, and counts one more delivery for each. So work that was
//! only queued is never counted, and nothing is written to the hub itself.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_core::TaskId;

use crate::store::{InstanceKey, StoreError, with_suffix};

/// Key, task (or the mark of a turn), and whether the slot is in use.
const SLOT_BYTES: usize = 16;
const TURN: u32 = u32::MAX;

/// What was running when a host died.
pub(crate) type Running = Vec<(InstanceKey, Option<TaskId>)>;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct FlightRecorder {
    file: File,
    /// Whether the file is the next owner's.
    closed: AtomicBool,
}

impl FlightRecorder {
    /// Opens the recorder of a hub that is owned, and reads what the last owner left in it.
    pub(crate) fn open(hub: &Path) -> Result<(Self, Running), StoreError> {
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
        let running = bytes.chunks_exact(SLOT_BYTES).filter_map(|slot| {
            let (key, rest) = slot.split_first_chunk::<8>()?;
            let (task, used) = rest.split_first_chunk::<4>()?;
            let task = u32::from_le_bytes(*task);
            (used[0] == 1).then(|| {
                (
                    InstanceKey(i64::from_le_bytes(*key)),
                    (task != TURN).then_some(TaskId(task)),
                )
            })
        });
        let closed = AtomicBool::new(false);
        Ok((Self { file, closed }, running.collect()))
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

    /// Something starts in a slot.
    pub(crate) fn begin(&self, slot: usize, key: InstanceKey, task: Option<TaskId>) {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&key.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&task.map_or(TURN, |task| task.0).to_le_bytes());
        bytes[12] = 1;
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
