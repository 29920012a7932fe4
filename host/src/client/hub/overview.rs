//! The overview of a task hub: what a first page about it shows.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, Instant};

use perennial_core::{Status, TaskId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};
use tokio::sync::Mutex;

use crate::client::instances::open_work::{open_activity, running};
use crate::client::instances::waits::Wait;
use crate::client::json::{AsCounts, TimeText};
use crate::client::{Client, Error, Result};
use crate::engine::{Engine, HostStats};
use crate::store::{
    BucketCounts, InstanceFilter, InstanceKey, Reader, StoreError, WasRunning, Window,
};

/// The most buckets of a window.
const BUCKETS_MAX: u32 = 120;

/// Buckets by default: with the default window, one for each half hour.
const BUCKETS: u32 = 48;

/// The window by default.
const LAST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a result is given to other callers too, at least: in a large hub for this many times the processor time that it took, so that
/// overviews cost the same part of a processor however large a hub is, and how many look.
const SHARED_FOR: Duration = Duration::from_secs(1);
const SHARED_TIMES: u32 = 100;

/// The most results that are kept.
const SHARED_MAX: usize = 8;

/// The most activities of each list.
const ACTIVITIES_MAX: usize = 10;

/// The most names and kinds.
const NAMES_MAX: usize = 20;

/// An overview of a task hub: what it holds now, and what happened in a window of time.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Overview {
    /// The beginning of the window.
    #[serde_as(as = "TimeText")]
    pub from: Timestamp,
    /// The end of the window, which does not belong to it.
    #[serde_as(as = "TimeText")]
    pub to: Timestamp,
    /// The length of a bucket in milliseconds. The last one may be shorter.
    pub bucket_millis: u64,
    /// The number of instances that are in each status now; statuses without instances are left out.
    #[serde_as(as = "AsCounts")]
    pub counts: Vec<(Status, u64)>,
    /// The buckets of the window, oldest first, without gaps.
    pub buckets: Vec<OverviewBucket>,
    /// The kinds of the failures of instances that failed in the window and are still failed, the most frequent first, at most 20.
    pub failures: Vec<FailureCount>,
    /// How many live instances wait for what now; what none waits for is left out. An instance may wait for several things.
    #[serde(default)]
    pub waits: Vec<WaitCount>,
    /// The activities that have not ended now.
    pub activities: ActivityCounts,
    /// The activities that failed and have had the most attempts, the most first, at most 10.
    pub most_retried: Vec<OpenActivity>,
    /// The activities whose attempt has been running for the longest time, that one first, at most 10.
    pub longest_running: Vec<OpenActivity>,
    /// The activities with the slowest attempts that ended since the host started, that one first, at most 20. Empty if no host in the process
    /// that answers runs the hub.
    #[serde(default)]
    pub slowest: Vec<ActivityDurations>,
    /// The orchestrations with the most live instances, the most first, at most 20.
    pub orchestrations: Vec<OrchestrationCount>,
    /// Counters of the host, if it is in the process that answers.
    pub host: Option<HostStats>,
    /// Whether a number is too low, or a list incomplete, because there is too much to look at all of it.
    pub partial: bool,
}

/// What happened in a part of a window. An instance that was deleted or restarted since is not counted.
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OverviewBucket {
    /// Its beginning. It ends where the next one begins.
    #[serde_as(as = "TimeText")]
    pub from: Timestamp,
    /// The number of instances that were created.
    pub started: u64,
    /// The number of instances that completed.
    pub completed: u64,
    /// The number of instances that failed.
    pub failed: u64,
    /// The number of instances that were terminated.
    pub terminated: u64,
    /// Whether these numbers are too low, because there is too much to look at all of it.
    pub partial: bool,
}

/// How often instances failed with one kind of failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FailureCount {
    /// The kind.
    pub kind: String,
    /// How often it occurred.
    pub count: u64,
}

/// How many live instances wait for one kind of thing, perhaps among other things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WaitCount {
    /// What they wait for: the name of a [`WaitKind`](crate::WaitKind), with which a list can be filtered.
    pub waits_for: String,
    /// How many of the instances that were looked at.
    pub count: u64,
    /// Whether there may be more, because too many instances are live to look at all of them.
    pub partial: bool,
}

