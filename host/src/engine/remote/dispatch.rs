//! Which worker gets which work: the connected streams with their filters and credits, the items that are out, and what waits.
//!
//! Pure: it sends nothing and locks nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use perennial_core::{Callee, Millis, TaskId, Timestamp};

use crate::engine::remote::{Filter, Offer};
use crate::engine::tasks::ready::AttemptKey;
use crate::store::InstanceKey;

/// A stream of work items to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(super) u64);

/// Identifies an item that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub(in crate::engine) u64);

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Work {
    /// A turn of an instance.
    Turn(InstanceKey),
    /// An attempt of an activity.
    Activity(AttemptKey),
    /// An item of another host, by its number here.
    Lent(Callee, u64),
}

impl Work {
    fn callee(self) -> Callee {
        match self {
            Self::Turn(_) => Callee::Orchestration,
            Self::Activity(_) => Callee::Activity,
            Self::Lent(callee, _) => callee,
        }
    }
}

/// A name, and the version that a worker must have for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) callee: Callee,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

impl Wanted {
    pub(crate) fn of(work: Work, name: &str, version: Option<&str>) -> Self {
        Self {
            callee: work.callee(),
            name: name.to_owned(),
            version: version.map(str::to_owned),
        }
    }
}

/// An item that is out.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) stream: StreamId,
    pub(crate) work: Work,
    /// When the host gives up on the answer.
    pub(crate) deadline: Timestamp,
    /// Whether the answer is still of use. If not, the item only holds a credit of its worker until it is answered.
    pub(crate) wanted: bool,
    /// What was sent; `None` while the credit is only taken.
    sent: Option<Sent>,
}

/// An item that was sent, for people.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) instance_id: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// The task of an activity; `None` for a turn.
    pub(crate) task: Option<TaskId>,
    pub(crate) at: Timestamp,
}

/// A connected worker.
#[derive(Debug)]
struct Stream<S> {
    offer: Offer,
    /// Whether the worker is connected to this host, and not to another host of the hub.
    is_here: bool,
    /// Items of orchestrations and of activities that it has room for.
    free: [u32; 2],
    out: BTreeSet<Token>,
    send: S,
    connected_at: Timestamp,
    done: u64,
}

/// A work that a worker abandoned is not offered to that worker again before this time.
#[derive(Debug)]
struct Abandoned {
    by: StreamId,
    until: Timestamp,
    span: Millis,
}

/// See the [module](self). `S` is the sending end of a stream.
#[derive(Debug)]
pub(crate) struct Dispatcher<S> {
    next: u64,
    streams: BTreeMap<StreamId, Stream<S>>,
    out: HashMap<Token, Out>,
    /// Credits that are kept for works that were woken.
    kept: HashMap<Work, Token>,
    /// What waits for a worker, by name, in order of arrival.
    waiting: BTreeMap<Wanted, BTreeMap<u64, Work>>,
    waiting_at: HashMap<Work, (Wanted, u64)>,
    abandoned: HashMap<Work, Vec<Abandoned>>,
}

impl<S> Default for Dispatcher<S> {
    fn default() -> Self {
        Self {
            next: 0,
            streams: BTreeMap::new(),
            out: HashMap::new(),
            kept: HashMap::new(),
            waiting: BTreeMap::new(),
            waiting_at: HashMap::new(),
            abandoned: HashMap::new(),
        }
    }
}

/// What is known of a connected worker, for people.
#[derive(Clone, Debug)]
pub(crate) struct StreamInfo {
    pub(crate) offer: Offer,
    /// Whether it is connected to this host.
    pub(crate) is_here: bool,
    pub(crate) connected_at: Timestamp,
    /// The items that it has now, those that were sent first before the others.
    pub(crate) items: Vec<Sent>,
    /// The number of items that it answered.
    pub(crate) done: u64,
}

fn lane(callee: Callee) -> usize {
    match callee {
        Callee::Orchestration => 0,
        Callee::Activity => 1,
    }
}

fn filter(offer: &Offer, callee: Callee) -> &Filter {
    match callee {
        Callee::Orchestration => &offer.orchestrations,
        Callee::Activity => &offer.activities,
    }
}

