//! Subscriptions: changes of instances and events of histories as they happen.

use std::collections::BTreeSet;
use std::time::Duration;

use perennial_core::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::client::instances::history::events_of;
use crate::client::instances::status::{Show, read_status};
use crate::client::{Backend, Client, Error, HistoryEvent, InstanceStatus, Result};
use crate::engine::Until;
use crate::engine::clock::{Clock, SystemClock};
use crate::store::{InstanceRow, Reader, StoreError};
use crate::timed::timed;

/// How often a process that does not run the hub looks again; a host's own clients are notified instead.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Turns read at once, and bytes of them after which a read ends.
const TURNS_PAGE: u32 = 256;
const TURNS_BYTES_MAX: usize = 256 << 10;

/// Changed instances that are told of at once.
const CHANGES_PAGE: u32 = 1_000;

/// Bytes of changed instances after which no more are told of at once.
const CHANGES_BYTES_MAX: usize = 1 << 20;

/// A place in the history of an instance: what was seen already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The run that it is in; empty before any.
    pub(crate) execution: String,
    /// Rewinds of it that were seen; unknown where an event's id did not say it.
    pub(crate) generation: Option<u32>,
    /// The number of the event that comes next.
    pub(crate) next_event: u64,
    next_turn: u32,
}

/// What is new in a history.
pub(crate) struct Found {
    pub(crate) events: Vec<HistoryEvent>,
    /// Where it was read from: the place that was asked for or, where the instance went back or began again, one before it or in another run.
    pub(crate) from: Cursor,
    /// The instance, if it has ended and there is nothing more.
    pub(crate) ended: Option<InstanceStatus>,
    /// Whether there is nothing more right now.
    pub(crate) complete: bool,
    /// What reading it took.
    pub(crate) took: Duration,
}

impl Cursor {
    /// The place after an event, by `EXECUTION:GENERATION:NUMBER`, or without the generation, as older versions wrote it.
    pub(crate) fn after(event: &str) -> Option<Self> {
        let (of, number) = event.rsplit_once(':')?;
        let number: u64 = number.parse().ok()?;
        let (execution, generation) = match of.rsplit_once(':') {
            Some((execution, generation)) => (execution, Some(generation.parse().ok()?)),
            None => (of, None),
        };
        Some(Self {
            execution: execution.to_owned(),
            generation,
            next_event: number.saturating_add(1),
            next_turn: 0,
        })
    }

    /// The id of an event of the run that the place is in.
    pub(crate) fn id_of(&self, event: u64) -> String {
        let generation = self.generation.unwrap_or_default();
        format!("{}:{generation}:{event}", self.execution)
    }

