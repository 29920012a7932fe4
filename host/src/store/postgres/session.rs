//! One connection, with its prepared statements.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{TryJoinAll, join_all, try_join_all};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, Row, SimpleQueryMessage, Statement};

use crate::outage::warn_seldom;
use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::error::{is_lost, no_rights, of_postgres, unanswered};
use crate::store::postgres::probe::{ASK_AFTER, ASK_SELDOM, END, Ender, ON_ITS_WAY, Probe, WHO};
use crate::store::postgres::product;
use crate::store::postgres::runtime::{Runtime, wait};
use crate::store::postgres::seat::Seat;
#[cfg(test)]
use crate::store::postgres::testing::sent;
use crate::store::postgres::tls;

/// How long all of connecting may take: each address of each host may take the time of the address for itself.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// How long a statement may take. The server ends it before the client stops waiting.
const STATEMENT_MAX: Duration = Duration::from_secs(60);
const ANSWER_MAX: Duration = Duration::from_secs(75);

/// Statements that stay prepared. Lists have one for each combination of conditions.
const STATEMENTS_MAX: usize = 256;

/// How long the server waits for the next request of a transaction, before it ends the connection and with it the locks of whoever does not go
/// on. It is less than a lease, so that nobody keeps others from replacing him.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(2);

/// What is larger than this may take longer to arrive than the server waits for a small request: it waits for the rest of one as it does for
/// the next one, and nothing that it says tells the two apart. So does the client, which hears nothing meanwhile.
const SMALL: usize = 250_000;

/// The bytes per second of the slowest connection over which large requests are made.
const BYTES_PER_SECOND: usize = 250_000;

/// How long so many bytes may take to arrive, beyond what anything may take.
pub(super) fn arrives_in(bytes: usize) -> Duration {
    match bytes > SMALL {
        true => Duration::from_secs((bytes / BYTES_PER_SECOND) as u64),
        false => Duration::ZERO,
    }
}

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reads, by whomever.
    Read,
    /// The transactions of an owner.
    Write,
    /// What a host asks and tells beside its reads and transactions: who owns what, and commands of other processes.
    Beside,
    /// What people order: making, checking, copying and dropping hubs.
    Manage,
    /// Looking at the database as a session finds it that sets nothing.
    Look,
}

/// A connection.
pub(super) struct Session {
    client: Arc<Client>,
    /// By their text.
    statements: Mutex<HashMap<String, Statement>>,
    lost: AtomicBool,
    /// The address of the hub, for errors.
    place: String,
    probe: Option<Probe>,
    #[cfg(test)]
    purpose: Purpose,
    /// The session of the server is this connection's alone.
    seat: Mutex<Option<Seat>>,
    /// Keeps the connection going.
    runtime: Arc<Runtime>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what is not there, with the address.
    pub(super) fn open(address: &Address, purpose: Purpose) -> Result<Self, StoreError> {
        Self::open_told(address, purpose, Arc::new(|_| {}))
    }

