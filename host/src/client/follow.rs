//! Following what happens, without asking again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use perennial_core::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::client::history::events_of;
use crate::client::status::{Show, read_status};
use crate::client::{Backend, Client, Error, HistoryEvent, InstanceStatus, Result};
use crate::engine::Until;
use crate::engine::clock::{Clock, SystemClock};
use crate::store::StoreError;

/// How often a process that does not run the hub looks again; a host's own clients are notified instead.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Turns read at once.
const TURNS_PAGE: u32 = 256;

/// Changed instances that are told of at once.
const CHANGES_PAGE: u32 = 1_000;

/// A place in the history of an instance: what was seen already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The run that it is in; empty before any.
    pub(crate) execution: String,
    next_turn: u32,
    next_event: u64,
}

/// What is new in a history.
pub(crate) struct Found {
    pub(crate) events: Vec<HistoryEvent>,
    /// The instance, if it has ended and there is nothing more.
    pub(crate) ended: Option<InstanceStatus>,
}

impl Place {
    /// The place after an event, by `EXECUTION:NUMBER`.
    pub(crate) fn after(event: &str) -> Option<Self> {
        let (execution, number) = event.rsplit_once(':')?;
        let number: u64 = number.parse().ok()?;
        Some(Self {
            execution: execution.to_owned(),
            next_turn: 0,
            next_event: number.saturating_add(1),
        })
    }
}

impl Client {
    /// Returns at the next change of an instance, or when it is time to look again.
    pub(crate) fn changed(&self, id: &str) -> impl Future<Output = ()> + Send + use<> {
        let told = match &self.backend {
            Backend::Engine(engine) => Some(engine.watch(id, Until::Changed).told),
            Backend::File(_) | Backend::Remote(_) => None,
        };
        async move {
            match told {
                // Dropped where the host is gone, which is a change too.
                Some(told) => drop(told.await),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// What happened in an instance after a place, which moves on; `None` if there is no such instance.
    ///
    /// A run that began after the place is told from its beginning.
    pub(crate) async fn history_after(&self, id: &str, place: &mut Place) -> Result<Option<Found>> {
        let (id, from) = (id.to_owned(), place.clone());
        let read = self.read(move |reader| {
            let Some(row) = reader.instance(&id)? else {
                return Ok(None);
            };
            let mut from = if row.execution_id == from.execution {
                from
            } else {
                Place {
                    execution: row.execution_id.clone(),
                    ..Place::default()
                }
            };
            let turns = reader.turns(row.key, row.execution, from.next_turn, TURNS_PAGE)?;
            let complete = turns.len() < TURNS_PAGE as usize;
            from.next_turn += u32::try_from(turns.len()).unwrap_or(0);
            let mut events = events_of(turns);
            events.retain(|event| event.number >= from.next_event);
            if let Some(last) = events.last() {
                from.next_event = last.number + 1;
            }
            let ended = if complete && row.status.is_end() {
                read_status(reader, &id, Show::default())?
            } else {
                None
            };
            Ok(Some((Found { events, ended }, from)))
        });
        Ok(read.await?.map(|(found, next)| {
            *place = next;
            found
        }))
    }

    /// Changes of instances from now on, or from after a change that was seen.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if what was seen is no change.
    pub(crate) fn changes(&self, seen: Option<&str>) -> Result<Changes> {
        let told = match &self.backend {
            Backend::Engine(engine) => Some(engine.watch_all()),
            Backend::File(_) | Backend::Remote(_) => None,
        };
        let since = match seen {
            Some(seen) => parse(seen)?,
            None => (SystemClock.now(), 0),
        };
        Ok(Changes {
            client: self.clone(),
            caught_up: seen.is_none() && told.is_some(),
            told,
            since,
        })
    }
}

/// An instance that changed, as it is since then.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) instance: InstanceStatus,
    key: i64,
}

impl Change {
    /// Names the change: when it was, and of which instance.
    pub(crate) fn id(&self) -> String {
        format!("{:x}-{:x}", self.instance.last_updated_at.0, self.key)
    }
}

fn parse(id: &str) -> Result<(Timestamp, i64)> {
    let parse = || {
        let (at, key) = id.split_once('-')?;
        let at = u64::from_str_radix(at, 16).ok()?;
        Some((Timestamp(at), i64::from_str_radix(key, 16).ok()?))
    };
    parse().ok_or_else(|| Error::invalid(format!("{id:?} is no id of a change")))
}

/// A stream of changes.
pub(crate) struct Changes {
    client: Client,
    /// Ids of instances that change; absent where another process runs the hub.
    told: Option<Receiver<std::sync::Arc<str>>>,
    /// The last change that was seen.
    since: (Timestamp, i64),
    /// Whether nothing between then and now was missed.
    caught_up: bool,
}

impl Changes {
    /// The next changes, at least one. Several changes of one instance in a short time are one.
    ///
    /// # Errors
    /// If the hub cannot be read, or the host is gone.
    pub(crate) async fn next(&mut self) -> Result<Vec<Change>> {
        loop {
            if !self.caught_up {
                let missed = self.missed().await?;
                self.caught_up = missed.len() < CHANGES_PAGE as usize;
                self.remember(&missed);
                if !missed.is_empty() {
                    return Ok(missed);
                }
            }
            let Some(told) = &mut self.told else {
                tokio::time::sleep(LOOK_EVERY).await;
                self.caught_up = false;
                continue;
            };
            let mut ids = BTreeSet::new();
            match told.recv().await {
                Ok(id) => drop(ids.insert(id)),
                Err(RecvError::Lagged(_)) => {
                    self.caught_up = false;
                    continue;
                }
                Err(RecvError::Closed) => {
                    return Err(Error::store(&self.client.hub, StoreError::Closed));
                }
            }
            while let Ok(id) = told.try_recv() {
                ids.insert(id);
            }
            let changed = self.read(ids).await?;
            self.remember(&changed);
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    fn remember(&mut self, changes: &[Change]) {
        let places = changes
            .iter()
            .map(|change| (change.instance.last_updated_at, change.key));
        self.since = places.fold(self.since, Ord::max);
    }

    async fn read(&self, ids: BTreeSet<std::sync::Arc<str>>) -> Result<Vec<Change>> {
        let read = self.client.read(move |reader| {
            let mut changes = Vec::with_capacity(ids.len());
            for id in ids {
                if let Some(row) = reader.instance(&id)? {
                    let key = row.key.0;
                    changes.push(Change {
                        instance: row.into(),
                        key,
                    });
                }
            }
            Ok(changes)
        });
        let mut changes = read.await?;
        changes.sort_by_key(|change| (change.instance.last_updated_at, change.key));
        Ok(changes)
    }

    /// Looks for what changed after the last change that was seen.
    async fn missed(&self) -> Result<Vec<Change>> {
        let since = self.since;
        let rows = self
            .client
            .read(move |reader| reader.updated_after(since, CHANGES_PAGE))
            .await?;
        let changes = rows.into_iter().map(|row| Change {
            key: row.key.0,
            instance: row.into(),
        });
        Ok(changes.collect())
    }
}
