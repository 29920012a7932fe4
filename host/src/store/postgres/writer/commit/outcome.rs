//! What became of a transaction of which that is not clear, and what follows.

use crate::outage::warn_seldom;
use crate::store::StoreError;
use crate::store::postgres::lease::{self, Settled, Standing};
use crate::store::postgres::writer::commit::{Failed, RETRY_DELAY, State};

impl State {
    /// The row of this owner is not as it should be before a transaction: finds out why.
    pub(super) fn why_not_claimed(&mut self, error: StoreError) -> Failed {
        let standing = match self.overlay.source().session() {
            Ok(session) => lease::standing(session, self.lease.epoch),
            Err(error) => return Failed::Lost(error),
        };
        match standing {
            Ok(Standing::Owns { number, version }) if number == self.lease.number => {
                if version == self.lease.version {
                    return Failed::Error(error);
                }
                self.changed(version);
                Failed::Stale
            }
            Ok(standing) => Failed::Error(self.fence(standing)),
            Err(StoreError::Missing(_)) => Failed::Error(self.deleted()),
            Err(error) => self.of_read(error),
        }
    }

    /// Another owner changed what this one keeps of the hub in memory.
    pub(super) fn changed(&mut self, version: i64) {
        self.lease.version = version;
        self.overlay.forget_all();
        self.shared.tell_changed(version);
    }

    /// Another owner took over, or the database lost what it had confirmed: writes nothing more. Nothing that is kept in memory is true then.
    pub(super) fn fence(&mut self, standing: Standing) -> StoreError {
        let (Standing::Owns { number, .. } | Standing::Fenced { number }) = standing;
        let why = match u64::try_from(self.lease.number.saturating_sub(number)) {
            Ok(lost @ 1..) => StoreError::Forgot(lost),
            _ => StoreError::Fenced,
        };
        if let StoreError::Forgot(lost) = why {
            tracing::error!(
                lost,
                hub = %self.address,
                "the database has lost the last {lost} transactions that it had confirmed to this process, as after a failover to a standby \
                 that was behind, or after an older copy of it was brought back: what clients were told since is not there. This process \
                 forgets what it has in memory and ends; the next one reads the database as it is. Ask whoever runs the database whether the \
                 former primary has them still; synchronous_standby_names keeps a failover from losing any"
            );
        }
        self.fenced_by(why)
    }

    pub(super) fn fenced_by(&mut self, why: StoreError) -> StoreError {
        self.fenced = Some(why.clone());
        self.overlay.forget_all();
        self.shared.tell_fenced(&why);
        why
    }

    /// Somebody deleted the hub: writes nothing more.
    pub(super) fn deleted(&mut self) -> StoreError {
        if self.fenced.is_none() {
            tracing::error!(
                "the task hub was deleted under this process, which writes nothing more"
            );
        }
        self.fenced_by(StoreError::Fenced)
    }

    /// Finds out whether a transaction happened whose connection was lost: connects again, and reads the number of the last one. Returns
    /// whether it did; if not, it never will, even if its bytes arrive only now, because its number can be taken only once.
    pub(super) fn look_up(&mut self, last: i64, error: &StoreError) -> Result<bool, Failed> {
        warn_seldom!(%error, "a connection was lost during a transaction; reading what became of it");
        let mut ender = self.overlay.source().0.take().and_then(|lost| lost.ender());
        let epoch = self.lease.epoch;
        loop {
            self.connect().map_err(Failed::Error)?;
            let settled = self.overlay.source().session().and_then(|session| {
                // A transaction that is stuck in the middle would hold its locks until the server gives it up. Who may not end it waits for that.
                if let Some(ender) = ender.take()
                    && let Err(error) = session.end(&ender)
                {
                    tracing::debug!(%error, "a connection that was lost is not ended");
                }
                lease::settle(session, epoch, last)
            });
            match settled {
                Ok(Settled::Done) => return Ok(true),
                Ok(Settled::Undone(number)) => {
                    self.lease.number = number;
                    return Ok(false);
                }
                Ok(Settled::Unclear(standing)) => return Err(Failed::Error(self.fence(standing))),
                Err(StoreError::Missing(_)) => {
                    return Err(Failed::Error(self.deleted()));
                }
                Err(error) => {
                    self.failed(&error);
                    if self.shared.closing.wait(RETRY_DELAY) {
                        return Err(Failed::Error(error));
                    }
                }
            }
        }
    }
}
