//! State that every command shares: the selected task hub, and the output.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial::Client;

use crate::args::Global;
use crate::output::Output;

/// One run of the program.
#[derive(Clone)]
pub(crate) struct Session {
    global: Global,
    output: Output,
    url: Option<String>,
    key: Option<String>,
}

/// A variable of the environment, unless it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Session {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        let url = global.url.clone().or_else(|| variable("PERENNIAL_URL"));
        let key = global.key.clone().or_else(|| variable("PERENNIAL_KEY"));
        Self {
            global,
            output,
            url,
            key,
        }
    }

    /// The same run, on another hub.
    pub(crate) fn elsewhere(&self, data_dir: Option<PathBuf>, task_hub: Option<String>) -> Self {
        let mut session = self.clone();
        if let Some(data_dir) = data_dir {
            session.global.data_dir = data_dir;
            session.url = None;
        }
        if let Some(task_hub) = task_hub {
            session.global.task_hub = task_hub;
        }
        session
    }

    /// The address of the host that commands are sent to, if any.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Whether `--url` was typed, as opposed to `PERENNIAL_URL`.
    pub(crate) fn is_url_typed(&self) -> bool {
        self.global.url.is_some()
    }

    /// Where to print.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// The directory that hubs are in.
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

    /// Where the hub is, for messages: its file, or the address of its host.
    pub(crate) fn place(&self) -> String {
        match &self.url {
            Some(url) => {
                let url = url.split('?').next().unwrap_or_default();
                format!("{} at {url}", self.task_hub())
            }
            None => self.hub_file().display().to_string(),
        }
    }

    /// A client of the hub: of its file or, with `--url`, of that host. No other place tells the two apart.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        if let Some(url) = &self.url {
            return Ok(Client::connect(url, self.task_hub(), self.key.as_deref())?);
        }
        Client::open(self.data_dir(), self.task_hub()).context("cannot use --task-hub")
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
