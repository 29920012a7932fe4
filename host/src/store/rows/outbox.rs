//! Rows of the outbox, and which partitions are run elsewhere.

use crate::store::StoreError;
use crate::store::outbox::{OutboxMessage, Sent};
use crate::store::partition::{Partition, Partitions};
use crate::store::rows::Found;
use crate::store::rows::instances::Head;
use crate::store::types::{InstanceKey, InstanceRow};

/// Messages to partitions of other owners. A store whose hubs are not divided has none, and leaves all methods as they are.
pub(crate) trait OutboxRows {
    /// The partition of an id, if another owner runs it.
    fn elsewhere(&self, _id: &str) -> Option<Partition> {
        None
    }

    /// The partition of a key, if another owner runs it.
    fn elsewhere_key(&self, _key: InstanceKey) -> Option<Partition> {
        None
    }

    /// The partitions that this owner runs.
    fn partitions(&self) -> Partitions {
        Partitions::default()
    }

    /// From now on this owner runs these partitions.
    fn set_partitions(&mut self, _own: Partitions) -> Found<()> {
        let what = "other partitions of a hub without any".to_owned();
        Err(StoreError::Corrupt(what))
    }

    /// The first messages that wait for some partitions, in the order in which they were sent; with those of this transaction.
    fn messages_for(&mut self, _of: Partitions, _limit: u32) -> Found<Vec<Sent>> {
        Ok(Vec::new())
    }

    /// Puts a message into the outbox.
    fn send(&mut self, to: Partition, _message: OutboxMessage) -> Found<()> {
        let what = format!("a message to partition {} of a hub without any", to.0);
        Err(StoreError::Corrupt(what))
    }

    /// Takes a message out of the outbox. `false` if it is gone, because it was received already, or if another owner has to receive it.
    fn receive(&mut self, _seq: i64) -> Found<bool> {
        Ok(false)
    }

    /// The partitions of other owners that have children of an instance, or will have when they receive what was sent to them.
    fn partitions_below(&mut self, _parent: InstanceKey) -> Found<Vec<Partition>> {
        Ok(Vec::new())
    }

    /// The partitions of other owners in which instances were asked something by this one, or will be.
    fn partitions_asked_by(&mut self, _asker: InstanceKey) -> Found<Vec<Partition>> {
        Ok(Vec::new())
    }

    /// An instance of another owner, as last committed. It may change at any time.
    fn glance(&mut self, _id: &str) -> Found<Option<(Head, InstanceRow)>> {
        Ok(None)
    }

    /// Whether an instance of another owner that descends from this one was live when last looked at, or is about to be started.
    fn lives_below(&mut self, _ancestor: InstanceKey) -> Found<bool> {
        Ok(false)
    }
}
