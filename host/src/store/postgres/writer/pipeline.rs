//! Sends a transaction at once, and looks at each of its answers.

use std::pin::Pin;
use std::sync::Arc;

use futures::future::{MaybeDone, maybe_done, try_join_all};
use tokio_postgres::{Client, Error};

use crate::store::StoreError;
use crate::store::postgres::error::is_lost;
use crate::store::postgres::session::{Param, Session, no_answer};
use crate::store::postgres::writer::columns::Statement;

/// Fences and numbers a transaction, and renews the lease. Fails, by a division by zero, unless this is the owner, its last transaction is
/// the one that it knows, and so is the version of what it keeps of the hub.
const CLAIM: &str = "WITH fenced AS (UPDATE owner SET commits = $2::bigint + 1, renewed = clock_timestamp()
         WHERE epoch = $1 AND commits = $2::bigint AND NOT dead RETURNING 1),
     done AS (UPDATE hub SET commits = $2::bigint + 1, at = $3, version = version + $5::bigint FROM fenced
         WHERE id = 1 AND version = $4 RETURNING 1)
     SELECT 1 / count(*)::integer FROM done";

const BEGIN: &str = "BEGIN";
const COMMIT: &str = "COMMIT";

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
pub(super) fn send(session: &Session, transaction: &Arc<Transaction>) -> Sent {
    let all = [BEGIN, CLAIM].into_iter();
    let statements = transaction.statements.iter();
    let all = all.chain(statements.map(|statement| &*statement.sql));
    let prepare = all.chain([COMMIT]).map(|sql| session.prepared(sql));
    let prepared = match session.wait(try_join_all(prepare)) {
        Ok(prepared) => prepared,
        Err(error) if session.is_lost() => return Sent::Unknown(error),
        Err(error) => return Sent::Refused(error),
    };
    let (client, sent) = (Arc::clone(session.client()), Arc::clone(transaction));
    let work = async move { answers(&client, &prepared, &sent).await };
    let Some(mut answers) = session.run(work) else {
        return Sent::Unknown(no_answer());
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
    client: &Client,
    prepared: &[tokio_postgres::Statement],
    transaction: &Transaction,
) -> Vec<Result<u64, Error>> {
    let Transaction {
        epoch,
        last,
        at,
        version,
        ..
    } = transaction;
    let change = i64::from(transaction.changes_hub);
    let claim: [Param<'_>; 5] = [epoch, last, at, version, &change];
    let params = transaction.statements.iter().map(|statement| {
        let params = statement.params.iter().map(|param| &**param as Param<'_>);
        params.collect()
    });
    let all: Vec<Vec<Param<'_>>> = [Vec::new(), claim.to_vec()]
        .into_iter()
        .chain(params)
        .chain([Vec::new()])
        .collect();
    type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;
    let mut sent: Vec<MaybeDone<Answer<'_>>> = Vec::with_capacity(all.len());
    for (statement, params) in prepared.iter().zip(&all) {
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
