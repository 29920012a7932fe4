//! Workers that are connected to other hosts of the hub: they run what this host has for workers, too.
//!
//! Each host writes into the hub what its workers offer. The others treat each of these as a worker of theirs, with a share of its room. They
//! send an item for it to the host that it is connected to, which gives the item to any of its workers that takes it, and tells the answer to
//! the host that the item came from. The same way an answer goes that a worker gives to another host than the one that it has the item from,
//! because a load balancer stands between them.
//!
//! Invariants: a host that has a worker itself does not send its items to others. An item goes to one host at most, and that host hands it to
//! no third one. As for workers that are connected here: only the answer to an item that is out counts, once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_core::{Timestamp, Turn};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::Engine;
use crate::engine::remote::dispatch::{Sent, StreamId, Work};
use crate::engine::remote::messages::{HostMessage, LentItem, LentWork, ToHost};
use crate::engine::remote::{ActivityItem, Offer, OrchestrationItem, WorkItem, parts};
use crate::engine::requests::request::Request;
use crate::store::{Members, Partition, Reply, StoreError};

/// How long a message follows a host whose partitions move.
const FOLLOW_MAX: Duration = Duration::from_secs(20);

/// How long another host may take to tell something about itself.
const ASK_MAX: Duration = Duration::from_secs(3);

/// The wait before it is sent again.
const SEND_ON_AFTER: Duration = Duration::from_millis(100);

/// An item of another host, until it is answered.
struct Lent {
    from: i64,
    item: LentItem,
    /// The turns before, if it is a turn.
    past: Arc<Vec<Turn>>,
}

/// What a host knows of the workers of others.
#[derive(Default)]
pub(super) struct Lending {
    /// The other hosts, each with a partition of it, by which it is reached.
    hosts: HashMap<i64, Partition>,
    /// The streams for their workers, by host and number there.
    streams: HashMap<(i64, u64), StreamId>,
    /// What the hub has of the workers that are connected here.
    offered: Vec<(u64, String)>,
    /// Items of others.
    lent: BTreeMap<u64, Lent>,
    next: u64,
}

impl Lent {
    /// As a worker here gets it, with a token of this host.
    fn to_worker(&self, token: String) -> WorkItem {
        match &self.item.work {
            LentWork::Turn {
                instance_id,
                execution_id,
                at,
                received,
                ..
            } => WorkItem::Orchestration(Box::new(OrchestrationItem {
                token,
                instance_id: instance_id.clone(),
                execution_id: execution_id.clone(),
                past: Arc::clone(&self.past),
                at: *at,
                received: received.clone(),
            })),
            LentWork::Activity(item) => WorkItem::Activity(Box::new(ActivityItem {
                token,
                ..item.clone()
            })),
        }
    }

    fn sent(&self, at: Timestamp) -> Sent {
        let (instance_id, task) = match &self.item.work {
            LentWork::Turn { instance_id, .. } => (instance_id, None),
            LentWork::Activity(item) => (&item.instance_id, Some(item.task)),
        };
        Sent {
            instance_id: instance_id.clone(),
            name: self.item.name.clone(),
            version: self.item.version.clone(),
            task,
            at,
        }
    }
}

impl Offer {
    /// As one of several hosts offers it, `of` of which share its room.
    fn shared(self, of: usize, host: &str) -> Self {
        let of = u32::try_from(of).unwrap_or(u32::MAX).max(1);
        Self {
            worker: format!("{}, connected to {host}", self.worker),
            orchestrations_max: self.orchestrations_max.div_ceil(of),
            activities_max: self.activities_max.div_ceil(of),
            ..self
        }
    }
}

impl Engine {
    /// Writes down what workers are connected here, and learns which are connected to other hosts.
    pub(in crate::engine) fn share_workers(
        self: &Arc<Self>,
        members: &Members,
    ) -> Result<(), StoreError> {
        self.offer_workers()?;
        let others = members.owners.iter().filter(|of| of.epoch != members.me);
        // A host without partitions is not reached.
        let reached = others.filter_map(|of| Some((of.epoch, *of.partitions.first()?)));
        let hosts: HashMap<i64, Partition> = reached.collect();
        let there: HashSet<(i64, u64)> = members
            .workers
            .iter()
            .filter(|one| hosts.contains_key(&one.host))
            .map(|one| (one.host, one.number))
            .collect();
        let mut state = self.remote.state();
        let gone: Vec<StreamId> = state
            .lending
            .streams
            .extract_if(|key, _| !there.contains(key))
            .map(|(_, id)| id)
            .collect();
        // Nobody waits for the answers any more.
        let orphaned: Vec<(u64, Lent)> = state
            .lending
            .lent
            .extract_if(.., |_, lent| !hosts.contains_key(&lent.from))
            .collect();
        for (number, lent) in orphaned {
            let work = Work::Lent(lent.item.callee(), number);
            state.dispatcher.drop_work(work);
        }
        state.lending.hosts = hosts;
        let known: HashSet<(i64, u64)> = state.lending.streams.keys().copied().collect();
        drop(state);
        for id in gone {
            self.disconnect(id);
        }
        for one in &members.workers {
            let key = (one.host, one.number);
            if !there.contains(&key) {
                continue;
            }
            if known.contains(&key) {
                let id = self.remote.state().lending.streams.get(&key).copied();
                if let Some(id) = id {
                    self.expire(id);
                }
                continue;
            }
            let host = members.owners.iter().find(|of| of.epoch == one.host);
            let host = host.map_or_else(String::new, |of| of.note.to_string());
            match serde_json::from_str::<Offer>(&one.offer) {
                Ok(offer) => self.connect_to(key, offer.shared(members.owners.len(), &host)),
                Err(error) => {
                    tracing::debug!(%error, host, "a worker of another version's host is not used");
                }
            }
        }
        self.fill_workers();
        Ok(())
    }

