//! What a process does with a hub that it does not own: it leaves commands for the owner, and finds out who that is.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use perennial_core::Timestamp;
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::exchange::{Exchange, Exchanged};
use crate::store::owned::OwnerNote;
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::create::check_format;
use crate::store::postgres::lease::{OWNER, TTL_MS, count, owner_of};
use crate::store::postgres::partitions::{is_about, number, payload};
use crate::store::postgres::session::{Param, Purpose, Session};

/// A hub that another process may own.
pub(in crate::store) struct Outside {
    address: Address,
    /// Opened when it is needed, and kept.
    session: Mutex<Option<Session>>,
    /// How the hub is divided, once that is known. It never changes.
    partitions: OnceLock<Partitions>,
    /// Whether what is written need not be on the disk when it is done.
    is_hasty: bool,
    /// How many connections were opened.
    opened: AtomicU64,
}

impl Outside {
    pub(in crate::store) fn new(address: Address) -> Self {
        Self {
            address,
            session: Mutex::default(),
            partitions: OnceLock::new(),
            is_hasty: false,
            opened: AtomicU64::new(0),
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

    /// Appends a command for the owner of a partition, and wakes it.
    ///
    /// # Errors
    /// [`StoreError::NoAnswer`] if the command may be there; with any other error, it is not.
    pub(in crate::store) fn append(
        &self,
        to: Partition,
        token: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let append = [(to, token, body)];
        let exchange = Exchange {
            append: &append,
            ..Exchange::default()
        };
        self.exchange(&exchange, now).appended
    }

    /// Appends, asks for and deletes commands, in one round trip.
    pub(in crate::store) fn exchange(&self, what: &Exchange<'_>, now: Timestamp) -> Exchanged {
        // The tokens are new: a second try after a lost connection finds the rows of the first, or adds them.
        let append = "WITH left_there AS
                 (INSERT INTO command (partition, token, at, body)
                     SELECT partition, token, $3, body FROM unnest($1::smallint[], $2::text[], $4::bytea[]) AS c (partition, token, body)
                     ON CONFLICT DO NOTHING)
             SELECT pg_notify($5, $6)";
        let forget = "DELETE FROM command WHERE token = ANY($1)";
        let look = "SELECT token, answer FROM command WHERE token = ANY($1)";
        let channel = channel_of(&self.address);
        let to: Vec<i16> = what.append.iter().map(|(to, ..)| number(*to)).collect();
        let tokens: Vec<&str> = what.append.iter().map(|(_, token, _)| *token).collect();
        let bodies: Vec<&[u8]> = what.append.iter().map(|(.., body)| *body).collect();
        let at = int(now.0);
        let told = payload(what.append.iter().map(|(to, ..)| *to));
        let parameters: [Param<'_>; 6] = [&to, &tokens, &at, &bodies, &channel, &told];
        let (forgotten, looked_for): ([Param<'_>; 1], [Param<'_>; 1]) =
            ([&what.forget], [&what.look]);
        let queries = [
            (!what.append.is_empty()).then_some((append, &parameters[..])),
            (!what.forget.is_empty()).then_some((forget, &forgotten[..])),
            (!what.look.is_empty()).then_some((look, &looked_for[..])),
        ];
        let bytes = bodies.iter().map(|body| body.len()).sum();
        let may_be_there = Cell::new(false);
        let done = self.with(|session| {
            let answered = session.query_some(&queries, bytes);
            // Without an answer, nobody knows.
            may_be_there.set(may_be_there.get() || answered.is_err());
            let [appended, _, found] = answered?;
            // What the database itself refuses is not there.
            may_be_there.set(may_be_there.get() || appended.is_ok() || session.is_lost());
            match (appended, found) {
                // This is tried again.
                (Err(error), _) | (_, Err(error)) if session.is_lost() => Err(error),
                (appended, found) => Ok((appended.map(drop), found)),
            }
        });
        let (appended, found) = match done {
            Ok(done) => done,
            Err(error) => (Err(error.clone()), Err(error)),
        };
        Exchanged {
            appended: appended.map_err(|error| match may_be_there.get() {
                true => {
                    tracing::debug!(%error, "it is not known whether commands are there");
                    StoreError::NoAnswer(self.asked())
                }
                false => error,
            }),
            found: found.and_then(|rows| {
                let answer = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
                rows.iter().map(answer).collect()
            }),
            connection: self.opened.load(Ordering::Acquire),
        }
    }

    /// Whom a command is for, for errors.
    pub(in crate::store) fn asked(&self) -> String {
        format!("a host of {}", self.address)
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
        // With `answer IS NULL`, PostgreSQL may look for it among all commands without an answer.
        let sql = "DELETE FROM command WHERE token = $1 AND num_nulls(answer) = 1";
        self.with(|session| {
            // It must not come back after somebody was told that it is withdrawn.
            session.begin()?;
            session.batch("SET LOCAL synchronous_commit TO DEFAULT")?;
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
        let session = Session::open(&self.address, Purpose::Beside)?;
        check_format(&session, &self.address)?;
        self.opened.fetch_add(1, Ordering::AcqRel);
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
    /// Listens: calls `told` after commands were appended for some of the partitions that `own` returns, and when the connection ends.
    pub(crate) fn listen(
        address: &Address,
        own: impl Fn() -> Partitions + Send + Sync + 'static,
        told: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let notified = move |said: &str| {
            if is_about(said, &own()) {
                told();
            }
        };
        let session = Session::open_told(address, Purpose::Beside, Arc::new(notified))?;
        session.batch(&format!("LISTEN \"{}\"", channel_of(address)))?;
        Ok(Self(session))
    }

    /// Whether the connection has ended.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.is_lost()
    }

    /// Asks the database for a sign of life. The connection is lost afterwards if there was none.
    pub(crate) fn ask(&self) {
        drop(self.0.batch("SELECT 1"));
    }
}
