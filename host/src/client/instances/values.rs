//! Named values of instances: reading them, and waiting for one.

use std::time::{Duration, Instant};

use perennial_core::{Json, Rejection, Status, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::json::{Payload, StatusName, TimeText};
use crate::client::{Backend, Client, Error, Result};
use crate::engine::Until;
use crate::store::{Reader, StoreError, ValueRow};

/// The polling interval of a process that does not run the hub; a host notifies its own clients instead.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A named value of an instance, or its absence.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NamedValue {
    /// Its name.
    pub name: String,
    /// The value; absent if none is set.
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub value: Option<Json>,
    /// Differs after each change of the value; 0 if none is set.
    pub version: u64,
    /// When it was set.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "setTime")]
    pub set_at: Option<Timestamp>,
    /// The runtime status of the instance.
    #[serde_as(as = "StatusName")]
    pub runtime_status: Status,
}

impl NamedValue {
    fn absent(name: &str, runtime_status: Status) -> Self {
        Self {
            name: name.to_owned(),
            value: None,
            version: 0,
            set_at: None,
            runtime_status,
        }
    }

    fn of(row: ValueRow, runtime_status: Status) -> Self {
        Self {
            name: row.name,
            value: Some(row.value),
            version: row.version,
            set_at: Some(row.at),
            runtime_status,
        }
    }

    /// Whether the instance has ended, so that the value only changes if it is rewound or restarted.
    pub fn is_of_ended(&self) -> bool {
        self.runtime_status.is_end()
    }

    /// Deserializes the value; an absent one counts as `null`.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the value has another type.
    pub fn value_as<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let text = self.value.as_ref().map_or("null", Json::as_str);
        serde_json::from_str(text).map_err(|error| Error::json("the value", &error))
    }
}

/// The result of a wait for a named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitedValue {
    /// The condition was met, by this value.
    Reached(NamedValue),
    /// The instance has ended with this value, which does not meet the condition.
    Ended(NamedValue),
    /// The time limit passed. This is the value now.
    TimedOut(NamedValue),
}

impl WaitedValue {
    /// The value if the condition was met, else `None`.
    pub fn reached(self) -> Option<NamedValue> {
        match self {
            Self::Reached(value) => Some(value),
            Self::Ended(_) | Self::TimedOut(_) => None,
        }
    }

    /// The value, whether or not the condition was met.
    pub fn value(&self) -> &NamedValue {
        match self {
            Self::Reached(value) | Self::Ended(value) | Self::TimedOut(value) => value,
        }
    }

    /// What a value is to a condition that is asked now; `None` if there is more to wait for.
    fn of(
        value: &NamedValue,
        is_over: bool,
        done: &mut impl FnMut(&NamedValue) -> bool,
    ) -> Option<Self> {
        if done(value) {
            Some(Self::Reached(value.clone()))
        } else if value.is_of_ended() {
            Some(Self::Ended(value.clone()))
        } else if is_over {
            Some(Self::TimedOut(value.clone()))
        } else {
            None
        }
    }
}

impl Client {
    /// The value that the orchestration has set under this name with `ctx.set_value`; `None` if there is none. It stays after the end of the
    /// instance, and reading it runs no guest.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// if let Some(stage) = client.value("order-17", "stage").await? {
    ///     println!("the order is at {stage}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance.
    pub async fn value(&self, id: &str, name: &str) -> Result<Option<Json>> {
        Ok(self.named_value(id, name).await?.value)
    }

    /// As [`value`](Self::value), with its version and the time at which it was set.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub async fn named_value(&self, id: &str, name: &str) -> Result<NamedValue> {
        if let Some(remote) = self.remote() {
            let found = remote.value(id, name, None).await?;
            return found.ok_or_else(|| Error::rejected(id, Rejection::NotFound));
        }
        let (key, wanted) = (id.to_owned(), name.to_owned());
        let found = self.read(move |reader| reader.value(&key, &wanted)).await?;
        let (status, row) = found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))?;
        Ok(match row {
            Some(row) => NamedValue::of(row, status),
            None => NamedValue::absent(name, status),
        })
    }

    /// All values that the orchestration has set, in the order of their names.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// for named in client.values("order-17").await? {
    ///     println!("{}: {:?}", named.name, named.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance.
    pub async fn values(&self, id: &str) -> Result<Vec<NamedValue>> {
        let found = match self.remote() {
            Some(remote) => remote.values(id).await?,
            None => {
                let key = id.to_owned();
                self.read(move |reader| read_values(reader, &key)).await?
            }
        };
        found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))
    }

    /// Waits until `done` returns true for a value, for at most `limit`, or until the instance has ended. It is called for the value as it is
    /// now, set or not, and after changes; several quick changes may count as one. To wait for any change, compare the versions.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use std::time::Duration;
    /// use perennial::WaitedValue;
    ///
    /// let minute = Duration::from_secs(60);
    /// let seen = client.named_value("order-17", "stage").await?;
    /// let changed = |stage: &perennial::NamedValue| stage.version != seen.version;
    /// match client.wait_for_value("order-17", "stage", minute, changed).await? {
    ///     WaitedValue::Reached(stage) => println!("now it is at {:?}", stage.value),
    ///     WaitedValue::Ended(_) => println!("it has ended"),
    ///     WaitedValue::TimedOut(stage) => println!("still at {:?}", stage.value),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance.
    pub async fn wait_for_value(
        &self,
        id: &str,
        name: &str,
        limit: Duration,
        mut done: impl FnMut(&NamedValue) -> bool,
    ) -> Result<WaitedValue> {
        let begun = Instant::now();
        // The version of the last value that the remote host answered.
        let mut seen = None;
        loop {
            // Subscribe before reading the value, so that no change is missed.
            let told = match &self.backend {
                Backend::Engine(engine) => {
                    Some(engine.watch(id, Until::Changed, begun.elapsed()).told)
                }
                Backend::Outside(_) | Backend::Remote(_) => None,
            };
            let left = limit.saturating_sub(begun.elapsed());
            let value = match (self.remote(), seen) {
                (Some(remote), Some(seen)) => {
                    let found = remote.value(id, name, Some((seen, left))).await?;
                    found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))?
                }
                _ => self.named_value(id, name).await?,
            };
            let left = limit.saturating_sub(begun.elapsed());
            if let Some(waited) = WaitedValue::of(&value, left.is_zero(), &mut done) {
                return Ok(waited);
            }
            match told {
                // Changed or timed out: read again.
                Some(told) => {
                    if let Ok(Err(_)) = tokio::time::timeout(left, told).await {
                        return Err(Error::store(&self.hub, StoreError::Closed));
                    }
                }
                // Also limits the request rate for a value that changes all the time.
                None => tokio::time::sleep(left.min(LOOK_EVERY)).await,
            }
            seen = Some(value.version);
        }
    }
}

fn read_values(reader: &Reader, id: &str) -> Result<Option<Vec<NamedValue>>, StoreError> {
    let Some(row) = reader.instance(id)? else {
        return Ok(None);
    };
    let values = reader.values(row.key)?.into_iter();
    Ok(Some(
        values
            .map(|value| NamedValue::of(value, row.status))
            .collect(),
    ))
}
