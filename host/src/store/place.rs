//! Where a hub is, and which store keeps it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use perennial_core::Timestamp;

use crate::store::StoreError;
#[cfg(test)]
use crate::store::memory::shared::MemoryHub;
use crate::store::owned::Owned;
#[cfg(feature = "postgres")]
use crate::store::owned::Share;
#[cfg(test)]
use crate::store::partition::Partitions;
#[cfg(feature = "postgres")]
use crate::store::postgres::{self, address::Address, create};
use crate::store::reads::Reader;
use crate::store::sqlite;
use crate::store::sqlite::file::{backup, hubs, paths, space};
#[cfg(feature = "postgres")]
use crate::store::transfer::{self, Copied, CopyFrom as From, CopyTo as To};

/// How often a file is looked at that another process owns.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where a hub is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a file of SQLite.
    File(PathBuf),
    /// In memory; what runs is recorded in this file. An owner runs these partitions.
    #[cfg(test)]
    Memory(MemoryHub, PathBuf, Partitions),
    /// In PostgreSQL; what runs on this machine is recorded in this file. A host takes this share of it.
    #[cfg(feature = "postgres")]
    Postgres(Box<Address>, PathBuf, Share),
}

impl Place {
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "the owner of a file says who it is later")
    )]
    /// Takes over a hub, or the share of the place; creates the hub if it does not exist. While another process owns it, asks `waits`, with that
    /// process, whether to go on waiting. `what` describes this process to people.
    ///
    /// # Errors
    /// [`StoreError::Owned`] if another process owns it, and the errors of an unusable hub. Nothing is changed then.
    pub(crate) fn take_over(
        &self,
        now: Timestamp,
        what: &str,
        waits: &dyn Fn(&str) -> bool,
    ) -> Result<Owned, StoreError> {
        match self {
            Self::File(path) => loop {
                match sqlite::owned::take_over(path, now) {
                    Err(StoreError::Owned(by)) if waits(&by) => std::thread::sleep(LOOK_EVERY),
                    taken => return taken,
                }
            },
            #[cfg(test)]
            Self::Memory(hub, running, own) => hub.owned(running, *own),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, running, share) => {
                postgres::owned::owned(address, running, now, what, *share, waits)
            }
        }
    }

    /// What is known of the database that the hub is in, or would be; nothing of a file.
    #[cfg(feature = "postgres")]
    pub(crate) fn advice(&self) -> Result<Vec<crate::store::DatabaseAdvice>, StoreError> {
        match self {
            Self::Postgres(address, ..) => postgres::settings::look(address),
            _ => Ok(Vec::new()),
        }
    }

    /// As [`take_over`](Self::take_over), of all of the hub for a moment: does not wait, and does not create the hub.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none.
    pub(crate) fn take_over_existing(
        &self,
        now: Timestamp,
        what: &str,
    ) -> Result<Owned, StoreError> {
        if !self.exists()? {
            return Err(StoreError::Missing(self.to_string().into()));
        }
        self.whole().take_over(now, what, &|_| false)
    }

    /// The same place, for a host that shares the hub with others where that can be.
    pub(crate) fn shared(self) -> Self {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(address, running, _) => Self::Postgres(address, running, Share::Joined),
            other => other,
        }
    }

    /// The same place, for who takes over all of the hub.
    fn whole(&self) -> Self {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(address, running, _) => {
                Self::Postgres(address.clone(), running.clone(), Share::All)
            }
            other => other.clone(),
        }
    }

    /// Whether the hub is a file.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Deletes a hub that was created just now and is not needed. Keeps it if another process has sent a command meanwhile.
    pub(crate) fn unmake(&self, owned: Owned) -> Result<(), StoreError> {
        let is_wanted = !owned.reader.unanswered(1)?.is_empty();
        let Owned {
            owner,
            writer,
            reader,
            ..
        } = owned;
        drop(writer);
        drop(reader);
        if !is_wanted {
            match self {
                Self::File(path) => hubs::remove_all(path)?,
                #[cfg(test)]
                Self::Memory(..) => {}
                #[cfg(feature = "postgres")]
                Self::Postgres(address, ..) => drop(create::delete(address)?),
            }
        }
        drop(owner);
        Ok(())
    }

    /// Whether there is something at this place: a hub, or what keeps one from being made there.
    ///
    /// # Errors
    /// Those of a database that cannot be asked.
    pub(crate) fn exists(&self) -> Result<bool, StoreError> {
        match self {
            Self::File(path) => Ok(path.exists()),
            #[cfg(test)]
            Self::Memory(..) => Ok(true),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, ..) => create::exists(address),
        }
    }

    /// Checks that there is room for small writes.
    ///
    /// # Errors
    /// An error with [`StoreError::is_disk_full`] if not; the system's error if the free space is unknown.
    #[cfg(feature = "http")]
    pub(crate) fn has_room(&self) -> Result<(), StoreError> {
        match self {
            Self::File(path) => space::has_room(path),
            #[cfg(test)]
            Self::Memory(..) => Ok(()),
            // The disk is that of another machine. What does not fit there is an error of the write.
            #[cfg(feature = "postgres")]
            Self::Postgres(..) => Ok(()),
        }
    }

    /// Opens a hub for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none, and those of an unusable hub.
    pub(crate) fn open_reader(&self) -> Result<Reader, StoreError> {
        match self {
            Self::File(path) => sqlite::owned::open_reader(path),
            #[cfg(test)]
            Self::Memory(hub, ..) => Ok(hub.reader()),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, running, _) => postgres::owned::open_reader(address, running),
        }
    }

    /// The bytes that the hub takes up on disk; 0 if that is not known.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::File(path) => paths::bytes_of(path),
            #[cfg(test)]
            Self::Memory(..) => 0,
            #[cfg(feature = "postgres")]
            Self::Postgres(address, ..) => create::bytes(address).unwrap_or(0),
        }
    }

    /// Deletes a hub with all that belongs to it.
    ///
    /// # Errors
    /// [`StoreError::Owned`] if another process owns it and it is not `forced`; [`StoreError::Missing`] if it does not exist, and those of
    /// something that is no hub. Nothing is deleted then.
    pub(crate) fn delete(&self, forced: bool) -> Result<(), StoreError> {
        match self {
            Self::File(path) => hubs::delete(path, forced),
            #[cfg(test)]
            Self::Memory(..) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, running, _) => {
                if !forced && let Some(owners) = postgres::owned::owners_now(address)? {
                    return Err(StoreError::Owned(owners));
                }
                if !create::delete(address)? {
                    return Err(StoreError::Missing(self.to_string().into()));
                }
                postgres::running::remove_every(running)?;
                paths::remove(running)
            }
        }
    }

    /// Rewrites a hub without unused space. Returns its bytes before and after.
    ///
    /// # Errors
    /// [`StoreError::Owned`] if a process owns it.
    pub(crate) fn compact(&self) -> Result<(u64, u64), StoreError> {
        match self {
            Self::File(path) => space::compact(path),
            #[cfg(test)]
            Self::Memory(..) => Ok((0, 0)),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, ..) => {
                if let Some(owners) = postgres::owned::owners_now(address)? {
                    return Err(StoreError::Owned(owners));
                }
                create::compact(address)
            }
        }
    }

    /// Copies the hub in its present state to a new file. `progress` receives what is copied and the total.
    ///
    /// # Errors
    /// [`StoreError::File`] if the file exists or cannot be written, and those of a hub that cannot be read. No file is left behind.
    pub(crate) fn backup(
        &self,
        to: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        match self {
            Self::File(path) => backup::backup(path, to, progress),
            #[cfg(test)]
            Self::Memory(..) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, ..) => {
                let copied = transfer::copy(From::Database(address), To::Backup(to), progress);
                copied.map(drop)
            }
        }
    }

    /// Makes a hub here of a backup. `progress` receives what is copied and the total.
    ///
    /// # Errors
    /// If there is a hub already, or the backup is none, damaged, or too new. Nothing is changed then.
    pub(crate) fn restore(
        &self,
        from: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        let restored = match self {
            Self::File(path) => backup::restore(from, path, progress),
            #[cfg(test)]
            Self::Memory(..) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, ..) => {
                let copied = transfer::copy(From::File(from), To::Database(address), progress);
                copied.map(drop)
            }
        };
        restored.map_err(|error| match error {
            StoreError::NotAHub(path) if path == from => StoreError::NotABackup(path),
            error => error,
        })
    }

    /// Copies the hub in its present state to another place, where there must be none. `progress` receives the copied instances and all.
    ///
    /// # Errors
    /// [`StoreError::File`] if there is something already, and those of the hub and of the place. Nothing is left of the copy then.
    #[cfg(feature = "postgres")]
    pub(crate) fn copy_to(
        &self,
        to: &Self,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Copied, StoreError> {
        let from = match self {
            Self::File(path) => From::File(path),
            #[cfg(test)]
            Self::Memory(..) => return Err(StoreError::Closed),
            Self::Postgres(address, ..) => From::Database(address),
        };
        let to = match to {
            Self::File(path) => To::File(path),
            #[cfg(test)]
            Self::Memory(..) => return Err(StoreError::Closed),
            Self::Postgres(address, ..) => To::Database(address),
        };
        transfer::copy(from, to, progress)
    }

    /// The problems of what the hub is stored in, at most `most` of them; empty if it is intact.
    ///
    /// # Errors
    /// Those of a hub that cannot be opened.
    pub(crate) fn integrity(&self, most: u32) -> Result<Vec<String>, StoreError> {
        match self {
            Self::File(path) => backup::integrity(path, most),
            #[cfg(test)]
            Self::Memory(..) => Ok(Vec::new()),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, ..) => postgres::integrity::integrity(address, most),
        }
    }

    /// The file, if the hub is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            #[cfg(test)]
            Self::Memory(..) => None,
            #[cfg(feature = "postgres")]
            Self::Postgres(..) => None,
        }
    }

    /// The directory in which this machine keeps what belongs to its hubs, such as compiled code.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        match self {
            Self::File(path) => path.parent(),
            #[cfg(test)]
            Self::Memory(_, running, _) => running.parent(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_, running, _) => running.parent(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            #[cfg(test)]
            Self::Memory(..) => write!(f, "memory"),
            #[cfg(feature = "postgres")]
            Self::Postgres(address, ..) => write!(f, "{address}"),
        }
    }
}
