//! A hub that this process does not own: it reads it, and leaves commands for the owner.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::exchange::{Exchange, Exchanged};
#[cfg(test)]
use crate::store::memory::shared::MemoryHub;
use crate::store::owned::OwnerNote;
use crate::store::partition::Partition;
use crate::store::place::Place;
#[cfg(feature = "postgres")]
use crate::store::postgres;
use crate::store::reads::Reader;
use crate::store::sqlite::file::identity::FileId;
use crate::store::sqlite::file::lock;
use crate::store::sqlite::owned as file;

/// See the [module](self).
pub(crate) struct Outside {
    place: Place,
    /// Opened at the first read, with the file that it reads.
    reader: Mutex<Option<(Option<FileId>, Arc<Reader>)>>,
    commands: Commands,
}

/// Where commands for the owner are left.
enum Commands {
    File(PathBuf),
    #[cfg(test)]
    Memory(MemoryHub),
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::outside::Outside>),
}

impl Outside {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            reader: Mutex::default(),
            commands: match &place {
                Place::File(path) => Commands::File(path.clone()),
                #[cfg(test)]
                Place::Memory(hub, ..) => Commands::Memory(hub.clone()),
                #[cfg(feature = "postgres")]
                Place::Postgres(address, ..) => {
                    let outside = postgres::outside::Outside::new((**address).clone());
                    Commands::Postgres(Box::new(outside))
                }
            },
            place,
        }
    }

    /// As a host asks others, which need not be on the disk before they are carried out.
    pub(crate) fn hasty(self) -> Self {
        let commands = match self.commands {
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => Commands::Postgres(Box::new(database.hasty())),
            others => others,
        };
        Self { commands, ..self }
    }

    /// Where the hub is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Reads.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no hub, and those of the read.
    pub(crate) fn with_reader<T>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let reader = {
            let mut cached = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            // The file may have been deleted and created anew since.
            let now = self.place.path().map(FileId::of).transpose()?;
            match &*cached {
                Some((file, reader)) if *file == now => Arc::clone(reader),
                _ => {
                    let reader = Arc::new(self.place.open_reader()?);
                    Arc::clone(&cached.insert((now, reader)).1)
                }
            }
        };
        let found = read(&reader);
        if let Err(StoreError::Missing(_)) = &found {
            // A hub that was deleted may be created anew.
            *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        found
    }

    /// The owner, if there is one that says who it is.
    pub(crate) fn owner(&self) -> Option<OwnerNote> {
        match &self.commands {
            Commands::File(path) => lock::read_note(path),
            #[cfg(test)]
            Commands::Memory(_) => None,
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => database.owner().ok().flatten(),
        }
    }

    /// Whether some process owns the hub.
    pub(crate) fn is_owned(&self) -> bool {
        match &self.commands {
            Commands::File(path) => path.exists() && lock::is_owned(path),
            #[cfg(test)]
            Commands::Memory(_) => false,
            #[cfg(feature = "postgres")]
            Commands::Postgres(_) => self.owner().is_some(),
        }
    }

    /// The partition of the instance with an id.
    pub(crate) fn partition_of(&self, _id: &str) -> Result<Partition, StoreError> {
        match &self.commands {
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => Ok(database.partitions()?.of_id(_id)),
            #[cfg(test)]
            Commands::Memory(hub) => Ok(hub.all().of_id(_id)),
            Commands::File(_) => Ok(Partition(0)),
        }
    }

    /// Appends a command for the owner of a partition.
    pub(crate) fn append(
        &self,
        _to: Partition,
        token: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match &self.commands {
            Commands::File(path) => file::append_command(path, token, body, now),
            #[cfg(test)]
            Commands::Memory(hub) => hub.append_command(_to, token, body, now),
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => database.append(_to, token, body, now),
        }
    }

    /// Appends, asks for and deletes commands, in one round trip if they are in a database.
    pub(crate) fn exchange(&self, what: &Exchange<'_>, now: Timestamp) -> Exchanged {
        #[cfg(feature = "postgres")]
        if let Commands::Postgres(database) = &self.commands {
            return database.exchange(what, now);
        }
        let mut append = what.append.iter();
        let forgotten = what.forget.iter().try_for_each(|token| self.forget(token));
        let is_there = |_token: &&String| match &self.commands {
            #[cfg(test)]
            Commands::Memory(hub) => hub.has_command(_token),
            _ => true,
        };
        let answer = |token: &String| Ok((token.clone(), self.answer(token)?));
        // A connection that is lost after this is another one.
        let connection = match &self.commands {
            #[cfg(test)]
            Commands::Memory(hub) => hub.connection(),
            _ => 0,
        };
        Exchanged {
            appended: append.try_for_each(|(to, token, body)| self.append(*to, token, body, now)),
            found: forgotten.and_then(|()| what.look.iter().filter(is_there).map(answer).collect()),
            connection,
        }
    }

    /// Whom a command is for, for errors.
    pub(crate) fn asked(&self) -> String {
        match &self.commands {
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => database.asked(),
            _ => "the owner of the task hub".to_owned(),
        }
    }

    /// The answer to a command of this process, if there is one.
    pub(crate) fn answer(&self, token: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.commands {
            // On the connection of the commands: a host that waits for many answers needs no more of them.
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => database.answer(token),
            Commands::File(_) => self.with_reader(|reader| reader.answer(token)),
            #[cfg(test)]
            Commands::Memory(_) => self.with_reader(|reader| reader.answer(token)),
        }
    }

    /// Withdraws a command of this process that has no answer yet. Returns whether it did: the command then takes no effect.
    pub(crate) fn take_back(&self, token: &str) -> Result<bool, StoreError> {
        match &self.commands {
            Commands::File(path) => file::take_back_command(path, token),
            #[cfg(test)]
            Commands::Memory(hub) => Ok(hub.take_back_command(token)),
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => database.take_back(token),
        }
    }

    /// Deletes a command of this process after its answer was read.
    pub(crate) fn forget(&self, token: &str) -> Result<(), StoreError> {
        match &self.commands {
            Commands::File(path) => file::forget_command(path, token),
            #[cfg(test)]
            Commands::Memory(hub) => {
                hub.forget_command(token);
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Commands::Postgres(database) => database.forget(token),
        }
    }
}
