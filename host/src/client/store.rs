//! Where task hubs are kept.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::client::{Error, Result};
use crate::engine::brief;
#[cfg(feature = "postgres")]
use crate::store::{Address, Share};
use crate::store::{Place, StoreError, hubs_in, real};

/// Where task hubs are kept: in a directory, each in a file of SQLite, or in a database of PostgreSQL, each in a schema.
///
/// A path is a directory: wherever a store is wanted, one can be given.
///
/// ```
/// use perennial::{Client, Store};
///
/// let client = Client::open(".perennial", "default")?;
/// let client = Client::open(Store::dir("/var/lib/perennial"), "billing")?;
/// # Ok::<(), perennial::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    data_dir: PathBuf,
    #[cfg(feature = "postgres")]
    database: Option<Box<Address>>,
}

impl Store {
    /// A directory with a file for each hub. It is created when it is needed.
    pub fn dir(dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: dir.into(),
            #[cfg(feature = "postgres")]
            database: None,
        }
    }

    /// A database of PostgreSQL (12 or later; tested with 15), such as `postgres://user:password@host:5432/database`. Each hub is a schema of its own,
    /// which is made when the hub is: the user needs the right to create schemas in the database, or must own the schema
    /// `perennial_NAME` already.
    ///
    /// The parameters are those of libpq: `sslmode` (`disable`, `prefer`, `require`, `verify-ca` or `verify-full`), `sslrootcert`,
    /// `connect_timeout`, `application_name`, and others; a socket is named by its directory, as in
    /// `postgres:///database?host=/var/run/postgresql`. What the address leaves out comes from the variables of libpq, such as `PGHOST` and
    /// `PGPASSWORD`, and the password also from a password file (`PGPASSFILE`, `~/.pgpass`).
    ///
    /// What a host keeps on its own machine, such as compiled code, is in `.perennial` unless [`data_dir`](Self::data_dir) names another
    /// directory.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// use perennial::{Host, Store};
    ///
    /// let store = Store::postgres("postgres://app@db.example.com/flows?sslmode=verify-full")?;
    /// let host = Host::builder().store(store).task_hub("billing").start().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] says what is wrong with the address, without repeating it.
    #[cfg(feature = "postgres")]
    pub fn postgres(url: &str) -> Result<Self> {
        let address = Address::parse(url).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Self {
            data_dir: PathBuf::from(".perennial"),
            database: Some(Box::new(address)),
        })
    }

    /// Sets a replica of the database, which a server keeps as a copy by streaming replication: pages of lists, counts and overviews are
    /// read there, while it is at most five seconds behind. All else, such as the status of one instance, is read in the database itself.
    /// So a list may lack what was started a moment ago.
    ///
    /// A replica that is further behind, cannot be reached or is none of this database is not used: lists are read in the database then, and
    /// the log says why.
    ///
    /// ```no_run
    /// use perennial::Store;
    ///
    /// let store = Store::postgres("postgres://app@db.example.com/flows")?
    ///     .read_replica("postgres://app@replica.example.com/flows")?;
    /// # Ok::<(), perennial::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the store is a directory, or says what is wrong with the address, without repeating it.
    #[cfg(feature = "postgres")]
    pub fn read_replica(self, url: &str) -> Result<Self> {
        let Some(database) = self.database else {
            return Err(Error::invalid(
                "a read replica is a copy of a database, and the task hubs are in a directory: name the database too, or no replica",
            ));
        };
        let replica = Address::parse(url)
            .map_err(|error| Error::invalid(format!("the address of the read replica: {error}")))?;
        Ok(Self {
            database: Some(Box::new(database.with_replica(replica))),
            ..self
        })
    }

    /// Sets the directory in which this machine keeps files. Without a database, the hubs are there.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = dir.into();
        self
    }

    /// The store that a hub is in.
    #[cfg(feature = "grpc")]
    pub(crate) fn of(place: &Place) -> Option<Self> {
        let store = Self::dir(place.data_dir()?);
        match place {
            Place::File(_) => Some(store),
            #[cfg(test)]
            Place::Memory(..) => None,
            #[cfg(feature = "postgres")]
            Place::Postgres(address, ..) => Some(Self {
                database: Some(address.clone()),
                ..store
            }),
        }
    }

    /// The directory in which this machine keeps files.
    pub(crate) fn local_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Whether the hubs are in a database, which several machines use.
    pub fn is_shared(&self) -> bool {
        #[cfg(feature = "postgres")]
        return self.database.is_some();
        #[cfg(not(feature = "postgres"))]
        false
    }

    /// Where a hub is.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the name is not 1 to 64 letters, digits and dashes, without a dash at its beginning; in PostgreSQL, at most 53.
    pub(crate) fn place(&self, hub: &str) -> Result<Place> {
        check_name(hub)?;
        // A file of an earlier version may be called that.
        if hub.starts_with('-') && (self.is_shared() || !self.file(hub).exists()) {
            return Err(Error::invalid(format!(
                "the task hub name {:?} must not begin with a dash: commands would take it for an option",
                brief(hub)
            )));
        }
        #[cfg(feature = "postgres")]
        if let Some(address) = &self.database {
            let address = address.with_hub(hub);
            let address = address.map_err(|error| Error::invalid(error.to_string()))?;
            // Hubs of the same name in several databases have a file each.
            let file = format!("{hub}-{}.running", address.short_digest());
            let running = self.data_dir.join(file);
            return Ok(Place::Postgres(Box::new(address), running, Share::All));
        }
        // A symbolic link is another name for the same hub: the lock and other files lie beside its target.
        Ok(Place::File(real(self.file(hub))))
    }

    /// As [`place`](Self::place), without following a symbolic link.
    pub(crate) fn place_as_named(&self, hub: &str) -> Result<Place> {
        let place = self.place(hub)?;
        Ok(match place.path() {
            Some(_) => Place::File(self.file(hub)),
            None => place,
        })
    }

    fn file(&self, hub: &str) -> PathBuf {
        self.data_dir.join(format!("{hub}.db"))
    }

    /// How many hubs the user of the database may not read, which are not among [`hubs`](Self::hubs).
    #[cfg(feature = "postgres")]
    pub(crate) fn unreadable(&self) -> Result<u64, StoreError> {
        match &self.database {
            Some(address) => crate::store::unreadable_in_postgres(address),
            None => Ok(0),
        }
    }

    /// The hubs, by name.
    pub(crate) fn hubs(&self) -> Result<Vec<(String, Place)>, StoreError> {
        #[cfg(feature = "postgres")]
        if let Some(address) = &self.database {
            let names = crate::store::hubs_in_postgres(address)?.into_iter();
            let placed = |name: String| Some((name.clone(), self.place(&name).ok()?));
            return Ok(names.filter_map(placed).collect());
        }
        let hubs = hubs_in(&self.data_dir)?.into_iter();
        Ok(hubs
            .filter(|(name, _)| check_name(name).is_ok())
            .map(|(name, path)| (name, Place::File(path)))
            .collect())
    }
}

/// The rule for names of hubs.
///
/// # Errors
/// [`Error::is_invalid`].
pub(crate) fn check_name(hub: &str) -> Result<()> {
    let fits = (1..=64).contains(&hub.len())
        && hub.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the task hub name {:?} must be 1 to 64 letters, digits and dashes",
        brief(hub)
    )))
}

/// The directory, or the address of the database without a password.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "postgres")]
        if let Some(address) = &self.database {
            return write!(f, "{}", address.of_database());
        }
        write!(f, "{}", self.data_dir.display())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({self})")
    }
}

macro_rules! from_paths {
    ($($path:ty)*) => {
        $(impl From<$path> for Store {
            fn from(dir: $path) -> Self {
                Self::dir(dir)
            }
        })*
    };
}

from_paths!(&str String &String PathBuf &Path);

impl From<&PathBuf> for Store {
    fn from(dir: &PathBuf) -> Self {
        Self::dir(dir)
    }
}

impl From<&Self> for Store {
    fn from(store: &Self) -> Self {
        store.clone()
    }
}
