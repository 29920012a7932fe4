//! Where the requests of clients go, when several hosts share a hub: a request about an instance to the host that runs it, one about the hub
//! itself to any.
//!
//! A partition may move while a request is on its way. Whoever does not run the instance then refuses the request, having done nothing, and it is
//! sent on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use crate::engine::Engine;
use crate::engine::requests::request::Request;
use crate::store::{Change, InstanceKey, Partition, Purged, Reply, StoreError};

/// How long a request follows an instance whose partition moves. A move takes less than a second, and what a dead host had is taken after a few.
pub(super) const FOLLOW_MAX: Duration = Duration::from_secs(20);

/// How many shares of one request are on their way at once. Each takes a place among the requests that wait for other hosts.
const SHARES_AT_ONCE: usize = 16;

/// The wait before it is sent on.
pub(super) const SEND_ON_AFTER: Duration = Duration::from_millis(10);

impl Request {
    /// The id of the instance that the request is about; `None` if it is about the hub, or about several instances.
    pub(crate) fn subject(&self) -> Option<&str> {
        match self {
            Self::Start(start)
            | Self::StartLimited { start, .. }
            | Self::StartFor { start, .. } => Some(&start.id),
            Self::RaiseEvent { id, .. }
            | Self::Terminate { id, .. }
            | Self::Cancel { id, .. }
            | Self::Suspend { id, .. }
            | Self::Resume { id, .. }
            | Self::SetTags { id, .. }
            | Self::PurgeId(id)
            | Self::IfRun { id, .. } => Some(id),
            Self::Rewind(rewind)
            | Self::RewindAll(rewind)
            | Self::RewindForgetting { rewind, .. } => Some(&rewind.id),
            // A restart under another id is the start of an instance with that.
            Self::Restart(restart) => Some(restart.new_id.as_ref().unwrap_or(&restart.id)),
            Self::Ask(ask) => Some(&ask.instance),
            Self::Remote(request) => request.subject(),
            Self::Deploy(_)
            | Self::Grant { .. }
            | Self::Purge(_)
            | Self::Retain(_)
            | Self::All(_)
            | Self::CreateKey(_)
            | Self::RevokeKey { .. }
            | Self::CollectModules { .. }
            | Self::RemoveModule { .. }
            | Self::Workers
            | Self::Lines { .. }
            | Self::ToHost(_) => None,
        }
    }
}

impl Request {
    /// Whether what is deployed makes no difference to it: it need not wait for deployments before it.
    pub(in crate::engine) fn goes_past_deployments(&self) -> bool {
        match self {
            Self::RaiseEvent { .. }
            | Self::Terminate { .. }
            | Self::Cancel { .. }
            | Self::Suspend { .. }
            | Self::Resume { module: None, .. }
            | Self::SetTags { .. }
            | Self::PurgeId(_)
            | Self::Ask(_)
            | Self::Workers
            | Self::Lines { .. }
            | Self::ToHost(_) => true,
            Self::Remote(request) => request.goes_past_deployments(),
            Self::IfRun { then, .. } => then.goes_past_deployments(),
            _ => false,
        }
    }

    /// Whether it is about instances that several hosts may run.
    pub(in crate::engine) fn is_several(&self) -> bool {
        matches!(self, Self::All(_) | Self::Purge(_))
    }
}

impl Engine {
    /// Carries out a request of a client.
    pub(crate) async fn submit(self: &Arc<Self>, request: Request) -> Result<Reply, StoreError> {
        if !self.hub.is_shared {
            return self.submit_here(request).await;
        }
        match request {
            Request::All(requests) => self.submit_each(requests).await,
            Request::Purge(keys) => self.purge_each(keys).await,
            request => self.submit_there(request).await,
        }
    }

    /// Carries out a request about one instance, or about the hub.
    async fn submit_there(self: &Arc<Self>, request: Request) -> Result<Reply, StoreError> {
        let until = Instant::now() + FOLLOW_MAX;
        loop {
            let subject = request.subject();
            let elsewhere = subject.and_then(|id| self.hub.partitions.elsewhere(id));
            let result = match elsewhere {
                None => self.submit_knowing(&request).await,
                Some(to) => self.forward(to, request.clone()).await,
            };
            match result {
                Err(StoreError::Elsewhere(_)) if Instant::now() < until => {
                    tokio::time::sleep(SEND_ON_AFTER).await;
                }
                result => return result,
            }
        }
    }

