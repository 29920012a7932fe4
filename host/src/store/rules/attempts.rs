//! Counts attempts of activities whose end no host saw.

use perennial_core::{AttemptRun, FailedAttempt, Timestamp};

use crate::store::StoreError;
use crate::store::partition::Partitions;
use crate::store::rows::Rows;
use crate::store::rows::tasks::{HowLost, Lost};
use crate::store::types::{CutOff, WasRunning};

/// Counts a crash of the host while it ran a task, or a turn if no task is named. The attempt counts as one of the failed attempts from
/// then on. `now` is when the crash was found.
pub(super) fn count_crash(
    rows: &mut impl Rows,
    was: &WasRunning,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(task) = was.task else {
        return rows.count_crash(was.key);
    };
    let Some(row) = rows.task(was.key, task)? else {
        return Ok(());
    };
    let number = row.number();
    let is_counted = was.attempt.is_some_and(|was| was < number);
    // The start of an attempt that is to run at most once is recorded already, and so is one that was counted as its host stopped.
    if row.begun_at.is_some() || is_counted {
        return Ok(());
    }
    let started_at = was.started_at.unwrap_or(now);
    let run = AttemptRun {
        attempt: number,
        started_at,
        ended_at: now.max(started_at),
    };
    let mut attempts = row.attempts;
    FailedAttempt::cut_off(run).follow(&mut attempts);
    let lost = Lost {
        started_at,
        attempts: &attempts,
        heartbeat: None,
        how: HowLost::Crash,
    };
    rows.count_lost(was.key, task, &lost)
}

/// Counts an attempt that was cut off, or stopped, because its host was stopped.
pub(super) fn count_stop(
    rows: &mut impl Rows,
    cut: &CutOff,
    now: Timestamp,
) -> Result<(), StoreError> {
    let found = rows.task(cut.key, cut.task.task)?;
    let Some(row) = found.filter(|row| row.task == cut.task) else {
        return Ok(());
    };
    if row.begun_at.is_some() && !cut.is_known {
        // Its outcome is unknown, and no attempt follows.
        return Ok(());
    }
    let run = AttemptRun {
        attempt: row.number(),
        started_at: cut.started_at,
        ended_at: now.max(cut.started_at),
    };
    let mut attempts = row.attempts;
    FailedAttempt::stopped(run).follow(&mut attempts);
    let lost = Lost {
        started_at: cut.started_at,
        attempts: &attempts,
        heartbeat: cut.heartbeat.as_ref(),
        how: HowLost::Stop,
    };
    rows.count_lost(cut.key, cut.task.task, &lost)
}

/// Counts an attempt for each activity that may have begun one, other than those that are known to have: after a power failure nothing else
/// tells which had.
pub(super) fn count_unknown(
    rows: &mut impl Rows,
    of: Partitions,
    known: &[WasRunning],
    now: Timestamp,
) -> Result<(), StoreError> {
    rows.count_unknown(of, now)?;
    for was in known {
        if let Some(task) = was.task {
            rows.uncount_unknown(was.key, task, now)?;
        }
    }
    Ok(())
}
