//! The keys of hubs as they were read last, for those who read the metrics.
//!
//! A database that is away must not hide what a host says of itself: the alarm is needed then. So while the keys cannot be read, the metrics, and
//! nothing else, are told to whoever had a key when they were read last for that.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::{Client, KeyRing, Result};
use crate::http::metrics::READ_WITHIN;

/// By the name of the hub.
#[derive(Default)]
pub(super) struct LastKeys(Mutex<HashMap<String, Arc<KeyRing>>>);

impl LastKeys {
    /// The keys of a hub: as they are or, while they cannot be read, as they were.
    ///
    /// # Errors
    /// Why they cannot be read, if they never were.
    pub(super) async fn of(&self, client: &Client) -> Result<Arc<KeyRing>> {
        let reading = client.key_ring();
        tokio::pin!(reading);
        let read = tokio::time::timeout(READ_WITHIN, &mut reading).await;
        let known = || self.hubs().get(client.task_hub()).cloned();
        let error = match read {
            Ok(Ok(ring)) => return Ok(self.keep(client, ring)),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        match (known(), error) {
            (Some(ring), _) => Ok(ring),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(self.keep(client, reading.await?)),
        }
    }

    fn keep(&self, client: &Client, ring: KeyRing) -> Arc<KeyRing> {
        let ring = Arc::new(ring);
        let hub = client.task_hub().to_owned();
        self.hubs().insert(hub, Arc::clone(&ring));
        ring
    }

    fn hubs(&self) -> MutexGuard<'_, HashMap<String, Arc<KeyRing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No key is shown.
impl fmt::Debug for LastKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastKeys")
    }
}
