//! Hubs on a server of PostgreSQL for tests: a schema for each test.

pub(in crate::store) mod plans;
pub(in crate::store::postgres) mod sent;
pub(in crate::store) mod server;
pub(in crate::store::postgres) mod sources;
mod steadily;

use std::sync::atomic::{AtomicU32, Ordering};

use perennial_core::Timestamp;

use crate::store::postgres::address::Address;
use crate::store::postgres::create;
use crate::store::postgres::session::{Purpose, Session};
pub(in crate::store) use server::{Server, say_skipped, server};
pub(in crate::store::postgres) use steadily::steadily;

impl Server {
    /// The address of a hub, which is not made yet.
    pub(in crate::store) fn address(&self, hub: &str) -> Address {
        let dir = self.sockets();
        let database = format!("postgres://perennial@/postgres?host={}", dir.display());
        Address::parse(&database).unwrap().with_hub(hub).unwrap()
    }

    /// The address of a hub that no other test has, made.
    pub(in crate::store) fn fresh(&self) -> Address {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let address = self.address(&format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        assert!(create::create(&address, Timestamp(1)).unwrap());
        address
    }

    /// As [`fresh`](Self::fresh), with so many partitions.
    pub(in crate::store) fn divided(&self, count: u16) -> Address {
        let address = self.fresh();
        let session = Session::open(&address, Purpose::Manage).unwrap();
        let divide = format!(
            "UPDATE hub SET partitions = {count}; DELETE FROM partition WHERE partition >= {count}"
        );
        session.batch(&divide).unwrap();
        address
    }

    /// The address of a copy of a hub as it is now: what a crash at this moment would leave.
    pub(in crate::store) fn copied(&self, from: &Address) -> Address {
        let copy = self.fresh();
        let (from, to) = (from.schema(), copy.schema());
        let session = Session::open(&copy, Purpose::Write).unwrap();
        session
            .batch(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ;
                 DO $copy$
                 DECLARE of record;
                 BEGIN
                     FOR of IN SELECT table_name, string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position) AS columns
                         FROM information_schema.columns WHERE table_schema = '{from}' AND is_generated = 'NEVER'
                         AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = '{from}') GROUP BY table_name
                     LOOP
                         EXECUTE format('DELETE FROM %I.%I', '{to}', of.table_name);
                         EXECUTE format('INSERT INTO %I.%I (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %I.%I',
                             '{to}', of.table_name, of.columns, of.columns, '{from}', of.table_name);
                     END LOOP;
                 END $copy$;
                 -- The owner of the copy died.
                 UPDATE {to}.owner SET renewed = '-infinity';
                 SELECT setval('{to}.owner_epoch', (SELECT last_value FROM {from}.owner_epoch));
                 SELECT setval('{to}.outbox_seq_seq', (SELECT last_value FROM {from}.outbox_seq_seq));
                 COMMIT"
            ))
            .unwrap();
        copy
    }
}

/// Ends the lease of an owner that lives, as another one does that heard nothing of it for too long.
pub(in crate::store) fn declare_dead(address: &Address, epoch: i64) {
    let session = Session::open(address, Purpose::Manage).unwrap();
    let sql = format!(
        "UPDATE owner SET dead = true WHERE epoch = {epoch}; UPDATE partition SET owner = NULL WHERE owner = {epoch}"
    );
    session.batch(&sql).unwrap();
}
