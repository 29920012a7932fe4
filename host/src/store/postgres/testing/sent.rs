//! What the connections of a hub send, for tests that look at the plans of all of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::postgres::address::Address;
use crate::store::postgres::session::Purpose;

/// A statement that was sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::postgres) struct Sent {
    /// How many parameters it has.
    pub(in crate::store::postgres) params: usize,
    /// What the connection is for that sent it last.
    pub(in crate::store::postgres) purpose: Purpose,
}

/// Statements by their texts.
pub(in crate::store::postgres) type Statements = BTreeMap<String, Sent>;

/// By the texts of addresses: of hubs that somebody wants to know it of.
static SENT: Mutex<BTreeMap<String, Statements>> = Mutex::new(BTreeMap::new());

fn sent() -> MutexGuard<'static, BTreeMap<String, Statements>> {
    SENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is sent from now on about a hub, on whatever connections, until it is [taken](Self::take).
pub(in crate::store::postgres) struct Kept(String);

impl Kept {
    pub(in crate::store::postgres) fn of(address: &Address) -> Self {
        let place = address.to_string();
        sent().insert(place.clone(), Statements::new());
        Self(place)
    }

    pub(in crate::store::postgres) fn take(self) -> Statements {
        sent().remove(&self.0).unwrap_or_default()
    }
}

/// A connection has prepared a statement.
pub(in crate::store::postgres) fn note(place: &str, purpose: Purpose, sql: &str, params: usize) {
    if let Some(of) = sent().get_mut(place) {
        of.insert(sql.to_owned(), Sent { params, purpose });
    }
}

/// A connection executes several statements without parameters. What changes settings or begins and ends transactions has no plan.
pub(in crate::store::postgres) fn note_batch(place: &str, purpose: Purpose, sql: &str) {
    for one in sql.split(';').map(str::trim) {
        let verbs = ["SELECT ", "WITH ", "INSERT ", "UPDATE ", "DELETE "];
        if verbs.iter().any(|verb| one.starts_with(verb)) {
            note(place, purpose, one, 0);
        }
    }
}
