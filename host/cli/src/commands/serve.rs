//! `perennial serve`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use perennial::telemetry::Otlp;
use perennial::{Client, Host, HostBuilder, HostStats, Hubs, Loss, Quotas, Result, Status};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{QuotaArgs, Serve};
use crate::commands::hosts::Hosts;
use crate::commands::listen::{self, Served};
use crate::error::{CliError, Exit};
use crate::format::{count, span};
use crate::log;
use crate::screen;
use crate::session::Session;

pub(super) async fn serve(args: &Serve, session: &Session) -> anyhow::Result<Exit> {
    prepare(args)?;
    let mut signals = Signals::new()?;
    let begun = Instant::now();
    let mut builder = builder(args, session)?;
    let otlp = args.otlp.as_deref().map(Otlp::new).transpose()?;
    let otlp = otlp.map(Arc::new);
    if let Some(otlp) = &otlp {
        builder = builder.spans(Arc::clone(otlp) as _);
    }
    let hubs = hubs(args, session)?;
    let opened = match listen::open(&args.http, session).await {
        Ok(opened) => opened,
        // Where it is another host that has the address, it probably has the hub too, and that is what matters.
        Err(error) => return Err(owned(&hubs, session).await?.unwrap_or(error)),
    };
    if let Some(opened) = &opened {
        builder = opened.told_to(builder, &args.http);
    }
    let wanted = Hosts {
        builder,
        hubs: &hubs,
        session,
        http: &args.http,
        opened: opened.as_ref(),
    };
    let hosts = tokio::select! {
        hosts = wanted.start() => hosts?,
        // One that still waits for what it lacks has done nothing.
        () = signals.next() => return Ok(Exit::Ok),
    };
    let clients = hosts.iter().map(Host::client).collect();
    let served = opened.map(|opened| opened.serve(&args.http, clients));
    let served = served.transpose()?;
    for (host, hub) in hosts.iter().zip(&hubs) {
        ready(host, hub, served.as_ref(), session).await?;
    }
    let lost = tokio::select! {
        () = signals.next() => None,
        lost = first_lost(&hosts, &hubs) => Some(lost),
    };
    session
        .output()
        .note("stopping; a second signal stops at once");
    // Whoever asks twice does not want to wait: what was committed is safe, and the rest happens again.
    let again = tokio::spawn(async move {
        signals.again().await;
        std::process::exit(130);
    });
    if let (None, Some(within)) = (&lost, args.drain.max(args.lame_duck)) {
        let serves_on = tokio::time::sleep(args.lame_duck.unwrap_or_default());
        tokio::join!(drain(hosts.iter(), within, session), serves_on);
    }
    if let Some(served) = served {
        served.stop().await;
    }
    let did = shut_down(hosts, otlp).await?;
    again.abort();
    for (stats, hub) in did.into_iter().zip(&hubs) {
        let said = stopped(begun, stats, hub, session).await;
        // A hub that was lost may be deleted by now, which is not why this host ends.
        if lost.is_none() {
            said?;
        }
    }
    match lost {
        None => Ok(Exit::Ok),
        Some((hub, why)) => Err(lost_by(hub, why, session).await.into()),
    }
}

async fn lost_by(hub: &str, why: Option<Loss>, session: &Session) -> CliError {
    match why {
        Some(Loss::Forgotten(lost)) => return forgotten(hub, lost),
        Some(Loss::UsedUp) => return used_up(hub),
        _ => {}
    }
    let is_there = match session.store() {
        Ok(store) => Hubs::new(store).exists(hub).await,
        Err(_) => return taken_over(hub),
    };
    match is_there {
        Ok(false) => deleted(hub),
        Ok(true) | Err(_) if session.has_database() => replaced(hub),
        Ok(true) | Err(_) => taken_over(hub),
    }
}

fn deleted(hub: &str) -> CliError {
    let message = format!("task hub {hub:?} was deleted, or renamed, while this host ran it");
    CliError::new(Exit::Error, message)
        .hint("`perennial hubs` lists those that are there; a host that is started makes a new one of this name")
}

fn replaced(hub: &str) -> CliError {
    let message = format!(
        "this host does not run task hub {hub:?} any more: it was not heard of for longer than its lease lasts, because it stood still or could \
         not reach the database, and other hosts run its part"
    );
    CliError::new(Exit::Error, message)
        .hint("start it again; nothing that was acknowledged is lost. `perennial hubs show` lists the hosts that run the hub")
}

fn forgotten(hub: &str, lost: u64) -> CliError {
    let lost = count(lost, "transaction");
    let message = format!(
        "the database of task hub {hub:?} has lost {lost} that it had confirmed, the last ones: what was acknowledged since is not there"
    );
    let hint = "start the host again, which reads the database as it is; whoever runs the database may know what the former primary has still, \
                and that synchronous_standby_names keeps a failover from losing transactions";
    CliError::new(Exit::Error, message).hint(hint)
}

