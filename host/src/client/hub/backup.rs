//! Backup and restore of a hub.

use std::path::PathBuf;

use crate::client::{Client, Error, Result, Store};
use crate::foreign::Listener;
use crate::store::StoreError;

/// The progress of a copy, in pages of the file, or in instances if a database is copied or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyProgress {
    /// Copied pages or instances.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

impl Client {
    /// Copies the whole hub in its present state to a new file: instances, histories, modules and grants. Hosts and other clients continue
    /// meanwhile. The file gets its name only when the copy is complete and synced.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.backup("/backups/monday.db", |copy| println!("{} of {}", copy.done, copy.total)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the file exists already or cannot be written, or if there is no hub.
    pub async fn backup(
        &self,
        to: impl Into<PathBuf>,
        progress: impl FnMut(CopyProgress) + Send + 'static,
    ) -> Result<()> {
        let from = self.place().ok_or_else(|| Error::needs_file("a backup"))?;
        let (to, from) = (to.into(), from.clone());
        blocking(&self.hub, progress, move |progress| {
            from.backup(&to, progress)
        })
        .await
    }

    /// Creates a task hub from a backup. Its instances continue from the state of the backup once a host runs it: activities whose results
    /// came after the backup run again, with the same idempotency keys.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// use perennial::Client;
    ///
    /// let client = Client::restore(".perennial", "monday", "/backups/monday.db", |_| {}).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if there is such a hub, and if the file is not a backup, is damaged, or was made by a newer version. Nothing is changed then.
    pub async fn restore(
        store: impl Into<Store>,
        task_hub: &str,
        from: impl Into<PathBuf>,
        progress: impl FnMut(CopyProgress) + Send + 'static,
    ) -> Result<Self> {
        let store = store.into();
        let (from, to) = (from.into(), store.place(task_hub)?);
        let place = to.clone();
        let there = tokio::task::spawn_blocking(move || place.exists()).await;
        let there = there.map_err(|_| Error::panicked())?;
        if there.map_err(|error| Error::store(task_hub, error))? {
            return Err(Error::hub_exists(task_hub));
        }
        blocking(task_hub, progress, move |progress| {
            to.restore(&from, progress)
        })
        .await?;
        Self::open(store, task_hub)
    }
}

async fn blocking(
    hub: &str,
    progress: impl FnMut(CopyProgress) + Send + 'static,
    copy: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<(), StoreError> + Send + 'static,
) -> Result<()> {
    let progress = Listener::new("the progress of a copy", 1, progress);
    let copied = tokio::task::spawn_blocking(move || {
        // A copy keeps the write-ahead log from being truncated, so it does not wait for the progress callback.
        let copied = copy(&mut |done, total| progress.tell(CopyProgress { done, total }));
        progress.close();
        copied
    });
    copied
        .await
        .map_err(|_| Error::panicked())?
        .map_err(|error| Error::store(hub, error))
}
