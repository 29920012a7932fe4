//! Task hubs: list, inspect, create and delete them.

use std::path::{Path, PathBuf};

use perennial_core::{Status, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::json::{AsCounts, TimeText};
use crate::client::{Client, Error, Result, hub_path};
use crate::engine::clock::{Clock, SystemClock};
use crate::store::{self, Reader, StoreError, Tally};

/// The task hubs of a data directory. Cheap to clone.
///
/// ```no_run
/// # async fn example() -> perennial::Result<()> {
/// let hubs = perennial::Hubs::new(".perennial");
/// hubs.create("billing").await?;
/// for hub in hubs.list().await? {
///     println!("{}: {} bytes, {:?}", hub.name, hub.bytes, hub.owner);
/// }
/// println!("{:?}", hubs.stats("billing").await?.instances);
/// hubs.delete("billing").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Hubs {
    data_dir: PathBuf,
}

/// A task hub, as its directory shows it.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HubInfo {
    /// Its name.
    #[serde(rename = "taskHub")]
    pub name: String,
    /// Its file.
    #[serde(rename = "file")]
    pub path: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was made.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "createdTime")]
    pub created_at: Option<Timestamp>,
    /// Which process runs it, if one does.
    pub owner: Option<String>,
    /// Why it cannot be read, where it cannot.
    pub problem: Option<String>,
}

/// What a task hub holds.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HubStats {
    /// The hub.
    #[serde(flatten)]
    pub hub: HubInfo,
    /// Instances in each status; statuses without any are left out.
    #[serde_as(as = "AsCounts")]
    pub instances: Vec<(Status, u64)>,
    /// Turns in the histories of the instances: the rows that they take.
    pub history_turns: u64,
    /// Events in them.
    pub history_events: u64,
    /// Their bytes, roughly.
    pub history_bytes: u64,
    /// Modules that are deployed.
    pub modules: u64,
    /// Contents of modules that are kept: earlier ones stay for the instances that run them.
    pub stored_modules: u64,
    /// Their bytes.
    pub module_bytes: u64,
    /// Bytes of the file that hold something: what a quota of the hub counts.
    #[serde(default)]
    pub used_bytes: u64,
    /// Bytes of the file that hold nothing any more. A host gives them back bit by bit, but for a few that it will need again.
    #[serde(default)]
    pub free_bytes: u64,
    /// Whether histories of deleted instances are still to be removed, which a host does bit by bit.
    #[serde(default)]
    pub has_garbage: bool,
}

