//! Where a hub is, and which store keeps it.

use std::fmt;
use std::path::{Path, PathBuf};

use perennial_core::Timestamp;

use crate::store::StoreError;
#[cfg(test)]
use crate::store::memory::shared::MemoryHub;
use crate::store::owned::Owned;
#[cfg(all(test, feature = "postgres"))]
use crate::store::postgres::{self, address::Address};
use crate::store::reads::Reader;
use crate::store::sqlite;

/// Where a hub is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a file of SQLite.
    File(PathBuf),
    /// In memory; what runs is recorded in this file.
    #[cfg(test)]
    Memory(MemoryHub, PathBuf),
    /// In PostgreSQL; what runs is recorded in this file.
    #[cfg(all(test, feature = "postgres"))]
    Postgres(Box<Address>, PathBuf),
}

impl Place {
    /// Takes over a hub; creates it if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Owned`] if another process owns it, and the errors of an unusable hub. Nothing is changed then.
    pub(crate) fn take_over(&self, now: Timestamp) -> Result<Owned, StoreError> {
        match self {
            Self::File(path) => sqlite::owned::take_over(path, now),
            #[cfg(test)]
            Self::Memory(hub, running) => hub.owned(running),
            #[cfg(all(test, feature = "postgres"))]
            Self::Postgres(address, running) => postgres::owned::owned(address, running, now),
        }
    }

    /// Checks that there is room for small writes.
    ///
    /// # Errors
    /// An error with [`StoreError::is_disk_full`] if not; the system's error if the free space is unknown.
    #[cfg(feature = "http")]
    pub(crate) fn has_room(&self) -> Result<(), StoreError> {
        match self {
            Self::File(path) => sqlite::file::space::has_room(path),
            #[cfg(test)]
            Self::Memory(..) => Ok(()),
            #[cfg(all(test, feature = "postgres"))]
            Self::Postgres(..) => Ok(()),
        }
    }

    /// Opens a hub for reading.
    pub(crate) fn open_reader(&self) -> Result<Reader, StoreError> {
        match self {
            Self::File(path) => sqlite::owned::open_reader(path),
            #[cfg(test)]
            Self::Memory(hub, _) => Ok(hub.reader()),
            #[cfg(all(test, feature = "postgres"))]
            Self::Postgres(address, _) => Ok(postgres::owned::open_reader(address)),
        }
    }

    /// The file, if the hub is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            #[cfg(test)]
            Self::Memory(..) => None,
            #[cfg(all(test, feature = "postgres"))]
            Self::Postgres(..) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            #[cfg(test)]
            Self::Memory(..) => write!(f, "memory"),
            #[cfg(all(test, feature = "postgres"))]
            Self::Postgres(address, _) => write!(f, "{address}"),
        }
    }
}
