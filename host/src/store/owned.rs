//! A hub that this process owns: it alone runs the hub's instances and changes it.

use std::fmt;
use std::path::PathBuf;

use perennial_core::Millis;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::flight::FlightRecorder;
use crate::store::partition::{Partition, Partitions};
use crate::store::reads::Reader;
use crate::store::types::WasRunning;
use crate::store::writer::Writer;

/// What an owner says about itself, for other processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnerNote {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its version of Perennial.
    pub(crate) version: String,
    /// The kind of process, such as `perennial serve`.
    pub(crate) what: String,
    /// The socket on which it is notified of commands, if the hub is a file.
    pub(crate) socket: Option<PathBuf>,
    /// The name of its machine, if the hub is in a database, which other machines use too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<String>,
    /// Where its HTTP API listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// Whether it is about to stop, so that it wants no partitions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) leaves: bool,
    /// What its process has been lacking for a while, so that others do better with its partitions.
    #[serde(default)]
    pub(crate) lacks: Option<String>,
}

impl OwnerNote {
    /// What this process says about itself.
    pub(crate) fn of_this_process(what: &str, socket: Option<PathBuf>) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            what: what.to_owned(),
            socket,
            machine: None,
            url: None,
            leaves: false,
            lacks: None,
        }
    }

    /// Whether the owner runs on this machine.
    pub(crate) fn is_here(&self) -> bool {
        self.machine.is_none() || self.machine == machine()
    }
}

impl fmt::Display for OwnerNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}", self.what, self.pid)?;
        match &self.machine {
            Some(machine) => write!(f, " on {machine})"),
            None => f.write_str(")"),
        }
    }
}

/// What of a hub an owner takes when it begins.
#[cfg(feature = "postgres")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Share {
    /// All of it, once nobody else owns anything of it.
    #[default]
    All,
    /// These partitions, once nobody else owns one of them.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "hosts own all of a hub; only tests share one")
    )]
    Some(Partitions),
    /// Nothing yet: it shares the hub with other owners.
    Joined,
}

/// The name of this machine, where hubs can be in a database.
pub(in crate::store) fn machine() -> Option<String> {
    #[cfg(feature = "postgres")]
    return whoami::hostname().ok();
    #[cfg(not(feature = "postgres"))]
    None
}

/// The right to change a hub, until dropped. Where several owners share a hub, also what they know of each other.
pub(crate) trait Ownership: Send + Sync {
    /// By what the hub knows this owner; `None` if it knows only one.
    fn epoch(&self) -> Option<i64> {
        None
    }

    /// Says who the owner is, and where it listens.
    fn announce(&mut self, note: &OwnerNote) -> std::io::Result<()>;

    /// Who shares the hub. Frees what dead owners had. `None` where a hub has one owner.
    fn look(&mut self) -> Result<Option<Members>, StoreError> {
        Ok(None)
    }

    /// Takes partitions, as far as nobody has them. Returns those that this owner got.
    fn take(&mut self, _which: &[Partition]) -> Result<Vec<Partition>, StoreError> {
        Ok(Vec::new())
    }

    /// What ran in partitions that were taken, when the owners died that had them, as far as that is known here. It is told until it is
    /// [counted](Self::were_counted).
    fn were_running(&mut self, _which: &[Partition]) -> WereRunning {
        WereRunning::default()
    }

    /// What ran in partitions is counted in the hub.
    fn were_counted(&mut self, _which: &[Partition]) {}

    /// Writes which remote workers are connected to this owner, by their numbers here, in place of those before.
    fn offer(&mut self, _workers: &[(u64, String)]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Gives partitions away: to an owner, or to nobody. The caller has stopped to use them.
    fn give(&mut self, _which: &[Partition], _to: Option<i64>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What ran in partitions whose owners died.
#[derive(Debug, Default)]
pub(crate) struct WereRunning {
    pub(crate) known: Vec<WasRunning>,
    /// Partitions of which that is not all: their owner ran on another machine, or this one was started again since.
    pub(crate) unknown: Vec<Partition>,
}

/// Who shares a hub, as the hub says at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    /// The epoch of this owner.
    pub(crate) me: i64,
    /// Owners that live, by epoch.
    pub(crate) owners: Vec<Member>,
    /// Partitions that nobody has.
    pub(crate) free: Vec<Partition>,
    /// Remote workers that are connected to the other owners.
    pub(crate) workers: Vec<OfferedWorker>,
}

/// A remote worker that is connected to another owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferedWorker {
    /// The epoch of that owner.
    pub(crate) host: i64,
    /// The number of the worker there.
    pub(crate) number: u64,
    /// What it offers, as that owner has written it.
    pub(crate) offer: String,
}

/// An owner among several.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) epoch: i64,
    pub(crate) note: OwnerNote,
    /// When it renewed its lease last, before now by the clock of the hub.
    pub(crate) silent_for: Millis,
    /// Its transactions, if the hub counts them.
    pub(crate) transactions: Option<u64>,
    /// Its partitions, in order.
    pub(crate) partitions: Vec<Partition>,
}

/// How owners share a hub, for people and programs.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    /// How many partitions the hub has.
    pub(crate) partitions: u16,
    /// How many of them no living owner has.
    pub(crate) free: u16,
    /// Messages to instances of other partitions that have not been taken in, up to [`WAITING_MAX`].
    pub(crate) waiting: u64,
    /// Owners whose leases have not run out, by epoch.
    pub(crate) owners: Vec<Member>,
}

/// How many messages that wait are counted: the count must stay cheap when there are many.
#[cfg(feature = "postgres")]
pub(in crate::store) const WAITING_MAX: i64 = 10_000;

/// A hub that this process owns.
pub(crate) struct Owned {
    /// What makes this process the owner.
    pub(crate) owner: Box<dyn Ownership>,
    /// The partitions that this process runs.
    pub(crate) partitions: Partitions,
    /// Whether this process takes and gives partitions while it works.
    pub(crate) is_shared: bool,
    /// The number of the first key for a new instance; those after it are free too.
    pub(crate) first_key: i64,
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    /// Records what runs, for the next owner.
    pub(crate) flight: FlightRecorder,
    /// What ran when the last owner died.
    pub(crate) were_running: Vec<WasRunning>,
    /// Whether this call created the hub.
    pub(crate) made: bool,
}