    /// As [`open`](Self::open), and calls `notified` for each notification, with what it says, and with nothing when the connection ends.
    pub(super) fn open_told(
        address: &Address,
        purpose: Purpose,
        notified: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let runtime = Runtime::shared()?;
        let connector = tls::connector(address.trust, address.roots.as_deref())?;
        let config = address.config.clone();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            match tokio::time::timeout(CONNECT_MAX, config.connect(connector)).await {
                Ok(Ok((client, connection))) => {
                    let refused = product::refusal(
                        connection.parameter("server_version").unwrap_or_default(),
                        connection.parameter("crdb_version"),
                    );
                    if tell.send(Ok((client, refused))).is_ok()
                        && let Err(error) = keep_going(connection, &*notified).await
                    {
                        // Each request that waited has an error of its own.
                        tracing::debug!(error = %StoreError::from(error), "a connection to PostgreSQL ended");
                    }
                    notified("");
                }
                Ok(Err(error)) => drop(tell.send(Err(Some(error)))),
                Err(_) => drop(tell.send(Err(None))),
            }
        });
        let client = match told.recv() {
            Ok(Ok((client, None))) => client,
            Ok(Ok((_, Some(why)))) => {
                return Err(StoreError::Address(format!(
                    "{address} cannot have task hubs: {why}"
                )));
            }
            Ok(Err(Some(error))) => {
                return Err(of_postgres(
                    &error,
                    &format!("could not connect to {address}: "),
                ));
            }
            Ok(Err(None)) | Err(_) => {
                return Err(unanswered(format!(
                    "could not connect to {address}: it did not answer in {} s",
                    CONNECT_MAX.as_secs()
                )));
            }
        };
        let mut session = Self {
            client: Arc::new(client),
            statements: Mutex::default(),
            lost: AtomicBool::new(false),
            place: address.to_string(),
            probe: None,
            #[cfg(test)]
            purpose,
            seat: Mutex::default(),
            runtime,
        };
        let name = (purpose != Purpose::Look).then(|| own_name(address));
        let settings = name.as_ref().map_or_else(String::new, |name| {
            let settings = settings(address, purpose);
            format!("SET application_name = '{name}'; {settings}")
        });
        let who = session.last_of(&format!("{settings}{WHO}"))?;
        session.probe = who
            .as_deref()
            .and_then(|who| Probe::new(address, who, name));
        if purpose != Purpose::Look {
            let seat = who.map(|who| Seat::take(&who, &session.client));
            session.seat = Mutex::new(seat.transpose()?);
        }
        Ok(session)
    }

    /// Takes a seat as if the server had given this connection a session that is called so.
    #[cfg(test)]
    pub(super) fn takes_seat(&self, who: &str) -> Result<Seat, StoreError> {
        Seat::take(who, &self.client)
    }

    /// Begins a transaction of several short requests. A process that is stopped or cut off between two of them holds its locks no longer than
    /// [`IDLE_MAX`]: the server ends its connection then.
    pub(super) fn begin(&self) -> Result<(), StoreError> {
        self.batch(&format!(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {}",
            IDLE_MAX.as_millis()
        ))
    }

    /// Whether the connection is of no use any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) || self.client.is_closed()
    }

    /// Rows of a query.
    pub(super) fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.wait(async {
            let statement = self.prepared(sql).await?;
            self.client.query(&statement, params).await
        })
    }

    /// The only row of a query, if there is one.
    pub(super) fn query_opt(
        &self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, StoreError> {
        self.wait(async {
            let statement = self.prepared(sql).await?;
            self.client.query_opt(&statement, params).await
        })
    }

    /// Executes a statement, and returns how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, StoreError> {
        self.wait(async {
            let statement = self.prepared(sql).await?;
            self.client.execute(&statement, params).await
        })
    }

    /// Executes several statements without parameters.
    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        #[cfg(test)]
        sent::note_batch(&self.place, self.purpose, sql);
        self.wait(self.client.batch_execute(sql))
    }

    /// Executes several statements without parameters, and returns the first column of the last row.
    fn last_of(&self, sql: &str) -> Result<Option<String>, StoreError> {
        let answers =
            self.wait_within(CONNECT_MAX, Duration::ZERO, self.client.simple_query(sql))?;
        let rows = answers.iter().filter_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.last().and_then(|row| row.get(0)).map(str::to_owned))
    }

    /// Executes a statement without parameters, however long it takes.
    pub(super) fn batch_of_any_length(&self, sql: &str) -> Result<(), StoreError> {
        self.wait_within(
            Duration::MAX,
            Duration::ZERO,
            self.client.batch_execute(sql),
        )
    }

    /// Rows of several queries, which are sent together: one wait for all.
    pub(super) fn query_all(
        &self,
        queries: &[(&str, &[Param<'_>])],
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        self.wait(async {
            let statements: TryJoinAll<_> =
                try_join_all(queries.iter().map(|(sql, _)| self.prepared(sql)));
            let statements = statements.await?;
            let asked = queries.iter().zip(&statements);
            try_join_all(asked.map(|((_, params), statement)| self.client.query(statement, params)))
                .await
        })
    }

    /// Those of several queries that there are, which are sent together: one wait for all, and an outcome for each. They have so many bytes.
    ///
    /// # Errors
    /// If there was no answer in time.
    pub(super) fn query_some<const N: usize>(
        &self,
        queries: &[Option<(&str, &[Param<'_>])>; N],
        bytes: usize,
    ) -> Result<[Result<Vec<Row>, StoreError>; N], StoreError> {
        let results = self.wait_within(ANSWER_MAX, arrives_in(bytes), async {
            let ask = async |sql: &str, params: &[Param<'_>]| {
                let statement = self.prepared(sql).await?;
                self.client.query(&statement, params).await
            };
            let asked = queries.iter().map(|query| async {
                match query {
                    Some((sql, params)) => ask(sql, params).await,
                    None => Ok(Vec::new()),
                }
            });
            Ok(join_all(asked).await)
        })?;
        let mut results = results.into_iter();
        Ok(std::array::from_fn(|_| {
            let result = results.next().unwrap_or(Ok(Vec::new()));
            result.map_err(|error| self.noted(error))
        }))
    }

    /// Waits for answers of the server.
    pub(super) fn wait<T>(
        &self,
        answers: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.wait_within(ANSWER_MAX, Duration::ZERO, answers)
    }

    /// As [`wait`](Self::wait), for so long after what was asked has arrived, which takes at most `arrival`.
    fn wait_within<T>(
        &self,
        within: Duration,
        arrival: Duration,
        answers: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        match self.wait_while_at_work(within, arrival, answers) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.noted(error)),
            Err(waited) => {
                // What was asked may still be answered: nothing else can be asked here.
                self.lose();
                Err(no_answer(waited))
            }
        }
    }

    /// Waits as long as the server is at work, at most for so long. It is not asked whether it is while the bytes of the request may still be on
    /// their way: it is not at work then.
    ///
    /// # Errors
    /// How long it waited in vain.
    fn wait_while_at_work<T>(
        &self,
        within: Duration,
        arrival: Duration,
        done: impl Future<Output = T>,
    ) -> Result<T, Duration> {
        let within = within.saturating_add(arrival);
        let (begun, mut done) = (Instant::now(), pin!(done));
        // What may take for ever is given up only after the server has said three times in a row that it is not at work, or nothing.
        let misses_max = if within == Duration::MAX { 3 } else { 1 };
        let (mut ask_after, mut misses) = (ASK_AFTER + arrival, 0);
        loop {
            let left = within.saturating_sub(begun.elapsed());
            if let Some(done) = wait(left.min(ask_after), done.as_mut()) {
                return Ok(done);
            }
            let probe = self.probe.as_ref().filter(|_| left > ask_after);
            match probe.is_some_and(|probe| !probe.is_at_work(&self.runtime)) {
                true => misses += 1,
                false => misses = 0,
            }
            if misses >= misses_max || left <= ask_after {
                let last = wait(ON_ITS_WAY, done.as_mut());
                return last.ok_or_else(|| begun.elapsed());
            }
            ask_after = (ask_after * 2).min(ASK_SELDOM);
        }
    }

    /// Does work beside the connection, and waits for its end: an answer that arrives then wakes a task of the same thread, and this thread
    /// only once. What it sends arrives within `arrival`.
    ///
    /// # Errors
    /// If there was no end in time, or never will be: the connection is lost then.
    pub(super) fn run<T: Send + 'static>(
        &self,
        arrival: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let task = self.runtime.spawn(async move {
            // Who waited may have given up.
            drop(tell.send(work.await));
        });
        let done = match self.wait_while_at_work(ANSWER_MAX, arrival, told) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(_)) => StoreError::Closed,
            Err(waited) => no_answer(waited),
        };
        self.lose();
        // It holds the connection, which is closed when nobody does.
        if let Some(task) = task {
            task.abort();
        }
        Err(done)
    }

    /// An error of this connection, which may be lost with it.
    fn noted(&self, error: tokio_postgres::Error) -> StoreError {
        if is_lost(&error) {
            self.lose();
        }
        self.error(error)
    }

    /// An error of this connection.
    pub(super) fn error(&self, error: tokio_postgres::Error) -> StoreError {
        match error.code() {
            // Its statements name tables of the hub only. Those of a schema that the user may not use are not found either.
            Some(code) if *code == SqlState::UNDEFINED_TABLE => {
                let there = self
                    .probe
                    .as_ref()
                    .map(|probe| probe.is_hub_there(&self.runtime));
                match there {
                    None | Some(Some(false)) => StoreError::Missing(self.place.clone().into()),
                    Some(Some(true)) => no_rights(&error),
                    Some(None) => unanswered(error),
                }
            }
            _ => error.into(),
        }
    }

    /// What ends the process of the server that serves this connection, from another one.
    pub(super) fn ender(&self) -> Option<Ender> {
        self.probe.as_ref().and_then(Probe::ender)
    }

    /// Ends the process of the server that served a connection that is lost, if it is there still: what has not arrived there never will.
    pub(super) fn end(&self, other: &Ender) -> Result<(), StoreError> {
        self.query(END, &[&other.pid, &other.name]).map(drop)
    }

    /// Gives the connection up.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        seat.take();
    }

    /// The client, for requests that are sent together.
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// A statement, prepared the first time.
    pub(super) async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.statements().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        #[cfg(test)]
        sent::note(&self.place, self.purpose, sql, statement.params().len());
        let mut statements = self.statements();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What only this connection is called at the server: as the address says, with a number. A pooler that gives the session of a connection that it
