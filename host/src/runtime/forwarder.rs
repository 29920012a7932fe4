//! How a host passes requests on to the other hosts of its hub: as commands in the hub.
//!
//! A thread leaves all commands that came up since it last did, and asks for all answers that are due, in one round trip. So many requests at
//! once cost little more than one. Whoever has the partition next answers a command that its owner did not.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::clock::{Clock, SystemClock};
use crate::engine::{Peers, Request, Tell};
use crate::shortage::{Resource, Shortage};
use crate::store::{
    self, Exchange, Exchanged, FoundCommand, Outside, Partition, Place, StoreError,
};

/// How long an answer is waited for. What a dead host had is taken after a few seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The wait before an answer is looked for the first time. Each further wait is longer by as much, up to [`LOOK_EVERY`].
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Answers that are due this soon are looked for at once, with those that are due already.
const SOON: Duration = Duration::from_millis(1);

/// The wait after the hub could not be reached.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The most commands, and about the most bytes of them, that are left at once.
const AT_ONCE_MAX: usize = 512;
const BYTES_AT_ONCE_MAX: usize = 8 << 20;

/// The most requests that are kept for a hub that cannot be reached.
const KEPT_MAX: usize = 4_096;

/// Passes requests on until it is dropped.
pub(super) struct Forwarder(Arc<Shared>);

struct Shared {
    outside: Outside,
    answer_timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Commands that were not left yet, in order.
    new: Vec<Asked>,
    /// Whether there is a thread.
    runs: bool,
    is_closed: bool,
}

/// A request for the owner of a partition, until it is answered.
struct Asked {
    to: Partition,
    token: String,
    body: Vec<u8>,
    tell: Tell,
    /// The connection by which the command was left; `None` while it is not known to be there.
    left_by: Option<u64>,
    /// Whether it may be there even so.
    may_be_there: bool,
    /// When it is left or looked for next.
    next: Instant,
    looks: u32,
    /// When it is withdrawn.
    until: Instant,
}

impl Forwarder {
    pub(super) fn new(place: Place) -> Self {
        Self::waiting_for(ANSWER_TIMEOUT, place)
    }