impl<S: Clone> Dispatcher<S> {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds a worker, which is connected to this host or to another.
    pub(crate) fn connect(
        &mut self,
        offer: Offer,
        is_here: bool,
        send: S,
        now: Timestamp,
    ) -> StreamId {
        let id = StreamId(self.number());
        let free = [offer.orchestrations_max, offer.activities_max];
        let stream = Stream {
            offer,
            is_here,
            free,
            out: BTreeSet::new(),
            send,
            connected_at: now,
            done: 0,
        };
        self.streams.insert(id, stream);
        id
    }

    /// Removes a worker. Returns the works that it had and whose answers are still of use.
    pub(crate) fn disconnect(&mut self, id: StreamId) -> Vec<(Token, Work)> {
        let Some(stream) = self.streams.remove(&id) else {
            return Vec::new();
        };
        let out = stream.out.iter().filter_map(|token| {
            let out = self.out.remove(token)?;
            if self.kept.get(&out.work) == Some(token) {
                self.kept.remove(&out.work);
            }
            out.wanted.then_some((*token, out.work))
        });
        let lost: Vec<_> = out.collect();
        for abandoned in self.abandoned.values_mut() {
            abandoned.retain(|one| one.by != id);
        }
        self.abandoned.retain(|_, by| !by.is_empty());
        lost
    }

    /// Takes a credit for a work: the one that is kept for it, or one of a worker with room. If there is none, the work waits.
    pub(crate) fn take(
        &mut self,
        work: Work,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Option<(Token, S)> {
        if let Some(token) = self.kept.remove(&work)
            && let Some(out) = self.out.get(&token)
            && let Some(stream) = self.streams.get(&out.stream)
        {
            return Some((token, stream.send.clone()));
        }
        let callee = wanted.callee;
        let barred = self.abandoned.get(&work);
        let may = |id: StreamId| {
            barred.is_none_or(|by| by.iter().all(|one| one.by != id || one.until <= now))
        };
        let lane = lane(callee);
        let best = self
            .streams
            .iter()
            .filter(|(id, stream)| {
                let filter = filter(&stream.offer, callee);
                stream.free[lane] > 0
                    // What another host has sent goes to no third one.
                    && (stream.is_here || !matches!(work, Work::Lent(..)))
                    && filter.matches(&wanted.name, wanted.version.as_deref())
                    && may(**id)
            })
            .max_by_key(|(_, stream)| (stream.is_here, stream.free[lane]))
            .map(|(id, _)| *id);
        let Some(id) = best else {
            self.wait(work, wanted);
            return None;
        };
        self.stop_waiting(work);
        let token = self.hand_out(id, work)?;
        let stream = self.streams.get(&id)?;
        Some((token, stream.send.clone()))
    }

    fn hand_out(&mut self, id: StreamId, work: Work) -> Option<Token> {
        let token = Token(self.number());
        let stream = self.streams.get_mut(&id)?;
        stream.free[lane(work.callee())] -= 1;
        stream.out.insert(token);
        let out = Out {
            stream: id,
            work,
            deadline: Timestamp(u64::MAX),
            wanted: true,
            sent: None,
        };
        self.out.insert(token, out);
        Some(token)
    }

    fn wait(&mut self, work: Work, wanted: &Wanted) {
        if self.waiting_at.contains_key(&work) {
            return;
        }
        let number = self.number();
        let queue = self.waiting.entry(wanted.clone()).or_default();
        queue.insert(number, work);
        self.waiting_at.insert(work, (wanted.clone(), number));
    }

    /// Takes a work out of what waits, if it waits.
    pub(crate) fn stop_waiting(&mut self, work: Work) {
        let Some((wanted, number)) = self.waiting_at.remove(&work) else {
            return;
        };
        if let Some(queue) = self.waiting.get_mut(&wanted) {
            queue.remove(&number);
            if queue.is_empty() {
                self.waiting.remove(&wanted);
            }
        }
    }

    /// Forgets everything about a work that is over, but the credit that it holds.
    pub(crate) fn forget(&mut self, work: Work) {
        self.stop_waiting(work);
        self.abandoned.remove(&work);
    }

    /// As [`forget`](Self::forget), for a work that is not done here any more. A credit that is kept for it is free again, for which the caller
    /// [looks](Self::fill); that of an item that is out is not.
    pub(crate) fn drop_work(&mut self, work: Work) {
        self.forget(work);
        if let Some(token) = self.kept(work) {
            self.give_back(token);
        }
    }

    /// Forgets the turns of all these instances that wait for a worker or have a credit for one.
    pub(crate) fn forget_turns(&mut self, of: impl Fn(InstanceKey) -> bool) {
        let works = self.waiting_at.keys().chain(self.kept.keys());
        let works = works.filter(|work| matches!(work, Work::Turn(key) if of(*key)));
        for work in works.copied().collect::<Vec<Work>>() {
            self.drop_work(work);
        }
    }

    pub(crate) fn waits(&self, work: Work) -> bool {
        self.waiting_at.contains_key(&work)
    }

    /// Notes that an item is sent, and when the host gives up on it.
    pub(crate) fn is_sent(&mut self, token: Token, sent: Sent, deadline: Timestamp) {
        if let Some(out) = self.out.get_mut(&token) {
            out.deadline = deadline;
            out.sent = Some(sent);
        }
    }

    pub(crate) fn is_out(&self, token: Token) -> bool {
        self.out.contains_key(&token)
    }

    /// When the item of a work was sent, if a worker has it and its answer is waited for.
    pub(crate) fn running_since(&self, work: Work) -> Option<Timestamp> {
        let mut out = self.out.values();
        let out = out.find(|out| out.work == work && out.wanted)?;
        out.sent.as_ref().map(|sent| sent.at)
    }

    /// The numbers of workers that are connected here, and of works of this host that workers have, and that wait for one.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let own = |work: &Work| !matches!(work, Work::Lent(..));
        let sent = self.out.values();
        let sent = sent.filter(|out| out.sent.is_some() && own(&out.work));
        let waiting = self.waiting_at.keys().filter(|work| own(work));
        let here = self.streams.values().filter(|stream| stream.is_here);
        (here.count(), sent.count(), waiting.count())
    }

