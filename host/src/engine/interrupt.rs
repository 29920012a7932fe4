//! Interrupts of attempts.

use tokio_util::sync::{CancellationToken, DropGuard};

/// Tells an attempt that its result is no longer needed. Cheap to clone; all clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(CancellationToken);

impl Interrupt {
    /// Interrupts the attempt.
    pub fn set(&self) {
        self.0.cancel();
    }

    /// Whether the attempt was interrupted.
    pub fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes when the attempt is interrupted.
    pub async fn told(&self) {
        self.0.cancelled().await;
    }

    /// A child of this interrupt: set together with this one, or alone when the guard is dropped.
    pub(crate) fn until_dropped(&self) -> (Self, DropGuard) {
        let below = self.0.child_token();
        (Self(below.clone()), below.drop_guard())
    }
}