impl Hubs {
    /// The hubs of a directory, which need not exist yet.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
        }
    }

    /// A client of one of them. See [`Client::open`].
    ///
    /// ```
    /// let client = perennial::Hubs::new(".perennial").client("billing").unwrap();
    /// assert_eq!(client.task_hub(), "billing");
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the name cannot be one.
    pub fn client(&self, name: &str) -> Result<Client> {
        Client::open(&self.data_dir, name)
    }

    /// All of them, by name. One that cannot be read is there too, and says why.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// for hub in perennial::Hubs::new(".perennial").list().await? {
    ///     println!("{}", hub.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub async fn list(&self) -> Result<Vec<HubInfo>> {
        let dir = self.data_dir.clone();
        blocking("", move || {
            let hubs = store::hubs_in(&dir)?.into_iter();
            let named = hubs.filter(|(name, _)| hub_path(&dir, name).is_ok());
            Ok(named.map(|(name, path)| info(name, path)).collect())
        })
        .await
    }

    /// Makes a hub.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// perennial::Hubs::new(".perennial").create("billing").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if there is one, or another file in its place; [`Error::is_invalid`] if the name cannot be one.
    pub async fn create(&self, name: &str) -> Result<HubInfo> {
        let path = hub_path(&self.data_dir, name)?;
        let hub = name.to_owned();
        let created = blocking(name, move || {
            if path.exists() {
                return Ok(None);
            }
            drop(store::take_over(&path, SystemClock.now())?);
            Ok(Some(info(hub, path)))
        });
        created.await?.ok_or_else(|| Error::hub_exists(name))
    }

    /// Deletes a hub with everything in it and beside it.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// perennial::Hubs::new(".perennial").delete("billing").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`]; [`Error::is_owned`] if a host runs it. Nothing is deleted then.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.delete_it(name, false).await
    }

    /// As [`delete`](Self::delete), also while a host runs it: that host loses the hub and stops.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// perennial::Hubs::new(".perennial").delete_forced("billing").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    pub async fn delete_forced(&self, name: &str) -> Result<()> {
        self.delete_it(name, true).await
    }

    async fn delete_it(&self, name: &str, forced: bool) -> Result<()> {
        hub_path(&self.data_dir, name)?;
        let path = self.data_dir.join(format!("{name}.db"));
        blocking(name, move || store::delete(&path, forced)).await
    }

    /// Writes a hub anew without the space that it no longer needs, which is given back to the disk: the bytes that it had, and those it
    /// has now. From then on it gives space back by itself, as hubs do that were made by this version. It needs room for a copy.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// let (before, after) = perennial::Hubs::new(".perennial").compact("billing").await?;
    /// println!("{before} bytes became {after}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`]; [`Error::is_owned`] if a host runs it, which gives space back by itself. Nothing is changed then.
    pub async fn compact(&self, name: &str) -> Result<(u64, u64)> {
        let path = hub_path(&self.data_dir, name)?;
        blocking(name, move || store::compact(&path)).await
    }

    /// What a hub holds: see [`Client::stats`]. It looks at each instance once: a moment for a hundred thousand of them.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// let stats = perennial::Hubs::new(".perennial").stats("default").await?;
    /// println!("{} events in {} bytes", stats.history_events, stats.hub.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`], and if the hub cannot be read.
    pub async fn stats(&self, name: &str) -> Result<HubStats> {
        self.client(name)?.stats().await
    }
}

impl Client {
    /// What the hub holds. It looks at each instance once: a moment for a hundred thousand of them.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// println!("{} events", client.stats().await?.history_events);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`], and if the hub cannot be read.
    pub async fn stats(&self) -> Result<HubStats> {
        if let Some(remote) = self.remote() {
            return remote.stats().await;
        }
        let path = self.path().ok_or_else(|| Error::needs_file("this"))?;
        let (hub, path) = (self.task_hub().to_owned(), path.to_owned());
        blocking(self.task_hub(), move || {
            let tally = Reader::open(&path)?.tally()?;
            Ok(HubStats::new(info(hub, path), tally))
        })
        .await
    }
}

impl HubStats {
    fn new(hub: HubInfo, tally: Tally) -> Self {
        Self {
            hub,
            instances: tally.instances,
            history_turns: tally.turns,
            history_events: tally.events,
            history_bytes: tally.history_bytes,
            modules: tally.modules,
            stored_modules: tally.stored_modules,
            module_bytes: tally.module_bytes,
            used_bytes: tally.pages.used_bytes(),
            free_bytes: tally.pages.free_bytes(),
            has_garbage: tally.garbage,
        }
    }
}

async fn blocking<T: Send + 'static>(
    hub: &str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::panicked())?
        .map_err(|error| Error::store(hub, error))
}

fn info(name: String, path: PathBuf) -> HubInfo {
    let created = Reader::open(&path).and_then(|reader| reader.created_at());
    HubInfo {
        bytes: store::bytes_of(&path),
        owner: owner(&path),
        problem: created.as_ref().err().map(ToString::to_string),
        created_at: created.ok(),
        name,
        path,
    }
}

/// Who has the hub's lock. An owner that is about to go, or only applies one command, is none.
fn owner(path: &Path) -> Option<String> {
    let note = store::read_note(path)?;
    let taken = matches!(store::OwnerLock::take(path), Err(StoreError::Owned(_)));
    taken.then(|| format!("{} (process {})", note.what, note.pid))
}
