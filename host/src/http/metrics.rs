//! Metrics of the hubs and of the server, for Prometheus.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use futures::future::join_all;
use perennial_core::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Histogram};
use prometheus_client::registry::Registry;

use crate::client::Client;
use crate::http::Api;
use crate::http::ops::warn_of;
use crate::{Buckets, CommitTimings, HostStats, HubHosts};

/// Selects a histogram.
type Timing = fn(&CommitTimings) -> &Buckets;

/// A metric of a hub: its name (the encoder appends `_total` to counters), its description, and its value.
type HubMetric = (&'static str, &'static str, fn(&HostStats) -> u64);

macro_rules! of_hubs {
    ($($name:literal $help:literal $field:ident)*) => {
        &[$(($name, $help, |stats| stats.$field as u64)),*]
    };
}

const COUNTERS: &[HubMetric] = of_hubs! {
    "perennial_activity_attempts" "Attempts of activities that ended" activity_attempts
    "perennial_checkpoints" "Times that the write-ahead log was written into the file of the hub; none in PostgreSQL" checkpoints
    "perennial_commits" "Transactions committed, each with one sync to disk" commits
    "perennial_committed_changes" "Changes committed in them" changes
    "perennial_evictions" "Guests that were dropped to make room" evictions
    "perennial_executions_ended" "Executions that ended" ended
    "perennial_guests_made" "Guests that were made" instantiations
    "perennial_replayed_turns" "Turns that were repeated in replays" replayed_turns
    "perennial_replays" "Executions that were replayed" replays
    "perennial_turns" "Turns that ran" turns
    "perennial_written_rows" "Rows inserted, changed or deleted in them" rows
};

const GAUGES: &[HubMetric] = of_hubs! {
    "perennial_activities_running" "Activities that run" activities_running
    "perennial_activities_waiting" "Activities that wait to run" activities_waiting
    "perennial_remote_items" "Turns and activities that remote workers run" remote_items
    "perennial_remote_waiting" "Turns and activities that wait for a remote worker" remote_waiting
    "perennial_remote_workers" "Remote workers that are connected" remote_workers
    "perennial_resident_instances" "Guests in memory" resident
    "perennial_work_queued" "Turns and answers of the writer that wait for a worker" work_queued
    "perennial_writes_waiting" "Changes that the writer has not answered" writes_waiting
};

/// A metric of how hosts share a hub.
type SharedMetric = (&'static str, &'static str, fn(&HubHosts) -> u64);

const SHARED: &[SharedMetric] = &[
    ("perennial_hub_hosts", "Hosts that share the hub", |hub| {
        hub.hosts.len() as u64
    }),
    (
        "perennial_hub_outbox_messages",
        "Messages to instances of other partitions that have not been taken in; 10000 stands for that many or more",
        |hub| hub.waiting_messages,
    ),
    (
        "perennial_hub_partitions_free",
        "Partitions of the hub that no host has",
        |hub| u64::from(hub.free_partitions),
    ),
];

/// A metric that is told without the hub.
type OwnMetric = (&'static str, &'static str, fn(&Hub) -> u64);

/// What is told of each hub, whether it can be read or not.
const OWN: &[OwnMetric] = &[
    (
        "perennial_hub_partitions",
        "Partitions of the hub that this host has",
        |hub| hub.partitions,
    ),
    (
        "perennial_store_up",
        "Whether the database or the file of the hub could be read just now: 1, or 0, and then what only it knows is left out",
        |hub| u64::from(hub.stored.is_some()),
    ),
];

/// How long it may take to read a hub, and before that its keys: Prometheus gives up after ten seconds unless it is told otherwise.
pub(super) const READ_WITHIN: Duration =
    Duration::from_millis(if cfg!(test) { 500 } else { 4_000 });

/// Where the metrics are.
pub(super) const PATH: &str = "/metrics";

/// The route of the metrics, which needs the same access as others.
pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route(PATH, get(metrics))
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let hubs = join_all(api.hubs.iter().map(|hub| Hub::read(hub, &api.oldest))).await;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics { hubs, api }));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The measurements of one hub.
#[derive(Debug)]
struct Hub {
    name: String,
    /// `None` if the hub cannot be read now.
    stored: Option<Stored>,
    /// How long ago the host in this process renewed its lease, by its own clock; `None` if no host here runs the hub, or it has no leases.
    lease_age: Option<Duration>,
    /// How many partitions the host in this process has.
    partitions: u64,
    /// `None` if no host in this process runs it.
    stats: Option<HostStats>,
    commits: Option<CommitTimings>,
}

/// What only the hub knows.
#[derive(Debug)]
struct Stored {
    instances: Vec<(Status, u64)>,
    hosts: HubHosts,
    /// How long the oldest message between partitions has waited, at least.
    oldest: Duration,
}