/// The number of activities in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ActivityCounts {
    /// Those with an attempt that runs. Only the host's process knows what runs at remote workers.
    pub running: u64,
    /// Those that wait for a free place or for a worker.
    pub queued: u64,
    /// Those that failed and wait for the time of their next attempt.
    pub retrying: u64,
}

/// An activity that has not ended.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OpenActivity {
    /// The id of the instance.
    pub instance_id: String,
    /// The id of the task.
    #[schemars(with = "u32")]
    pub task: TaskId,
    /// The name of the activity.
    pub name: String,
    /// The number of the current or next attempt.
    pub attempt: u32,
    /// When the current attempt started; `None` if none runs.
    #[serde_as(as = "Option<TimeText>")]
    pub running_since: Option<Timestamp>,
    /// When the next attempt starts, after a failed one.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "nextAttemptTime")]
    pub next_attempt_at: Option<Timestamp>,
    /// The kind of the failure of the last attempt that failed.
    pub last_failure: Option<String>,
}

/// How long the attempts of an activity took that ended since the host started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ActivityDurations {
    /// The name of the activity.
    pub name: String,
    /// The number of its attempts that ended.
    pub attempts: u64,
    /// The number of them that failed.
    pub failed: u64,
    /// How long an attempt took on average, in milliseconds.
    pub mean_millis: u64,
    /// How long the slowest one took, in milliseconds.
    pub slowest_millis: u64,
}

/// The live instances of an orchestration.
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OrchestrationCount {
    /// The name of the orchestration.
    pub name: String,
    /// The number of its live instances.
    pub live: u64,
    /// The number of them in each status; statuses without instances are left out.
    #[serde_as(as = "AsCounts")]
    pub counts: Vec<(Status, u64)>,
}

/// The window that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    /// It ends now.
    Last(Duration),
    Between(Timestamp, Timestamp),
}

/// A query for an [`Overview`]. Await it.
#[derive(Clone, Debug)]
#[must_use = "an overview is read when the query is awaited"]
pub struct OverviewQuery {
    client: Client,
    span: Span,
    buckets: u32,
}

/// The last results of a client and its clones, the oldest first, which callers that ask for the same soon afterwards share.
#[derive(Default)]
pub(in crate::client) struct Shared(Mutex<VecDeque<Recent>>);

/// What was asked for, the result, and until when it is given to others.
struct Recent {
    span: Span,
    buckets: u32,
    until: Instant,
    overview: Overview,
}

impl Client {
    /// An overview of the task hub: counts, what started and ended in the last day or another window, and what its activities do.
    ///
    /// It looks at a bounded number of rows, however large the hub is: see [`Overview::partial`]. Callers that ask the same client or its
    /// clones for the same within a second, or within a hundred times the processor time that it took, share one result.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use std::time::Duration;
    ///
    /// let overview = client.overview().last(Duration::from_secs(3_600)).buckets(60).await?;
    /// for minute in overview.buckets {
    ///     println!("{}: {} started, {} failed", minute.from, minute.started, minute.failed);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn overview(&self) -> OverviewQuery {
        OverviewQuery {
            client: self.clone(),
            span: Span::Last(LAST),
            buckets: BUCKETS,
        }
    }
}

impl OverviewQuery {
    /// Asks for the time up to now; the default is a day. The window is moved so that buckets begin at multiples of their length, and the
    /// last one contains the present: the buckets of a later query with the same options are the same ones.
    pub fn last(mut self, span: Duration) -> Self {
        self.span = Span::Last(span);
        self
    }

    /// Asks for the time from one moment to another, which does not belong to it.
    pub fn between(mut self, from: Timestamp, to: Timestamp) -> Self {
        self.span = Span::Between(from, to);
        self
    }

    /// Sets the number of buckets, from 1 to 120; the default is 48.
    pub fn buckets(mut self, buckets: u32) -> Self {
        self.buckets = buckets.clamp(1, BUCKETS_MAX);
        self
    }

