//! Sends a transaction at once, and looks at each of its answers.

use std::future::Future;
use std::pin::Pin;

use futures::future::{MaybeDone, maybe_done, try_join_all};
use tokio_postgres::Error;

use crate::store::StoreError;
use crate::store::postgres::error::is_lost;
use crate::store::postgres::session::{Param, Session};
use crate::store::postgres::writer::columns::Statement;

/// Fences and numbers a transaction, and renews the lease. Fails, by a division by zero, unless this is the owner, its last transaction is
/// the one that it knows, and so is the version of what it keeps of the hub.
const CLAIM: &str = "WITH fenced AS (UPDATE owner SET commits = $2::bigint + 1, renewed = clock_timestamp()
         WHERE epoch = $1 AND commits = $2::bigint AND NOT dead RETURNING 1),
     done AS (UPDATE hub SET commits = $2::bigint + 1, at = $3, version = version + $5::bigint FROM fenced
         WHERE id = 1 AND version = $4 RETURNING 1)
     SELECT 1 / count(*)::integer FROM done";

/// A transaction of an owner.
pub(super) struct Transaction {
    pub(super) epoch: i64,
    /// The number of the one before.
    pub(super) last: i64,
    /// Its time, in milliseconds since 1970.
    pub(super) at: i64,
    /// The version of what the owner keeps of the hub, and whether this changes it.
    pub(super) version: i64,
    pub(super) changes_hub: bool,
    pub(super) statements: Vec<Statement>,
}

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Sent {
    Committed,
    /// The claim found that something is not as this owner knows it. Nothing was written.
    NotClaimed(StoreError),
    /// Nothing was written.
    Refused(StoreError),
    /// The connection was lost before all answers were there.
    Unknown(StoreError),
}

/// Sends a transaction.
pub(super) fn send(session: &Session, transaction: &Transaction) -> Sent {
    let answers = session.wait(answers(session, transaction));
    let mut answers = match answers {
        Ok(answers) => answers,
        // A statement could not be prepared, or there was no answer in time.
        Err(error) if session.is_lost() => return Sent::Unknown(error),
        Err(error) => return Sent::Refused(error),
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
            (1, Err(error)) => return Sent::NotClaimed(session.error(error)),
            (_, Err(error)) => return Sent::Refused(session.error(error)),
        }
    }
    match last {
        Some(Ok(_)) => Sent::Committed,
        Some(Err(error)) => Sent::Unknown(error.into()),
        None => Sent::Unknown(StoreError::Closed),
    }
}

/// Answers to the begin, the claim, each statement, and the end.
async fn answers(
    session: &Session,
    transaction: &Transaction,
) -> Result<Vec<Result<u64, Error>>, Error> {
    let Transaction {
        epoch,
        last,
        at,
        version,
        ..
    } = transaction;
    let change = i64::from(transaction.changes_hub);
    let claim: [Param<'_>; 5] = [epoch, last, at, version, &change];
    let own = [("BEGIN", Vec::new()), (CLAIM, claim.to_vec())];
    let statements = transaction.statements.iter().map(|statement| {
        let params = statement.params.iter().map(|param| &**param as Param<'_>);
        (&*statement.sql, params.collect())
    });
    let all: Vec<(&str, Vec<Param<'_>>)> = own
        .into_iter()
        .chain(statements)
        .chain([("COMMIT", Vec::new())])
        .collect();
    let prepared = try_join_all(all.iter().map(|(sql, _)| session.prepared(sql))).await?;
    let client = session.client();
    type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;
    let mut answers: Vec<MaybeDone<Answer<'_>>> = Vec::new();
    for (statement, (_, params)) in prepared.iter().zip(&all) {
        let answer: Answer<'_> = Box::pin(client.execute(statement, params));
        let mut answer = maybe_done(answer);
        // A request is sent when it is polled first.
        let _ = futures::poll!(Pin::new(&mut answer));
        answers.push(answer);
    }
    let mut all = Vec::with_capacity(answers.len());
    for mut answer in answers {
        Pin::new(&mut answer).await;
        if let Some(answer) = Pin::new(&mut answer).take_output() {
            all.push(answer);
        }
    }
    Ok(all)
}
