//! The hosts of `perennial serve`: either all of them start, or none does and nothing is left behind. A shortage is waited out.

use std::time::{Duration, Instant};

use perennial::{Client, Error, Host, HostBuilder, Hubs, Resource, Result};

use crate::args::Http;
use crate::commands::listen::{Opened, Served};
use crate::session::Session;

/// How long another process may own a hub before the start fails: a command that finds no host owns the hub for a moment.
const BORROWED_MAX: Duration = Duration::from_secs(1);

/// Pauses between two attempts to open a hub: the first, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// Time between two log lines about a hub that cannot be opened.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// The hosts to start.
pub(super) struct Hosts<'a> {
    pub(super) builder: HostBuilder,
    pub(super) hubs: &'a [&'a str],
    pub(super) session: &'a Session,
    pub(super) http: &'a Http,
    pub(super) opened: Option<&'a Opened>,
}

impl Hosts<'_> {
    /// Starts a host for each hub, in their order.
    pub(super) async fn start(&self) -> anyhow::Result<Vec<Host>> {
        let mut is_there = Vec::with_capacity(self.hubs.len());
        for hub in self.hubs {
            is_there.push(self.is_there(hub).await);
        }
        let mut order: Vec<usize> = (0..self.hubs.len()).collect();
        // What another process may have is taken first, so that no hub is made in vain.
        order.sort_by_key(|at| !is_there[*at]);
        let mut meanwhile = None;
        let mut hosts: Vec<(usize, Host)> = Vec::with_capacity(order.len());
        let mut failed = None;
        for at in order {
            match self.start_one(self.hubs[at], &mut meanwhile).await {
                Ok(host) => hosts.push((at, host)),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(served) = meanwhile {
            served.stop().await;
        }
        let Some(error) = failed else {
            hosts.sort_by_key(|(at, _)| *at);
            return Ok(hosts.into_iter().map(|(_, host)| host).collect());
        };
        for (at, host) in hosts {
            host.shut_down().await;
            if !is_there[at] {
                self.unmake(self.hubs[at]).await;
            }
        }
        Err(error)
    }

    /// Whether a hub is there, or may be: its database cannot be asked.
    async fn is_there(&self, hub: &str) -> bool {
        let Ok(store) = self.session.store() else {
            return false;
        };
        Hubs::new(store).exists(hub).await.unwrap_or(true)
    }

    /// Starts one. An existing hub that cannot be opened for a shortage is tried again until it can be: a supervisor would only restart the
    /// process, and give up after some attempts.
    async fn start_one(&self, hub: &str, meanwhile: &mut Option<Served>) -> anyhow::Result<Host> {
        let builder = self.builder.clone().task_hub(hub);
        let (mut pause, mut said) = (PAUSE, None::<Instant>);
        loop {
            let was_there = self.is_there(hub).await;
            let started = match self.session.has_database() {
                true => self.stand_by(&builder, hub, meanwhile).await?,
                false => start(&builder).await,
            };
            let error = match started {
                Err(error) if was_there && may_pass(&error) => error,
                other => return Ok(other?),
            };
            self.serve_meanwhile(meanwhile)?;
            if said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
                said = Some(Instant::now());
                let url = meanwhile.as_ref().and_then(|served| served.url.as_deref());
                tracing::warn!(
                    hub,
                    place = self.session.elsewhere(Some(hub.to_owned())).place(),
                    url,
                    %error,
                    "the task hub cannot be opened, and is tried again until it can be: {}",
                    advice(&error)
                );
            }
            tokio::time::sleep(pause).await;
            // A hub that many hosts could run is wanted at once when its database is back.
            pause = match error.is_database_away() {
                true => PAUSE,
                false => (pause * 2).min(PAUSE_MAX),
            };
        }
    }

    /// Clients that answer requests while no host runs: the process is alive, but not ready.
    fn clients(&self) -> anyhow::Result<Vec<Client>> {
        let store = self.session.store()?;
        let open = |hub: &&str| Ok(Client::open(&store, hub)?);
        self.hubs.iter().map(open).collect()
    }

    fn serve_meanwhile(&self, meanwhile: &mut Option<Served>) -> anyhow::Result<()> {
        if let (None, Some(opened)) = (&meanwhile, self.opened) {
            *meanwhile = Some(opened.serve(self.http, self.clients()?)?);
        }
        Ok(())
    }

    /// Starts a host of a hub in a database, which several machines use. Hosts share a hub; but one of an earlier format has one owner: while
    /// that is another host, this one waits for it, and answers requests meanwhile by leaving commands for that one.
    async fn stand_by(
        &self,
        builder: &HostBuilder,
        hub: &str,
        meanwhile: &mut Option<Served>,
    ) -> anyhow::Result<Result<Host>> {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let builder = builder.clone().standby(move |owner| {
            // Nobody waits any more.
            let _ = tell.send(owner.to_owned());
        });
        let mut starting = std::pin::pin!(builder.start());
        let begun = Instant::now();
        loop {
            tokio::select! {
                started = &mut starting => return Ok(started),
                Some(owner) = told.recv() => {
                    // A command owns the hub for a moment.
                    let borrowed = BORROWED_MAX.saturating_sub(begun.elapsed());
                    if let Ok(started) = tokio::time::timeout(borrowed, &mut starting).await {
                        return Ok(started);
                    }
                    self.serve_meanwhile(meanwhile)?;
                    let url = meanwhile.as_ref().and_then(|served| served.url.as_deref());
                    tracing::info!(hub, url, "{owner} runs the task hub; this host waits, and takes over when that one is gone");
                }
            }
        }
    }

    /// Deletes a hub that was created for a start that failed, unless it is used meanwhile.
    async fn unmake(&self, hub: &str) {
        let unmade = async {
            let store = self.session.store()?;
            let client = Client::open(&store, hub)?;
            let is_used = !client.modules().await?.is_empty()
                || client.counts().await?.iter().any(|(_, number)| *number > 0)
                || !client.keys().await?.is_empty();
            if is_used {
                return anyhow::Ok(());
            }
            Ok(Hubs::new(store).delete(hub).await?)
        };
        if let Err(error) = unmade.await {
            tracing::warn!(hub, %error, "a task hub that was made in vain stays");
        }
    }
}

/// Whether the cause may pass without a restart of this process.
fn may_pass(error: &Error) -> bool {
    let resource = error.lacks();
    error.is_disk_full()
        || error.is_locked()
        || error.is_database_away()
        || matches!(
            resource,
            Some(Resource::Disk | Resource::Memory | Resource::Threads)
        )
}

fn advice(error: &Error) -> &'static str {
    if error.is_locked() {
        "something else has locked the file; end the program that has it open"
    } else if error.is_database_away() {
        "its database takes no connection or does not answer, as the error says; this goes on by itself once it does"
    } else if error.lacks() == Some(Resource::Memory) {
        "the machine has no memory left for it; end what takes it up"
    } else if error.lacks() == Some(Resource::Threads) {
        "the machine has no threads left for it; end what takes them up"
    } else {
        "the disk that the file is on is full; make room there"
    }
}

/// Starts a host. Waits up to [`BORROWED_MAX`] for a command that owns the hub.
pub(crate) async fn start(builder: &HostBuilder) -> Result<Host> {
    let begun = Instant::now();
    loop {
        match builder.clone().start().await {
            Err(error) if error.is_owned() && begun.elapsed() < BORROWED_MAX => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            other => return other,
        }
    }
}
