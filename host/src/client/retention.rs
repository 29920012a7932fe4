//! Retention: how long ended instances are kept.

use std::time::Duration;

use perennial_core::Millis;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::client::{Client, Result};
use crate::engine::Request;
use crate::store::{Ages, Reader};

/// How long the hub keeps instances after they have ended, by how they ended; `None` keeps them until they are purged.
///
/// The hub's host deletes them some time after that: at the latest when a hundredth of it, or a minute, has passed. With no time at all an
/// instance may be gone before whoever waits for it has read how it ended.
///
/// As JSON: `completed`, `failed`, `terminated`, in milliseconds or `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Those that ended well.
    pub completed: Option<Duration>,
    /// Those that failed.
    pub failed: Option<Duration>,
    /// Those that were terminated.
    pub terminated: Option<Duration>,
}

impl Client {
    /// How long the hub keeps instances after they have ended.
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

    /// Says how long the hub keeps instances after they have ended. It counts at once, also for those that ended before.
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

impl Serialize for Retention {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        for (name, span) in [
            ("completed", self.completed),
            ("failed", self.failed),
            ("terminated", self.terminated),
        ] {
            map.serialize_entry(name, &span.map(|span| span.as_millis()))?;
        }
        map.end()
    }
}
