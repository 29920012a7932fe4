//! Statistics of a host, for metrics and tests.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::engine::Engine;
use crate::histogram::Buckets;

/// What a host has done since it started, and what it holds.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HostStats {
    /// Turns that ran.
    pub turns: u64,
    /// Executions that ended.
    pub ended: u64,
    /// Executions that were replayed.
    pub replays: u64,
    /// Turns that were repeated in replays.
    pub replayed_turns: u64,
    /// Guests that were made.
    pub instantiations: u64,
    /// Guests that were dropped to make room.
    pub evictions: u64,
    /// Attempts of activities that ended.
    pub activity_attempts: u64,
    /// Transactions committed, each with one sync to disk.
    pub commits: u64,
    /// Changes that were committed in them.
    pub changes: u64,
    /// Rows that they inserted, changed or deleted.
    pub rows: u64,
    /// Times that the write-ahead log was folded into the file, with two more syncs each.
    pub checkpoints: u64,
    /// Guests in memory.
    pub resident: usize,
    /// Bytes that they hold, as far as that can be told.
    pub resident_bytes: usize,
    /// Activities that wait to run.
    pub activities_waiting: usize,
    /// Activities that run.
    pub activities_running: usize,
    /// Turns and answers of the writer that wait for a worker.
    pub work_queued: usize,
    /// Requests that were refused because too many waited.
    pub requests_refused: u64,
    /// Changes that the writer has not answered.
    pub writes_waiting: usize,
    /// Remote workers that are connected.
    pub remote_workers: usize,
    /// Turns and activities that remote workers run.
    pub remote_items: usize,
    /// Turns and activities that wait for a remote worker.
    pub remote_waiting: usize,
}

/// Histograms of the durations and sizes of transactions.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CommitTimings {
    /// Seconds per transaction, including the sync to disk.
    pub seconds: Buckets,
    /// Changes per transaction.
    pub changes: Buckets,
}

impl Engine {
    pub(crate) fn stats(&self) -> HostStats {
        let (counts, writer) = (&self.counts, self.writer_counts());
        let (activities_waiting, activities_running) = self.activity_counts();
        let (remote_workers, remote_items, remote_waiting) = self.remote_counts();
        let (work_queued, writes_waiting) = {
            let queue = self.queue();
            (queue.work.len(), queue.in_flight())
        };
        HostStats {
            turns: counts.turns.get(),
            ended: counts.ended.get(),
            replays: counts.replays.get(),
            replayed_turns: counts.replayed_turns.get(),
            instantiations: counts.instantiations.get(),
            evictions: counts.evictions.get(),
            activity_attempts: counts.activities.get(),
            commits: writer.commits.load(Relaxed),
            changes: writer.jobs.load(Relaxed),
            rows: writer.rows.load(Relaxed),
            checkpoints: writer.checkpoints.load(Relaxed),
            resident: self.resident(),
            resident_bytes: self.memory.slots.resident_bytes(),
            activities_waiting,
            activities_running,
            work_queued,
            requests_refused: counts.refused.get(),
            writes_waiting,
            remote_workers,
            remote_items,
            remote_waiting,
        }
    }

    /// How long ago this host renewed its lease of the hub, as far as it knows itself; `None` if the hub has no leases.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "only the metrics ask")
    )]
    pub(crate) fn lease_age(&self) -> Option<Duration> {
        self.hub.writer.lease_age()
    }

    /// How many partitions of the hub this host has, as far as it knows itself.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "only the metrics ask")
    )]
    pub(crate) fn own_partitions(&self) -> u64 {
        self.hub.partitions.now().iter().count() as u64
    }

    pub(crate) fn commit_timings(&self) -> CommitTimings {
        let writer = self.writer_counts();
        CommitTimings {
            seconds: writer.micros.read(1e-6),
            changes: writer.batches.read(1.0),
        }
    }
}
