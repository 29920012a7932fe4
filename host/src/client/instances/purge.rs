//! Purge: deletes ended instances.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use perennial_core::{Rejection, Status};

use crate::client::{Client, Error, Result};
use crate::engine::Request;
use crate::store::{InstanceKey, Purged, Reader, Reply, Run, StoreError};

/// Children per read.
const CHILDREN: u32 = 1_000;

/// The deletion of an instance. Await it: it returns the number of deleted instances.
#[derive(Clone, Debug)]
#[must_use = "an instance is deleted when its purge is awaited"]
pub struct Purge {
    client: Client,
    id: String,
    recursive: bool,
}

impl Client {
    /// Deletes an ended instance with its history. Await the returned value: the number of deleted instances, 0 if it does not exist.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let deleted = client.purge("order-17").recursive().await?;
    /// println!("{deleted} instances deleted");
    /// # Ok(())
    /// # }
    /// ```
    pub fn purge(&self, id: impl Into<String>) -> Purge {
        Purge {
            client: self.clone(),
            id: id.into(),
            recursive: false,
        }
    }

    /// Deletes the ended ones of some instances, in one transaction. `about` is the instance that they belong to, if it is one.
    pub(crate) async fn purge_keys(&self, about: &str, keys: &[InstanceKey]) -> Result<Purged> {
        let keys = keys.iter().map(|key| key.0).collect();
        match self.submit(about, Request::Purge(keys)).await? {
            Reply::Purged(purged) => Ok(purged),
            _ => Ok(Purged::default()),
        }
    }

    /// Deletes instances with their descendants, the deepest first. So an interrupted purge leaves complete trees, and a repetition does
    /// the rest. `about` is as for [`purge_keys`](Self::purge_keys).
    pub(crate) async fn purge_trees(&self, about: &str, roots: Vec<InstanceKey>) -> Result<Purged> {
        let keys = self.read(move |reader| family(reader, roots)).await?;
        let mut purged = Purged::default();
        for some in keys.rchunks(self.batch()) {
            let some: Vec<InstanceKey> = some.iter().rev().copied().collect();
            purged += self.purge_keys(about, &some).await?;
        }
        Ok(purged)
    }
}

impl Purge {
    /// Includes ended descendants, except those below a live one. If the instance was purged alone before, this deletes the descendants
    /// that remained. Without this, descendants stay as children of a deleted instance.
    pub fn recursive(mut self) -> Self {
        self.recursive = true;
        self
    }

    async fn run(self) -> Result<u64> {
        let Self {
            client,
            id,
            recursive,
        } = self;
        if let (Some(remote), true) = (client.remote(), recursive) {
            return match remote.purge(&id, true).await? {
                Reply::Purged(purged) => Ok(purged.deleted.into()),
                _ => Ok(0),
            };
        }
        if !recursive {
            return match client.submit(&id, Request::PurgeId(id.clone())).await? {
                Reply::Purged(purged) => Ok(purged.deleted.into()),
                _ => Ok(0),
            };
        }
        let asked = id.clone();
        let found = client
            .read(move |reader| {
                let row = reader.instance(&asked)?;
                Ok(row.map(|row| (row.key, row.status, Run::of(&row))))
            })
            .await?;
        // The hub decides again in each transaction, by the instance that all of them are about.
        if let (Some(wanted), Some((.., run))) = (client.wanted_run()?, &found)
            && let Some(refusal) = wanted.refusal(*run)
        {
            return Error::from_reply(&id, refusal).map(|_| 0);
        }
        match found {
            // The run is gone, and with it what was to be deleted.
            None if client.run.is_some() => Err(Error::rejected(&id, Rejection::NotFound)),
            None => {
                // If the instance was purged alone before, its children remained.
                let asked = id.clone();
                let left = client
                    .read(move |reader| reader.left_behind(&asked, None, false, u32::MAX))
                    .await?;
                let roots = left.into_iter().map(|(key, _)| key).collect();
                Ok(client.purge_trees(&id, roots).await?.deleted.into())
            }
            Some((_, status, _)) if !status.is_end() => Err(not_ended(&id, status)),
            Some((key, ..)) => Ok(client.purge_trees(&id, vec![key]).await?.deleted.into()),
        }
    }
}

impl IntoFuture for Purge {
    /// Fails with [`Error::is_wrong_state`] if the instance has not ended.
    type Output = Result<u64>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

fn not_ended(id: &str, status: Status) -> Error {
    Error::rejected(id, Rejection::NotTerminal(status))
}

/// Ended instances and their ended descendants, each after its parent. Descendants of a live instance are not included.
fn family(reader: &Reader, roots: Vec<InstanceKey>) -> Result<Vec<InstanceKey>, StoreError> {
    let mut keys = roots;
    let mut next = 0;
    while let Some(key) = keys.get(next).copied() {
        next += 1;
        let mut after = InstanceKey(i64::MIN);
        loop {
            let children = reader.ended_children(key, after, CHILDREN)?;
            let Some(last) = children.last() else { break };
            after = *last;
            keys.extend(children);
        }
    }
    Ok(keys)
}
