//! A pool of read connections.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::flight;
use crate::store::partition::Partitions;
use crate::store::reads::{Reader, implement_reads};
use crate::store::sqlite::file::foreign_log;
use crate::store::sqlite::file::lock::is_owned;
use crate::store::sqlite::file::open;
use crate::store::sqlite::file::paths::{RUNNING, with_suffix};
use crate::store::types::{InstanceKey, WasRunning};

/// The size of the pool. A read takes microseconds: waiting for a connection is faster than opening one more.
const CONNECTIONS_MAX: usize = 8;

/// Reads a hub, from any thread, whether or not this process owns it.
pub(crate) struct FileReader {
    path: PathBuf,
    connections: Mutex<Connections>,
    returned: Condvar,
}

/// A connection in use. Dropping it returns it to the pool; after a panic it is closed instead, and may be replaced.
struct Lent<'a> {
    reader: &'a FileReader,
    db: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut connections = self.reader.connections();
        match self.db.take() {
            Some(db) if !std::thread::panicking() => connections.idle.push(db),
            _ => connections.open -= 1,
        }
        drop(connections);
        self.reader.returned.notify_one();
    }
}

struct Connections {
    idle: Vec<Connection>,
    open: usize,
}

implement_reads!(FileReader);

impl FileReader {
    /// Opens a hub for reading.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        foreign_log::check(path)?;
        let first = open::connect_reader(path)?;
        let connections = Mutex::new(Connections {
            idle: vec![first],
            open: 1,
        });
        Ok(Self {
            path: path.to_owned(),
            connections,
            returned: Condvar::new(),
        })
    }

    fn within(&self, _: Partitions) -> Option<Reader> {
        None
    }

    /// The turns and attempts that the owner of the hub runs now, as far as this machine knows.
    pub(crate) fn running(&self, of: Option<InstanceKey>) -> Result<Vec<WasRunning>, StoreError> {
        let mut running = flight::look(&with_suffix(&self.path, RUNNING));
        running.retain(|now| of.is_none_or(|key| now.key == key));
        // If no process owns the hub, what is noted was cut off.
        Ok(if running.is_empty() || is_owned(&self.path) {
            running
        } else {
            Vec::new()
        })
    }

    pub(in crate::store) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = self.take()?;
        let lent = Lent {
            reader: self,
            db: Some(db),
        };
        match &lent.db {
            Some(db) => read(db),
            None => Err(StoreError::Closed),
        }
    }

    /// Calls `told` for each step of SQLite's virtual machine in later reads: a measure of their work.
    #[cfg(test)]
    pub(crate) fn on_each_step(&self, told: impl FnMut() + Send + 'static) {
        let mut told = told;
        let mut db = self.take().unwrap();
        let step = move || {
            told();
            false
        };
        db.progress_handler(1, Some(step)).unwrap();
        self.connections().idle.push(db);
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection, a new one while the pool is not full, or the next one returned. If a new one cannot be opened, for example for
    /// lack of descriptors, waits for an open one.
    fn take(&self) -> Result<Connection, StoreError> {
        let mut connections = self.connections();
        let mut may_open = true;
        loop {
            if let Some(db) = connections.idle.pop() {
                return Ok(db);
            }
            if connections.open < CONNECTIONS_MAX && (may_open || connections.open == 0) {
                connections.open += 1;
                drop(connections);
                let opened = open::connect_reader(&self.path);
                let Err(error) = opened else { return opened };
                connections = self.connections();
                connections.open -= 1;
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
