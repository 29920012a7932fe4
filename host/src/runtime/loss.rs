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
}

impl Loss {
    pub(super) fn of(error: &StoreError) -> Self {
        match error {
            #[cfg(feature = "postgres")]
            StoreError::Forgot(transactions) => Self::Forgotten(*transactions),
            _ => Self::TakenOver,
        }
    }
}
