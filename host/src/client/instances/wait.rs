//! Waits for a status of an instance.

use std::time::{Duration, Instant};

use perennial_core::{Rejection, Status};

use crate::client::instances::status::{Show, complete};
use crate::client::remote::{ANSWER_EVERY, Remote};
use crate::client::{Backend, Client, Error, InstanceStatus, Result};
use crate::engine::Until;

/// The polling interval of a process that does not run the hub; a host notifies its own clients instead.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The result of a wait.
#[derive(Clone, Debug)]
pub enum Waited {
    /// The condition was met, with this status.
    Reached(InstanceStatus),
    /// The time limit passed. This is the last status.
    TimedOut(InstanceStatus),
}

impl Waited {
    /// The status if the condition was met, else `None`.
    pub fn reached(self) -> Option<InstanceStatus> {
        match self {
            Self::Reached(status) => Some(status),
            Self::TimedOut(_) => None,
        }
    }

    /// The status, whether or not the condition was met.
    pub fn status(&self) -> &InstanceStatus {
        match self {
            Self::Reached(status) | Self::TimedOut(status) => status,
        }
    }
}

impl Client {
    /// Waits until an instance has ended, for at most `limit`.
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

    /// Waits until an instance has started or ended, for at most `limit`.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn wait_for_start(&self, id: &str, limit: Duration) -> Result<Waited> {
        self.wait(id, limit, Until::Changed, |status| {
            status.runtime_status != Status::Pending
        })
        .await
    }

    /// Waits until `done` returns true for an instance's status, for at most `limit`. It is called after each change.
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
            // Subscribe before reading the status, so that no change is missed.
            let watch = match &self.backend {
                Backend::Engine(engine) => Some(engine.watch(id, until, begun.elapsed())),
                Backend::Outside(_) | Backend::Remote(_) => None,
            };
            let left = limit.saturating_sub(begun.elapsed());
            // A live instance has not ended: nothing needs to be read before the notification.
            let lives = until == Until::Ended && watch.as_ref().is_some_and(|watch| watch.lives);
            if !lives || left.is_zero() {
                let row = self.brief_status(id).await?;
                if done(&row) || left.is_zero() {
                    // Waits are read only for the final answer. An ended instance has none.
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
                // The notification does not contain rewinds and values; they must be read from the hub.
                Ok(Ok(Some(end))) if end.generation == 0 && end.value_count == 0 => {
                    return Ok(Waited::Reached((*end).into()));
                }
                // Changed or timed out: read again.
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(_)) => {
                    return Err(Error::store(&self.hub, crate::store::StoreError::Closed));
                }
            }
        }
    }

    /// The full status of an ended instance; for a live one only its row.
    async fn brief_status(&self, id: &str) -> Result<InstanceStatus> {
        let key = id.to_owned();
        let found = self.read(move |reader| match reader.instance(&key)? {
            Some(row) if row.status.is_end() => {
                complete(reader, row, Show::default(), None).map(Some)
            }
            row => Ok(row.map(InstanceStatus::from)),
        });
        let found = found.await?;
        found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))
    }
}

/// Waits with requests that the remote host answers at the next change.
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
        // Limits the request rate for an instance that changes all the time.
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}
