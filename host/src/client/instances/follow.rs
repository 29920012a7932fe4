//! Subscriptions to changes of instances and to new events of histories.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use perennial_core::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::client::instances::history::events_of;
use crate::client::instances::status::{Show, read_status};
use crate::client::{Backend, Client, Error, HistoryEvent, InstanceStatus, Result};
use crate::engine::Until;
use crate::engine::clock::{Clock, SystemClock};
use crate::store::{InstanceRow, Reader, StoreError};

/// The polling interval of a process that does not run the hub; a host notifies its own clients instead. One that shares the hub looks as
/// often, because what another host tells it may be lost.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a client that follows a history counts as having waited: that decides how often it looks at an instance of another host.
const FOLLOWED: Duration = Duration::from_secs(2);

/// How far the clocks of hosts may be apart for somebody who goes on after the last change that he saw: he is told again of what changed in so
/// many milliseconds before that.
const CLOCKS_DIFFER_MS: u64 = 5_000;

/// Turns per read, and bytes after which a read ends.
const TURNS_PAGE: u32 = 256;
const TURNS_BYTES_MAX: usize = 256 << 10;

/// The most changed instances in one answer.
const CHANGES_PAGE: u32 = 1_000;

/// The bytes of changed instances after which an answer ends.
const CHANGES_BYTES_MAX: usize = 1 << 20;

/// A cursor in the history of an instance: everything before it was delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The execution id; empty at the start.
    pub(crate) execution: String,
    /// The number of rewinds that the reader knows of; `None` if the event id did not contain it.
    pub(crate) generation: Option<u32>,
    /// The number of the next event.
    pub(crate) next_event: u64,
    next_turn: u32,
}

/// New events of a history.
pub(crate) struct Found {
    pub(crate) events: Vec<HistoryEvent>,
    /// Where the read began: at the given cursor or, after a rewind or a new execution, at an earlier one.
    pub(crate) from: Cursor,
    /// The instance, if it has ended and there are no more events.
    pub(crate) ended: Option<InstanceStatus>,
    /// Whether there are no more events at the moment.
    pub(crate) complete: bool,
    /// Processor time of the read.
    pub(crate) took: Duration,
}

impl Cursor {
    /// The cursor after an event, given as `EXECUTION:GENERATION:NUMBER`, or without the generation, as older versions wrote it.
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

    /// The id of an event in the cursor's execution.
    pub(crate) fn id_of(&self, event: u64) -> String {
        let generation = self.generation.unwrap_or_default();
        format!("{}:{generation}:{event}", self.execution)
    }

