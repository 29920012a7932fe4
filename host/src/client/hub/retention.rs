//! Retention: how long ended instances are kept.

use std::time::Duration;

use perennial_core::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{DurationMilliSeconds, serde_as};

use crate::client::{Client, Result};
use crate::engine::Request;
use crate::store::{Ages, Reader};

/// How long the hub keeps ended instances, by their final status; `None` keeps them until they are purged.
///
/// The hub's host deletes them later by at most a hundredth of that time, and by at most a minute. With a retention of zero an instance may
/// be gone before a waiting client has read its result.
#[serde_as]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Retention {
    /// For completed instances.
    #[serde_as(as = "Option<DurationMilliSeconds<u64>>")]
    pub completed: Option<Duration>,
    /// For failed instances.
    #[serde_as(as = "Option<DurationMilliSeconds<u64>>")]
    pub failed: Option<Duration>,
    /// For terminated instances.
    #[serde_as(as = "Option<DurationMilliSeconds<u64>>")]
    pub terminated: Option<Duration>,
}

impl Client {
    /// How long the hub keeps ended instances.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// println!("{:?}", client.retention().await?.completed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub cannot be read.
    pub async fn retention(&self) -> Result<Retention> {
        if let Some(remote) = self.remote() {
            return remote.retention().await;
        }
        let Ages {
            completed,
            failed,
            terminated,
        } = self.read(Reader::retention).await?;
        let span = |age: Option<Millis>| age.map(|age| Duration::from_millis(age.0));
        Ok(Retention {
            completed: span(completed),
            failed: span(failed),
            terminated: span(terminated),
        })
    }

    /// Sets how long the hub keeps ended instances. It applies at once, also to instances that have ended already.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let mut retention = client.retention().await?;
    /// retention.completed = Some(std::time::Duration::from_secs(7 * 24 * 60 * 60));
    /// client.set_retention(retention).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub cannot be written.
    pub async fn set_retention(&self, retention: Retention) -> Result<()> {
        let age = |span: Option<Duration>| {
            span.map(|span| Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
        };
        let ages = Ages {
            completed: age(retention.completed),
            failed: age(retention.failed),
            terminated: age(retention.terminated),
        };
        self.submit("", Request::Retain(ages)).await.map(|_| ())
    }
}
