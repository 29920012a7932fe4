//! Faults of a connection that tests put into the writer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::store::StoreError;
use crate::store::faults::count_of_connection;
use crate::store::postgres::address::Address;
use crate::store::postgres::error::failed;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::writer::pipeline::{Sent, Transaction, send};

/// See the [module](self).
#[derive(Default)]
pub(in crate::store::postgres) struct Faults {
    /// So many transactions are not sent, as if the connection had been lost before.
    pub(in crate::store::postgres) unsent: AtomicU32,
    /// The answers to so many transactions are lost.
    pub(in crate::store::postgres) unanswered: AtomicU32,
    /// So many transactions arrive only after what became of them was asked.
    pub(in crate::store::postgres) late: AtomicU32,
    under_way: Mutex<Option<Arc<Transaction>>>,
    /// So many panic while they are sent.
    pub(in crate::store::postgres) panics: AtomicU32,
    /// Transactions whose outcome was to be uncertain.
    uncertain: AtomicU32,
}

/// Takes one, if any is left.
fn take(left: &AtomicU32) -> bool {
    let one_less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
        .is_ok()
}

impl Faults {
    /// Sends a transaction, unless it is time for a fault. If its outcome is to be uncertain, the connection is lost before, after or
    /// during it, in turn.
    pub(super) fn send(
        &self,
        address: &Address,
        session: &Session,
        transaction: &Arc<Transaction>,
        is_uncertain: bool,
    ) -> Sent {
        let under_way = self.under_way.lock().unwrap().take();
        if let Some(late) = under_way {
            let other = Session::open(address, Purpose::Write).unwrap();
            let sent = send(&other, &late);
            assert!(matches!(sent, Sent::NotClaimed(_)), "{sent:?}");
        }
        assert!(!take(&self.panics), "a fault of a test");
        let turn = match is_uncertain {
            true => Some(self.uncertain.fetch_add(1, Ordering::Relaxed)),
            false => None,
        };
        let kind = turn.map(|turn| turn % 3);
        let lost = |what: String| {
            session.lose();
            Sent::Unknown(failed(format!("lost: {what}")))
        };
        if take(&self.late) {
            *self.under_way.lock().unwrap() = Some(Arc::clone(transaction));
            lost("it is on its way".to_owned())
        } else if take(&self.unsent) || kind == Some(0) {
            count_of_connection("lost before a transaction");
            lost("nothing was sent".to_owned())
        } else if take(&self.unanswered) || kind == Some(1) {
            count_of_connection("lost after a transaction");
            lost(format!("{:?}", send(session, transaction)))
        } else if let Some(turn) = turn {
            severed(address, session, transaction, turn)
        } else {
            send(session, transaction)
        }
    }
}

/// Sends a transaction while the server ends the connection: sooner or later, so that some are committed and some are not.
fn severed(
    address: &Address,
    session: &Session,
    transaction: &Arc<Transaction>,
    turn: u32,
) -> Sent {
    let (pid, killer) = match (pid(session), Session::open(address, Purpose::Manage)) {
        (Ok(pid), Ok(killer)) => (pid, killer),
        (Err(error), _) | (_, Err(error)) => return Sent::Unknown(error),
    };
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..turn.wrapping_mul(0x9e37_79b9) >> 24 {
                std::thread::yield_now();
            }
            terminate(&killer, pid);
        });
        let sent = send(session, transaction);
        count_of_connection(match &sent {
            Sent::Committed => "severed after a transaction",
            Sent::Unknown(_) => "severed during a transaction",
            Sent::NotClaimed(_) | Sent::Refused(_) => "severed otherwise",
        });
        sent
    })
}

fn pid(session: &Session) -> Result<i32, StoreError> {
    let row = session.query_opt("SELECT pg_backend_pid()", &[])?;
    row.map_or_else(|| Err(failed("no pid")), |row| Ok(row.try_get(0)?))
}

/// Ends the process of the server that serves a connection.
fn terminate(killer: &Session, pid: i32) {
    // Whether it was still there makes no difference.
    let _ = killer.query("SELECT pg_terminate_backend($1, 10000)", &[&pid]);
}

/// Ends the connection, as the server does that is shut down.
pub(super) fn kill(address: &Address, session: &Session) {
    if let (Ok(pid), Ok(killer)) = (pid(session), Session::open(address, Purpose::Manage)) {
        count_of_connection("ended before a change");
        terminate(&killer, pid);
    }
}
