//! Sends a transaction at once, and looks at each of its answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{MaybeDone, maybe_done, try_join_all};
use tokio_postgres::{Client, Error};

use crate::store::StoreError;
use crate::store::memory::delta::Delta;
use crate::store::postgres::error::{else_changed, is_lost};
use crate::store::postgres::lease::{LOCK, Lease};
use crate::store::postgres::session::{IDLE_MAX, Param, Session, arrives_in};
use crate::store::postgres::writer::columns::Statement;
use crate::store::postgres::writer::delta;

/// Fences and numbers a transaction, and renews the lease. Fails unless the owner lives, its last transaction is the one that it knows, and so
/// is the version of what it keeps of the hub.
const CLAIM: &str = concat!(
    "WITH done AS (UPDATE owner SET commits = $2::bigint + 1, at = $3, version = version + $5::bigint, renewed = clock_timestamp()
         WHERE epoch = $1 AND commits = $2::bigint AND version = $4 AND NOT dead RETURNING 1)
     SELECT (CASE WHEN count(*) = 1",
    else_changed!(),
    " FROM done"
);

/// Tells the other owners that what they keep of the hub in memory is old. Waits for their transactions that are under way: what follows in
/// this one sees them. Only one owner at a time does it, so that no two wait for each other.
const TELL: &str = "WITH told AS (UPDATE owner SET version = version + 1 WHERE epoch <> $1 AND NOT dead RETURNING 1)
     UPDATE hub SET version = version + 1 WHERE id = 1 AND (SELECT count(*) FROM told) >= 0";

const BEGIN: &str = "BEGIN";

/// Lets the server wait longer for the rest of a transaction of many bytes than [`IDLE_MAX`].
const WAITS: &str = "SELECT set_config('idle_in_transaction_session_timeout', $1, true)";

/// Shows that the owner lives, as the claim does, while what comes before that one arrives. It does not keep another owner waiting that tells.
const LIVES: &str = "SELECT 1 FROM owner WHERE epoch = $1 AND NOT dead FOR KEY SHARE";
const COMMIT: &str = "COMMIT";

/// A transaction of an owner.
pub(super) struct Transaction {
    epoch: i64,
    /// The number of the one before.
    pub(super) last: i64,
    /// Its time, in milliseconds since 1970.
    at: i64,
    /// The version of what the owner keeps of the hub, and whether this changes it.
    version: i64,
    pub(super) changes_hub: bool,
    /// The parameter of [`LOCK`].
    lock: String,
    /// Comes before the claim.
    ahead: Option<Statement>,
    pub(super) statements: Vec<Statement>,
    /// The bytes of all of that, and how long they may take to arrive beyond what a transaction may take.
    pub(super) bytes: usize,
    pub(super) arrives_in: Duration,
    /// The parameter of [`WAITS`].
    waits: String,
}

impl Transaction {
    /// The next transaction of an owner: what a batch wrote.
    pub(super) fn of(
        delta: &Delta,
        lease: &Lease,
        at: i64,
        lock: String,
    ) -> Result<Self, StoreError> {
        let (ahead, statements) = (delta::added_modules(delta)?, delta::statements(delta)?);
        let all = ahead.iter().chain(&statements);
        let bytes = all.map(|statement| statement.bytes).sum();
        let arrives_in = arrives_in(bytes);
        Ok(Self {
            epoch: lease.epoch,
            last: lease.number,
            at,
            version: lease.version,
            changes_hub: delta::changes_hub(delta),
            lock,
            ahead,
            statements,
            bytes,
            arrives_in,
            waits: (IDLE_MAX + arrives_in).as_millis().to_string(),
        })
    }

    /// Whether it may take longer to arrive than others.
    pub(super) fn is_large(&self) -> bool {
        !self.arrives_in.is_zero()
    }

    /// How many rows it writes, with that of the owner.
    pub(super) fn rows(&self) -> usize {
        let all = self.ahead.iter().chain(&self.statements);
        all.map(|statement| statement.rows).sum::<usize>() + 1
    }

