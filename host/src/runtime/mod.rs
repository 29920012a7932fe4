//! Wires store, executors and engine into a host, and shuts them down.

mod apart;
mod builder;
mod check;
mod collect;
mod listener;
mod module;
mod native;
#[cfg(test)]
mod tests;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

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
pub use native::ActivityContext;
pub use verify::{HubCheck, HubProblem, Verify};

/// Where the fault lies that the hub does not give what belongs to a module: in that only where its rows are damaged.
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
    /// Says how a host is set up, and starts it.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// Manages the instances of the hub.
    pub fn client(&self) -> Client {
        Client::of_engine(&self.hub, Arc::clone(&self.engine))
    }

    /// The hub's file.
    pub fn path(&self) -> &Path {
        self.engine.path()
    }

    /// What the host has done.
    pub fn stats(&self) -> HostStats {
        self.engine.stats()
    }

    /// What the host lacked a moment ago, such as file descriptors or memory, each with what could last not be done for lack of it. What
    /// needs it waits, and is tried again.
    pub fn shortages(&self) -> Vec<Shortage> {
        self.engine.trouble.shortages.now()
    }

    /// Drops every guest that waits in memory. Nothing is lost: each comes back by replay when something happens for it.
    ///
    /// How many were dropped.
    pub fn evict_all(&self) -> usize {
        self.engine.evict_all()
    }

    /// Returns when the host has lost its hub: another process took it over, while this one was held up and looked dead, say. It runs
    /// nothing any more, and what is left to do is to [shut it down](Self::shut_down).
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lost = self.engine.end.lost.subscribe();
        async move {
            // The engine tells before it goes.
            if lost.wait_for(|lost| *lost).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Stops, and gives the hub back. What is being committed is committed; activities that run are interrupted, and run again when the
    /// hub is next opened.
    ///
    /// It takes no longer than about half a minute, also where a closure, a clock or the disk does not return: that is left to itself, and
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

    /// Waits for what other processes have asked for, a third of the time that a shutdown may take at most: the rest is the engine's.
    async fn stop_listening(&mut self) {
        let Some((stop, mut listener)) = self.listener.take() else {
            return;
        };
        // A listener that has ended already does not need to be told.
        let _ = stop.send(());
        match tokio::time::timeout(SHUT_DOWN_MAX / 3, &mut listener).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the listener for other processes ended badly");
            }
            Err(_) => {
                listener.abort();
                tracing::error!(
                    "the listener for other processes does not end; what they asked for stays in the hub"
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
        // After another owner took over it still has threads to join.
        if !self.stopped {
            self.engine.shut_down();
        }
    }
}
