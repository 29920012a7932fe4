//! Task hubs: list, inspect, create and delete them.

use std::path::PathBuf;

use perennial_core::{Status, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::json::{AsCounts, TimeText};
use crate::client::{Client, Error, Result, Store};
use crate::engine::clock::{Clock, SystemClock};
#[cfg(feature = "postgres")]
use crate::foreign::Listener;
use crate::store::{Outside, Place, Reader, StoreError, Tally};

/// The task hubs of a store: of a directory, or of a database. Cheap to clone.
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
    store: Store,
}

/// A task hub of a store.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HubInfo {
    /// The name of the hub.
    #[serde(rename = "taskHub")]
    pub name: String,
    /// The path of its file, if it is one.
    #[serde(rename = "file")]
    pub path: Option<PathBuf>,
    /// The address of its database without a password, if it is in one.
    pub database: Option<String>,
    /// Its size on disk, in bytes.
    pub bytes: u64,
    /// When it was created.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "createdTime")]
    pub created_at: Option<Timestamp>,
    /// The process that runs it, if any; or how many hosts do, if several share it.
    pub owner: Option<String>,
    /// Why the hub cannot be read, if it cannot.
    pub problem: Option<String>,
}

/// Statistics of a task hub.
#[serde_as]
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HubStats {
    /// General information about the hub.
    #[serde(flatten)]
    pub hub: HubInfo,
    /// The number of instances in each status; statuses without instances are left out.
    #[serde_as(as = "AsCounts")]
    pub instances: Vec<(Status, u64)>,
    /// The number of turns in all histories. Each takes a row.
    pub history_turns: u64,
    /// The number of events in all histories.
    pub history_events: u64,
    /// The approximate size of all histories, in bytes.
    pub history_bytes: u64,
    /// The number of deployed modules.
    pub modules: u64,
    /// The number of stored components, including earlier ones that instances still run.
    pub stored_modules: u64,
    /// The size of the stored components, in bytes.
    pub module_bytes: u64,
    /// Used bytes of the file, which a quota of the hub counts.
    #[serde(default)]
    pub used_bytes: u64,
    /// Free bytes of the file. A host returns them to the disk gradually, and keeps a few for reuse.
    #[serde(default)]
    pub free_bytes: u64,
    /// Whether a host is still removing histories of deleted instances, which it does gradually.
    #[serde(default)]
    pub has_garbage: bool,
}

/// What was copied of a hub.
#[cfg(feature = "postgres")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopiedHub {
    /// Its instances.
    pub instances: u64,
    /// All rows of its tables.
    pub rows: u64,
}

impl Hubs {
    /// The hubs of a store: of a directory, which need not exist yet, or of a database.
    pub fn new(store: impl Into<Store>) -> Self {
        Self {
            store: store.into(),
        }
    }

    /// Opens a client of a hub. See [`Client::open`].
    ///
    /// ```
    /// let client = perennial::Hubs::new(".perennial").client("billing").unwrap();
    /// assert_eq!(client.task_hub(), "billing");
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the name is invalid.
    pub fn client(&self, name: &str) -> Result<Client> {
        Client::open(&self.store, name)
    }

    /// Lists all hubs, sorted by name, including those that cannot be read; see [`HubInfo::problem`].
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
    /// If the directory or the database cannot be read.
    pub async fn list(&self) -> Result<Vec<HubInfo>> {
        let store = self.store.clone();
        blocking("", move || {
            let hubs = store.hubs()?.into_iter();
            Ok(hubs.map(|(name, place)| info(name, place)).collect())
        })
        .await
    }

    /// How many schemas of a database look like hubs and cannot be read by its user, so that [`list`](Self::list) leaves them out. 0 of a
    /// directory.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// use perennial::{Hubs, Store};
    ///
    /// let store = Store::postgres("postgres://app@db.example.com/flows")?;
    /// println!("{} hubs of other users", Hubs::new(store).unreadable().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the database cannot be read.
    #[cfg(feature = "postgres")]
    pub async fn unreadable(&self) -> Result<u64> {
        let store = self.store.clone();
        blocking("", move || store.unreadable()).await
    }

