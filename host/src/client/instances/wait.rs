//! Waiting for an instance.

use std::time::{Duration, Instant};

use perennial_core::{Rejection, Status};

use crate::client::instances::status::{Show, complete};
use crate::client::remote::Remote;
use crate::client::{Backend, Client, Error, InstanceStatus, Result};
use crate::engine::Until;

/// How often a process that does not run the hub looks again; a host's own clients are notified instead.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a wait ended.
#[derive(Clone, Debug)]
pub enum Waited {
    /// With what was waited for.
    Reached(InstanceStatus),
    /// With the time; the instance is still so.
    TimedOut(InstanceStatus),
}

impl Waited {
    /// The instance, if it came to what was waited for.
    pub fn reached(self) -> Option<InstanceStatus> {
        match self {
            Self::Reached(status) => Some(status),
            Self::TimedOut(_) => None,
        }
    }

    /// The instance, as it is.
    pub fn status(&self) -> &InstanceStatus {
        match self {
            Self::Reached(status) | Self::TimedOut(status) => status,
        }
    }
}

impl Client {
    /// Waits until an instance has ended, for at most so long.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use perennial::Waited;
    ///
    /// match client.wait_for_completion("order-17", std::time::Duration::from_secs(10)).await? {
    ///     Waited::Reached(status) => println!("{}: {:?}", status.runtime_status, status.output),
    ///     Waited::TimedOut(status) => println!("still waits for {:?}", status.waits_for),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn wait_for_completion(&self, id: &str, limit: Duration) -> Result<Waited> {
        self.wait(id, limit, Until::Ended, |status| status.is_ended())
            .await
    }

    /// Waits until an instance has started, or ended, for at most so long.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn wait_for_start(&self, id: &str, limit: Duration) -> Result<Waited> {
        self.wait(id, limit, Until::Changed, |status| {
            status.runtime_status != Status::Pending
        })
        .await
    }

    /// Waits until `done` says so of an instance's status, for at most so long. It is asked after each change.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn wait_until(
        &self,
        id: &str,
        limit: Duration,
        done: impl FnMut(&InstanceStatus) -> bool,
    ) -> Result<Waited> {
        self.wait(id, limit, Until::Changed, done).await
    }

    async fn wait(
        &self,
        id: &str,
        limit: Duration,
        until: Until,
        mut done: impl FnMut(&InstanceStatus) -> bool,
    ) -> Result<Waited> {
        let begun = Instant::now();
        if let Some(remote) = self.remote() {
            return wait_there(remote, id, limit, done).await;
        }
        loop {
            // Asked before the status is read, so that no change falls between the two.
            let watch = match &self.backend {
                Backend::Engine(engine) => Some(engine.watch(id, until)),
                Backend::File(_) | Backend::Remote(_) => None,
            };
            let left = limit.saturating_sub(begun.elapsed());
            // One that lives has not ended: there is nothing to read before that is told.
            let lives = until == Until::Ended && watch.as_ref().is_some_and(|watch| watch.lives);
            if !lives || left.is_zero() {
                let row = self.brief_status(id).await?;
                if done(&row) || left.is_zero() {
                    // What it waits for is looked up only now that somebody reads it. What has ended waits for nothing.
                    let status = if row.is_ended() {
                        row
                    } else {
                        self.status(id).await?.unwrap_or(row)
                    };
                    return Ok(if done(&status) {
                        Waited::Reached(status)
                    } else {
                        Waited::TimedOut(status)
                    });
                }
            }
            let Some(watch) = watch else {
                tokio::time::sleep(left.min(LOOK_EVERY)).await;
                continue;
            };
            match tokio::time::timeout(left, watch.told).await {
                // Rewinds are in the hub alone.
                Ok(Ok(Some(end))) if end.generation == 0 => {
                    return Ok(Waited::Reached((*end).into()));
                }
                // Told of a change, or out of time: it looks again.
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(_)) => {
                    return Err(Error::store(&self.hub, crate::store::StoreError::Closed));
                }
            }
        }
    }

    /// The status of an instance that has ended, and the row alone of one that lives.
    async fn brief_status(&self, id: &str) -> Result<InstanceStatus> {
        let key = id.to_owned();
        let found = self.read(move |reader| match reader.instance(&key)? {
            Some(row) if row.status.is_end() => complete(reader, row, Show::default()).map(Some),
            row => Ok(row.map(InstanceStatus::from)),
        });
        let found = found.await?;
        found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))
    }
}

/// The longest that a host elsewhere is asked to wait with its answer: whatever is between would take a longer silence for an end.
const ANSWER_EVERY: Duration = Duration::from_secs(20);

/// As a wait here: the host answers when something changes.
async fn wait_there(
    remote: &Remote,
    id: &str,
    limit: Duration,
    mut done: impl FnMut(&InstanceStatus) -> bool,
) -> Result<Waited> {
    let begun = Instant::now();
    let mut found = remote.status(id, Show::default()).await?;
    loop {
        let status = found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))?;
        let left = limit.saturating_sub(begun.elapsed());
        if done(&status) {
            return Ok(Waited::Reached(status));
        }
        if left.is_zero() {
            return Ok(Waited::TimedOut(status));
        }
        found = remote.changed(id, &status, left.min(ANSWER_EVERY)).await?;
        // One that changes all the time is not asked about all the time.
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}
