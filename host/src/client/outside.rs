//! A hub that this process does not own. Reads are direct; changes go to the owner, or are applied here if there is none.

use std::cell::Cell;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_core::Limits;

use crate::client::hub::owner::is_stopped;
use crate::client::{Error, Result};
use crate::engine::clock::{Clock, SystemClock};
use crate::engine::remote::report::RemoteWorkers;
use crate::engine::{NameTable, Owner, Preparation, Request, carry_out, fresh_execution};
use crate::guest_lines::KeptLines;
use crate::store::{
    self, Outside, Owned, OwnerNote, Partition, Place, Reader, Reply, StoreError, Write,
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long each of several owners may take to tell something.
const ASK_EACH_MAX: Duration = Duration::from_secs(3);

/// How long an owner may fail to accept a command before the client withdraws it.
const FAILURE_PATIENCE: Duration = Duration::from_secs(3);

/// How long an owner may be stopped by a signal before the client withdraws a command. A debugger or a snapshot stops it only briefly.
const STOPPED_PATIENCE: Duration = Duration::from_secs(2);

/// The most bytes that are read of an owner's error message.
const SAID_MAX: u64 = 4_096;

/// How often a client polls for an answer that the owner's socket did not announce.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The wait before the first of these looks. Each after it waits longer.
const LOOK_FIRST: Duration = Duration::from_millis(2);

/// In how many looks for an answer one is for the owner too, if the hub is in a database: that may be far.
const LOOKS_AT_OWNER: u32 = 25;

/// What a process is called that owns a hub for one command.
const A_COMMAND: &str = "a command";

/// A hub that this process does not own.
pub(crate) struct OutsideBackend(Outside);

impl OutsideBackend {
    pub(crate) fn new(place: Place) -> Self {
        Self(Outside::new(place))
    }

    /// Where the hub is.
    pub(crate) fn place(&self) -> &Place {
        self.0.place()
    }

    /// Whether some process owns the hub.
    pub(crate) fn is_owned(&self) -> bool {
        self.0.is_owned()
    }

    /// The owner, if there is one that says who it is.
    pub(crate) fn note(&self) -> Option<OwnerNote> {
        self.0.owner()
    }

    pub(crate) fn with_reader<T>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.0.with_reader(read)
    }

    /// Makes a change through the owner, or as a momentary owner if there is none.
    pub(crate) async fn submit(self: &Arc<Self>, hub: &str, request: Request) -> Result<Reply> {
        let this = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || this.submit_blocking(request)).await;
        match result.map_err(|_| Error::panicked())? {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(Error::no_answer(self.owner())),
            Err(error) => Err(Error::store(hub, error)),
        }
    }

    /// Asks the owner of each of these partitions. Returns what those answer that answer in time.
    pub(crate) async fn ask_each(
        self: &Arc<Self>,
        owners: Vec<Partition>,
        request: &Request,
    ) -> Vec<Reply> {
        let asked = owners.into_iter().map(|to| {
            let (this, request) = (Arc::clone(self), request.clone());
            let asked = tokio::task::spawn_blocking(move || this.ask_owner(&request, Some(to)));
            tokio::time::timeout(ASK_EACH_MAX, asked)
        });
        let answers = futures::future::join_all(asked).await;
        let answers = answers.into_iter().flatten().flatten();
        answers.filter_map(|answer| answer.ok().flatten()).collect()
    }

    /// The owner, for error messages.
    fn owner(&self) -> String {
        self.note()
            .map_or_else(|| "another process".to_owned(), |note| note.to_string())
    }

    /// `None` if the owner did not answer in time and may still execute the request.
    fn submit_blocking(&self, request: Request) -> Result<Option<Reply>, StoreError> {
        // A database is asked who owns the hub, which costs less than an attempt to become that.
        if self.place().path().is_none() && self.is_owned() {
            return self.ask_owner(&request, None);
        }
        let now = SystemClock.now();
        // A request that has no effect without a hub does not create one.
        let taken = match &request {
            Request::Deploy(_) | Request::CreateKey(_) => {
                self.place().take_over(now, A_COMMAND, &|_| false)
            }
            _ => self.place().take_over_existing(now, A_COMMAND),
        };
        match taken {
            Ok(owned) => {
                let owner = Momentary::new(&owned);
                answer_waiting(&owner)?;
                let done = carry_out(&owner, request, None);
                let is_done = matches!(done, Ok(Reply::Done | Reply::Deployed(_)));
                if owned.made && !is_done {
                    // Remove the hub again that was created only for this request.
                    self.place().unmake(owned)?;
                }
                done.map(Some)
            }
            Err(StoreError::Owned(_)) => self.ask_owner(&request, None),
            Err(error) => Err(error),
        }
    }

    /// Leaves a command for the owner of a partition, and waits for its answer. By default, it is the partition that the request is about.
    fn ask_owner(
        &self,
        request: &Request,
        to: Option<Partition>,
    ) -> Result<Option<Reply>, StoreError> {
        let token = uuid::Uuid::now_v7().simple().to_string();
        let is_host = to.is_some();
        let to = match (to, request.subject()) {
            (Some(to), _) => to,
            (None, Some(id)) => self.0.partition_of(id)?,
            (None, None) => Partition(0),
        };
        let body = store::encode(request)?;
        self.0.append(to, &token, &body, SystemClock.now())?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let (mut failing_since, mut stopped_since) = (None, None);
        let mut looks = 0;
        while Instant::now() < deadline {
            let looks_at_owner = self.place().path().is_some() || looks % LOOKS_AT_OWNER == 0;
            looks += 1;
            if looks_at_owner && self.note().is_some_and(|note| is_stopped(&note)) {
                let since = *stopped_since.get_or_insert_with(Instant::now);
                if since.elapsed() > STOPPED_PATIENCE {
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            stopped_since = None;
            let failure = self.wake_owner();
            match self.0.answer(&token) {
                Ok(Some(answer)) => {
                    // What is not deleted now is deleted when it is old.
                    drop(self.0.forget(&token));
                    return store::decode(&answer, "an answer").map(Some);
                }
                Ok(None) => {}
                // The command is there, whatever becomes of its answer.
                Err(error) if self.place().path().is_none() => {
                    tracing::debug!(%error, "could not look for the answer to a command");
                    std::thread::sleep(LOOK_EVERY * 10);
                    continue;
                }
                Err(error) => return Err(error),
            }
            if let Some(why) = failure {
                let since = *failing_since.get_or_insert_with(Instant::now);
                // If the withdrawal cannot be written either, the command stays queued.
                if since.elapsed() > FAILURE_PATIENCE && self.0.take_back(&token).unwrap_or(false) {
                    let owner = self.owner();
                    return Err(StoreError::NotTaken { owner, why });
                }
                std::thread::sleep(LOOK_EVERY * 10);
                continue;
            }
            failing_since = None;
            // The owner may have died meanwhile. Then the command is still queued, and this process answers it.
            let is_free =
                !is_host && looks_at_owner && (self.place().path().is_some() || !self.is_owned());
            let now = SystemClock.now();
            if is_free && let Ok(owned) = self.place().take_over(now, A_COMMAND, &|_| false) {
                answer_waiting(&Momentary::new(&owned))?;
            } else {
                std::thread::sleep(LOOK_EVERY.min(LOOK_FIRST * looks));
            }
        }
        self.give_up(&token)
    }

    /// Withdraws a command that was not executed in time, so that a retry does not execute it twice.
    fn give_up(&self, token: &str) -> Result<Option<Reply>, StoreError> {
        let note = self.note();
        match self.0.take_back(token) {
            Ok(true) => {
                let why = match note {
                    Some(note) if is_stopped(&note) => format!(
                        "it is stopped; `kill -CONT {}` lets it go on, and then this can be tried again",
                        note.pid
                    ),
                    _ => format!(
                        "it did not answer within {} seconds",
                        ANSWER_TIMEOUT.as_secs()
                    ),
                };
                let owner = self.owner();
                Err(StoreError::NotTaken { owner, why })
            }
            // The owner answered just before the withdrawal.
            Ok(false) => match self.0.answer(token) {
                Ok(Some(answer)) => {
                    drop(self.0.forget(token));
                    store::decode(&answer, "an answer").map(Some)
                }
                Ok(None) | Err(_) => Ok(None),
            },
            Err(error) => {
                tracing::debug!(%error, "a command could not be taken back");
                Ok(None)
            }
        }
    }

    /// Tells the owner that a command is queued. Returns when the owner has answered or cannot be reached, with the reason if the owner
    /// said that it cannot accept commands.
    fn wake_owner(&self) -> Option<String> {
        // The owner of a hub in a database was told by the database.
        self.place().path()?;
        let socket = self.note()?.socket?;
        let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
        // The owner closes the connection when it has answered every queued command. Errors do not matter: the hub has the answer.
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let mut said = String::new();
        stream.take(SAID_MAX).read_to_string(&mut said).ok()?;
        (!said.is_empty()).then_some(said)
    }
}

/// Answers the commands that a dead owner left queued, in order.
fn answer_waiting(owner: &Momentary<'_>) -> Result<(), StoreError> {
    loop {
        let commands = owner.owned.reader.unanswered(100)?;
        if commands.is_empty() {
            return Ok(());
        }
        for (token, body) in commands {
            let applied = match store::decode(&body, "a command") {
                Ok(request) => carry_out(owner, request, Some(token)),
                Err(error) => {
                    let refused = Reply::Refused {
                        kind: crate::engine::requests::refused::INVALID.to_owned(),
                        message: error.to_string(),
                    };
                    write(owner.owned, store::Change::Answer(refused), Some(token))
                }
            };
            match applied {
                Ok(_) | Err(StoreError::TakenBack) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A client that owns the hub only while it applies changes.
struct Momentary<'a> {
    owned: &'a Owned,
    /// The number of the next key.
    next_key: Cell<i64>,
}

impl<'a> Momentary<'a> {
    fn new(owned: &'a Owned) -> Self {
        Self {
            owned,
            next_key: Cell::new(owned.first_key),
        }
    }
}

impl Owner for Momentary<'_> {
    fn reader(&self) -> &Reader {
        &self.owned.reader
    }

    fn write(&self, change: store::Change, token: Option<String>) -> Result<Reply, StoreError> {
        write(self.owned, change, token)
    }

    fn prepared<T>(&self, make: impl FnOnce(&Preparation<'_>) -> T) -> Result<T, StoreError> {
        let names = NameTable::new(
            self.owned.reader.names()?,
            Default::default(),
            Limits::default(),
        );
        let number = || self.next_key.replace(self.next_key.get() + 1);
        let next_key = |id: &str| self.owned.partitions.key(id, number());
        Ok(make(&Preparation {
            names: &names,
            now: SystemClock.now(),
            limits: Limits::default(),
            next_key: &next_key,
            fresh: &fresh_execution,
            running: &Vec::new,
            serves: &|_, _| false,
            waits: false,
            workers: &RemoteWorkers::default,
            lines: &|_, _| KeptLines::default(),
            // Quotas apply only to hosts.
            full: &|_| None,
        }))
    }

    fn elsewhere(&self, _: &str) -> Option<Partition> {
        // It takes over all of the hub.
        None
    }

    fn pass_on(&self, _: Partition, _: Request) -> Result<Reply, StoreError> {
        Err(StoreError::Closed)
    }
}

fn write(owned: &Owned, change: store::Change, token: Option<String>) -> Result<Reply, StoreError> {
    let (tell, told) = std::sync::mpsc::channel();
    let write = Write::new(change, SystemClock.now(), move |_, result| {
        drop(tell.send(result))
    });
    owned.writer.submit(write.answering_if(token));
    told.recv()
        .unwrap_or(Err(StoreError::Closed))
        .map(|outcome| outcome.reply)
}
