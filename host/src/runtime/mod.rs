//! Wires store, executors and engine into a host, and shuts them down.

mod apart;
mod builder;
mod check;
mod collect;
mod forwarder;
mod listener;
mod loss;
mod module;
mod native;
mod replayer;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Client, Error};
use crate::engine::executor::Fault;
use crate::engine::{Engine, HostStats, SHUT_DOWN_MAX};
use crate::shortage::Shortage;
use crate::store::StoreError;

pub use builder::HostBuilder;
pub use check::{Check, CheckOutcome, CheckReport, CheckedInstance, CheckedName, NameChange};
pub use collect::{Collect, RemoveInUse};
pub use loss::Loss;
pub use native::ActivityContext;
pub use replayer::Replayer;
pub use verify::{HubCheck, HubProblem, Verify};

/// The fault for a failed read of module data: the host lacks a resource, or the rows of the module are damaged.
fn fault(error: StoreError) -> Fault {
    match error.shortage() {
        Some(shortage) => shortage.into(),
        None => Fault::Module(error.to_string()),
    }
}

/// A running host of one task hub: it owns the hub, and runs the instances in it.
///
/// ```no_run
/// # async fn example() -> perennial::Result<()> {
/// use perennial::{ActivityContext, Failure, Host, Module};
/// use std::time::Duration;
///
/// let host = Host::builder()
///     .data_dir(".perennial")
///     .activity("SayHello", |_: ActivityContext, city: String| async move { Ok::<_, Failure>(format!("Hello {city}!")) })
///     .start()
///     .await?;
/// let client = host.client();
/// client.deploy(Module::from_file("hello-sequence.wasm")?).await?;
/// let id = client.start("HelloSequence").await?;
/// let waited = client.wait_for_completion(&id, Duration::from_secs(10)).await?;
/// println!("{:?}", waited.status().output);
/// host.shut_down().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a host stops when it is dropped"]
pub struct Host {
    engine: Arc<Engine>,
    hub: String,
    listener: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Whether the engine was told to stop.
    stopped: bool,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("hub", &self.hub)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Returns a builder with the default settings.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// Returns a client for the hub of this host.
    pub fn client(&self) -> Client {
        Client::of_engine(&self.hub, Arc::clone(&self.engine))
    }

    /// The path of the hub's file; `None` if the hub is in a database.
    pub fn path(&self) -> Option<&Path> {
        self.engine.place().path()
    }

    /// Where the hub is: its file, or the address of its database without a password.
    pub fn place(&self) -> String {
        self.engine.place().to_string()
    }

    /// Statistics since the start of the host.
    pub fn stats(&self) -> HostStats {
        self.engine.stats()
    }

    /// Recent shortages, such as file descriptors or memory, each with what last failed because of it. The work that failed is tried again
    /// later.
    pub fn shortages(&self) -> Vec<Shortage> {
        self.engine.shortages()
    }

    /// Evicts every idle guest from memory. Nothing is lost: each is replayed when it is next needed.
    ///
    /// Returns how many were evicted.
    pub fn evict_all(&self) -> usize {
        self.engine.evict_all()
    }

    /// Completes when the host has lost its hub: for example, it was paused, and another process took over. The host runs nothing any more;
    /// [shut it down](Self::shut_down).
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lost = self.engine.end.lost.subscribe();
        async move {
            // The engine sends the notification before it is dropped.
            if lost.wait_for(Option::is_some).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Why the host has lost its hub, once it [has](Self::lost).
    pub fn why_lost(&self) -> Option<Loss> {
        self.engine.end.lost.borrow().as_ref().map(Loss::of)
    }

    /// Prepares to stop: starts no attempt of an activity any more, tells the running ones ([`ActivityContext::heartbeat`],
    /// [`ActivityContext::draining`]), and waits until they have ended, for at most `within`. Returns how many have not; a
    /// [shutdown](Self::shut_down) interrupts those.
    ///
    /// Turns go on, so that results are committed, and so does everything that clients ask for. A host that drains does not start attempts again;
    /// those that wait are started by the next host. If the future is dropped, the host goes on draining.
    pub async fn drain(&self, within: Duration) -> usize {
        self.engine.drain(within).await
    }

    /// Stops the host and releases the hub. Pending changes are committed. Running activities are interrupted, and run again when the hub
    /// is next opened.
    ///
    /// Takes no longer than about half a minute, even if a closure, a clock or the disk does not return: that call is abandoned, and
    /// nothing that it does later is kept.
    pub async fn shut_down(mut self) {
        let until = Instant::now() + SHUT_DOWN_MAX;
        self.stop_listening().await;
        let engine = Arc::clone(&self.engine);
        self.stopped = true;
        if tokio::task::spawn_blocking(move || engine.shut_down_by(until))
            .await
            .is_err()
        {
            tracing::error!("{}", Error::panicked());
        }
    }

    /// Waits for commands of other processes, for at most a third of the time limit of a shutdown. The rest is for the engine.
    async fn stop_listening(&mut self) {
        let Some((stop, mut listener)) = self.listener.take() else {
            return;
        };
        // Sending fails if the listener has already ended.
        let _ = stop.send(());
        match tokio::time::timeout(SHUT_DOWN_MAX / 3, &mut listener).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the listener for other processes failed");
            }
            Err(_) => {
                listener.abort();
                tracing::error!(
                    "the listener for other processes does not end; their commands stay in the hub"
                );
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((_, listener)) = self.listener.take() {
            listener.abort();
        }
        // After another owner took over, there are still threads to join.
        if !self.stopped {
            self.engine.shut_down();
        }
    }
}
