//! Metrics of the hubs and of the server, for Prometheus.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use perennial_core::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Histogram};
use prometheus_client::registry::Registry;

use crate::client::Client;
use crate::http::{Api, wire};
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
        "perennial_hub_partitions",
        "Partitions of the hub that this host has",
        |hub| {
            let own = hub.hosts.iter().filter(|host| host.is_this);
            own.map(|host| u64::from(host.partitions)).sum()
        },
    ),
    (
        "perennial_hub_partitions_free",
        "Partitions of the hub that no host has",
        |hub| u64::from(hub.free_partitions),
    ),
];

/// The route of the metrics, which needs the same access as others.
pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let mut hubs = Vec::new();
    for client in &api.hubs {
        match Hub::read(client).await {
            Ok(hub) => hubs.push(hub),
            Err(error) => {
                tracing::warn!(%error, "the metrics could not be read");
                return wire::empty(StatusCode::SERVICE_UNAVAILABLE);
            }
        }
    }
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
    instances: Vec<(Status, u64)>,
    hosts: HubHosts,
    /// `None` if no host in this process runs it.
    stats: Option<HostStats>,
    commits: Option<CommitTimings>,
}

impl Hub {
    async fn read(client: &Client) -> crate::Result<Self> {
        Ok(Self {
            name: client.task_hub().to_owned(),
            instances: client.counts().await?,
            hosts: client.hosts().await?,
            stats: client.host_stats(),
            commits: client.commit_timings(),
        })
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
                sample(
                    &mut family.encode_family(&hub.label())?,
                    Gauge,
                    of(&hub.hosts),
                )?;
            }
        }
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
            // Statuses without instances are exported too: an alert needs a series before the first failure.
            for status in Status::ALL {
                let found = hub.instances.iter().find(|(found, _)| *found == status);
                let count = found.map_or(0, |(_, count)| *count);
                let labels = [("hub", hub.name.as_str()), ("status", status.name())];
                family.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        Ok(())
    }

    /// Nothing of a hub whose host has no lease, as in a file.
    fn leases(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = (
            "perennial_lease_age_seconds",
            "Seconds since this host renewed its lease of the hub, by the clock of the database",
        );
        let mut family = to.encode_descriptor(name, help, None, Gauge)?;
        for hub in &self.hubs {
            let own = hub.hosts.hosts.iter().find(|host| host.is_this);
            if let Some(age) = own.and_then(|own| own.lease_age) {
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
