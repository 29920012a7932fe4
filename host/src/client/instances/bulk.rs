//! Bulk operations: one command for all instances that match a filter.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::{CANCELLATION_GRACE, Status, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::serde_as;

use crate::client::instances::filter::Filter;
use crate::client::json::TimeText;
use crate::client::{Backend, Client, Result};
use crate::engine::{Request, RestartRequest};
use crate::foreign::Foreign;
use crate::store::{Brief, InstanceFilter, ListQuery, Order, Purged, Reply, Run};

/// Instances per read, and per command to another process.
const PAGE: u32 = 256;

/// Instances per transaction in a host: small, so that other work is hardly delayed.
const BATCH: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Cancel,
    Terminate,
    Suspend,
    Resume,
    Restart,
    Purge,
}

impl Action {
    /// The statuses in which the action has an effect.
    fn statuses(self) -> &'static [Status] {
        match self {
            Self::Cancel | Self::Terminate => {
                &[Status::Pending, Status::Running, Status::Suspended]
            }
            Self::Suspend => &[Status::Pending, Status::Running],
            Self::Resume => &[Status::Suspended],
            Self::Purge | Self::Restart => &[Status::Completed, Status::Failed, Status::Terminated],
        }
    }
}

/// The progress or the result of a bulk operation.
#[serde_as]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Bulk")]
#[non_exhaustive]
pub struct BulkProgress {
    /// The number of instances that matched the filter when the operation began, in a status in which it has an effect.
    pub matched: u64,
    /// The number of changed instances. For a recursive purge it includes their descendants.
    pub done: u64,
    /// The number of matched instances that had changed their status or were deleted before the operation reached them.
    pub skipped: u64,
    /// Whether the operation only counted the instances.
    pub dry_run: bool,
    /// Of an operation that only counted, or that [`Bulk::as_of`] limited: the moment up to which instances were taken, by the clock of the
    /// hub's host.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// With [`Bulk::as_of`]: the number of instances that matched when the operation began, but not at that moment. They were left alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub newer: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A progress callback.
type Told = Foreign<Box<dyn FnMut(BulkProgress) + Send>>;

/// An operation on all instances that match a filter. Await it to execute it; it returns the result.
///
/// It processes the instances that exist when it begins, the oldest first, in small transactions that other requests share. If it is
/// interrupted, finished changes stay, and a repetition does the rest.
#[must_use = "a bulk operation begins when it is awaited"]
pub struct Bulk {
    client: Client,
    filter: Filter,
    action: Action,
    reason: Option<String>,
    recursive: bool,
    dry_run: bool,
    as_of: Option<Timestamp>,
    told: Option<Told>,
}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk")
            .field("action", &self.action)
            .field("filter", &self.filter)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Deletes all ended instances that match a filter, with their histories. Live instances are not touched.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client, a_month_ago: perennial::Timestamp) -> perennial::Result<()> {
    /// use perennial::{Filter, Status};
    ///
    /// let old = Filter::new().status(Status::Completed).created_to(a_month_ago);
    /// let purged = client
    ///     .purge_where(old)
    ///     .on_progress(|so_far| eprintln!("{} of {}", so_far.done, so_far.matched))
    ///     .await?;
    /// println!("{} instances deleted", purged.done);
    /// # Ok(())
    /// # }
    /// ```
    pub fn purge_where(&self, filter: Filter) -> Bulk {
        self.bulk(Action::Purge, filter)
    }

    /// Terminates all live instances that match a filter.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use perennial::Filter;
    ///
    /// let would = client.terminate_where(Filter::new().name("Order")).dry_run().await?;
    /// println!("{} instances would end", would.matched);
    /// client.terminate_where(Filter::new().name("Order")).reason("the shop is closed").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate_where(&self, filter: Filter) -> Bulk {
        self.bulk(Action::Terminate, filter)
    }

    /// Asks all instances that match a filter to end in good order, as [`cancel`](Client::cancel) does, each with the usual grace period.
    pub fn cancel_where(&self, filter: Filter) -> Bulk {
        self.bulk(Action::Cancel, filter)
    }

    /// Suspends all instances that match a filter, until they are resumed.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use perennial::Filter;
    ///
    /// client.suspend_where(Filter::new().tag("region", "eu")).reason("maintenance").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn suspend_where(&self, filter: Filter) -> Bulk {
        self.bulk(Action::Suspend, filter)
    }

    /// Resumes all suspended instances that match a filter.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let resumed = client.resume_where(perennial::Filter::new().tag("region", "eu")).await?;
    /// println!("{} instances go on", resumed.done);
    /// # Ok(())
    /// # }
    /// ```
    pub fn resume_where(&self, filter: Filter) -> Bulk {
        self.bulk(Action::Resume, filter)
    }

    /// Restarts all ended instances that match a filter, under the same ids.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use perennial::{Filter, Status};
    ///
    /// client.restart_where(Filter::new().name("Order").status(Status::Terminated)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn restart_where(&self, filter: Filter) -> Bulk {
        self.bulk(Action::Restart, filter)
    }

    fn bulk(&self, action: Action, filter: Filter) -> Bulk {
        Bulk {
            client: self.clone(),
            filter,
            action,
            reason: None,
            recursive: false,
            dry_run: false,
            as_of: None,
            told: None,
        }
    }

    pub(crate) fn batch(&self) -> usize {
        match &self.backend {
            Backend::Engine(_) => BATCH,
            // Each batch is a separate command to the owner, which costs more than its changes. Without a host there is no other work to
            // delay.
            Backend::Outside(hub) if hub.is_owned() => 4 * BATCH,
            Backend::Outside(_) | Backend::Remote(_) => PAGE as usize,
        }
    }
}

