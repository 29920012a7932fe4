//! What every command has at hand: the task hub that was named, and where to print.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial::Client;

use crate::cli::args::Global;
use crate::cli::output::Output;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    global: Global,
    output: Output,
}

impl Session {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        Self { global, output }
    }

    /// The same run, on another hub.
    pub(crate) fn elsewhere(&self, data_dir: Option<PathBuf>, task_hub: Option<String>) -> Self {
        let mut global = self.global.clone();
        if let Some(data_dir) = data_dir {
            global.data_dir = data_dir;
        }
        if let Some(task_hub) = task_hub {
            global.task_hub = task_hub;
        }
        Self::new(global, self.output)
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

    /// A client of the hub, whoever runs it.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::open(self.data_dir(), self.task_hub()).context("cannot use --task-hub")
    }

    /// Tells a person that something was accepted and who will do it, if anyone will.
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
