//! A pool of read connections.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::session::{Param, Purpose, Session};

/// The size of the pool of each hub, as that of a hub in SQLite.
pub(super) const CONNECTIONS_MAX: usize = 8;

/// Reads a hub, from any thread.
pub(in crate::store) struct Pool {
    address: Address,
    connections: Mutex<Connections>,
    returned: Condvar,
}

#[derive(Default)]
struct Connections {
    idle: Vec<Session>,
    open: usize,
}

/// A connection of the pool, for one read.
pub(in crate::store) struct Conn<'a>(&'a Session);

impl Conn<'_> {
    /// Rows of a query.
    pub(in crate::store) fn query(
        &self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.0.query(sql, params)
    }

    /// The only row of a query, if there is one.
    pub(in crate::store) fn query_opt(
        &self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, StoreError> {
        self.0.query_opt(sql, params)
    }

    /// Rows of several queries, which are sent together: one wait for all. They are one snapshot only within [`Pool::snapshot`].
    pub(in crate::store) fn query_all(
        &self,
        queries: &[(&str, &[Param<'_>])],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.0.query_all(queries)
    }
}

/// A connection in use. Dropping it returns it to the pool, unless it is lost or the read panicked.
struct Lent<'a> {
    pool: &'a Pool,
    session: Option<Session>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut connections = self.pool.connections();
        match self.session.take() {
            Some(session) if !session.is_lost() && !std::thread::panicking() => {
                connections.idle.push(session);
            }
            _ => connections.open -= 1,
        }
        drop(connections);
        self.pool.returned.notify_one();
    }
}

impl Pool {
    /// A pool of a hub, which connects when it is asked.
    pub(in crate::store) fn new(address: Address) -> Self {
        Self {
            address,
            connections: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// The hub that it is of.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Reads, each statement for itself. Tries again with a new connection, once, if the connection was lost.
    pub(in crate::store) fn read<T>(
        &self,
        read: impl Fn(&Conn<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut tries = 0;
        loop {
            let lent = Lent {
                session: Some(self.take()?),
                pool: self,
            };
            let Some(session) = &lent.session else {
                return Err(StoreError::Closed);
            };
            let result = read(&Conn(session));
            tries += 1;
            if result.is_ok() || !session.is_lost() || tries > 1 {
                return result;
            }
            // The others of the pool were lost with it, most likely.
            self.forget_idle();
        }
    }

    /// As [`read`](Self::read), but all statements see the hub as of the first one.
    pub(in crate::store) fn snapshot<T>(
        &self,
        read: impl Fn(&Conn<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(|conn| {
            conn.0
                .batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
            let result = read(conn);
            // Nothing was written: a failure only means that the connection is lost.
            let _ = conn.0.batch("ROLLBACK");
            result
        })
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_idle(&self) {
        let mut connections = self.connections();
        let idle = std::mem::take(&mut connections.idle);
        connections.open -= idle.len();
        drop(connections);
        self.returned.notify_all();
    }

    /// An idle connection, a new one while the pool is not full, or the next one returned. If a new one cannot be opened, for example
    /// because the server has no more, waits for an open one.
    fn take(&self) -> Result<Session, StoreError> {
        let mut connections = self.connections();
        let mut may_open = true;
        loop {
            if let Some(session) = connections.idle.pop() {
                if !session.is_lost() {
                    return Ok(session);
                }
                connections.open -= 1;
                continue;
            }
            if connections.open < CONNECTIONS_MAX && (may_open || connections.open == 0) {
                connections.open += 1;
                drop(connections);
                let opened = Session::open(&self.address, Purpose::Read);
                let Err(error) = opened else { return opened };
                connections = self.connections();
                connections.open -= 1;
                // Who waits for this one must not wait for ever.
                self.returned.notify_all();
                if connections.open == 0 || !matches!(error, StoreError::Database(_)) {
                    return Err(error);
                }
                may_open = false;
                continue;
            }
            connections = self
                .returned
                .wait(connections)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