impl Bulk {
    /// The reason, which is recorded with each command. Restarts and purges ignore it.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Only counts the instances, without changing them.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Leaves out what did not match at a moment when somebody looked: instances that were created after it, and, of an operation on ended
    /// instances, those that were changed after it. [`BulkProgress::as_of`] of a dry run is that moment, and [`BulkProgress::newer`] counts
    /// what was left out.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use perennial::Filter;
    ///
    /// let would = client.purge_where(Filter::new().name("Order")).dry_run().await?;
    /// println!("{} instances would be deleted", would.matched);
    /// // As many, however long it takes to decide.
    /// if let Some(then) = would.as_of {
    ///     client.purge_where(Filter::new().name("Order")).as_of(then).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn as_of(mut self, moment: Timestamp) -> Self {
        self.as_of = Some(moment);
        self
    }

    /// Includes the descendants of each instance. A purge keeps live descendants and everything below them; a restart ignores this.
    pub fn recursive(mut self) -> Self {
        self.recursive = true;
        self
    }

    /// Calls `told` after each batch, in the task that awaits the operation.
    pub fn on_progress(mut self, told: impl FnMut(BulkProgress) + Send + 'static) -> Self {
        self.told = Some(Foreign::new("the progress of an operation", Box::new(told)));
        self
    }

    async fn run(mut self) -> Result<BulkProgress> {
        let mut progress = BulkProgress {
            dry_run: self.dry_run,
            ..BulkProgress::default()
        };
        let Some(Filter(mut filter)) = self.filter.among(self.action.statuses()) else {
            return Ok(progress);
        };
        if let Some(remote) = self.client.remote() {
            let options = (self.dry_run, self.recursive, self.as_of);
            let reason = self.reason.clone();
            let (action, filter) = (self.action.name(), &self.filter.0);
            let mut told = self.told.take();
            let wants_steps = told.is_some();
            let mut tell = |step| {
                if let Some(told) = &mut told {
                    told.call_mut(|told| told(step));
                }
            };
            let told = wants_steps.then_some(&mut tell as &mut (dyn FnMut(BulkProgress) + Send));
            return remote.bulk(action, filter, options, reason, told).await;
        }
        // Excludes instances that are created from now on, or this might never end. A restart sets the creation time too.
        let now = self.client.now();
        let end = match self.action {
            Action::Restart => now,
            _ => next(now),
        };
        filter.created_to = Some(earlier(filter.created_to, end));
        progress.as_of = self.as_of.or(self.dry_run.then_some(now));
        if let Some(moment) = self.as_of {
            let all = count(&self.client, &filter).await?;
            self.action.limit_to(&mut filter, moment);
            progress.matched = count(&self.client, &filter).await?;
            progress.newer = all.saturating_sub(progress.matched);
        } else {
            progress.matched = count(&self.client, &filter).await?;
        }
        if self.dry_run {
            return Ok(progress);
        }
        let mut query = ListQuery {
            filter,
            order: Order::OldestFirst,
            limit: PAGE,
            ..ListQuery::default()
        };
        loop {
            let asked = query.clone();
            let page = self.client.read(move |reader| reader.brief(&asked)).await?;
            self.page(page.found, &mut progress).await?;
            query.after = page.next;
            if query.after.is_none() {
                return Ok(progress);
            }
        }
    }

    async fn page(&mut self, page: Vec<Brief>, progress: &mut BulkProgress) -> Result<()> {
        let batch = self.client.batch();
        for some in page.chunks(batch) {
            match self.action {
                Action::Purge => {
                    let keys: Vec<_> = some.iter().map(|brief| brief.key).collect();
                    let purged = if self.recursive {
                        self.client.purge_trees("", keys).await?
                    } else {
                        self.client.purge_keys("", &keys).await?
                    };
                    progress.done += u64::from(purged.deleted);
                    progress.skipped += u64::from(purged.live);
                }
                Action::Restart => {
                    restart(&self.client, some, self.as_of.is_some(), progress).await?;
                }
                Action::Cancel | Action::Terminate | Action::Suspend | Action::Resume => {
                    let make = |brief: &Brief| {
                        let (reason, recursive) = (self.reason.clone(), self.recursive);
                        let request = self.action.request(&brief.id, reason, recursive);
                        // What was started under the same id since this page was read did not match at that moment.
                        match self.as_of {
                            Some(_) => Request::IfRun {
                                id: brief.id.clone(),
                                run: Run::new(brief.key, brief.place.0),
                                then: Box::new(request),
                            },
                            None => request,
                        }
                    };
                    let requests = some.iter().map(make).collect();
                    command(&self.client, requests, progress).await?;
                }
            }
            if let Some(told) = &mut self.told {
                told.call_mut(|told| told(*progress));
            }
        }
        Ok(())
    }
}