    /// What the workers that are connected to this host offer.
    pub(crate) fn offers(&self) -> Vec<(StreamId, &Offer)> {
        let here = self.streams.iter().filter(|(_, stream)| stream.is_here);
        here.map(|(id, stream)| (*id, &stream.offer)).collect()
    }

    /// What was sent under a token, and when the host gives up on the answer.
    pub(crate) fn sent(&self, token: Token) -> Option<(&Sent, Timestamp)> {
        let out = self.out.get(&token)?;
        out.sent.as_ref().map(|sent| (sent, out.deadline))
    }

    /// Gives the credit of an item back. `None` if the token is not known.
    pub(crate) fn give_back(&mut self, token: Token) -> Option<Out> {
        let out = self.out.remove(&token)?;
        if self.kept.get(&out.work) == Some(&token) {
            self.kept.remove(&out.work);
        }
        if let Some(stream) = self.streams.get_mut(&out.stream) {
            stream.out.remove(&token);
            stream.free[lane(out.work.callee())] += 1;
        }
        Some(out)
    }

    /// The answer to an item came, which gives its credit back. `None` if no item of this kind has the token.
    pub(crate) fn answered(&mut self, token: Token, callee: Callee) -> Option<Out> {
        let is_out = self.out.get(&token);
        is_out.filter(|out| out.work.callee() == callee)?;
        let out = self.give_back(token)?;
        if let Some(stream) = self.streams.get_mut(&out.stream) {
            stream.done += 1;
        }
        Some(out)
    }

    /// The answer to an item is of no use any more; its worker does not know that, and keeps the credit until it answers.
    pub(crate) fn disown(&mut self, token: Token) {
        if let Some(out) = self.out.get_mut(&token) {
            out.wanted = false;
        }
    }

    /// Notes that a worker abandoned a work: others get it first, and this one again after the span that is returned, which is
    /// `first` at first and then doubles up to `max`.
    pub(crate) fn abandoned(
        &mut self,
        work: Work,
        by: StreamId,
        now: Timestamp,
        (first, max): (Millis, Millis),
    ) -> Millis {
        let before = self.abandoned.entry(work).or_default();
        let at = before.iter().position(|one| one.by == by);
        let last = at.map(|at| before.swap_remove(at).span);
        let span = last.map_or(first, |Millis(last)| {
            Millis(last.saturating_mul(2).min(max.0))
        });
        let until = now.after(span);
        before.push(Abandoned { by, until, span });
        span
    }

    /// The time of an item is over. Returns its work, if the answer was still of use.
    pub(crate) fn give_up(&mut self, token: Token) -> Option<Work> {
        let out = self.out.get_mut(&token)?;
        std::mem::take(&mut out.wanted).then_some(out.work)
    }