    /// Its statements with those that begin, claim and end it, with their parameters; and which of them is the claim.
    fn all(&self) -> (Vec<(&str, Vec<Param<'_>>)>, usize) {
        static CHANGES: [i64; 2] = [0, 1];
        let change = &CHANGES[usize::from(self.changes_hub)];
        let claim: Vec<Param<'_>> = vec![&self.epoch, &self.last, &self.at, &self.version, change];
        let mut all: Vec<(&str, Vec<Param<'_>>)> = vec![(BEGIN, Vec::new())];
        if self.is_large() {
            all.push((WAITS, vec![&self.waits]));
        }
        if let Some(ahead) = &self.ahead {
            if self.is_large() {
                all.push((LIVES, vec![&self.epoch]));
            }
            all.push((&ahead.sql, ahead.params()));
        }
        if self.changes_hub {
            all.push((LOCK, vec![&self.lock]));
        }
        let claim_at = all.len();
        all.push((CLAIM, claim));
        if self.changes_hub {
            all.push((TELL, vec![&self.epoch]));
        }
        for statement in &self.statements {
            all.push((&statement.sql, statement.params()));
        }
        all.push((COMMIT, Vec::new()));
        (all, claim_at)
    }

    /// How many statements are sent.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.all().0.len()
    }
}

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Sent {
    Committed,
    /// The claim found that something is not as this owner knows it, or what comes before it failed, perhaps for that. Nothing was written.
    NotClaimed(StoreError),
    /// Nothing was written.
    Refused(StoreError),
    /// The connection was lost before all answers were there.
    Unknown(StoreError),
}

/// Sends a transaction.
pub(super) fn send(session: &Session, transaction: &Arc<Transaction>) -> Sent {
    let (all, claim_at) = transaction.all();
    let prepare = all.iter().map(|(sql, _)| session.prepared(sql));
    let prepared = match session.wait(try_join_all(prepare)) {
        Ok(prepared) => prepared,
        Err(error) if session.is_lost() => return Sent::Unknown(error),
        Err(error) => return Sent::Refused(error),
    };
    let (client, sent) = (Arc::clone(session.client()), Arc::clone(transaction));
    let work = async move { answers(&client, &prepared, &sent).await };
    let mut answers = match session.run(transaction.arrives_in, work) {
        Ok(answers) => answers,
        Err(error) => return Sent::Unknown(error),
    };
    if answers
        .iter()
        .any(|answer| answer.as_ref().is_err_and(is_lost))
    {
        session.lose();
        let lost = answers
            .into_iter()
            .find_map(|answer| answer.err().filter(is_lost));
        return Sent::Unknown(lost.map_or(StoreError::Closed, StoreError::from));
    }
    let last = answers.pop();
    // The end of a transaction that failed is answered as if all were well: that answer alone says nothing.
    for (at, answer) in answers.into_iter().enumerate() {
        match (at, answer) {
            (_, Ok(_)) => {}
            (at, Err(error)) if at <= claim_at => return Sent::NotClaimed(session.error(error)),
            (_, Err(error)) => return Sent::Refused(session.error(error)),
        }
    }
    match last {
        Some(Ok(_)) => Sent::Committed,
        Some(Err(error)) => Sent::Unknown(error.into()),
        None => Sent::Unknown(StoreError::Closed),
    }
}

/// Answers to all statements.
async fn answers(
    client: &Client,
    prepared: &[tokio_postgres::Statement],
    transaction: &Transaction,
) -> Vec<Result<u64, Error>> {
    let (all, _) = transaction.all();
    type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;
    let mut sent: Vec<MaybeDone<Answer<'_>>> = Vec::with_capacity(all.len());
    for (statement, (_, params)) in prepared.iter().zip(&all) {
        let answer: Answer<'_> = Box::pin(client.execute(statement, params));
        let mut answer = maybe_done(answer);
        // A request is sent when it is polled first.
        let _ = futures::poll!(Pin::new(&mut answer));
        sent.push(answer);
    }
    let mut answers = Vec::with_capacity(sent.len());
    for mut answer in sent {
        Pin::new(&mut answer).await;
        answers.extend(Pin::new(&mut answer).take_output());
    }
    answers
}
