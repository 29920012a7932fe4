//! Why a host has lost its hub.

use crate::store::StoreError;

/// Why a host has [lost](crate::Host::lost) its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Another process took the hub over, or somebody deleted it. Nothing that was acknowledged is lost.
    TakenOver,
    /// The database has so many transactions fewer than it had confirmed to this host, as after a failover to a standby that was behind.
    /// What was acknowledged in those is not there. The next host reads the database as it is.
    Forgotten(u64),
    /// The host has numbered as many instances of a hub that hosts share as one process may. Nothing is lost; a host that is started again gets new
    /// numbers.
    UsedUp,
}

impl Loss {
    pub(crate) fn of(error: &StoreError) -> Self {
        match error {
            #[cfg(feature = "postgres")]
            StoreError::Forgot(transactions) => Self::Forgotten(*transactions),
            // It gives the hub up itself for nothing else that it lacks.
            StoreError::Lacks(_) => Self::UsedUp,
            _ => Self::TakenOver,
        }
    }
}
