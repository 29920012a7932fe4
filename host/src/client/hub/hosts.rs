//! The hosts that share a hub.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{DurationMilliSeconds, serde_as, skip_serializing_none};

use crate::client::{Client, Error, Result};
use crate::store::{Member, Outside, OwnerNote, Partitions, Place, Reader, Sharing};

/// The hosts that share a task hub: each runs the instances of its partitions. A hub in a file has one partition, which one host has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HubHosts {
    /// How many partitions the hub has.
    pub partitions: u16,
    /// How many of them no host has. Their instances wait; while a host lives, that is only for a moment.
    pub free_partitions: u16,
    /// Messages to instances of other partitions that have not been taken in; 10,000 stands for that many or more.
    pub waiting_messages: u64,
    /// The hosts that live, in the order in which they joined.
    pub hosts: Vec<HubHost>,
}

/// A host among those that share a task hub.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HubHost {
    /// The program, such as `perennial serve`.
    pub name: String,
    /// The process id.
    pub process_id: u32,
    /// The name of its machine, if the hub is in a database, which other machines use too.
    pub machine: Option<String>,
    /// Where its HTTP API listens, such as `http://10.0.0.7:7071`, if it has one; `0.0.0.0` and `[::]` are all addresses of its machine.
    pub url: Option<String>,
    /// Its version of Perennial.
    pub version: String,
    /// How many partitions it has.
    pub partitions: u16,
    /// How long ago it renewed its lease, by the clock of the database. A hub in a file has no leases.
    #[serde(rename = "leaseAgeMillis")]
    #[serde_as(as = "Option<DurationMilliSeconds<u64>>")]
    pub lease_age: Option<Duration>,
    /// The transactions that it has committed, if the hub is in a database.
    pub transactions: Option<u64>,
    /// What it has been lacking for a while, such as `memory`: its partitions go to other hosts, if there are any that lack nothing.
    pub lacks: Option<String>,
    /// Whether it is the host of this client, in the same process. In an answer of the HTTP API, whether it is the host that answered.
    pub is_this: bool,
}

impl std::fmt::Display for HubHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {}", self.name, self.process_id)?;
        if let Some(machine) = &self.machine {
            write!(f, " on {machine}")?;
        }
        if let Some(url) = &self.url {
            write!(f, ", {url}")?;
        }
        f.write_str(")")
    }
}

impl Client {
    /// The hosts that share the hub, and what none of them has. It takes one small read of a hub in a database.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// for host in client.hosts().await?.hosts {
    ///     println!("{host}: {} partitions", host.partitions);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the hub does not exist or cannot be read.
    pub async fn hosts(&self) -> Result<HubHosts> {
        if let Some(remote) = self.remote() {
            let mut found = remote.hosts().await?;
            // It says so of the host that answered.
            found.hosts.iter_mut().for_each(|host| host.is_this = false);
            return Ok(found);
        }
        if let Some(sharing) = self.read(Reader::sharing).await? {
            let me = self.engine().and_then(|engine| engine.epoch());
            return Ok(HubHosts::sharing(sharing, me));
        }
        let owner = match (self.engine(), self.place().cloned()) {
            (Some(engine), _) => Some(engine.note(None)).filter(|_| self.is_hosted()),
            (None, Some(place)) => tokio::task::spawn_blocking(move || owner(place))
                .await
                .map_err(|_| Error::panicked())?,
            (None, None) => None,
        };
        Ok(HubHosts::of_one(owner, self.engine().is_some()))
    }

