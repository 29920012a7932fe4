//! Tells long-running answers that the server is shutting down.

use tokio::sync::watch;

/// A signal that is sent once, to all waiting requests.
#[derive(Debug)]
pub(crate) struct Closing(watch::Sender<bool>);

impl Default for Closing {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Closing {
    pub(crate) fn close(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.0.borrow()
    }

    /// The signal, for what outlives the request.
    #[cfg(feature = "grpc")]
    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Completes when the server is shutting down.
    pub(crate) async fn closed(&self) {
        // `self` owns the sender, so it cannot be dropped while this waits.
        let _ = self.0.subscribe().wait_for(|closed| *closed).await;
    }
}
