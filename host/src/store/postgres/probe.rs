//! Whether the server is at work on what a connection waits for.
//!
//! A connection can be dead without an end: something between swallows what is sent. TCP notices it where nothing acknowledges the bytes, and not
//! where a proxy does. So the server is asked on another connection after one that has waited for long.

use std::time::Duration;

use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use crate::store::postgres::address::Address;
use crate::store::postgres::runtime::{Runtime, wait};
use crate::store::postgres::tls;

/// How long an answer takes before the server is asked. Then the wait until it is asked again is twice as long, at most [`ASK_SELDOM`].
pub(super) const ASK_AFTER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 4 });
pub(super) const ASK_SELDOM: Duration = Duration::from_secs(60);

/// How long the server has to say it.
const ASKING_MAX: Duration = Duration::from_secs(6);

/// After the server has said that it is not at work, its answer may be on its way for so long.
pub(super) const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Says who the server is for a connection: its process, and when the server and the process began, in microseconds.
pub(super) const WHO: &str = "SELECT pg_backend_pid() || ' ' || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint || ' ' || coalesce(
     (SELECT (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_get_activity(pg_backend_pid())), 0)";

/// Ends a process of the server, if it serves the connection of this name. Another one's may have the number by now, or a pooler may have given
/// it to another connection, without the name.
pub(super) const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE pid = $1 AND application_name = $2 AND pid <> pg_backend_pid()";

/// See [`END`].
pub(super) struct Ender {
    pub(super) pid: i32,
    pub(super) name: String,
}

/// A connection, as the server knows it.
pub(super) struct Probe {
    address: Address,
    /// The process of the server.
    pid: i32,
    /// When the server began.
    began: i64,
    /// The `application_name` that only this connection has, unless it has none of its own.
    name: Option<String>,
}

impl Probe {
    /// `who` is what [`WHO`] said. `name` is the `application_name` that only this connection has.
    pub(super) fn new(address: &Address, who: &str, name: Option<String>) -> Option<Self> {
        let mut who = who.split(' ');
        Some(Self {
            address: address.clone(),
            pid: who.next()?.parse().ok()?,
            began: who.next()?.parse().ok()?,
            name,
        })
    }

    pub(super) fn ender(&self) -> Option<Ender> {
        let (pid, name) = (self.pid, self.name.clone()?);
        Some(Ender { pid, name })
    }

    /// Whether the server says that it is at work for the connection. One that answers nothing in time does not.
    pub(super) fn is_at_work(&self, runtime: &Runtime) -> bool {
        // Another server of the same address says nothing of the connection. One that has been idle only for a moment may have answered just now.
        // A pooler that has lost the connection gives its session to another one, which may be the one that asks here.
        let state = "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint <> $2 OR coalesce(
             (SELECT coalesce(state, '') NOT LIKE 'idle%' OR state_change > clock_timestamp() - interval '2 s'
              FROM pg_stat_activity WHERE pid = $1 AND pid <> pg_backend_pid() AND application_name = coalesce($3, application_name)), false)";
        match self.ask(
            runtime,
            state,
            vec![
                Box::new(self.pid),
                Box::new(self.began),
                Box::new(self.name.clone()),
            ],
        ) {
            Some(Ok(is_at_work)) => is_at_work,
            // A server that refuses lives, and has said nothing of the connection.
            Some(Err(error)) => error.code().is_some(),
            None => false,
        }
    }

    /// Whether the hub of the connection is there, whatever the user may do with it. `None` if nobody says so.
    pub(super) fn is_hub_there(&self, runtime: &Runtime) -> Option<bool> {
        let there = "SELECT EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = 'hub')";
        let schema = Box::new(self.address.schema());
        self.ask(runtime, there, vec![schema])?.ok()
    }

    /// Asks a question, on another connection. No row is a no. `None` if there is no answer in time.
    fn ask(
        &self,
        runtime: &Runtime,
        question: &'static str,
        of: Vec<Box<dyn ToSql + Sync + Send>>,
    ) -> Option<Result<bool, Error>> {
        let Address { trust, roots, .. } = &self.address;
        let connector = tls::connector(*trust, roots.as_deref()).ok()?;
        let config = self.address.config.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let asked = async {
                let (client, connection) = config.connect(connector).await?;
                tokio::spawn(connection);
                let of: Vec<&(dyn ToSql + Sync)> =
                    of.iter().map(|one| &**one as &(dyn ToSql + Sync)).collect();
                let row = client.query_opt(question, &of).await?;
                row.map_or(Ok(false), |row| row.try_get(0))
            };
            // Who waited may have given up.
            drop(tell.send(tokio::time::timeout(ASKING_MAX, asked).await.ok()));
        });
        wait(ASKING_MAX * 2, told)?.ok()?
    }
}