    /// The parameters of the HTTP API.
    pub(in crate::client) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![("buckets", self.buckets.to_string())];
        match self.span {
            Span::Last(span) => parameters.push(("last", span.as_secs().max(1).to_string())),
            Span::Between(from, to) => {
                parameters.extend([("from", from.to_string()), ("to", to.to_string())]);
            }
        }
        parameters
    }

    fn window(&self) -> Result<Window> {
        let buckets = u64::from(self.buckets);
        match self.span {
            Span::Between(from, to) if from < to => Ok(Window {
                from,
                to,
                bucket: (to.0 - from.0).div_ceil(buckets),
            }),
            Span::Between(from, to) => Err(Error::invalid(format!(
                "the window must end after it begins, but it is from {from} to {to}"
            ))),
            Span::Last(span) => {
                let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
                let bucket = span.div_ceil(buckets).max(1);
                let (now, length) = (self.client.now().0, bucket.saturating_mul(buckets));
                let to = (now / bucket).saturating_add(1).saturating_mul(bucket);
                Ok(Window {
                    from: Timestamp(to.saturating_sub(length)),
                    to: Timestamp(to),
                    bucket,
                })
            }
        }
    }

    async fn run(self) -> Result<Overview> {
        if let Some(remote) = self.client.remote() {
            return remote.overview(&self).await;
        }
        let window = self.window()?;
        // While one caller reads, the others wait for its result.
        let mut shared = self.client.overviews.0.lock().await;
        let now = Instant::now();
        shared.retain(|one| now < one.until);
        let is_same = |one: &&Recent| (one.span, one.buckets) == (self.span, self.buckets);
        if let Some(known) = shared.iter().find(is_same) {
            return Ok(known.overview.clone());
        }
        let host = self.client.engine().cloned();
        let read =
            move |reader: &Reader| reader.recent(|reader| read(reader, window, host.as_deref()));
        let (mut overview, took) = self.client.timed_read(read).await?;
        overview.host = self.client.host_stats();
        if shared.len() >= SHARED_MAX {
            shared.pop_front();
        }
        shared.push_back(Recent {
            span: self.span,
            buckets: self.buckets,
            until: Instant::now() + SHARED_FOR.max(took.saturating_mul(SHARED_TIMES)),
            overview: overview.clone(),
        });
        Ok(overview)
    }
}

