//! What the engine sends to a hub in PostgreSQL, in counts, which do not depend on the clock.

use std::sync::atomic::Ordering;

use super::world::*;

const INSTANCES: u64 = 10;

/// Transactions, statements with those that begin, claim and end a transaction, rows that were written, and waits for rows.
#[derive(Debug, PartialEq, Eq)]
struct Spent {
    transactions: u64,
    statements: u64,
    rows: u64,
    round_trips: u64,
}

impl Spent {
    fn until_now(host: &Host<'_>) -> Self {
        let faults = host.faults();
        Self {
            transactions: faults.sent.load(Ordering::Relaxed),
            statements: faults.statements.load(Ordering::Relaxed),
            rows: host.engine.writer_counts().rows.load(Ordering::Relaxed),
            round_trips: faults.round_trips.load(Ordering::Relaxed),
        }
    }

    fn since(&self, host: &Host<'_>) -> Self {
        let now = Self::until_now(host);
        Self {
            transactions: now.transactions - self.transactions,
            statements: now.statements - self.statements,
            rows: now.rows - self.rows,
            round_trips: now.round_trips - self.round_trips,
        }
    }
}

/// The sample hello-sequence: three activities, one after the other.
#[test]
fn a_sequence_of_three_alone_takes_four_transactions_of_a_few_statements() {
    let world = World::with("HelloSequence", chain("Echo", 3));
    let Some(world) = world.in_postgres() else {
        return;
    };
    let host = world.open();
    host.start("HelloSequence", "first");
    host.end("first");
    host.idle();
    let before = Spent::until_now(&host);
    for n in 0..INSTANCES {
        host.start("HelloSequence", &format!("a{n}"));
        host.end(&format!("a{n}"));
        host.idle();
    }
    // Each transaction begins, is claimed, and ends. The first turn inserts the instance, the turn and the task: 3 statements. The two in
    // the middle update the instance, delete a task, and insert a turn and a task: 4. The last one inserts no task: 3. Each row is one, and
    // so is what the claim counts. Whether the id is free must be read; nothing else is.
    let each = Spent {
        transactions: 4,
        statements: 4 * 3 + 3 + 2 * 4 + 3,
        rows: 4 + 3 + 2 * 4 + 3,
        round_trips: 1,
    };
    let all = Spent {
        transactions: each.transactions * INSTANCES,
        statements: each.statements * INSTANCES,
        rows: each.rows * INSTANCES,
        round_trips: each.round_trips * INSTANCES,
    };
    assert_eq!(before.since(&host), all);
    host.check_histories();
}

/// A turn in the middle of a sequence, on its own.
#[test]
fn a_turn_is_one_transaction_of_four_statements_and_reads_nothing() {
    let world = World::with("HelloSequence", chain("Hold", 3));
    let Some(world) = world.in_postgres() else {
        return;
    };
    let host = world.open();
    host.start("HelloSequence", "a");
    let held = world.held();
    host.idle();
    let before = Spent::until_now(&host);
    held.ends(Ok("1"));
    host.until("a", |row| row.turns == 2);
    let next = world.held();
    host.idle();
    let turn = Spent {
        transactions: 1,
        statements: 3 + 4,
        rows: 1 + 4,
        round_trips: 0,
    };
    assert_eq!(before.since(&host), turn);
    next.ends(Ok("2"));
    world.held().ends(Ok("3"));
    assert_eq!(host.end("a"), "3");
}
