//! Tells long-running answers that the server is shutting down.

use tokio::sync::watch;

/// Told once; asked by every request that waits.
#[derive(Debug)]
pub(crate) struct Closing(watch::Sender<bool>);

impl Default for Closing {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Closing {
    /// Tells everyone.
    pub(crate) fn close(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is told.
    pub(crate) async fn closed(&self) {
        // The sender is in `self`: it cannot be gone while this waits.
        let _ = self.0.subscribe().wait_for(|closed| *closed).await;
    }
}
