//! What the rules of a change need of a store: its rows, within one transaction.
//!
//! The [rules](crate::store::rules) decide, and are written once; a store only keeps rows, and answers about them. A method does what its
//! text says and nothing that follows from it: it tells no parent, and checks no status. Each sees what the calls before it in the same
//! transaction wrote. An error means that the store failed; the transaction is rolled back then.

pub(crate) mod hub;
pub(crate) mod inbox;
pub(crate) mod instances;
pub(crate) mod outbox;
pub(crate) mod requests;
pub(crate) mod tasks;
pub(crate) mod turns;

use crate::store::StoreError;
use crate::store::rows::hub::{ModuleRows, SettingRows};
use crate::store::rows::inbox::InboxRows;
use crate::store::rows::instances::{InstanceRows, ValueRows};
use crate::store::rows::outbox::OutboxRows;
use crate::store::rows::requests::RequestRows;
use crate::store::rows::tasks::TaskRows;
use crate::store::rows::turns::TurnRows;

/// The result of a call.
pub(crate) type Found<T> = Result<T, StoreError>;

/// All rows of a hub.
pub(crate) trait Rows:
    InstanceRows
    + ValueRows
    + InboxRows
    + TurnRows
    + TaskRows
    + RequestRows
    + ModuleRows
    + SettingRows
    + OutboxRows
{
}

impl<T> Rows for T where
    T: InstanceRows
        + ValueRows
        + InboxRows
        + TurnRows
        + TaskRows
        + RequestRows
        + ModuleRows
        + SettingRows
        + OutboxRows
{
}
