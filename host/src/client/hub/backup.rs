//! Backup and restore of a hub.

use std::path::{Path, PathBuf};

use crate::client::{Client, Error, Result, hub_path};
use crate::foreign::Listener;
use crate::store::{self, StoreError};

/// How far a copy is, in pages of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyProgress {
    /// Pages that are copied.
    pub done: u64,
    /// Pages that there are.
    pub total: u64,
}

impl Client {
    /// Copies the whole hub, as it is at this moment, to a file: instances, histories, modules and grants. Hosts and other clients go on
    /// meanwhile. The copy is complete and synced when this returns; until then nothing has its name.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// client.backup("/backups/monday.db", |copy| println!("{} of {}", copy.done, copy.total)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is such a file already, if it cannot be written, or if there is no hub.
    pub async fn backup(
        &self,
        to: impl Into<PathBuf>,
        progress: impl FnMut(CopyProgress) + Send + 'static,
    ) -> Result<()> {
        let from = self.path().ok_or_else(|| Error::needs_file("a backup"))?;
        let (to, from) = (to.into(), from.to_owned());
        blocking(&self.hub, progress, move |progress| {
            store::backup(&from, &to, progress)
        })
        .await
    }

    /// Makes a task hub of a backup. Its instances go on from there once a host runs it: activities whose results came after the backup run
    /// again, with the idempotency keys that they had.
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
    /// If there is a hub of this name already, if the backup is none, is damaged, or was made by a newer version. Nothing is changed then.
    pub async fn restore(
        data_dir: impl AsRef<Path>,
        task_hub: &str,
        from: impl Into<PathBuf>,
        progress: impl FnMut(CopyProgress) + Send + 'static,
    ) -> Result<Self> {
        let (from, to) = (from.into(), hub_path(data_dir.as_ref(), task_hub)?);
        blocking(task_hub, progress, move |progress| {
            store::restore(&from, &to, progress)
        })
        .await?;
        Self::open(data_dir, task_hub)
    }
}

async fn blocking(
    hub: &str,
    progress: impl FnMut(CopyProgress) + Send + 'static,
    copy: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<(), StoreError> + Send + 'static,
) -> Result<()> {
    let progress = Listener::new("the progress of a copy", 1, progress);
    let copied = tokio::task::spawn_blocking(move || {
        // A copy keeps the log of the hub from being emptied: it does not wait for whoever looks on.
        let copied = copy(&mut |done, total| progress.tell(CopyProgress { done, total }));
        progress.close();
        copied
    });
    copied
        .await
        .map_err(|_| Error::panicked())?
        .map_err(|error| Error::store(hub, error))
}