/// has lost to another one takes the name off.
fn own_name(address: &Address) -> String {
    // Servers cut off names after 63 bytes, and replace other characters.
    let named = address.config.get_application_name().unwrap_or_default();
    let plain = |c: char| match c {
        ' ' | '-' | '_' | '.' | '/' | ':' => c,
        c if c.is_ascii_alphanumeric() => c,
        _ => '?',
    };
    let named: String = named.chars().map(plain).take(50).collect();
    let number = uuid::Uuid::new_v4().as_u64_pair().0 as u32;
    format!("{named} {number:08x}")
}

/// There was no answer in time.
fn no_answer(waited: Duration) -> StoreError {
    unanswered(format!(
        "PostgreSQL did not answer in {} s",
        waited.as_secs()
    ))
}

/// Moves the bytes of a connection, until it ends.
async fn keep_going<S, T>(
    mut connection: Connection<S, T>,
    notified: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message? {
            AsyncMessage::Notification(said) => notified(said.payload()),
            AsyncMessage::Notice(notice) => {
                tracing::debug!(notice = notice.message(), "PostgreSQL says");
            }
            _ => {}
        }
    }
    Ok(())
}

/// The settings of a session. Those that the server has for all sessions, the user or the database must neither cut off what a host does
/// nor change what it means.
///
/// Plans depend on the schema alone, as those of SQLite do: statements are prepared while tables are empty, and PostgreSQL would choose to
/// read whole tables, or build hashes of them, and keep to that. So the ways to read a whole table are off where there is another one. Only what
/// people order may read whole tables.
///
/// What some of the supported versions of PostgreSQL do not have is set where it is.
fn settings(address: &Address, purpose: Purpose) -> String {
    let mut settings = format!(
        "SET search_path = {}, pg_catalog; SET client_min_messages = warning; SET jit = off; SET statement_timeout = {};
         SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off;
         SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'transaction_timeout');",
        address.quoted_schema(),
        STATEMENT_MAX.as_millis(),
    );
    if purpose != Purpose::Manage {
        settings += "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
            SET enable_material = off; SET max_parallel_workers_per_gather = 0; SET plan_cache_mode = force_generic_plan;
            SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'enable_memoize';";
    }
    settings += match purpose {
        Purpose::Read => "SET enable_sort = off;
            SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'enable_incremental_sort';
            SET default_transaction_read_only = on; SET idle_in_transaction_session_timeout = 60000;",
        // A whole transaction is sent at once, so that only an owner that is stopped in the middle of it would hold its locks. One of many bytes
        // has its own limit.
        Purpose::Write => "SET lock_timeout = 10000;
            SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';",
        Purpose::Beside | Purpose::Manage | Purpose::Look => "SET idle_in_transaction_session_timeout = 60000; SET lock_timeout = 30000;",
    };
    if purpose == Purpose::Write {
        let idle = IDLE_MAX.as_millis();
        settings += &format!("SET idle_in_transaction_session_timeout = {idle};");
    }
    settings
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.is_lost() {
            warn_seldom!("a connection to PostgreSQL was lost");
        }
        // The runtime outlives the goodbye of the connection, which its drop sends.
        let _ = &self.runtime;
    }
}
