//! State that every command shares: the selected task hub, and the output.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial::{Client, Store};

use crate::args::Global;
use crate::output::Output;

/// One run of the program.
#[derive(Clone)]
pub(crate) struct Session {
    global: Global,
    output: Output,
    /// The address of the database that the hubs are in.
    database: Option<String>,
    /// The address of its replica for lists.
    replica: Option<String>,
    url: Option<String>,
    key: Option<String>,
}

/// Whether a text is the address of a database, right or wrong.
fn is_address(text: &str) -> bool {
    text.contains("://")
}

/// A variable of the environment, unless it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Session {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        // What is typed goes before the environment.
        let is_place_typed = global.store.is_some() || global.is_data_dir_typed;
        let of_environment = || variable("PERENNIAL_URL").filter(|_| !is_place_typed);
        let url = global.url.clone().or_else(of_environment);
        let database = global.store.clone().or_else(|| variable("PERENNIAL_STORE"));
        let replica = global.read_replica.clone();
        let replica = replica.or_else(|| variable("PERENNIAL_READ_REPLICA"));
        let key = global.key.clone().or_else(|| variable("PERENNIAL_KEY"));
        Self {
            global,
            output,
            database,
            replica,
            url,
            key,
        }
    }

    /// The same run, on another hub.
    pub(crate) fn elsewhere(&self, task_hub: Option<String>) -> Self {
        let mut session = self.clone();
        if let Some(task_hub) = task_hub {
            session.global.task_hub = task_hub;
        }
        session
    }

    /// The same run, on hubs in a directory, or in the database with this address.
    pub(crate) fn stored_at(mut self, place: String) -> Self {
        self.url = None;
        // It is one of the database that the command was to use.
        self.replica = None;
        if is_address(&place) {
            self.database = Some(place);
        } else {
            self.database = None;
            self.global.data_dir = place.into();
        }
        self
    }

    /// Where the hubs are.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        let store = match (&self.database, &self.replica) {
            (Some(address), None) => Store::postgres(address)?,
            (Some(address), Some(replica)) => Store::postgres(address)?.read_replica(replica)?,
            (None, None) => Store::dir(self.data_dir()),
            // It says that this cannot be.
            (None, Some(replica)) => Store::dir(self.data_dir()).read_replica(replica)?,
        };
        Ok(store.data_dir(self.data_dir()))
    }

    /// Whether the hubs are in a database.
    pub(crate) fn has_database(&self) -> bool {
        self.database.is_some()
    }

    /// Whether there may be a hub, or the file of one, that a command can use.
    pub(crate) fn may_have_hub(&self) -> bool {
        self.has_database() || self.hub_file().exists()
    }

    /// The address of the host that commands are sent to, if any.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Whether two places were typed in which the hub may be.
    pub(crate) fn has_two_places(&self) -> bool {
        self.global.url.is_some() && self.global.store.is_some()
    }

    /// Whether an error says that the instance does not exist, as opposed to a hub that the host does not serve.
    pub(crate) fn lacks_instance(&self, error: &perennial::Error) -> bool {
        error.is_not_found() && !(self.url.is_some() && error.is_unknown_hub())
    }

    /// Whether `--url` was typed, as opposed to `PERENNIAL_URL`.
    pub(crate) fn is_url_typed(&self) -> bool {
        self.global.url.is_some()
    }

    /// Where to print.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// The directory that hubs are in or, if they are in a database, what this machine keeps for itself.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.global.data_dir
    }

    /// The name of the hub.
    pub(crate) fn task_hub(&self) -> &str {
        &self.global.task_hub
    }

    /// The hub's file, for messages.
    pub(crate) fn hub_file(&self) -> PathBuf {
        self.global
            .data_dir
            .join(format!("{}.db", self.global.task_hub))
    }

    /// Where the hub is, for messages: its file, the address of its database, or that of its host.
    pub(crate) fn place(&self) -> String {
        match &self.url {
            Some(url) => {
                let url = url.split('?').next().unwrap_or_default();
                format!("{} at {url}", self.task_hub())
            }
            None if self.has_database() => {
                let store = self.store().map(|store| store.to_string());
                format!("{} in {}", self.task_hub(), store.unwrap_or_default())
            }
            None => self.hub_file().display().to_string(),
        }
    }

    /// A client of the hub: of its file or database or, with `--url`, of that host. No other place tells the two apart.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        if let Some(url) = &self.url {
            return Ok(Client::connect(url, self.task_hub(), self.key.as_deref())?);
        }
        Client::open(self.store()?, self.task_hub()).context("cannot use --task-hub")
    }

    /// Notes that the command takes effect only once a host runs, if none does. Returns whether one does.
    pub(crate) fn warn_if_unhosted(&self, client: &Client, what: &str) -> bool {
        let hosted = client.is_hosted();
        if !hosted {
            self.output.note(&format!(
                "no host runs task hub {:?}: {what} until `perennial serve` does",
                self.task_hub()
            ));
        }
        hosted
    }
}