    /// Works that waited and get a credit now. Each keeps it until it takes it or gives it back.
    pub(crate) fn fill(&mut self, now: Timestamp) -> Vec<Work> {
        let mut filled = Vec::new();
        let names: Vec<Wanted> = self.waiting.keys().cloned().collect();
        for wanted in names {
            // Those that their workers abandoned are passed over, so that more are looked at than there is room for.
            let looks = match self.room(&wanted) {
                0 => continue,
                room => room.saturating_add(self.abandoned.len()),
            };
            let queue = self.waiting.get(&wanted);
            let works = queue.into_iter().flat_map(BTreeMap::values).copied();
            for work in works.take(looks).collect::<Vec<Work>>() {
                if let Some((token, _)) = self.take(work, &wanted, now) {
                    self.kept.insert(work, token);
                    filled.push(work);
                }
            }
        }
        filled
    }

    /// How many works of this name workers have room for.
    fn room(&self, wanted: &Wanted) -> usize {
        let callee = wanted.callee;
        let streams = self.streams.values().filter(|stream| {
            filter(&stream.offer, callee).matches(&wanted.name, wanted.version.as_deref())
        });
        let free = streams.map(|stream| stream.free[lane(callee)] as usize);
        free.fold(0, usize::saturating_add)
    }

    /// The credit that is kept for a work.
    pub(crate) fn kept(&self, work: Work) -> Option<Token> {
        self.kept.get(&work).copied()
    }

    pub(crate) fn keeps_any(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Items of a stream whose time is over.
    pub(crate) fn overdue(&self, id: StreamId, now: Timestamp) -> Vec<Token> {
        let tokens = self.streams.get(&id).map(|stream| stream.out.iter());
        tokens
            .into_iter()
            .flatten()
            .filter(|token| {
                let out = self.out.get(token);
                out.is_some_and(|out| out.wanted && out.deadline <= now)
            })
            .copied()
            .collect()
    }

    /// Whether a connected worker runs this name.
    pub(crate) fn serves(&self, callee: Callee, name: &str, version: Option<&str>) -> bool {
        let mut streams = self.streams.values();
        streams.any(|stream| filter(&stream.offer, callee).matches(name, version))
    }

    pub(crate) fn streams(&self) -> Vec<StreamInfo> {
        let streams = self.streams.values();
        streams
            .map(|stream| {
                // Tokens increase with time.
                let out = stream.out.iter().filter_map(|token| self.out.get(token));
                StreamInfo {
                    offer: stream.offer.clone(),
                    is_here: stream.is_here,
                    connected_at: stream.connected_at,
                    items: out.filter_map(|out| out.sent.clone()).collect(),
                    done: stream.done,
                }
            })
            .collect()
    }

    /// The number of works that wait for a worker, by name.
    pub(crate) fn waiting(&self) -> Vec<(Wanted, usize)> {
        let waiting = self.waiting.iter();
        waiting
            .map(|(wanted, queue)| (wanted.clone(), queue.len()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_run_here_any_more_takes_no_room_of_a_worker() {
        let offer = Offer {
            worker: "w".to_owned(),
            orchestrations: Filter::All,
            activities: Filter::All,
            orchestrations_max: 2,
            activities_max: 1,
            streams_history: false,
        };
        let (now, mut dispatcher) = (Timestamp(0), Dispatcher::default());
        let turn = |key| Work::Turn(InstanceKey(key));
        let wanted = |work| Wanted::of(work, "Order", None);
        for work in (1..=4).map(turn) {
            assert!(dispatcher.take(work, &wanted(work), now).is_none());
        }
        dispatcher.forget_turns(|key| key == InstanceKey(2));
        dispatcher.connect(offer, true, (), now);
        assert_eq!(dispatcher.fill(now), [turn(1), turn(3)]);
        // One has a credit that it has not taken, and one has taken it.
        assert!(dispatcher.take(turn(3), &wanted(turn(3)), now).is_some());
        dispatcher.forget_turns(|key| key == InstanceKey(1) || key == InstanceKey(3));
        assert_eq!(dispatcher.fill(now), [turn(4)]);
        assert_eq!((dispatcher.counts().2, dispatcher.keeps_any()), (0, true));
    }
}