fn used_up(hub: &str) -> CliError {
    let message = format!(
        "this host has numbered almost 4,294,967,296 instances of task hub {hub:?}, which is as many as one process may, and has ended for that"
    );
    CliError::new(Exit::Error, message).hint(
        "start it again, and it gets new numbers; nothing is lost, and other hosts have gone on",
    )
}

fn taken_over(hub: &str) -> CliError {
    let message = format!("another process took task hub {hub:?} over, or deleted it");
    CliError::new(Exit::Error, message)
        .hint("`perennial doctor` says who owns it; nothing that was acknowledged is lost")
}

/// Starts the log, and refuses to run within limits of the process that no host could work in.
fn prepare(args: &Serve) -> anyhow::Result<()> {
    screen::queue_stderr();
    log::start(
        &args.log,
        if args.log_json {
            log::Format::Json
        } else {
            log::Format::Text
        },
    )?;
    let descriptors = perennial::raise_descriptor_limit();
    tracing::debug!(?descriptors, "open files at most");
    perennial::check_process_limits().map_err(|shortage| {
        let hint = "`ulimit -a` shows the limits of a shell, `ulimit -n NUMBER` sets that of open files, and `-v`, `-d` those of memory; a service manager or a container has settings of its own";
        CliError::new(Exit::Error, format!("no host was started: {shortage}")).hint(hint)
    })?;
    Ok(())
}

/// Waits until one of the hubs is lost to another process, or with it, and returns which and why.
async fn first_lost<'a>(hosts: &[Host], hubs: &[&'a str]) -> (&'a str, Option<Loss>) {
    let lost = hosts.iter().zip(hubs).map(|(host, hub)| {
        let lost = host.lost();
        Box::pin(async move {
            lost.await;
            (*hub, host.why_lost())
        })
    });
    futures::future::select_all(lost).await.0
}

fn builder(args: &Serve, session: &Session) -> anyhow::Result<HostBuilder> {
    let mut builder = Host::builder()
        .store(session.store()?)
        .name("perennial serve");
    if let Some(count) = args.max_activities {
        builder = builder.activities_max(count);
    }
    if let Some(count) = args.workers {
        builder = builder.workers(count);
    }
    if let Some(count) = args.resident {
        builder = builder.resident_max(count);
    }
    Ok(builder.quotas(quotas(&args.quotas)))
}

fn quotas(args: &QuotaArgs) -> Quotas {
    let many = |count: Option<usize>| count.and_then(|count| u64::try_from(count).ok());
    let mut quotas = Quotas::default();
    quotas.instances = many(args.max_instances);
    quotas.instances_per_module = many(args.max_instances_per_module);
    quotas.hub_bytes = many(args.max_hub_bytes);
    quotas.history_events = many(args.max_history_events);
    quotas.history_bytes = many(args.max_history_bytes);
    quotas.activities_per_module = args.max_activities_per_module;
    if let Some(count) = args.max_requests {
        quotas.requests_waiting = count;
    }
    quotas
}

/// Lets the activities end that run, for at most this long, and says what does not.
pub(super) async fn drain<'a>(
    hosts: impl Iterator<Item = &'a Host>,
    within: Duration,
    session: &Session,
) {
    let drained = hosts.map(|host| host.drain(within));
    let left: usize = futures::future::join_all(drained).await.into_iter().sum();
    if left > 0 {
        let left = count(left as u64, "activity attempt");
        session.output().note(&format!(
            "{left} did not end within {within:?} and is cut off; the next host starts the next one"
        ));
    }
}

/// Stops the hosts, sends the last of their traces, and returns their statistics.
async fn shut_down(hosts: Vec<Host>, otlp: Option<Arc<Otlp>>) -> anyhow::Result<Vec<HostStats>> {
    let mut did = Vec::with_capacity(hosts.len());
    for host in hosts {
        did.push(host.stats());
        host.shut_down().await;
    }
    if let Some(otlp) = otlp {
        let sent = tokio::task::spawn_blocking(move || otlp.shut_down()).await?;
        sent.unwrap_or_else(|error| tracing::warn!(%error, "the last traces are lost"));
    }
    Ok(did)
}

/// The error that names the owner of the first of these hubs that has one, where a hub has only one.
async fn owned(hubs: &[&str], session: &Session) -> anyhow::Result<Option<anyhow::Error>> {
    if session.has_database() {
        return Ok(None);
    }
    for hub in hubs {
        let owner = Client::open(session.store()?, hub)?.owner().await?;
        if let Some(owner) = owner {
            let message = format!("task hub {hub:?}: the task hub is in use by {owner}");
            let said = CliError::new(Exit::WrongState, message);
            let hint = "one host at a time owns a task hub; every other command works beside it";
            return Ok(Some(said.hint(hint).into()));
        }
    }
    Ok(None)
}

