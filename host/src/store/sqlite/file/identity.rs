//! Which file a path leads to.

use std::path::Path;

use crate::store::StoreError;

/// The identity of a file: distinguishes it from a file that replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// The identity of the file at a path.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        #[cfg(target_os = "linux")]
        if let Some(id) = Self::without_times(path) {
            return Ok(id);
        }
        match std::fs::metadata(path) {
            Ok(file) => Ok(Self::from_metadata(&file)),
            Err(_) => Err(StoreError::Missing(path.to_owned())),
        }
    }

    /// The identity that belongs to this metadata.
    pub(in crate::store) fn from_metadata(file: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(file.dev(), file.ino())
    }

    /// The identity, read without the times of the file. After a read of its times, Linux gives the next write a time of its own, and
    /// journals the inode for it. The owner reads the identity of the log at every commit, so each commit would pay for that.
    ///
    /// `None` if there is no such file, or if the kernel or a sandbox refuses `statx`.
    #[cfg(target_os = "linux")]
    fn without_times(path: &Path) -> Option<Self> {
        use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
        let file = statx(CWD, path, AtFlags::empty(), StatxFlags::INO).ok()?;
        let device = makedev(file.stx_dev_major, file.stx_dev_minor);
        Some(Self(device, file.stx_ino))
    }
}