    /// The number of the oldest message between partitions that has not been taken in, if this process reads the hub itself.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "only the metrics ask")
    )]
    pub(crate) async fn oldest_sent(&self) -> Result<Option<i64>> {
        match self.remote() {
            Some(_) => Ok(None),
            None => self.read(Reader::oldest_sent).await,
        }
    }

    /// The host that runs an instance, or would run one with this id; `None` if its partition has none at the moment. Where several hosts share the
    /// hub, that changes when they come and go.
    ///
    /// # Errors
    /// If the hub does not exist or cannot be read.
    pub async fn host_of(&self, id: &str) -> Result<Option<HubHost>> {
        if let Some(remote) = self.remote() {
            let mut found = remote.hosts_of(id).await?.hosts;
            // A host of an older version answers with all of them.
            let host = found.pop().filter(|_| found.is_empty());
            return Ok(host.map(|host| HubHost {
                is_this: false,
                ..host
            }));
        }
        let Some(sharing) = self.read(Reader::sharing).await? else {
            return Ok(self.hosts().await?.hosts.pop());
        };
        let me = self.engine().and_then(|engine| engine.epoch());
        let there = Partitions::all(sharing.partitions).of_id(id);
        let mut owners = sharing.owners.into_iter();
        let owner = owners.find(|owner| owner.partitions.contains(&there));
        Ok(owner.map(|owner| HubHost::member(owner, me)))
    }
}

/// The owner of a hub that has one.
fn owner(place: Place) -> Option<OwnerNote> {
    let outside = Outside::new(place);
    let is_owned = outside.is_owned();
    outside.owner().filter(|_| is_owned)
}

fn number(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

impl HubHosts {
    /// Those of a hub that hosts share. `me` is the epoch of the host in this process.
    fn sharing(found: Sharing, me: Option<i64>) -> Self {
        let owners = found.owners.into_iter();
        Self {
            partitions: found.partitions,
            free_partitions: found.free,
            waiting_messages: found.waiting,
            hosts: owners.map(|owner| HubHost::member(owner, me)).collect(),
        }
    }

    /// Those of a hub with one owner.
    fn of_one(owner: Option<OwnerNote>, is_this: bool) -> Self {
        Self {
            partitions: 1,
            free_partitions: u16::from(owner.is_none()),
            waiting_messages: 0,
            hosts: owner
                .map(|note| HubHost::noted(note, 1, is_this))
                .into_iter()
                .collect(),
        }
    }
}

impl HubHost {
    fn noted(note: OwnerNote, partitions: u16, is_this: bool) -> Self {
        Self {
            name: note.what,
            process_id: note.pid,
            machine: note.machine,
            url: note.url,
            version: note.version,
            partitions,
            lease_age: None,
            transactions: None,
            lacks: note.lacks,
            is_this,
        }
    }

    fn member(owner: Member, me: Option<i64>) -> Self {
        Self {
            lease_age: Some(Duration::from_millis(owner.silent_for.0)),
            transactions: owner.transactions,
            ..Self::noted(
                owner.note,
                number(owner.partitions.len()),
                me == Some(owner.epoch),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Host;
    use crate::client::Client;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_has_one_host_which_has_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let outside = Client::open(dir.path(), "default").unwrap();
        assert!(outside.hosts().await.unwrap_err().is_not_found());

        let url = "http://127.0.0.1:7071";
        let builder = Host::builder().data_dir(dir.path()).name("a test");
        let builder = builder.listens_at(url);
        let host = builder.start().await.unwrap();
        let seen = outside.hosts().await.unwrap();
        assert_eq!((seen.partitions, seen.free_partitions), (1, 0));
        let [one] = &seen.hosts[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((one.name.as_str(), one.partitions), ("a test", 1));
        assert_eq!(one.process_id, std::process::id());
        let process = one.process_id;
        assert_eq!(
            one.to_string(),
            format!("a test (process {process}, {url})")
        );
        assert_eq!(one.version, env!("CARGO_PKG_VERSION"));
        assert!(one.lease_age.is_none() && !one.is_this);
        let runs = outside.host_of("a").await.unwrap();
        assert_eq!(runs.as_ref(), Some(one));
        let mut own = host.client().hosts().await.unwrap();
        assert!(std::mem::take(&mut own.hosts[0].is_this));
        assert_eq!(own, seen);

        host.shut_down().await;
        let seen = outside.hosts().await.unwrap();
        assert_eq!((seen.free_partitions, seen.hosts.len()), (1, 0));
    }
}