    /// Writes what the workers that are connected here offer, if that has changed.
    fn offer_workers(&self) -> Result<(), StoreError> {
        let offers: Vec<(u64, String)> = {
            let state = self.remote.state();
            let offers = state.dispatcher.offers().into_iter();
            offers
                .map(|(StreamId(id), offer)| {
                    // Texts and numbers are always JSON.
                    (id, serde_json::to_string(offer).unwrap_or_default())
                })
                .collect()
        };
        if self.remote.state().lending.offered == offers {
            return Ok(());
        }
        self.with_owner(|owner| owner.offer(&offers))?;
        self.remote.state().lending.offered = offers;
        Ok(())
    }

    /// Connects a worker of another host. What is sent to it goes to that host.
    fn connect_to(self: &Arc<Self>, (host, number): (i64, u64), offer: Offer) {
        let (send, items) = tokio::sync::mpsc::unbounded_channel();
        let now = self.clock.now();
        let mut state = self.remote.state();
        let id = state.dispatcher.connect(offer, false, send, now);
        state.lending.streams.insert((host, number), id);
        drop(state);
        self.runtime
            .spawn(send_items(Arc::downgrade(self), host, items));
    }

    /// Sends an item to another host. What is not taken there goes to another worker.
    async fn lend(self: Arc<Self>, host: i64, from: i64, item: WorkItem) {
        let token = match &item {
            WorkItem::Orchestration(item) => item.token.clone(),
            WorkItem::Activity(item) => item.token.clone(),
        };
        let item = self.remote.token(&token).and_then(|known| {
            let state = self.remote.state();
            let (sent, deadline) = state.dispatcher.sent(known)?;
            Some(LentItem::of(item, sent, deadline.since(sent.at)))
        });
        let Some(item) = item else { return };
        let item = Box::new(item);
        match self.tell_host(host, HostMessage::Item { from, item }).await {
            Ok(true) => {}
            Ok(false) => _ = self.abandoned(&token),
            Err(error) => {
                // It may be there.
                tracing::warn!(%error, "could not send an item to a worker that is connected to another host");
                self.is_lost(&token);
            }
        }
    }

    /// Tells another host something. `false` if it is gone, and has not heard of it.
    ///
    /// # Errors
    /// If it is not known whether it has.
    pub(crate) async fn tell_host(
        self: &Arc<Self>,
        host: i64,
        message: HostMessage,
    ) -> Result<bool, StoreError> {
        let until = Instant::now() + FOLLOW_MAX;
        let is_item = matches!(message, HostMessage::Item { .. });
        loop {
            let to = self.remote.state().lending.hosts.get(&host).copied();
            let Some(to) = to.filter(|_| !self.is_stopping()) else {
                return Ok(false);
            };
            let message = message.clone();
            let request = Request::ToHost(Box::new(ToHost { host, message }));
            match self.forward(to, request).await {
                Ok(Reply::Done) => return Ok(true),
                // An item must not come twice. All else that comes twice changes nothing the second time.
                Err(error) if is_item || Instant::now() > until => return Err(error),
                // Whoever has the partition now is another one.
                Ok(_) if Instant::now() > until => return Ok(false),
                Ok(_) | Err(_) => tokio::time::sleep(SEND_ON_AFTER).await,
            }
        }
    }

    /// Asks all hosts of the hub, this one first. Returns the answers, and whether all have answered in time.
    pub(crate) async fn ask_hosts(self: &Arc<Self>, request: Request) -> (Vec<Reply>, bool) {
        let mut hosts: Vec<Option<Partition>> = {
            let state = self.remote.state();
            state.lending.hosts.values().copied().map(Some).collect()
        };
        hosts.sort_unstable();
        hosts.insert(0, None);
        let mut asked = Vec::new();
        for to in hosts {
            let (engine, request) = (Arc::clone(self), request.clone());
            asked.push(async move {
                let answer = async {
                    match to {
                        Some(to) => engine.forward(to, request).await,
                        None => engine.submit_here(request).await,
                    }
                };
                let answer = tokio::time::timeout(ASK_MAX, answer).await;
                answer.unwrap_or(Err(StoreError::Closed))
            });
        }
        let answers = futures::future::join_all(asked).await;
        let mut is_all = true;
        let mut replies = Vec::new();
        for answer in answers {
            match answer {
                Ok(reply) => replies.push(reply),
                Err(error) => {
                    tracing::debug!(%error, "a host of the task hub did not answer");
                    is_all = false;
                }
            }
        }
        (replies, is_all)
    }