impl IntoFuture for OverviewQuery {
    /// Fails with [`Error::is_invalid`] if the window ends before it begins.
    type Output = Result<Overview>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Reads an overview. `host` is the engine that runs the hub, in the host's process.
fn read(reader: &Reader, window: Window, host: Option<&Engine>) -> Result<Overview, StoreError> {
    let buckets = reader.bucket_counts(window)?;
    let failures = reader.failure_kinds(window, NAMES_MAX)?;
    let names = reader.live_names(NAMES_MAX)?;
    let now = host.map(|host| host.clock.now());
    let open = reader.open_activities(now, ACTIVITIES_MAX)?;
    let waits = reader.wait_counts()?;
    let running = Running::find(reader, host)?;
    let local = &running.local;
    let retried = open.most_retried.iter();
    let retried = retried.map(|(key, task)| shown(reader, (*key, *task), host, local));
    let activities = ActivityCounts {
        running: running.count,
        retrying: open.due_later.saturating_sub(running.due_later(now)),
        queued: (open.all.saturating_sub(open.due_later))
            .saturating_sub(running.count - running.due_later(now)),
    };
    Ok(Overview {
        from: window.from,
        to: window.to,
        bucket_millis: window.bucket,
        counts: reader.counts(&InstanceFilter::default())?,
        partial: failures.is_partial
            || names.is_partial
            || open.is_partial
            || waits.is_partial
            || buckets.iter().any(|bucket| bucket.is_partial),
        buckets: (window.buckets().into_iter().zip(buckets))
            .map(|((from, _), counts)| OverviewBucket::new(from, counts))
            .collect(),
        failures: (failures.counts.into_iter())
            .map(|(kind, count)| FailureCount { kind, count })
            .collect(),
        waits: (waits.counts.iter())
            .map(|(kind, count)| WaitCount {
                waits_for: kind.name().to_owned(),
                count: *count,
                partial: waits.is_partial,
            })
            .collect(),
        activities,
        most_retried: retried
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect(),
        longest_running: running.longest(reader, host)?,
        slowest: host.map(slowest).unwrap_or_default(),
        orchestrations: (names.counts.into_iter())
            .map(|(name, counts)| OrchestrationCount {
                name,
                live: counts.iter().map(|(_, count)| count).sum(),
                counts,
            })
            .collect(),
        host: None,
    })
}

/// The activities with the slowest attempts.
fn slowest(host: &Engine) -> Vec<ActivityDurations> {
    let slowest = host.durations.slowest(NAMES_MAX).into_iter();
    let shown = slowest.map(|(name, of)| ActivityDurations {
        name,
        attempts: of.attempts,
        failed: of.failed,
        mean_millis: of.total_ms / of.attempts.max(1),
        slowest_millis: of.slowest_ms,
    });
    shown.collect()
}

impl OverviewBucket {
    fn new(from: Timestamp, counts: BucketCounts) -> Self {
        Self {
            from,
            started: counts.started,
            completed: counts.completed,
            failed: counts.failed,
            terminated: counts.terminated,
            partial: counts.is_partial,
        }
    }
}

/// The open activities that run now.
struct Running {
    /// Attempts in the host's process.
    local: Vec<WasRunning>,
    /// Their number, with those at remote workers.
    count: u64,
    /// All of them, with the times of their beginnings, the oldest first.
    all: Vec<(Timestamp, InstanceKey, TaskId)>,
    /// The times of those that were tried again.
    due: Vec<Timestamp>,
}

impl Running {
    fn find(reader: &Reader, host: Option<&Engine>) -> Result<Self, StoreError> {
        let local = running(reader, None);
        let mut all: Vec<(Timestamp, InstanceKey, TaskId)> = local
            .iter()
            .filter_map(|now| Some((now.started_at.unwrap_or_default(), now.key, now.task?)))
            .collect();
        let workers = host.map(|host| host.remote_workers().connected);
        let items = workers.into_iter().flatten().flat_map(|one| one.items);
        for item in items {
            if let Some(task) = item.task
                && let Some(row) = reader.instance(&item.instance_id)?
            {
                all.push((item.since, row.key, task));
            }
        }
        // An attempt may run on for a moment after its instance has ended or dropped it.
        let (mut open, mut due) = (Vec::with_capacity(all.len()), Vec::new());
        for (since, key, task) in all {
            if let Some(row) = reader.task(key, task)? {
                open.push((since, key, task));
                due.extend(row.due);
            }
        }
        open.sort_unstable();
        Ok(Self {
            local,
            count: open.len() as u64,
            all: open,
            due,
        })
    }

    /// How many of them are among those whose next attempt seems to be due later.
    fn due_later(&self, now: Option<Timestamp>) -> u64 {
        let later = self.due.iter();
        later
            .filter(|due| now.is_none_or(|now| **due > now))
            .count() as u64
    }

    fn longest(
        &self,
        reader: &Reader,
        host: Option<&Engine>,
    ) -> Result<Vec<OpenActivity>, StoreError> {
        let mut found = Vec::new();
        for (_, key, task) in &self.all {
            if found.len() == ACTIVITIES_MAX {
                break;
            }
            let shown = shown(reader, (*key, *task), host, &self.local)?;
            // An attempt may have ended since.
            found.extend(shown.filter(|shown| shown.running_since.is_some()));
        }
        Ok(found)
    }
}

/// An open activity as its instance's status shows it; `None` if it has ended since.
fn shown(
    reader: &Reader,
    (key, task): (InstanceKey, TaskId),
    host: Option<&Engine>,
    running: &[WasRunning],
) -> Result<Option<OpenActivity>, StoreError> {
    let Some((instance_id, wait)) = open_activity(reader, (key, task), host, running)? else {
        return Ok(None);
    };
    let Wait::Activity {
        task,
        name,
        attempt,
        running_since,
        next_attempt_at,
        last_failure,
        ..
    } = wait
    else {
        return Ok(None);
    };
    Ok(Some(OpenActivity {
        instance_id,
        task,
        name,
        attempt,
        running_since,
        next_attempt_at,
        last_failure: last_failure.map(|failure| failure.kind),
    }))
}