    /// The names of all hubs, sorted. Blocks; use a blocking thread in asynchronous code.
    ///
    /// # Errors
    /// If the directory or the database cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let hubs = self.store.hubs().map_err(|error| Error::store("", error))?;
        Ok(hubs.into_iter().map(|(name, _)| name).collect())
    }

    /// Whether there is a hub of this name, or something else in its place.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the name is invalid, and if the database cannot be asked.
    pub async fn exists(&self, name: &str) -> Result<bool> {
        let place = self.store.place(name)?;
        blocking(name, move || place.exists()).await
    }

    /// Looks at the database that a hub is in, or would be, for what would lose what was acknowledged, make hubs slow, or keep them from
    /// working at all, and says how to mend it. Of a directory there is nothing to say.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// use perennial::{Hubs, Severity, Store};
    ///
    /// let store = Store::postgres("postgres://app@db.example.com/flows")?;
    /// for advice in Hubs::new(store).look_at_database("default").await? {
    ///     if advice.severity != Severity::Fine {
    ///         println!("{}: {} {:?}", advice.check, advice.found, advice.fix);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the name is invalid, and if the database cannot be asked.
    #[cfg(feature = "postgres")]
    pub async fn look_at_database(&self, hub: &str) -> Result<Vec<crate::DatabaseAdvice>> {
        let place = self.store.place(hub)?;
        blocking(hub, move || place.advice()).await
    }

    /// Creates a hub.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// perennial::Hubs::new(".perennial").create("billing").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_already_exists`] if the hub or another file of its name exists; [`Error::is_invalid`] if the name is invalid.
    pub async fn create(&self, name: &str) -> Result<HubInfo> {
        let place = self.store.place(name)?;
        let hub = name.to_owned();
        let created = blocking(name, move || {
            if place.exists()? {
                return Ok(None);
            }
            drop(place.take_over(SystemClock.now(), "a command", &|_| false)?);
            Ok(Some(info(hub, place)))
        });
        created.await?.ok_or_else(|| Error::hub_exists(name))
    }

    /// Deletes a hub with all its data and the files beside it.
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

    /// As [`delete`](Self::delete), even while a host runs the hub: that host then stops.
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
        let place = self.store.place_as_named(name)?;
        blocking(name, move || place.delete(forced)).await
    }

    /// Rewrites a hub's file without unused space. Returns its size in bytes before and after. It needs disk space for a copy. A hub of an
    /// older version will return unused space by itself afterwards, as new hubs do.
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
    /// [`Error::is_not_found`]; [`Error::is_owned`] if a host runs the hub, which returns unused space by itself. Nothing is changed then.
    pub async fn compact(&self, name: &str) -> Result<(u64, u64)> {
        let place = self.store.place(name)?;
        blocking(name, move || place.compact()).await
    }

    /// Copies a hub in its present state to another store, or under another name: between directories and databases in any direction. Hosts and
    /// other clients continue meanwhile; what they change after the beginning of the copy is not in it. The copy is compared with its source
    /// before it gets its name, and no host runs it. A hub from a directory is divided in a database, and refuses continuation tokens of its source
    /// there. `progress` is called with the copied instances and all.
    ///
    /// To move a hub, stop its host first: a host that is started on the copy runs the same activities as one on the source.
    ///
    /// ```no_run
    /// # async fn example() -> perennial::Result<()> {
    /// use perennial::{Hubs, Store};
    ///
    /// let database = Store::postgres("postgres://app@db.example.com/flows")?;
    /// let copied = Hubs::new(".perennial").copy("billing", &Hubs::new(database), "billing", |_, _| {}).await?;
    /// println!("{} instances", copied.instances);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such hub, [`Error::is_already_exists`] if there is one where the copy is to be, and if either
    /// cannot be used. Nothing is left of the copy then.
    #[cfg(feature = "postgres")]
    pub async fn copy(
        &self,
        name: &str,
        to: &Self,
        as_name: &str,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<CopiedHub> {
        let (from, place) = (self.store.place(name)?, to.store.place(as_name)?);
        if to.exists(as_name).await? {
            return Err(Error::hub_exists(as_name));
        }
        let mut progress = progress;
        let told = Listener::new("the progress of a copy", 1, move |(done, all)| {
            progress(done, all)
        });
        let copied = blocking(name, move || {
            let copied = from.copy_to(&place, &mut |done, all| told.tell((done, all)));
            told.close();
            copied
        });
        let copied = copied.await?;
        Ok(CopiedHub {
            instances: copied.instances,
            rows: copied.rows,
        })
    }

    /// Statistics of a hub: see [`Client::stats`]. Visits each instance once, which is fast even for a hundred thousand.
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
    /// Statistics of the hub. Visits each instance once, which is fast even for a hundred thousand.
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
        let place = self.place().ok_or_else(|| Error::needs_file("this"))?;
        let (hub, place) = (self.task_hub().to_owned(), place.clone());
        blocking(self.task_hub(), move || {
            let tally = place.open_reader()?.tally()?;
            Ok(HubStats::new(info(hub, place), tally))
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

fn info(name: String, place: Place) -> HubInfo {
    let created = place.open_reader().and_then(|reader| reader.created_at());
    let path = place.path().map(PathBuf::from);
    HubInfo {
        bytes: place.bytes(),
        problem: created.as_ref().err().map(ToString::to_string),
        created_at: created.ok(),
        name,
        database: path.is_none().then(|| place.to_string()),
        path,
        owner: owner(place),
    }
}

/// The process that owns the hub, or how many hosts share it, unless it is about to exit or only applies one command.
fn owner(place: Place) -> Option<String> {
    let outside = Outside::new(place);
    let note = outside.owner().filter(|_| outside.is_owned())?;
    let sharing = outside.with_reader(Reader::sharing);
    let hosts = sharing
        .ok()
        .flatten()
        .map_or(1, |sharing| sharing.owners.len());
    Some(match hosts {
        0 | 1 => note.to_string(),
        hosts => format!("{hosts} hosts"),
    })
}