    /// The host whose item a token names, if it is another one of this hub.
    pub(crate) fn host_of_token(&self, token: &str) -> Option<i64> {
        let (host, _) = parts(token).filter(|_| self.is_shared())?;
        (host != self.remote.host).then(|| host.cast_signed())
    }

    /// Whether an item with this token is out, or was not heard of.
    pub(crate) fn item_is_out(&self, token: &str) -> bool {
        self.remote
            .token(token)
            .is_none_or(|token| self.is_out(token))
    }

    /// Whether a message is for this host.
    pub(in crate::engine) fn is_told(&self, to: &ToHost) -> bool {
        self.epoch() == Some(to.host)
    }

    /// Does what another host asks for.
    pub(in crate::engine) async fn hear(self: Arc<Self>, to: ToHost) {
        match to.message {
            HostMessage::Item { from, item } => self.borrow_item(from, *item).await,
            HostMessage::TurnAnswered { token, answer } => {
                self.orchestration_answered(&token, *answer);
            }
            HostMessage::ActivityAnswered { token, outcome } => {
                self.activity_answered(&token, outcome);
            }
            HostMessage::GivenBack { token } => _ = self.abandoned(&token),
            HostMessage::Lost { token } => self.is_lost(&token),
        }
    }

    /// A worker of another host is lost with an item of this one.
    fn is_lost(self: &Arc<Self>, token: &str) {
        let Some(token) = self.remote.token(token) else {
            return;
        };
        let out = self.remote.state().dispatcher.give_back(token);
        if let Some(out) = out.filter(|out| out.wanted) {
            self.item_lost(token, out.work);
        }
        self.fill_workers();
    }

    /// Gives an item of another host to a worker here, or lets it wait for one.
    async fn borrow_item(self: Arc<Self>, from: i64, item: LentItem) {
        let read = item.clone();
        let past = self.reading(move |reader| read.past(reader)).await;
        let past = match past {
            Ok(Some(past)) => Arc::new(past),
            Ok(None) => return self.tell_later(from, HostMessage::GivenBack { token: item.token }),
            Err(error) => {
                tracing::warn!(%error, "could not read the history for a worker's turn");
                return self.tell_later(from, HostMessage::GivenBack { token: item.token });
            }
        };
        let number = {
            let mut state = self.remote.state();
            let lending = &mut state.lending;
            lending.next += 1;
            let number = lending.next;
            lending.lent.insert(number, Lent { from, item, past });
            number
        };
        self.start_lent(number);
    }

    /// Gives an item of another host to a worker if one has room.
    pub(super) fn start_lent(self: &Arc<Self>, number: u64) {
        let (name, version, work) = {
            let state = self.remote.state();
            match state.lending.lent.get(&number) {
                Some(Lent { item, .. }) => (
                    item.name.clone(),
                    item.version.clone(),
                    Work::Lent(item.callee(), number),
                ),
                None => return,
            }
        };
        let Some((token, send)) = self.take_worker(work, &name, version.as_deref()) else {
            return;
        };
        let at = self.clock.now();
        let text = self.remote.text(token);
        let state = self.remote.state();
        let lent = state.lending.lent.get(&number);
        let made = lent.map(|lent| (lent.to_worker(text), lent.sent(at), lent.item.within));
        drop(state);
        let Some((item, sent, within)) = made else {
            return self.give_worker_back(token);
        };
        self.item_is_sent(token, sent, within);
        // If the stream has ended, its connection is dropped, which tells the other host of the loss.
        let _ = send.send(item);
    }

    /// Tells the host of an item what became of it.
    pub(super) fn lent_is_over(
        self: &Arc<Self>,
        number: u64,
        message: impl FnOnce(String) -> HostMessage,
    ) {
        let mut state = self.remote.state();
        let lent = state.lending.lent.remove(&number);
        if let Some(lent) = &lent {
            let work = Work::Lent(lent.item.callee(), number);
            state.dispatcher.forget(work);
        }
        drop(state);
        if let Some(Lent { from, item, .. }) = lent {
            self.tell_later(from, message(item.token));
        }
    }

    fn tell_later(self: &Arc<Self>, host: i64, message: HostMessage) {
        let engine = Arc::clone(self);
        self.runtime.spawn(async move {
            if let Err(error) = engine.tell_host(host, message).await {
                tracing::warn!(%error, "could not tell another host what a worker answered; it asks a worker again later");
            }
        });
    }
}

/// Sends the items of a stream to the host that its worker is connected to.
async fn send_items(
    engine: std::sync::Weak<Engine>,
    host: i64,
    mut items: UnboundedReceiver<WorkItem>,
) {
    while let Some(item) = items.recv().await {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let Some(from) = engine.epoch() else { return };
        // Those of a worker go side by side, as many as it has room for.
        tokio::spawn(engine.lend(host, from, item));
    }
}