/// The number of instances that match.
async fn count(client: &Client, filter: &InstanceFilter) -> Result<u64> {
    let counted = filter.clone();
    let counts = client.read(move |reader| reader.counts(&counted)).await?;
    Ok(counts.iter().map(|(_, count)| count).sum())
}

/// The first moment after another one.
fn next(moment: Timestamp) -> Timestamp {
    Timestamp(moment.0.saturating_add(1))
}

fn earlier(bound: Option<Timestamp>, other: Timestamp) -> Timestamp {
    bound.map_or(other, |bound| bound.min(other))
}

impl Action {
    /// Leaves out what did not match at a moment yet.
    fn limit_to(self, filter: &mut InstanceFilter, moment: Timestamp) {
        let end = next(moment);
        filter.created_to = Some(earlier(filter.created_to, end));
        // A live instance changes all the time; an ended one that has changed is not the one that somebody looked at.
        if matches!(self, Self::Purge | Self::Restart) {
            filter.updated_to = Some(earlier(filter.updated_to, end));
        }
    }

    /// The name of the action in the HTTP API.
    fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Restart => "restart",
            Self::Purge => "purge",
        }
    }

    fn request(self, id: &str, reason: Option<String>, recursive: bool) -> Request {
        let id = id.to_owned();
        match self {
            Self::Cancel => Request::Cancel {
                id,
                reason,
                grace: CANCELLATION_GRACE,
                recursive,
            },
            Self::Terminate => Request::Terminate {
                id,
                reason,
                recursive,
            },
            Self::Suspend => Request::Suspend {
                id,
                reason,
                recursive,
            },
            Self::Resume => Request::Resume {
                id,
                reason,
                module: None,
                recursive,
            },
            Self::Restart => Request::Restart(RestartRequest { id, new_id: None }),
            Self::Purge => Request::PurgeId(id),
        }
    }
}

/// Submits the commands of one transaction.
async fn command(
    client: &Client,
    requests: Vec<Request>,
    progress: &mut BulkProgress,
) -> Result<()> {
    if let Reply::All(replies) = client.submit("", Request::All(requests)).await? {
        let done = replies.iter().filter(|one| **one == Reply::Done).count();
        progress.done += done as u64;
        progress.skipped += (replies.len() - done) as u64;
    }
    Ok(())
}

/// Each restart depends on the instance's current state in the hub, so each is a separate command.
async fn restart(
    client: &Client,
    some: &[Brief],
    only_this_run: bool,
    progress: &mut BulkProgress,
) -> Result<()> {
    let restarts = some.iter().map(async |brief| {
        let run = Run::new(brief.key, brief.place.0).to_string();
        let client = match only_this_run {
            true => client.for_run(&run),
            false => client.clone(),
        };
        let request = Action::Restart.request(&brief.id, None, false);
        client.submit(&brief.id, request).await
    });
    for restarted in futures::future::join_all(restarts).await {
        match restarted {
            Ok(_) => progress.done += 1,
            Err(error)
                if error.is_not_found() || error.is_wrong_state() || error.is_other_run() =>
            {
                progress.skipped += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl IntoFuture for Bulk {
    type Output = Result<BulkProgress>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl std::ops::AddAssign for Purged {
    fn add_assign(&mut self, other: Self) {
        self.deleted += other.deleted;
        self.live += other.live;
    }
}
