//! A hub on a server for tests of its reads.

use std::collections::BTreeMap;

use crate::store::postgres::address::Address;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::reads::PostgresReader;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::plans::{PREPARED, Plans, plans, texts_of};
use crate::store::postgres::testing::server;

/// A hub that a test fills by SQL.
pub(in crate::store) struct Filled {
    pub(in crate::store) reader: PostgresReader,
    address: Address,
    session: Session,
}

impl Filled {
    /// A new hub. `None` if there is no server.
    pub(in crate::store) fn new() -> Option<Self> {
        Some(Self::at(server()?.fresh()))
    }

    /// A place on a server, which may have a hub.
    pub(in crate::store) fn at(address: Address) -> Self {
        let session = Session::open(&address, Purpose::Manage).unwrap();
        Self {
            reader: PostgresReader::new(Pool::new(address.clone()), None),
            address,
            session,
        }
    }

    pub(in crate::store) fn address(&self) -> &Address {
        &self.address
    }

    /// The number that a query finds.
    pub(in crate::store) fn number(&self, sql: &str) -> i64 {
        self.session.query(sql, &[]).unwrap()[0].get(0)
    }

    /// Executes statements.
    pub(in crate::store) fn sql(&self, sql: &str) {
        if let Err(error) = self.session.batch(sql) {
            panic!("{error}: {}", sql.chars().take(1_000).collect::<String>());
        }
    }

    /// All statements that the reader has prepared and not forgotten, and how many parameters they have.
    pub(in crate::store) fn prepared(&self) -> Vec<(String, usize)> {
        let texts = self.reader.pool.read(|conn| conn.query(PREPARED, &[]));
        texts_of(&texts.unwrap())
    }

    /// The plans of statements as a reader's connection makes them.
    pub(in crate::store) fn plans_of(&self, statements: &BTreeMap<String, usize>) -> Plans {
        let session = Session::open(&self.address, Purpose::Read).unwrap();
        plans(&session, statements)
    }
}