    /// Whether whoever is at the one place has seen what whoever is at the other has.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.is_beside(other) && self.next_event == other.next_event
    }

    /// Whether both are in one run of an instance that did not go back in between.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.execution == other.execution && self.generation == other.generation
    }

    /// Where whoever is at this place goes on in what the instance is now: nothing is left out, and what was cut off is told as it became.
    fn in_(self, reader: &Reader, row: &InstanceRow) -> Result<Self, StoreError> {
        if row.execution_id != self.execution {
            return Ok(Self {
                execution: row.execution_id.clone(),
                generation: Some(row.generation),
                ..Self::default()
            });
        }
        if self.generation == Some(row.generation) {
            return Ok(self);
        }
        // Without a generation it may be any: the first.
        let cut = reader.first_cut(row, self.generation.unwrap_or_default())?;
        Ok(Self {
            generation: Some(row.generation),
            next_event: cut.map_or(self.next_event, |cut| cut.min(self.next_event)),
            next_turn: 0,
            ..self
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
    /// A run that began after the place is told from its beginning, one that went back from where it was cut.
    pub(crate) async fn history_after(
        &self,
        id: &str,
        place: &mut Cursor,
    ) -> Result<Option<Found>> {
        let (id, from) = (id.to_owned(), place.clone());
        let read = move |reader: &Reader| {
            let Some(row) = reader.instance(&id)? else {
                return Ok(None);
            };
            let from = from.in_(reader, &row)?;
            let (key, execution) = (row.key, row.execution);
            let turns =
                reader.turns_within(key, execution, from.next_turn, TURNS_PAGE, TURNS_BYTES_MAX)?;
            let mut next = from.clone();
            next.next_turn += u32::try_from(turns.len()).unwrap_or(0);
            let complete = next.next_turn >= row.turns || turns.is_empty();
            let mut events = events_of(turns);
            events.retain(|event| event.number >= from.next_event);
            if let Some(last) = events.last() {
                next.next_event = last.number + 1;
            }
            let ended = if complete && row.status.is_end() {
                read_status(reader, &id, Show::default())?
            } else {
                None
            };
            let found = Found {
                events,
                from,
                ended,
                complete,
                took: Duration::ZERO,
            };
            Ok(Some((found, next)))
        };
        let (read, took) = self.timed_read(read).await?;
        Ok(read.map(|(found, next)| {
            *place = next;
            Found { took, ..found }
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
            None => Changes::now(),
        };
        Ok(Changes {
            client: self.clone(),
            caught_up: seen.is_none() && told.is_some(),
            told,
            since,
            left: BTreeSet::new(),
        })
    }

    /// The place of a change, by the id that it was told with.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if it is no change.
    pub(crate) fn change_place(id: &str) -> Result<ChangeCursor> {
        parse(id)
    }

    /// What changed after a place, from the hub, and whether that is all. Of an instance that changed several times the last.
    pub(crate) async fn changed_after(&self, since: ChangeCursor) -> Result<Changed> {
        let read =
            move |reader: &Reader| reader.updated_after(since, CHANGES_PAGE, CHANGES_BYTES_MAX);
        let ((rows, more), took) = self.timed_read(read).await?;
        let changes = rows.into_iter().map(|row| Change {
            key: row.key.0,
            instance: row.into(),
        });
        Ok(Changed {
            changes: changes.collect(),
            all: !more,
            took,
        })
    }

    /// Reads, and says what that took of the processors' time.
    async fn timed_read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(T, Duration)> {
        self.read(move |reader| {
            let (read, took) = timed(|| read(reader));
            Ok((read?, took))
        })
        .await
    }
}

/// Instances that changed, whether there are no more, and what it took to read them.
pub(crate) struct Changed {
    pub(crate) changes: Vec<Change>,
    pub(crate) all: bool,
    pub(crate) took: Duration,
}

/// An instance that changed, as it is since then.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) instance: InstanceStatus,
    key: i64,
}

/// When a change was, and of which instance.
pub(crate) type ChangeCursor = (Timestamp, i64);

impl Change {
    /// Names the change: when it was, and of which instance.
    pub(crate) fn id(&self) -> String {
        format!("{:x}-{:x}", self.instance.last_updated_at.0, self.key)
    }

    pub(crate) fn place(&self) -> ChangeCursor {
        (self.instance.last_updated_at, self.key)
    }
}

fn parse(id: &str) -> Result<ChangeCursor> {
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
    since: ChangeCursor,
    /// Whether nothing between then and now was missed.
    caught_up: bool,
    /// Ids of instances that changed and were not read yet.
    left: BTreeSet<std::sync::Arc<str>>,
}

impl Changes {
    /// The place of what changes from now on.
    pub(crate) fn now() -> ChangeCursor {
        (SystemClock.now(), 0)
    }

    /// The next changes, at least one. Several changes of one instance in a short time are one.
    ///
    /// # Errors
    /// If the hub cannot be read, or the host is gone.
    pub(crate) async fn next(&mut self) -> Result<Changed> {
        let mut took = Duration::ZERO;
        loop {
            if !self.caught_up {
                let missed = self.client.changed_after(self.since).await?;
                took += missed.took;
                self.caught_up = missed.all;
                self.remember(&missed.changes);
                if !missed.changes.is_empty() {
                    return Ok(Changed { took, ..missed });
                }
            }
            let Some(told) = &mut self.told else {
                tokio::time::sleep(LOOK_EVERY).await;
                self.caught_up = false;
                continue;
            };
            // What there was no room for the last time comes first.
            let first = if self.left.is_empty() {
                told.recv().await.map(Some)
            } else {
                Ok(None)
            };
            match first {
                Ok(id) => self.left.extend(id),
                Err(RecvError::Lagged(_)) => {
                    self.caught_up = false;
                    continue;
                }
                Err(RecvError::Closed) => {
                    return Err(Error::store(&self.client.hub, StoreError::Closed));
                }
            }
            while let Ok(id) = told.try_recv() {
                self.left.insert(id);
            }
            let left = std::mem::take(&mut self.left);
            let ((changes, left), read_took) = self.read(left).await?;
            took += read_took;
            self.left = left;
            self.remember(&changes);
            if !changes.is_empty() {
                let all = self.left.is_empty();
                return Ok(Changed { changes, all, took });
            }
        }
    }

    fn remember(&mut self, changes: &[Change]) {
        let places = changes.iter().map(Change::place);
        self.since = places.fold(self.since, Ord::max);
    }

    /// Instances as they are, and the ids of those that there was no room for.
    async fn read(
        &self,
        mut ids: BTreeSet<std::sync::Arc<str>>,
    ) -> Result<((Vec<Change>, BTreeSet<std::sync::Arc<str>>), Duration)> {
        let read = move |reader: &Reader| {
            let (mut changes, mut bytes) = (Vec::with_capacity(ids.len()), 0);
            while bytes < CHANGES_BYTES_MAX
                && let Some(id) = ids.pop_first()
            {
                if let Some(row) = reader.instance(&id)? {
                    bytes += row.size();
                    let key = row.key.0;
                    changes.push(Change {
                        instance: row.into(),
                        key,
                    });
                }
            }
            changes.sort_by_key(Change::place);
            Ok((changes, ids))
        };
        self.client.timed_read(read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_events_are_read_with_a_generation_and_without() {
        let new = Cursor::after("abc:2:17").unwrap();
        assert_eq!((new.execution.as_str(), new.generation), ("abc", Some(2)));
        assert_eq!(new.next_event, 18);
        assert_eq!(Cursor::after(&new.id_of(17)), Some(new));
        let old = Cursor::after("abc:17").unwrap();
        assert_eq!((old.execution.as_str(), old.generation), ("abc", None));
        assert_eq!(old.next_event, 18);
        for bad in ["", "17", "abc:x", "abc:x:17", "abc:-1:17", "abc:1:"] {
            assert_eq!(Cursor::after(bad), None, "{bad}");
        }
    }
}
