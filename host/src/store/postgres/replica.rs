//! A copy of the database that the server keeps by streaming, for what may be a little old: pages of lists, counts and overviews.
//!
//! It is used while it is known to be of this hub and not far behind. Otherwise, and if a read there fails, the database itself is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::outage::Outage;
use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::pool::Pool;
use crate::store::queries::advice::{DatabaseAdvice as Advice, Severity};

/// How far it may be behind.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// How long it is taken to be as it was when it was looked at, and the same of one that is not used.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What tells the hub, and how new what it has is: owners renew their leases each second by the clock of the database that they write to.
const LOOK: &str = "SELECT secret, (SELECT coalesce(extract(epoch FROM greatest(max(renewed), 'epoch')) * 1000, 0)::bigint FROM owner) FROM hub WHERE id = 1";

/// See the [module](self).
pub(super) struct Replica {
    pool: Arc<Pool>,
    /// The address without a password.
    place: String,
    looked: Mutex<Looked>,
    outage: Outage,
}

#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    is_fit: bool,
}

impl Replica {
    /// That of an address, if it names one.
    pub(super) fn of(address: &Address) -> Option<Arc<Self>> {
        let replica = address.replica.as_deref()?;
        Some(Arc::new(Self {
            pool: Arc::new(Pool::new(replica.clone())),
            place: replica.of_database(),
            looked: Mutex::default(),
            outage: Outage::new(),
        }))
    }

    /// What reads it, if it is of the same hub as the primary and not far behind.
    pub(super) fn fit(&self, primary: &Pool) -> Option<Arc<Pool>> {
        // Who comes while another thread looks does not wait for a server that may be away.
        let mut looked = self.looked.try_lock().ok()?;
        let every = match looked.is_fit {
            true => LOOK_EVERY,
            false => LOOK_AGAIN_AFTER,
        };
        if looked.at.is_none_or(|at| at.elapsed() >= every) {
            let unfit = unfit(&self.pool, primary);
            looked.is_fit = matches!(unfit, Ok(None));
            looked.at = Some(Instant::now());
            match unfit {
                Ok(None) => {
                    if let Some(unsaid) = self.outage.succeeded() {
                        tracing::info!(
                            replica = self.place,
                            unsaid,
                            "lists are read from the replica again"
                        );
                    }
                }
                Ok(Some(why)) => self.say(&why),
                Err(error) => self.say(&error.to_string()),
            }
        }
        looked.is_fit.then(|| Arc::clone(&self.pool))
    }

    /// It is not used for a while: a read there has failed.
    pub(super) fn distrust(&self, why: &StoreError) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        *looked = Looked {
            at: Some(Instant::now()),
            is_fit: false,
        };
        drop(looked);
        self.say(&why.to_string());
    }

    fn say(&self, why: &str) {
        if let Some(unsaid) = self.outage.failed() {
            tracing::warn!(
                replica = self.place,
                why,
                unsaid,
                "lists are read from the primary database, not from its replica"
            );
        }
    }
}

/// Why a replica cannot be used now; `None` if it can.
///
/// # Errors
/// If it, or the primary, cannot be asked.
pub(super) fn unfit(replica: &Pool, primary: &Pool) -> Result<Option<String>, StoreError> {
    let look = |pool: &Pool| -> Result<(Vec<u8>, i64), StoreError> {
        let row = pool.read(|conn| conn.query_opt(LOOK, &[]))?;
        let row = row.ok_or_else(|| StoreError::Corrupt("the task hub lacks a row".to_owned()))?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    };
    // In this order, so that what it lacks is older than the second look.
    let (secret, newest) = look(primary)?;
    let (of_replica, has) = look(replica)?;
    if secret != of_replica {
        return Ok(Some(
            "it has another task hub of that name: it is no copy of this database".to_owned(),
        ));
    }
    let behind = Duration::from_millis(u64::try_from(newest.saturating_sub(has)).unwrap_or(0));
    Ok((behind > BEHIND_MAX).then(|| {
        format!(
            "it is {} s behind, more than the {} s that lists may be old",
            behind.as_secs(),
            BEHIND_MAX.as_secs()
        )
    }))
}

/// Whether lists can be read at the replica that an address names; `None` if it names none.
pub(super) fn advice(address: &Address) -> Option<Advice> {
    let replica = address.replica.as_deref()?;
    let check = "read replica";
    let place = replica.of_database();
    let primary = Pool::new(address.clone());
    let found = match unfit(&Pool::new(replica.clone()), &primary) {
        Ok(None) => return Some(Advice::fine(check, format!("{place} follows"))),
        Ok(Some(why)) => why,
        // Without a hub there is nothing to compare.
        Err(StoreError::Missing(_)) if primary.read(|conn| conn.query(LOOK, &[])).is_err() => {
            return Some(Advice::fine(
                check,
                "not looked at: the task hub is not there yet",
            ));
        }
        Err(error) => error.to_string(),
    };
    Some(Advice::bad(
        check,
        Severity::Warning,
        format!("{place}: {found}"),
        "lists are read in the database itself until this is mended; `SELECT * FROM pg_stat_replication;` there says who follows",
    ))
}
