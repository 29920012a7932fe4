//! Which processes of servers serve the connections of this process.
//!
//! A connection pooler that gives one session of a server to several connections makes hosts fail in ways that nobody understands: what one sets
//! is another's, and locks and notifications are lost. So a connection that gets the session of another one is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio_postgres::Client;

use crate::store::StoreError;
use crate::store::postgres::runtime::wait;

/// How long a connection has to show that it is alive.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The sessions of servers, with the connections that have them.
type Taken = BTreeMap<String, Weak<Client>>;

static TAKEN: Mutex<Taken> = Mutex::new(Taken::new());

fn taken() -> MutexGuard<'static, Taken> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong where connections share sessions, and how it is mended.
pub(super) const POOLED: &str = "a connection pooler in between gives one session of the server to several connections: what a host sets and \
     prepares in its session is lost or another's, its advisory locks and LISTEN too, and its statements fail or have no limit";
pub(super) const UNPOOLED: &str = "name the server itself in the address, or the pooler's port or setting for whole sessions (in PgBouncer pool_mode = session)";

/// A session of a server that one connection has.
#[derive(Debug)]
pub(super) struct Seat(String, Weak<Client>);

impl Seat {
    /// `who` is the process of the server, and when the server and the process began.
    ///
    /// # Errors
    /// [`StoreError::Address`] if another connection of this process has it.
    pub(super) fn take(who: &str, client: &Arc<Client>) -> Result<Self, StoreError> {
        // The lock is not held while the other one is asked.
        let other = taken().get(who).and_then(Weak::upgrade);
        // A pooler that keeps whole sessions may give that of a connection that it has lost to the next one, before this process knows.
        if other.is_some_and(|other| answers(&other)) {
            return Err(StoreError::Address(format!("{POOLED}; {UNPOOLED}")));
        }
        let seat = Self(who.to_owned(), Arc::downgrade(client));
        taken().insert(who.to_owned(), Arc::downgrade(client));
        Ok(seat)
    }
}

/// Whether something arrives on a connection.
fn answers(client: &Client) -> bool {
    !client.is_closed() && matches!(wait(ANSWERS_WITHIN, client.simple_query("")), Some(Ok(_)))
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = taken();
        if taken.get(&self.0).is_some_and(|has| has.ptr_eq(&self.1)) {
            taken.remove(&self.0);
        }
    }
}