    fn waiting_for(answer_timeout: Duration, place: Place) -> Self {
        Self(Arc::new(Shared {
            outside: Outside::new(place).hasty(),
            answer_timeout,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Peers for Forwarder {
    fn submit(&self, to: Partition, request: Request, tell: Tell) {
        let body = match store::encode(&request) {
            Ok(body) => body,
            Err(error) => return tell(Err(error)),
        };
        let mut state = self.0.state();
        if !state.runs {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new()
                .name("forwarder".to_owned())
                .spawn(move || shared.work());
            if let Err(error) = thread {
                drop(state);
                let what = format!("could not start a thread: {error}");
                let shortage = Shortage::new(Resource::of_io(&error), what);
                return tell(Err(StoreError::Lacks(shortage)));
            }
            state.runs = true;
        }
        let now = Instant::now();
        state.new.push(Asked {
            to,
            token: uuid::Uuid::now_v7().simple().to_string(),
            body,
            tell,
            left_by: None,
            may_be_there: false,
            next: now,
            looks: 0,
            until: now + self.0.answer_timeout,
        });
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Asked {
    /// The hub cannot be reached: it is tried again, and has its time after that.
    fn is_put_off(&mut self, answer_timeout: Duration) {
        let now = Instant::now();
        self.next = now + TRY_AGAIN_AFTER;
        self.until = now + TRY_AGAIN_AFTER + answer_timeout;
    }
}

/// Lets the next request start another thread, if this one panics.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.state().runs = false;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let _ends = Ends(self);
        let mut asked: HashMap<String, Asked> = HashMap::new();
        let mut answered = Vec::new();
        let mut next = None;
        while let Some(new) = self.next(next) {
            asked.extend(new.into_iter().map(|one| (one.token.clone(), one)));
            self.exchange(&mut asked, &mut answered);
            let looks = asked.values().map(|one| one.next);
            // Rows of answered commands are deleted with the next exchange, which is soon.
            let deletes = (!answered.is_empty()).then(|| Instant::now() + LOOK_EVERY);
            next = looks.chain(deletes).min();
        }
        for one in asked.into_values() {
            let is_there = one.left_by.is_some() || one.may_be_there;
            (one.tell)(Err(match is_there {
                // Another host carries it out.
                true => StoreError::NoAnswer(self.outside.asked()),
                false => StoreError::Closed,
            }));
        }
    }

    /// Waits for new commands, or until the next look. `None` if the host stops.
    fn next(&self, look: Option<Instant>) -> Option<Vec<Asked>> {
        let mut state = self.state();
        while state.new.is_empty() && !state.is_closed {
            state = match look.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        let is_closed = state.is_closed;
        let new = std::mem::take(&mut state.new);
        drop(state);
        if is_closed {
            for one in new {
                (one.tell)(Err(StoreError::Closed));
            }
            return None;
        }
        Some(new)
    }

    /// Leaves commands, looks for answers, and deletes the commands whose answers were read.
    fn exchange(&self, asked: &mut HashMap<String, Asked>, answered: &mut Vec<String>) {
        let soon = Instant::now() + SOON;
        let due = || asked.values().filter(|one| one.next <= soon);
        let mut bytes = 0;
        let fits = |one: &&Asked| {
            let is_first = bytes == 0;
            bytes += one.body.len();
            is_first || bytes <= BYTES_AT_ONCE_MAX
        };
        let mut new: Vec<&Asked> = due().filter(|one| one.left_by.is_none()).collect();
        // Tokens begin with the time.
        new.sort_by(|a, b| a.token.cmp(&b.token));
        let new: Vec<&Asked> = new.into_iter().take(AT_ONCE_MAX).take_while(fits).collect();
        let append = new
            .iter()
            .map(|one| (one.to, one.token.as_str(), one.body.as_slice()));
        let append: Vec<_> = append.collect();
        let left = due().filter(|one| one.left_by.is_some());
        let look: Vec<String> = left.map(|one| one.token.clone()).collect();
        let what = Exchange {
            append: &append,
            forget: answered,
            look: &look,
        };
        let Exchanged {
            appended,
            found,
            connection,
        } = self.outside.exchange(&what, SystemClock.now());
        let new: Vec<String> = new.iter().map(|one| one.token.clone()).collect();
        self.note_left(&new, appended, connection, asked);
        match found {
            Ok(found) => {
                // A row that was not deleted is deleted when it is old.
                answered.clear();
                self.note_found(&look, found, connection, asked, answered);
            }
            Err(error) => {
                tracing::debug!(%error, "could not look for the answers to commands");
                for token in &look {
                    if let Some(one) = asked.get_mut(token) {
                        one.is_put_off(self.answer_timeout);
                    }
                }
            }
        }
    }

    /// Notes what became of commands that were to be left.
    fn note_left(
        &self,
        new: &[String],
        appended: Result<(), StoreError>,
        connection: u64,
        asked: &mut HashMap<String, Asked>,
    ) {
        let is_crowded = asked.len() > KEPT_MAX;
        for token in new {
            let Some(one) = asked.get_mut(token) else {
                continue;
            };
            match &appended {
                Ok(()) => {
                    let now = Instant::now();
                    one.left_by = Some(connection);
                    (one.looks, one.next) = (0, now + LOOK_FIRST);
                    one.until = now + self.answer_timeout;
                }
                // As what a host writes itself, it is tried until the database is back. A second row with its token is never made.
                Err(StoreError::NoAnswer(_)) if !is_crowded => {
                    one.may_be_there = true;
                    one.is_put_off(self.answer_timeout);
                }
                Err(error) if error.is_away() && !is_crowded => {
                    one.is_put_off(self.answer_timeout);
                }
                Err(error) => {
                    let error = match one.may_be_there {
                        true => StoreError::NoAnswer(self.outside.asked()),
                        false => error.clone(),
                    };
                    if let Some(one) = asked.remove(token) {
                        (one.tell)(Err(error));
                    }
                }
            }
        }
    }

    /// Tells the answers that were found, and what became of commands that have none.
    fn note_found(
        &self,
        look: &[String],
        found: Vec<FoundCommand>,
        connection: u64,
        asked: &mut HashMap<String, Asked>,
        answered: &mut Vec<String>,
    ) {
        let now = Instant::now();
        let mut found: HashMap<String, Option<Vec<u8>>> = found.into_iter().collect();
        for token in look {
            let Some(one) = asked.get_mut(token) else {
                continue;
            };
            let result = match found.remove(token) {
                Some(Some(answer)) => {
                    answered.push(token.clone());
                    store::decode(&answer, "an answer")
                }
                Some(None) if now < one.until => {
                    one.looks += 1;
                    one.next = now + LOOK_EVERY.min(LOOK_FIRST * one.looks);
                    continue;
                }
                Some(None) => Err(self.give_up(token)),
                // It need not be on the disk before it is carried out: a database that has crashed meanwhile may have lost it.
                None if one.left_by != Some(connection) => {
                    (one.left_by, one.next) = (None, now);
                    continue;
                }
                None => Err(StoreError::NotTaken {
                    owner: self.outside.asked(),
                    why: "the command was deleted from the hub".to_owned(),
                }),
            };
            if let Some(one) = asked.remove(token) {
                (one.tell)(result);
            }
        }
    }

    /// Withdraws a command that has no answer in time, so that a request that is made again is not carried out twice.
    fn give_up(&self, token: &str) -> StoreError {
        let owner = self.outside.asked();
        match self.outside.take_back(token).unwrap_or(false) {
            true => StoreError::NotTaken {
                owner,
                why: format!(
                    "it did not answer within {} seconds",
                    self.answer_timeout.as_secs()
                ),
            },
            false => StoreError::NoAnswer(owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc::{Receiver, channel};

    use perennial_core::Timestamp;

    use super::*;
    use crate::store::{MemoryHub, Partitions, Purged, Reply};

    fn place(hub: &MemoryHub) -> Place {
        Place::Memory(hub.clone(), PathBuf::new(), Partitions::all(4))
    }

    fn ask(forwarder: &Forwarder, request: Request) -> Receiver<Result<Reply, StoreError>> {
        let (tell, told) = channel();
        let tell = Box::new(move |answer| drop(tell.send(answer)));
        forwarder.submit(Partition(0), request, tell);
        told
    }

    fn left(hub: &MemoryHub) -> Vec<(String, Vec<u8>)> {
        hub.reader().unanswered(100).unwrap()
    }

    #[test]
    fn a_command_that_nobody_carries_out_is_withdrawn() {
        let hub = MemoryHub::divided(Timestamp(0), 4);
        let forwarder = Forwarder::waiting_for(Duration::from_millis(30), place(&hub));
        let asked: Vec<_> = (0..3).map(|_| ask(&forwarder, Request::Workers)).collect();
        for asked in asked {
            let answer = asked.recv().unwrap();
            assert!(
                matches!(answer, Err(StoreError::NotTaken { .. })),
                "{answer:?}"
            );
        }
        assert_eq!(left(&hub), []);
    }

    #[test]
    fn who_asked_by_a_command_that_was_deleted_is_told_so_at_once() {
        let hub = MemoryHub::divided(Timestamp(0), 4);
        let forwarder = Forwarder::new(place(&hub));
        let asked = ask(&forwarder, Request::Workers);
        let token = loop {
            if let Some((token, _)) = left(&hub).pop() {
                break token;
            }
            std::thread::yield_now();
        };
        hub.forget_command(&token);
        let Err(StoreError::NotTaken { why, .. }) = asked.recv().unwrap() else {
            panic!("it is not there");
        };
        assert!(why.contains("deleted"), "{why}");
    }

    #[test]
    fn a_command_that_a_crash_of_the_database_lost_is_left_again() {
        let hub = MemoryHub::divided(Timestamp(0), 4);
        let forwarder = Forwarder::new(place(&hub));
        let asked = ask(&forwarder, Request::Workers);
        let there = || loop {
            if let Some((token, _)) = left(&hub).pop() {
                break token;
            }
            std::thread::yield_now();
        };
        let token = there();
        hub.lose_connection();
        hub.forget_command(&token);
        assert_eq!(there(), token, "the same one, so that it is done once");
        hub.answer_command(&token, &store::encode(&Reply::Done).unwrap());
        assert_eq!(asked.recv().unwrap().unwrap(), Reply::Done);
    }

    #[test]
    fn who_waits_when_the_host_stops_is_told_that_it_may_still_happen() {
        let hub = MemoryHub::divided(Timestamp(0), 4);
        let forwarder = Forwarder::new(place(&hub));
        let asked = ask(&forwarder, Request::Workers);
        while left(&hub).is_empty() {
            std::thread::yield_now();
        }
        drop(forwarder);
        let answer = asked.recv().unwrap();
        assert!(matches!(answer, Err(StoreError::NoAnswer(_))), "{answer:?}");
        assert_eq!(left(&hub).len(), 1);
    }

    #[test]
    fn an_answer_reaches_who_asked_and_its_command_is_deleted() {
        let hub = MemoryHub::divided(Timestamp(0), 4);
        let forwarder = Forwarder::new(place(&hub));
        let first = ask(&forwarder, Request::Workers);
        let second = ask(&forwarder, Request::PurgeId("a".to_owned()));
        while left(&hub).len() < 2 {
            std::thread::yield_now();
        }
        let is_second = |body: &[u8]| {
            let request = store::decode::<Request>(body, "a command").unwrap();
            matches!(request, Request::PurgeId(_))
        };
        for (token, body) in left(&hub) {
            let reply = match is_second(&body) {
                true => Reply::Purged(Purged::default()),
                false => Reply::Done,
            };
            hub.answer_command(&token, &store::encode(&reply).unwrap());
        }
        assert_eq!(first.recv().unwrap().unwrap(), Reply::Done);
        assert_eq!(
            second.recv().unwrap().unwrap(),
            Reply::Purged(Purged::default())
        );
        while hub.commands() > 0 {
            std::thread::yield_now();
        }
    }
}
