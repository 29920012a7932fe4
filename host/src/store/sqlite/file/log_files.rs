//! Watches the write-ahead log of a hub and its index, which the owner has open.

use std::path::{Path, PathBuf};

use crate::store::sqlite::file::identity::FileId;
use crate::store::sqlite::file::paths::with_suffix;

/// The files that SQLite keeps beside a hub while it is open: the write-ahead log and its index.
pub(in crate::store) struct LogFiles {
    /// Each with its identity at this owner's first commit; `None` before that.
    files: [(PathBuf, Option<FileId>); 2],
    /// Whether one of them is gone, and its content was folded into the hub.
    pub(in crate::store) folded: bool,
}

impl LogFiles {
    pub(in crate::store) fn of(hub: &Path) -> Self {
        let file = |suffix| (with_suffix(hub, suffix), None);
        Self {
            files: [file("-wal"), file("-shm")],
            folded: false,
        }
    }

    /// Takes their identities again after the next commit: another connection may create them anew.
    pub(in crate::store) fn forget(&mut self) {
        self.files.iter_mut().for_each(|(_, id)| *id = None);
    }

    pub(in crate::store) fn remember(&mut self) {
        for (path, id) in &mut self.files {
            if id.is_none() {
                *id = FileId::of(path).ok();
            }
        }
    }

    /// Whether their identities are known.
    pub(in crate::store) fn is_known(&self) -> bool {
        self.files.iter().any(|(_, id)| id.is_some())
    }

    /// The path of one that was deleted or replaced.
    pub(in crate::store) fn gone(&self) -> Option<&Path> {
        let is_gone = |(path, id): &&(PathBuf, Option<FileId>)| {
            id.is_some_and(|id| FileId::of(path).ok() != Some(id))
        };
        self.files.iter().find(is_gone).map(|(path, _)| &**path)
    }
}
