//! Arguments of `rewind` and `restart`.

use clap::Args;

use super::Selection;

#[derive(Debug, Args)]
pub(crate) struct Rewind {
    /// Id of the instance, which must have failed
    pub(crate) id: String,
    /// The reason, which `perennial status` shows
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Go on with this module instead of the one that it started on
    #[arg(long, value_name = "NAME|DIGEST")]
    pub(crate) module: Option<String>,
    /// Rewind to before the first failure of the whole execution, so that none remains
    #[arg(long)]
    pub(crate) all_failures: bool,
    /// Rewind even if that forgets work that completed after the failure
    #[arg(long)]
    pub(crate) forget_completed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Start another instance, with this id or a generated one; the first stays as it is
    #[arg(long, value_name = "ID", num_args = 0..=1, requires = "id")]
    pub(crate) new_id: Option<Option<String>>,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

pub(super) const REWIND: &str = "\
The history is cut where the failure came in, or the first failure of what was asked for together with it. What is \
before stays, and is not run again; what failed runs again, activities with their newest code, failed children \
first. A time limit that was over has its whole span again. Events, timers and results that came in later come in \
again. What was asked for after the failure is forgotten, and listed. Where some of that had completed, as when a \
saga undid its steps, nothing is done without --forget-completed: what it did in the world stays done, though the \
history then says that the steps stand; `restart` runs all again. An event whose data the instance failed on is put \
aside and listed, and waited for anew; with --module it comes in again, for other code may read it. \
Earlier failures stay, and are listed: with --all-failures they run again too, and what followed on them is forgotten.

Examples:
  perennial rewind order-17 --reason 'the bank is back'
  perennial rewind order-17 --module shipping
  perennial rewind order-17 --all-failures
  perennial rewind trip-3 --forget-completed

JSON: {instanceId, command: rewind, hosted, activities: [{task, name}], rewoundChildren, restartedChildren, \
dropped: [{task, kind, name, instanceIds, completed}], cutEvents, remainingFailures: [{task, kind, name, failure, message, \
why}], moreRemaining, droppedEvents: [{instanceId, number, name}]}";

pub(super) const RESTART: &str = "\
Starts the same orchestration in its newest deployed version, with the same input and labels, but without a parent. \
It begins at once, even if the first start was scheduled (start --at). After continue-as-new it has the input of the \
last execution, since earlier ones are not kept.

Without --new-id the instance keeps its id: it must have ended, and gets its next execution. With --new-id it is a \
new instance, and the first may still run. Over HTTP, as in Durable Functions, a new id is the default.

Examples:
  perennial restart order-17
  perennial restart order-17 --new-id
  perennial restart order-17 --new-id order-17-again
  perennial restart --status Terminated --name Ship

Stdout: the id of what begins.
JSON: {instanceId, command: restart, hosted}; of many, {matched, done, skipped, dryRun, asOf, newer, hosted}";