    /// Whether both cursors stand at the same event.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.is_beside(other) && self.next_event == other.next_event
    }

    /// Whether both cursors are in the same execution and generation.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.execution == other.execution && self.generation == other.generation
    }

    /// Moves the cursor into the current execution and generation. Nothing is skipped, and events that a rewind replaced are delivered
    /// anew.
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
        // Without a generation, any rewind may have happened since: begin at the first cut.
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
    /// Completes at the next change of an instance, or when the caller should poll again.
    pub(crate) fn changed(&self, id: &str) -> impl Future<Output = ()> + Send + use<> {
        let told = match &self.backend {
            // It follows for as long as it likes. At another host it looks as who has waited for that long, if it is not told before.
            Backend::Engine(engine) => Some(engine.watch(id, Until::Changed, FOLLOWED).told),
            Backend::Outside(_) | Backend::Remote(_) => None,
        };
        async move {
            match told {
                // The sender is dropped if the host stops, which is a change too.
                Some(told) => drop(told.await),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Reads the events after a cursor, and advances the cursor; `None` if the instance does not exist.
    ///
    /// A newer execution is read from its beginning, a rewound one from its cut.
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
                read_status(reader, &id, Show::default(), None)?
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

    /// Subscribes to changes of instances from now on.
    pub(crate) fn changes(&self) -> Changes {
        let told = match &self.backend {
            Backend::Engine(engine) => Some(engine.watch_all()),
            Backend::Outside(_) | Backend::Remote(_) => None,
        };
        Changes {
            client: self.clone(),
            caught_up: told.is_some(),
            told,
            is_shared: self.is_shared(),
            since: Changes::now(),
            delivered: HashMap::new(),
            looked: Instant::now(),
            left: BTreeSet::new(),
        }
    }

    /// Where somebody goes on who has seen the changes up to a place: earlier, if hosts share the hub, whose clocks may differ.
    pub(crate) fn goes_on_after(&self, seen: ChangeCursor) -> ChangeCursor {
        match (self.is_shared(), seen) {
            (true, (Timestamp(at), _)) => (Timestamp(at.saturating_sub(CLOCKS_DIFFER_MS)), 0),
            (false, seen) => seen,
        }
    }

    /// Whether other hosts may run instances of the hub.
    fn is_shared(&self) -> bool {
        matches!(&self.backend, Backend::Engine(engine) if engine.is_shared())
    }

    /// Asks other hosts to tell this one of all changes, for a while.
    fn follow_elsewhere(&self) {
        if let Backend::Engine(engine) = &self.backend {
            engine.follow_elsewhere();
        }
    }

    /// Subscribes to notices of changes from now on: of one instance, or of those whose ids begin with a prefix.
    pub(crate) fn notices(&self, of: NoticesOf) -> Notices {
        let told = match (&self.backend, &of) {
            (Backend::Engine(_), NoticesOf::One(id)) => Told::One(Box::pin(self.changed(id))),
            (Backend::Engine(engine), NoticesOf::Prefix(_)) if !engine.is_shared() => {
                Told::All(engine.watch_all())
            }
            (Backend::Engine(engine), NoticesOf::Prefix(_)) => {
                Told::Looks(Changes::now(), Some(engine.watch_all()))
            }
            (Backend::Outside(_) | Backend::Remote(_), _) => Told::Looks(Changes::now(), None),
        };
        Notices {
            client: self.clone(),
            of,
            told,
        }
    }

    /// Parses the id of a change.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if it is not the id of a change.
    pub(crate) fn change_place(id: &str) -> Result<ChangeCursor> {
        parse(id)
    }

    /// Reads the changes after a cursor from the hub. An instance that changed several times is included once, in its latest state.
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
}

/// Changed instances, whether they are all, and the processor time of the reads.
pub(crate) struct Changed {
    pub(crate) changes: Vec<Change>,
    pub(crate) all: bool,
    pub(crate) took: Duration,
}

/// An instance in its state after a change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) instance: InstanceStatus,
    key: i64,
}

/// The time of a change, and the key of its instance.
pub(crate) type ChangeCursor = (Timestamp, i64);

impl Change {
    /// The id of the change, from its time and the key of its instance.
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
    parse().ok_or_else(|| {
        Error::invalid(format!(
            "{id:?} is not the id of a change; send the last id that the stream sent"
        ))
    })
}

/// A stream of changes.
pub(crate) struct Changes {
    client: Client,
    /// Notifies of the ids of changed instances; `None` if another process runs the hub.
    told: Option<Receiver<std::sync::Arc<str>>>,
    /// Whether other hosts run instances too, of which this one may not be told.
    is_shared: bool,
    /// The last change that was delivered; if hosts share the hub, the last one that a look at all changes found.
    since: ChangeCursor,
    /// The instances that were delivered since, and when they had changed: the next look finds them too. Empty unless hosts share the hub.
    delivered: HashMap<i64, Timestamp>,
    /// Whether no change after `since` was missed.
    caught_up: bool,
    /// When all changes were looked for last.
    looked: Instant,
    /// Ids of changed instances that are not read yet.
    left: BTreeSet<std::sync::Arc<str>>,
}

impl Changes {
    /// The cursor for changes from now on.
    pub(crate) fn now() -> ChangeCursor {
        (SystemClock.now(), 0)
    }

    /// Waits for the next changes and returns at least one. Several changes of an instance in a short time are merged.
    ///
    /// # Errors
    /// If the hub cannot be read, or the host has stopped.
    pub(crate) async fn next(&mut self) -> Result<Changed> {
        let mut took = Duration::ZERO;
        loop {
            if !self.caught_up {
                self.looked = Instant::now();
                let mut missed = self.client.changed_after(self.since).await?;
                took += missed.took;
                self.caught_up = missed.all;
                let places = missed.changes.iter().map(Change::place);
                self.since = places.fold(self.since, Ord::max);
                let delivered = |of: &Change| self.delivered.get(&of.key) == Some(&of.place().0);
                missed.changes.retain(|change| !delivered(change));
                let since = self.since;
                self.delivered.retain(|key, at| (*at, *key) > since);
                if !missed.changes.is_empty() {
                    return Ok(Changed { took, ..missed });
                }
            }
            let Some(told) = &mut self.told else {
                tokio::time::sleep(LOOK_EVERY).await;
                self.caught_up = false;
                continue;
            };
            // Instances that did not fit the last answer come first.
            let first = match (self.left.is_empty(), self.is_shared) {
                (false, _) => Ok(None),
                (true, false) => told.recv().await.map(Some),
                (true, true) => {
                    self.client.follow_elsewhere();
                    let left = LOOK_EVERY.saturating_sub(self.looked.elapsed());
                    let next = match left.is_zero() {
                        true => None,
                        false => tokio::time::timeout(left, told.recv()).await.ok(),
                    };
                    let Some(next) = next else {
                        self.caught_up = false;
                        continue;
                    };
                    next.map(Some)
                }
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
        if self.is_shared {
            self.delivered.extend(places.map(|(at, key)| (key, at)));
        } else {
            self.since = places.fold(self.since, Ord::max);
        }
    }

    /// Reads instances; also returns the ids of those that did not fit.
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

/// The instances of [`Notices`].
#[derive(Clone, Debug)]
pub(crate) enum NoticesOf {
    /// The one with this id.
    One(String),
    /// Those whose ids begin so; all with an empty text.
    Prefix(String),
}

impl NoticesOf {
    fn contains(&self, id: &str) -> bool {
        match self {
            Self::One(one) => one == id,
            Self::Prefix(prefix) => id.starts_with(prefix),
        }
    }
}

/// Tells that something has changed, without reading what: it costs next to nothing in a hub where much changes.
pub(crate) struct Notices {
    client: Client,
    of: NoticesOf,
    told: Told,
}

/// How notices come.
enum Told {
    /// The next change of one instance.
    One(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The ids of all instances that change.
    All(Receiver<std::sync::Arc<str>>),
    /// Other processes run the hub, or some of it: what was updated after this is read, now and then and when it is told of.
    Looks(ChangeCursor, Option<Receiver<std::sync::Arc<str>>>),
}

impl Told {
    /// Waits until it is time to look. Whether a change is known of already; `None` if the host has stopped.
    async fn is_due(
        told: Option<&mut Receiver<std::sync::Arc<str>>>,
        of: &NoticesOf,
    ) -> Option<bool> {
        let Some(told) = told else {
            tokio::time::sleep(LOOK_EVERY).await;
            return Some(false);
        };
        let wanted = async {
            loop {
                match told.recv().await {
                    Ok(id) if of.contains(&id) => return Some(true),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Some(true),
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        let is_told = tokio::time::timeout(LOOK_EVERY, wanted).await;
        // The look that follows finds all of these.
        while let Ok(_) | Err(TryRecvError::Lagged(_)) = told.try_recv() {}
        is_told.unwrap_or(Some(false))
    }
}

impl Notices {
    /// Waits until something has changed since the last notice. Can be dropped and called again without missing any.
    ///
    /// # Errors
    /// If the hub cannot be read, or the host has stopped.
    pub(crate) async fn next(&mut self) -> Result<()> {
        loop {
            match &mut self.told {
                Told::One(changed) => {
                    changed.await;
                    // Subscribed anew at once, so that changes while the caller does something else count.
                    if let NoticesOf::One(id) = &self.of {
                        self.told = Told::One(Box::pin(self.client.changed(id)));
                    }
                    return Ok(());
                }
                Told::All(told) => {
                    let mut next = told.recv().await;
                    let mut is_wanted = false;
                    loop {
                        match next {
                            Ok(id) => is_wanted |= self.of.contains(&id),
                            Err(RecvError::Lagged(_)) => is_wanted = true,
                            Err(RecvError::Closed) => {
                                return Err(Error::store(&self.client.hub, StoreError::Closed));
                            }
                        }
                        next = match told.try_recv() {
                            Ok(id) => Ok(id),
                            Err(TryRecvError::Empty) => break,
                            Err(TryRecvError::Lagged(by)) => Err(RecvError::Lagged(by)),
                            Err(TryRecvError::Closed) => Err(RecvError::Closed),
                        };
                    }
                    if is_wanted {
                        return Ok(());
                    }
                    // Others change: it is not worth waking up for each of them.
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Told::Looks(since, told) => {
                    self.client.follow_elsewhere();
                    let Some(is_told) = Told::is_due(told.as_mut(), &self.of).await else {
                        return Err(Error::store(&self.client.hub, StoreError::Closed));
                    };
                    let found = self.client.changed_after(*since).await?;
                    let places = found.changes.iter().map(Change::place);
                    *since = places.fold(*since, Ord::max);
                    let mut changed = found.changes.iter().map(|one| &one.instance.instance_id);
                    if is_told || changed.any(|id| self.of.contains(id)) {
                        return Ok(());
                    }
                }
            }
        }
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