/// The hubs to run, without repetition; the first is for requests that name none.
fn hubs<'a>(args: &'a Serve, session: &'a Session) -> anyhow::Result<Vec<&'a str>> {
    let mut hubs = vec![session.task_hub()];
    for hub in &args.and_hubs {
        if hubs.iter().any(|other| other.eq_ignore_ascii_case(hub)) {
            let said = CliError::new(Exit::Usage, format!("task hub {hub:?} is named twice"));
            return Err(said
                .hint("name each with --task-hub or --and-hub once")
                .into());
        }
        hubs.push(hub);
    }
    // A name that cannot be one is said before a hub is made of another.
    for hub in &hubs {
        Client::open(session.store()?, hub)?;
    }
    Ok(hubs)
}

/// SIGINT, SIGTERM, and SIGHUP unless whoever started the process had it ignored, as `nohup` does.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("could not listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: if hangups_are_ignored() {
                None
            } else {
                Some(listen(SignalKind::hangup())?)
            },
        })
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) {
        let Self {
            interrupt,
            terminate,
            hangup,
        } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = hung_up => {}
        }
    }

    /// Waits for a second signal. SIGHUP does not count: a terminal that closes sends it more than once.
    async fn again(&mut self) {
        self.hangup = None;
        self.next().await;
    }
}

/// Whether SIGHUP was ignored when the process started, as `nohup` has it. Must be called before a handler is installed.
fn hangups_are_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        // Not everywhere can it be asked. Under `nohup` nothing is printed to a terminal.
        use std::io::IsTerminal;
        return !std::io::stdout().is_terminal() && !std::io::stderr().is_terminal();
    };
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 != 0)
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum EventJson<'a> {
    Ready {
        task_hub: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        database: Option<String>,
        pid: u32,
        instances: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        grpc: Option<&'a str>,
    },
    Stopped {
        task_hub: &'a str,
        left: BTreeMap<&'static str, u64>,
        stats: HostStats,
    },
}

async fn ready(
    host: &Host,
    task_hub: &str,
    served: Option<&Served>,
    session: &Session,
) -> anyhow::Result<()> {
    let url = served.and_then(|served| served.url.as_deref());
    let grpc = served.and_then(|served| served.grpc.as_deref());
    let live: u64 = left(&host.client()).await?.values().sum();
    let (place, pid) = (host.place(), std::process::id());
    if session.output().is_json() {
        let (file, database) = match host.path() {
            Some(file) => (Some(file.display().to_string()), None),
            None => (None, Some(place)),
        };
        return session.output().json(&EventJson::Ready {
            task_hub,
            file,
            database,
            pid,
            instances: live,
            url,
            grpc,
        });
    }
    let instances = match live {
        0 => "no live instances".to_owned(),
        live => format!("takes up {}", count(live, "instance")),
    };
    let url = url.map(|url| format!(", {url}")).unwrap_or_default();
    let grpc = grpc
        .map(|grpc| format!(", gRPC {grpc}"))
        .unwrap_or_default();
    session.output().line(&format!(
        "ready: {place} (pid {pid}), {instances}{url}{grpc}"
    ))
}

async fn stopped(
    begun: Instant,
    stats: HostStats,
    task_hub: &str,
    session: &Session,
) -> anyhow::Result<()> {
    let left = left(&Client::open(session.store()?, task_hub)?).await?;
    if session.output().is_json() {
        return session.output().json(&EventJson::Stopped {
            task_hub,
            left,
            stats,
        });
    }
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let did = format!(
        "{}, {}, {}",
        count(stats.turns, "turn"),
        count(stats.activity_attempts, "activity attempt"),
        ended(stats)
    );
    let remains = match left
        .iter()
        .map(|(status, number)| format!("{number} {status}"))
        .collect::<Vec<_>>()
    {
        none if none.is_empty() => "nothing is left to do".to_owned(),
        some => format!("left: {}", some.join(", ")),
    };
    session
        .output()
        .line(&format!("stopped after {}: {did}; {remains}", span(ms)))
}

fn ended(stats: HostStats) -> String {
    format!("{} ended", count(stats.ended, "execution"))
}

/// Live instances by status.
pub(super) async fn left(client: &Client) -> Result<BTreeMap<&'static str, u64>> {
    let counts = client.counts().await?;
    let live = counts
        .into_iter()
        .filter(|(status, _): &(Status, u64)| !status.is_end());
    Ok(live
        .map(|(status, number)| (status.name(), number))
        .collect())
}
