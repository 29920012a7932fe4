//! Health, readiness and metrics.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

use perennial_core::Status;

use crate::client::Client;
use crate::http::{Api, wire};
use crate::outage::warn_seldom;

/// Routes that need no key: they say nothing but whether it works.
pub(super) fn health() -> Router<Arc<Api>> {
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(ready))
}

/// The route of the metrics, which is guarded as everything else is.
pub(super) fn metrics() -> Router<Arc<Api>> {
    Router::new().route("/metrics", get(measure))
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    if api.closing.is_closed() {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the host is shutting down\n",
        );
    }
    for client in &api.hubs {
        let hub = client.task_hub();
        if !client.is_hosted() {
            let message = format!("no host runs task hub {hub:?}\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
        if let Err(error) = client.keys().await {
            warn_seldom!(hub, %error, "the task hub cannot be read");
            let message = format!("task hub {hub:?} cannot be read; the log says why\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
        if let Err(error) = client.can_write().await {
            let why = if error.is_disk_full() {
                "its disk is full"
            } else if error.is_locked() {
                "something else has locked it"
            } else {
                "the log says why"
            };
            tracing::warn!(hub, %error, "the task hub cannot be written");
            let message = format!("task hub {hub:?} cannot be written; {why}\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
    }
    let shortages = api.hubs.iter().flat_map(Client::shortages);
    // The hubs have been looked at.
    let shortages = shortages.filter(|shortage| shortage.resource.is_of_process());
    let mut lacks: Vec<String> = shortages
        .map(|shortage| shortage.resource.to_string())
        .collect();
    lacks.dedup();
    if !lacks.is_empty() {
        let message = format!("the host lacks {}\n", lacks.join(", "));
        return text(StatusCode::SERVICE_UNAVAILABLE, &message);
    }
    text(StatusCode::OK, "ready\n")
}

fn text(status: StatusCode, message: &str) -> Response {
    let mut response = Response::new(Body::from(message.to_owned()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

async fn measure(State(api): State<Arc<Api>>) -> Response {
    let mut out = Exposition::default();
    for client in &api.hubs {
        if let Err(error) = out.hub(client).await {
            tracing::warn!(%error, "the metrics could not be read");
            return wire::empty(StatusCode::SERVICE_UNAVAILABLE);
        }
    }
    out.http(&api);
    let mut response = Response::new(Body::from(out.finish()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Metrics by name: what they are, of which kind, and a line for each hub.
#[derive(Default)]
struct Exposition(std::collections::BTreeMap<&'static str, Family>);

struct Family {
    kind: &'static str,
    help: &'static str,
    lines: String,
}

impl Exposition {
    fn add(
        &mut self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &str,
        value: f64,
    ) {
        self.line(kind, name, help, &format!("{name}{{{labels}}} {value}"));
    }

    fn line(&mut self, kind: &'static str, name: &'static str, help: &'static str, line: &str) {
        let family = self.0.entry(name).or_insert_with(|| Family {
            kind,
            help,
            lines: String::new(),
        });
        family.lines.push_str(line);
        family.lines.push('\n');
    }

    async fn hub(&mut self, client: &Client) -> crate::Result<()> {
        // The name of a hub has letters, digits and dashes only: nothing in it needs to be escaped.
        let hub = format!("hub=\"{}\"", client.task_hub());
        let counts = client.counts().await?;
        // A series that is there only from the first failure on gives an alert nothing to look at before.
        for status in Status::ALL {
            let found = counts.iter().find(|(found, _)| *found == status);
            let count = found.map_or(0, |(_, count)| *count);
            let labels = format!("{hub},status=\"{}\"", status.name());
            let help = "Instances by status";
            self.add("gauge", "perennial_instances", help, &labels, count as f64);
        }
        let Some(stats) = client.host_stats() else {
            return Ok(());
        };
        for (name, help, value) in [
            ("perennial_turns_total", "Turns that ran", stats.turns),
            (
                "perennial_executions_ended_total",
                "Executions that ended",
                stats.ended,
            ),
            (
                "perennial_replays_total",
                "Executions that were replayed",
                stats.replays,
            ),
            (
                "perennial_replayed_turns_total",
                "Turns that were repeated in replays",
                stats.replayed_turns,
            ),
            (
                "perennial_guests_made_total",
                "Guests that were made",
                stats.instantiations,
            ),
            (
                "perennial_evictions_total",
                "Guests that were dropped to make room",
                stats.evictions,
            ),
            (
                "perennial_activity_attempts_total",
                "Attempts of activities that ended",
                stats.activity_attempts,
            ),
            (
                "perennial_commits_total",
                "Transactions committed, each with one sync to disk",
                stats.commits,
            ),
            (
                "perennial_committed_changes_total",
                "Changes committed in them",
                stats.changes,
            ),
            (
                "perennial_written_rows_total",
                "Rows inserted, changed or deleted in them",
                stats.rows,
            ),
            (
                "perennial_checkpoints_total",
                "Times that the write-ahead log was folded into the file",
                stats.checkpoints,
            ),
        ] {
            self.add("counter", name, help, &hub, value as f64);
        }
        for (name, help, value) in [
            (
                "perennial_resident_instances",
                "Guests in memory",
                stats.resident,
            ),
            (
                "perennial_activities_waiting",
                "Activities that wait to run",
                stats.activities_waiting,
            ),
            (
                "perennial_activities_running",
                "Activities that run",
                stats.activities_running,
            ),
            (
                "perennial_work_queued",
                "Turns and answers of the writer that wait for a worker",
                stats.work_queued,
            ),
            (
                "perennial_writes_waiting",
                "Changes that the writer has not answered",
                stats.writes_waiting,
            ),
        ] {
            self.add("gauge", name, help, &hub, value as f64);
        }
        if let Some(timings) = client.commit_timings() {
            let help = "Seconds that a transaction took, with its sync to disk";
            self.histogram("perennial_commit_seconds", help, &hub, &timings.seconds);
            let help = "Changes in a transaction";
            self.histogram(
                "perennial_commit_batch_changes",
                help,
                &hub,
                &timings.changes,
            );
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &str,
        buckets: &crate::Buckets,
    ) {
        let mut lines = String::new();
        for (bound, count) in &buckets.counts {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(
            lines,
            "{name}_bucket{{{labels},le=\"+Inf\"}} {}",
            buckets.count
        );
        let _ = writeln!(lines, "{name}_sum{{{labels}}} {}", buckets.sum);
        let _ = write!(lines, "{name}_count{{{labels}}} {}", buckets.count);
        self.line("histogram", name, help, &lines);
    }

    fn http(&mut self, api: &Api) {
        let help = "Requests answered, by class of status";
        for (class, count) in api.request_metrics.counts() {
            let labels = format!("class=\"{class}\"");
            self.add(
                "counter",
                "perennial_http_requests_total",
                help,
                &labels,
                count as f64,
            );
        }
        let help = "Requests that are being answered";
        let under_way = api.request_metrics.under_way() as f64;
        self.line(
            "gauge",
            "perennial_http_requests_in_flight",
            help,
            &format!("perennial_http_requests_in_flight {under_way}"),
        );
        for (name, help, value) in [
            (
                "perennial_http_memory_bytes",
                "Bytes that bodies and answers under way take up",
                api.budget.used(),
            ),
            (
                "perennial_http_memory_max_bytes",
                "Bytes that they may take up",
                api.budget.total(),
            ),
        ] {
            self.line("gauge", name, help, &format!("{name} {value}"));
        }
        let name = "perennial_http_memory_refused_total";
        let help = "Requests that there was no room for";
        let refused = api.budget.refused();
        self.line("counter", name, help, &format!("{name} {refused}"));
        let bill = api.live().bill();
        for (kind, name, help, value) in [
            (
                "gauge",
                "perennial_http_followers",
                "Callers who follow an instance, or all that changes",
                bill.followers() as f64,
            ),
            (
                "counter",
                "perennial_http_follower_reads_total",
                "Reads of hubs for those who follow",
                bill.reads() as f64,
            ),
            (
                "counter",
                "perennial_http_follower_cpu_seconds_total",
                "Time of the processors that was spent on those who follow",
                bill.spent().as_secs_f64(),
            ),
        ] {
            self.line(kind, name, help, &format!("{name} {value}"));
        }
        let help = "Seconds until the head of an answer";
        self.histogram_of_http(help, &api.request_metrics.seconds());
    }

    fn histogram_of_http(&mut self, help: &'static str, buckets: &crate::Buckets) {
        self.histogram(
            "perennial_http_request_seconds",
            help,
            "api=\"all\"",
            buckets,
        );
    }

    fn finish(self) -> String {
        let mut out = String::new();
        for (name, family) in self.0 {
            let _ = writeln!(
                out,
                "# HELP {name} {}\n# TYPE {name} {}",
                family.help, family.kind
            );
            out.push_str(&family.lines);
        }
        out
    }
}