/// The oldest message between partitions of each hub, and since when it has been that, as far as the metrics were read. No row says when a message
/// was sent, and a message that is stuck becomes the oldest one and stays it.
#[derive(Debug, Default)]
pub(super) struct Oldest(Mutex<HashMap<String, (i64, Instant)>>);

impl Oldest {
    /// How long this one has been the oldest, now that it was seen.
    fn waits(&self, hub: &str, message: Option<i64>, now: Instant) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(message) = message else {
            seen.remove(hub);
            return Duration::ZERO;
        };
        let (known, since) = seen.entry(hub.to_owned()).or_insert((message, now));
        if *known != message {
            (*known, *since) = (message, now);
        }
        now.saturating_duration_since(*since)
    }
}

impl Stored {
    async fn read(client: &Client, oldest: &Oldest) -> crate::Result<Self> {
        let message = client.oldest_sent().await?;
        Ok(Self {
            oldest: oldest.waits(client.task_hub(), message, Instant::now()),
            instances: client.counts().await?,
            hosts: client.hosts().await?,
        })
    }

    /// The partitions of the host in this process.
    fn own_partitions(&self) -> u64 {
        let own = self.hosts.hosts.iter().filter(|host| host.is_this);
        own.map(|host| u64::from(host.partitions)).sum()
    }
}

impl Hub {
    /// What this process knows itself is told also while the hub cannot be read: that is when it is needed.
    async fn read(client: &Client, oldest: &Oldest) -> Self {
        let why = match tokio::time::timeout(READ_WITHIN, Stored::read(client, oldest)).await {
            Ok(Ok(stored)) => Ok(stored),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", READ_WITHIN.as_secs())),
        };
        let stored = why
            .map_err(|why| warn_of(client.task_hub(), &why, "read"))
            .ok();
        let (lease_age, own) = client.own_share().unwrap_or_default();
        Self {
            name: client.task_hub().to_owned(),
            lease_age,
            partitions: stored.as_ref().map_or(own, Stored::own_partitions),
            stored,
            stats: client.host_stats(),
            commits: client.commit_timings(),
        }
    }

    fn label(&self) -> [(&'static str, &str); 1] {
        [("hub", &self.name)]
    }
}

#[derive(Debug)]
struct Metrics {
    hubs: Vec<Hub>,
    api: Arc<Api>,
}

impl Collector for Metrics {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        self.instances(&mut to)?;
        for (metrics, kind) in [(COUNTERS, Counter), (GAUGES, Gauge)] {
            for (name, help, of) in metrics {
                let mut family = to.encode_descriptor(name, help, None, kind)?;
                for hub in &self.hubs {
                    if let Some(stats) = &hub.stats {
                        sample(&mut family.encode_family(&hub.label())?, kind, of(stats))?;
                    }
                }
            }
        }
        for (name, help, of) in SHARED {
            let mut family = to.encode_descriptor(name, help, None, Gauge)?;
            for hub in &self.hubs {
                if let Some(stored) = &hub.stored {
                    let value = of(&stored.hosts);
                    sample(&mut family.encode_family(&hub.label())?, Gauge, value)?;
                }
            }
        }
        for (name, help, of) in OWN {
            let mut family = to.encode_descriptor(name, help, None, Gauge)?;
            for hub in &self.hubs {
                sample(&mut family.encode_family(&hub.label())?, Gauge, of(hub))?;
            }
        }
        self.oldest(&mut to)?;
        self.leases(&mut to)?;
        self.commits(&mut to)?;
        self.http(&mut to)
    }
}

