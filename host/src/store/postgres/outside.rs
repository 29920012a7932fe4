//! What a process does with a hub that it does not own: it leaves commands for the owner, and finds out who that is.

use std::cell::Cell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::owned::OwnerNote;
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::create::check_format;
use crate::store::postgres::lease::{OWNER, TTL_MS, count, owner_of};
use crate::store::postgres::session::{Purpose, Session};

/// A hub that another process may own.
pub(in crate::store) struct Outside {
    address: Address,
    /// Opened when it is needed, and kept.
    session: Mutex<Option<Session>>,
    /// How the hub is divided, once that is known. It never changes.
    partitions: OnceLock<Partitions>,
    /// Whether what is written need not be on the disk when it is done.
    is_hasty: bool,
}

impl Outside {
    pub(in crate::store) fn new(address: Address) -> Self {
        Self {
            address,
            session: Mutex::default(),
            partitions: OnceLock::new(),
            is_hasty: false,
        }
    }

    /// For a host that asks others. Its commands need not survive a crash of the database: nobody is told that they were accepted before they
    /// were carried out, in a transaction that is on the disk with all those before it.
    pub(in crate::store) fn hasty(mut self) -> Self {
        self.is_hasty = true;
        self
    }

    /// The owner, if one lives.
    pub(in crate::store) fn owner(&self) -> Result<Option<OwnerNote>, StoreError> {
        self.with(|session| {
            let row = session.query_opt(OWNER, &[&TTL_MS])?;
            row.as_ref().map(owner_of).transpose()
        })
    }

    /// How the hub is divided.
    pub(in crate::store) fn partitions(&self) -> Result<Partitions, StoreError> {
        if let Some(known) = self.partitions.get() {
            return Ok(*known);
        }
        let count = self.with(count)?;
        Ok(*self.partitions.get_or_init(|| Partitions::all(count)))
    }

    /// Appends a command for the owner of a partition, and wakes the owners.
    ///
    /// # Errors
    /// [`StoreError::NoAnswer`] if the command may be there; with any other error, it is not.
    pub(in crate::store) fn append(
        &self,
        Partition(to): Partition,
        token: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // The token is new: a second try after a lost connection finds the row of the first, or adds it.
        let sql = "WITH left_there AS
                 (INSERT INTO command (partition, token, at, body) VALUES ($4, $1, $2, $3) ON CONFLICT DO NOTHING)
             SELECT pg_notify($5, '')";
        let channel = channel_of(&self.address);
        let to = i16::try_from(to).unwrap_or_default();
        let may_be_there = Cell::new(false);
        let done = self.with(|session| {
            let done = session.query(sql, &[&token, &int(now.0), &body, &to, &channel]);
            // What the database itself refuses is not there.
            may_be_there.set(may_be_there.get() || done.is_ok() || session.is_lost());
            done.map(drop)
        });
        done.map_err(|error| match may_be_there.get() {
            true => {
                tracing::debug!(%error, "it is not known whether a command is there");
                StoreError::NoAnswer(format!("a host of {}", self.address))
            }
            false => error,
        })
    }

    /// The answer to a command, if there is one.
    pub(in crate::store) fn answer(&self, token: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT answer FROM command WHERE token = $1";
        self.with(|session| {
            let row = session.query_opt(sql, &[&token])?;
            row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
        })
    }

    /// Withdraws a command without an answer. Returns whether it did.
    pub(in crate::store) fn take_back(&self, token: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM command WHERE token = $1 AND answer IS NULL";
        self.with(|session| {
            // It must not come back after somebody was told that it is withdrawn.
            session.batch("BEGIN; SET LOCAL synchronous_commit TO DEFAULT")?;
            let taken = session.execute(sql, &[&token]);
            session.batch("COMMIT")?;
            Ok(taken? == 1)
        })
    }

    /// Deletes a command after its answer was read.
    pub(in crate::store) fn forget(&self, token: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM command WHERE token = $1";
        self.with(|session| session.execute(sql, &[&token]).map(drop))
    }

    /// Uses the connection. Tries again with a new one, once, if it was lost.
    fn with<T>(&self, work: impl Fn(&Session) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let was_open = session.is_some();
        let used = match &mut *session {
            Some(session) => session,
            none => none.insert(self.open()?),
        };
        let done = work(used);
        if done.is_ok() || !used.is_lost() {
            return done;
        }
        *session = None;
        if !was_open {
            return done;
        }
        work(session.insert(self.open()?))
    }

    fn open(&self) -> Result<Session, StoreError> {
        let session = Session::open(&self.address, Purpose::Manage)?;
        check_format(&session, &self.address)?;
        if self.is_hasty {
            session.batch("SET synchronous_commit TO off")?;
        }
        Ok(session)
    }
}

/// The channel on which the owner of a hub is told of commands.
fn channel_of(address: &Address) -> String {
    address.schema()
}

/// A connection on which an owner is told of commands.
pub(crate) struct Told(Session);

impl Told {
    /// Listens: calls `told` after each command that was appended, and when the connection ends.
    pub(crate) fn listen(
        address: &Address,
        told: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let session = Session::open_told(address, Purpose::Manage, Arc::new(move |_| told()))?;
        session.batch(&format!("LISTEN \"{}\"", channel_of(address)))?;
        Ok(Self(session))
    }

    /// Whether the connection has ended.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
}

/// The owner of a hub, if one lives; `None` also if there is no hub.
pub(in crate::store) fn owner_now(address: &Address) -> Result<Option<OwnerNote>, StoreError> {
    match Outside::new(address.clone()).owner() {
        Err(StoreError::Missing(_)) => Ok(None),
        found => found,
    }
}
