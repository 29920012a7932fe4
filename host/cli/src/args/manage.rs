//! Arguments of bulk commands and of task hubs.

use clap::{Args, Subcommand};
use perennial::{Filter, Timestamp, WaitFilter};

use crate::value::{self, Limit, StatusFilter};

/// Selects instances by their properties.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only these statuses: Pending, Running, Suspended, Completed, Failed, Terminated
    #[arg(long = "status", alias = "runtime-status", value_name = "STATUS", value_parser = value::StatusParser, value_delimiter = ',', ignore_case = true, hide_possible_values = true)]
    pub(crate) statuses: Vec<StatusFilter>,
    /// Only ids that begin with this
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Only this orchestration
    #[arg(long, value_name = "ORCHESTRATION")]
    pub(crate) name: Option<String>,
    /// Only this version of an orchestration
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// Only with this label; given several times, only with all of them
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = value::tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// Only instances created at this time or later, such as `2026-01-31` or `2026-01-31T12:00Z`
    #[arg(long, alias = "created-after", value_name = "TIME", value_parser = value::time)]
    pub(crate) created_from: Option<Timestamp>,
    /// Only instances created before this time
    #[arg(long, alias = "created-before", value_name = "TIME", value_parser = value::time)]
    pub(crate) created_to: Option<Timestamp>,
    /// Only instances that were last updated at this time or later
    #[arg(long, alias = "updated-after", value_name = "TIME", value_parser = value::time)]
    pub(crate) updated_from: Option<Timestamp>,
    /// Only instances that were last updated before this time
    #[arg(long, alias = "updated-before", value_name = "TIME", value_parser = value::time)]
    pub(crate) updated_to: Option<Timestamp>,
    /// Only failed instances whose failure has this kind, such as `CardDeclined`
    #[arg(long, value_name = "KIND")]
    pub(crate) failure_kind: Option<String>,
    /// Only live instances that wait for this: event, request, answer, activity, retry, timer, start, child, worker, quarantine, or `event:NAME`
    #[arg(long, value_name = "WAIT", value_parser = value::wait)]
    pub(crate) waits_for: Option<WaitFilter>,
}

impl FilterArgs {
    /// The library's filter; `None` if only statuses are asked for that no instance ever has.
    pub(crate) fn filter(&self) -> Option<Filter> {
        let statuses = || self.statuses.iter().filter_map(|filter| filter.0);
        if !self.statuses.is_empty() && statuses().next().is_none() {
            return None;
        }
        let mut filter = statuses().fold(Filter::new(), Filter::status);
        if let Some(prefix) = &self.prefix {
            filter = filter.id_prefix(prefix);
        }
        if let Some(name) = &self.name {
            filter = filter.name(name);
        }
        if let Some(version) = &self.version {
            filter = filter.version(version);
        }
        for (key, value) in &self.tags {
            filter = filter.tag(key, value);
        }
        if let Some(from) = self.created_from {
            filter = filter.created_from(from);
        }
        if let Some(to) = self.created_to {
            filter = filter.created_to(to);
        }
        if let Some(from) = self.updated_from {
            filter = filter.updated_from(from);
        }
        if let Some(to) = self.updated_to {
            filter = filter.updated_to(to);
        }
        if let Some(kind) = &self.failure_kind {
            filter = filter.failure_kind(kind);
        }
        if let Some(wait) = &self.waits_for {
            filter = filter.waits_for(wait.clone());
        }
        Some(filter)
    }

    /// Whether anything was typed.
    pub(crate) fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.filter().is_none_or(|filter| filter.is_empty())
    }
}

/// One instance by its id, or many by a filter.
#[derive(Clone, Debug, Args)]
pub(crate) struct Selection {
    /// Id of the instance; without it, filters say which ones
    pub(crate) id: Option<String>,
    #[command(flatten, next_help_heading = "Many instances")]
    pub(crate) filter: FilterArgs,
    /// All instances that the command applies to
    #[arg(long, help_heading = "Many instances")]
    pub(crate) all: bool,
    /// Change nothing: print how many instances match
    #[arg(long, help_heading = "Many instances")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// Also purge the descendants that have ended
    #[arg(long)]
    pub(crate) recursive: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Args)]
pub(crate) struct Hubs {
    #[command(subcommand)]
    pub(crate) command: Option<HubsCommand>,
}

/// The subcommands of `hubs`.
#[derive(Debug, Subcommand)]
pub(crate) enum HubsCommand {
    /// List the task hubs of the data directory or the database
    List,
    /// Make a task hub
    Create {
        /// Its name: 1 to 64 letters, digits and dashes
        name: String,
    },
    /// Show what a task hub holds, and its settings
    Show {
        /// Its name; without it, the one that --task-hub names
        name: Option<String>,
    },
    /// Change the settings of a task hub
    Set(HubsSet),
    /// Copy a task hub as it is now to a directory or a database, while hosts go on with it
    Copy {
        /// Its name; without it, the one that --task-hub names
        name: Option<String>,
        /// Directory, or address of a PostgreSQL database, that the copy goes to
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// Name of the copy [default: the same]
        #[arg(long = "as", value_name = "NAME")]
        as_name: Option<String>,
    },
    /// Return the space of deleted data to the disk; no host may run the task hub
    Compact {
        /// Its name; without it, the one that --task-hub names
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct HubsSet {
    /// Its name; without it, the one that --task-hub names
    pub(crate) name: Option<String>,
    /// How long completed instances are kept, such as `7d` or `12h`; `none` keeps them forever
    #[arg(long, value_name = "DURATION", value_parser = value::limit)]
    pub(crate) retain_completed: Option<Limit>,
    /// How long failed instances are kept
    #[arg(long, value_name = "DURATION", value_parser = value::limit)]
    pub(crate) retain_failed: Option<Limit>,
    /// How long terminated instances are kept
    #[arg(long, value_name = "DURATION", value_parser = value::limit)]
    pub(crate) retain_terminated: Option<Limit>,
    /// Do not ask, even if instances are deleted at once
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteTaskHub {
    /// Its name
    pub(crate) name: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Delete it even while a host runs it; that host accepts nothing more, and must be stopped
    #[arg(long)]
    pub(crate) force: bool,
}