impl Metrics {
    fn instances(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = (
            "perennial_instances",
            "Instances of the task hub by status; each host of a hub tells of all",
        );
        let mut family = to.encode_descriptor(name, help, None, Gauge)?;
        for hub in &self.hubs {
            let Some(stored) = &hub.stored else { continue };
            // Statuses without instances are exported too: an alert needs a series before the first failure.
            for status in Status::ALL {
                let found = stored.instances.iter().find(|(found, _)| *found == status);
                let count = found.map_or(0, |(_, count)| *count);
                let labels = [("hub", hub.name.as_str()), ("status", status.name())];
                family.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        Ok(())
    }

    fn oldest(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = (
            "perennial_hub_outbox_oldest_seconds",
            "Seconds that the oldest message to an instance of another partition has waited, at least: since it was first seen here; 0 without one",
        );
        let mut family = to.encode_descriptor(name, help, None, Gauge)?;
        for hub in &self.hubs {
            if let Some(stored) = &hub.stored {
                let age = stored.oldest.as_secs_f64();
                sample(&mut family.encode_family(&hub.label())?, Gauge, age)?;
            }
        }
        Ok(())
    }

    /// Nothing of a hub whose host has no lease, as in a file.
    fn leases(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = (
            "perennial_lease_age_seconds",
            "Seconds since this host renewed its lease of the hub, as the host knows it itself",
        );
        let mut family = to.encode_descriptor(name, help, None, Gauge)?;
        for hub in &self.hubs {
            if let Some(age) = hub.lease_age {
                let age = age.as_secs_f64();
                sample(&mut family.encode_family(&hub.label())?, Gauge, age)?;
            }
        }
        Ok(())
    }

    fn commits(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let timings: [(_, _, Timing); 2] = [
            (
                "perennial_commit_batch_changes",
                "Changes in a transaction",
                |timings| &timings.changes,
            ),
            (
                "perennial_commit_seconds",
                "Seconds that a transaction took, with its sync to disk",
                |timings| &timings.seconds,
            ),
        ];
        for (name, help, of) in timings {
            let mut family = to.encode_descriptor(name, help, None, Histogram)?;
            for hub in &self.hubs {
                if let Some(commits) = &hub.commits {
                    histogram(&mut family.encode_family(&hub.label())?, of(commits))?;
                }
            }
        }
        Ok(())
    }

    fn http(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (requests, budget) = (&self.api.request_metrics, &self.api.budget);
        let (name, help) = (
            "perennial_http_requests",
            "Requests answered, by class of status",
        );
        let mut family = to.encode_descriptor(name, help, None, Counter)?;
        for (class, count) in requests.counts() {
            let labels = [("class", class)];
            sample(&mut family.encode_family(&labels)?, Counter, count)?;
        }
        let bill = self.api.live().bill();
        for (name, help, kind, value) in [
            (
                "perennial_http_followers",
                "Callers who follow an instance, or all that changes",
                Gauge,
                bill.followers() as u64,
            ),
            (
                "perennial_http_follower_reads",
                "Reads of hubs for those who follow",
                Counter,
                bill.reads(),
            ),
            (
                "perennial_http_memory_bytes",
                "Bytes that bodies and answers under way take up",
                Gauge,
                budget.used(),
            ),
            (
                "perennial_http_memory_max_bytes",
                "Bytes that they may take up",
                Gauge,
                budget.total(),
            ),
            (
                "perennial_http_memory_refused",
                "Requests that there was no room for",
                Counter,
                budget.refused(),
            ),
            (
                "perennial_http_requests_in_flight",
                "Requests that are being answered",
                Gauge,
                requests.under_way(),
            ),
        ] {
            sample(
                &mut to.encode_descriptor(name, help, None, kind)?,
                kind,
                value,
            )?;
        }
        let (name, help) = (
            "perennial_http_follower_cpu_seconds",
            "Time of the processors that was spent on those who follow",
        );
        let mut spent = to.encode_descriptor(name, help, None, Counter)?;
        sample(&mut spent, Counter, bill.spent().as_secs_f64())?;
        let (name, help) = (
            "perennial_http_request_seconds",
            "Seconds until the head of an answer",
        );
        let mut family = to.encode_descriptor(name, help, None, Histogram)?;
        let labels = [("api", "all")];
        histogram(&mut family.encode_family(&labels)?, &requests.seconds())
    }
}

fn sample<V: EncodeCounterValue + EncodeGaugeValue>(
    to: &mut MetricEncoder<'_>,
    kind: MetricType,
    value: V,
) -> fmt::Result {
    if kind == Counter {
        to.encode_counter::<NoLabelSet, _, f64>(&value, None)
    } else {
        to.encode_gauge(&value)
    }
}

fn histogram(to: &mut MetricEncoder<'_>, buckets: &Buckets) -> fmt::Result {
    // The encoder expects the number of values in each bucket alone.
    let mut below = 0;
    let alone = buckets.counts.iter().map(|(bound, count)| {
        let alone = count - below;
        below = *count;
        (*bound, alone)
    });
    let alone: Vec<(f64, u64)> = alone.collect();
    to.encode_histogram::<NoLabelSet>(buckets.sum, buckets.count, &alone, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_waits_since_it_was_first_seen_as_the_oldest_one() {
        let (oldest, begun) = (Oldest::default(), Instant::now());
        let after = |hub, message, seconds| {
            let now = begun + Duration::from_secs(seconds);
            oldest.waits(hub, message, now).as_secs()
        };
        assert_eq!(after("a", Some(7), 0), 0);
        assert_eq!(after("a", Some(7), 30), 30);
        assert_eq!(after("b", Some(7), 40), 0);
        assert_eq!(after("a", Some(9), 60), 0);
        assert_eq!(after("a", Some(9), 61), 1);
        assert_eq!(after("a", None, 70), 0);
        assert_eq!(after("a", Some(9), 80), 0);
    }
}