    /// Carries out a request here. It is refused only by names and settings that no other host has changed by then, which a transaction finds
    /// out: what is accepted is in one anyway.
    async fn submit_knowing(self: &Arc<Self>, request: &Request) -> Result<Reply, StoreError> {
        let knew = self.known();
        let reply = self.submit_here(request.clone()).await?;
        if !matches!(reply, Reply::Refused { .. }) {
            return Ok(reply);
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        let refused = Change::Answer(reply.clone());
        let write = self.job_knowing(knew, refused, move |_, result| {
            drop(tell.send(result.map(drop)));
        });
        self.hub.writer.submit_later(write).await;
        match told.await.unwrap_or(Err(StoreError::Closed)) {
            Ok(()) => Ok(reply),
            // It went by what another host has changed.
            Err(StoreError::Conflict) => self.submit_here(request.clone()).await,
            Err(error) => Err(error),
        }
    }

    /// Passes a request on to the host that runs a partition.
    pub(in crate::engine) async fn forward(
        self: &Arc<Self>,
        to: Partition,
        request: Request,
    ) -> Result<Reply, StoreError> {
        if self.is_stopping() {
            return Err(StoreError::Closed);
        }
        let Some(peers) = self.peers.clone() else {
            return Err(StoreError::Elsewhere(to));
        };
        let _place = self.requests.forwards.acquire().await;
        let (tell, told) = tokio::sync::oneshot::channel();
        peers.submit(to, request, Box::new(move |answer| drop(tell.send(answer))));
        told.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Carries out requests that are one transaction where one host runs their instances. Each host that runs some makes its share of them one.
    async fn submit_each(self: &Arc<Self>, requests: Vec<Request>) -> Result<Reply, StoreError> {
        let place = |request: &Request| request.subject().map(|id| self.partition_of_id(id));
        let mut shares: BTreeMap<Option<Partition>, Vec<(usize, Request)>> = BTreeMap::new();
        let count = requests.len();
        for (number, request) in requests.into_iter().enumerate() {
            // Those that run here are one share.
            let there = place(&request).filter(|to| !self.hub.partitions.has(*to));
            shares.entry(there).or_default().push((number, request));
        }
        // What different hosts do needs no order, and each share waits for a transaction there.
        let shares = shares.into_values().map(|share| {
            let (numbers, requests): (Vec<usize>, Vec<Request>) = share.into_iter().unzip();
            async move { (numbers, self.submit_share(requests).await) }
        });
        let mut replies: Vec<Option<Reply>> = vec![None; count];
        for (numbers, of_share) in together(shares).await {
            for (number, reply) in numbers.iter().zip(of_share?) {
                replies[*number] = Some(reply);
            }
        }
        let replies: Option<Vec<Reply>> = replies.into_iter().collect();
        Ok(Reply::All(replies.unwrap_or_default()))
    }

    /// Carries out requests about instances of one host. If that changes meanwhile, one after the other.
    async fn submit_share(
        self: &Arc<Self>,
        requests: Vec<Request>,
    ) -> Result<Vec<Reply>, StoreError> {
        let first = requests.first().and_then(Request::subject);
        let elsewhere = first.and_then(|id| self.hub.partitions.elsewhere(id));
        let all = Request::All(requests.clone());
        let result = match elsewhere {
            None => self.submit_here(all).await,
            Some(to) => self.forward(to, all).await,
        };
        match result {
            Ok(Reply::All(replies)) if replies.len() == requests.len() => Ok(replies),
            Err(StoreError::Elsewhere(_)) => {
                let mut replies = Vec::with_capacity(requests.len());
                for request in requests {
                    replies.push(self.submit_there(request).await?);
                }
                Ok(replies)
            }
            Ok(reply) => Ok(vec![reply; requests.len()]),
            Err(error) => Err(error),
        }
    }

    /// Deletes the ended ones of some instances, each where it is run.
    async fn purge_each(self: &Arc<Self>, keys: Vec<i64>) -> Result<Reply, StoreError> {
        // Those that run here are one share.
        let there = |partition| (!self.hub.partitions.has(partition)).then_some(partition);
        let shares = self.shares(keys, there).into_iter();
        let shares = shares.map(|(there, keys)| self.purge_share(there, keys));
        purged(together(shares).await)
    }

    /// Instances by what this says of their partitions.
    fn shares<P: Ord>(&self, keys: Vec<i64>, of: impl Fn(Partition) -> P) -> BTreeMap<P, Vec<i64>> {
        let mut shares: BTreeMap<P, Vec<i64>> = BTreeMap::new();
        for key in keys {
            let share = of(self.partition_of(InstanceKey(key)));
            shares.entry(share).or_default().push(key);
        }
        shares
    }

    /// Deletes instances that one host runs. If that changes meanwhile, partition by partition.
    async fn purge_share(
        self: &Arc<Self>,
        there: Option<Partition>,
        keys: Vec<i64>,
    ) -> Result<Reply, StoreError> {
        if let Some(partition) = there {
            return self.purge_in(partition, keys).await;
        }
        match self.submit_here(Request::Purge(keys.clone())).await {
            Err(StoreError::Elsewhere(_)) => {}
            result => return result,
        }
        let shares = self.shares(keys, |partition| partition).into_iter();
        let shares = shares.map(|(partition, keys)| self.purge_in(partition, keys));
        purged(together(shares).await)
    }

    async fn purge_in(
        self: &Arc<Self>,
        partition: Partition,
        keys: Vec<i64>,
    ) -> Result<Reply, StoreError> {
        let until = Instant::now() + FOLLOW_MAX;
        loop {
            let purge = Request::Purge(keys.clone());
            let result = match self.hub.partitions.has(partition) {
                true => self.submit_here(purge).await,
                false => self.forward(partition, purge).await,
            };
            match result {
                Err(StoreError::Elsewhere(_)) if Instant::now() < until => {
                    tokio::time::sleep(SEND_ON_AFTER).await;
                }
                result => return result,
            }
        }
    }
}

/// Carries out shares of a request, some at once, and returns what came of them in their order.
async fn together<F: Future>(shares: impl Iterator<Item = F>) -> Vec<F::Output> {
    let shares = futures::stream::iter(shares);
    shares.buffered(SHARES_AT_ONCE).collect().await
}

/// What several shares of a purge have deleted together.
fn purged(shares: Vec<Result<Reply, StoreError>>) -> Result<Reply, StoreError> {
    let mut purged = Purged::default();
    for reply in shares {
        match reply? {
            Reply::Purged(of_share) => {
                purged.deleted += of_share.deleted;
                purged.live += of_share.live;
            }
            other => return Ok(other),
        }
    }
    Ok(Reply::Purged(purged))
}
