//! `perennial durable`: the command line of `func durable`, word for word.

use clap::{Args, Subcommand};
use perennial::Timestamp;

use crate::value::{self, StatusFilter};

/// The verbs.
#[derive(Debug, Subcommand)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub(crate) enum Durable {
    /// Start a new instance of an orchestration
    StartNew(StartNew),
    /// Show the status of an instance
    GetRuntimeStatus(GetRuntimeStatus),
    /// Show the history of an instance
    GetHistory(OfInstance),
    /// List instances, a page at a time
    GetInstances(GetInstances),
    /// Raise an event to an instance
    RaiseEvent(RaiseEvent),
    /// Terminate an instance, and wait up to 30 seconds for it
    Terminate(WithReason),
    /// Rewind a failed instance to before its failure
    Rewind(WithReason),
    /// Delete the instances that have ended, with their histories
    PurgeHistory(PurgeHistory),
    /// Delete a task hub, with everything in it
    DeleteTaskHub(HubLocation),
}

/// Selects the task hub.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HubLocation {
    /// Environment variable that holds the data directory [default: --data-dir]
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) connection_string_setting: Option<String>,
    /// Task hub [default: --task-hub]
    #[arg(long, value_name = "NAME")]
    pub(crate) task_hub_name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StartNew {
    /// Name of the orchestration
    #[arg(long, value_name = "NAME")]
    pub(crate) function_name: String,
    /// Id of the instance [default: a random one]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Input: JSON, or `@file`; anything that is not JSON is taken as a text
    #[arg(long, value_name = "JSON|@FILE", allow_hyphen_values = true)]
    pub(crate) input: Option<String>,
    #[command(flatten)]
    pub(crate) place: HubLocation,
}

#[derive(Debug, Args)]
pub(crate) struct GetRuntimeStatus {
    #[command(flatten)]
    pub(crate) of: OfInstance,
    /// With its input
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = value::boolean, action = clap::ArgAction::Set)]
    pub(crate) show_input: bool,
    /// With its output
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = value::boolean, action = clap::ArgAction::Set)]
    pub(crate) show_output: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OfInstance {
    /// Id of the instance
    #[arg(long)]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) place: HubLocation,
}

/// Selects instances.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only those created at this time (UTC) or later, in ISO 8601
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub(crate) created_after: Option<Timestamp>,
    /// Only those created up to this time (UTC), in ISO 8601, to the end of its second
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub(crate) created_before: Option<Timestamp>,
    /// Only those with one of these statuses, separated by spaces
    #[arg(long = "runtime-status", value_name = "STATUS", num_args = 1.., value_delimiter = ' ', value_parser = value::status_or_blank)]
    pub(crate) runtime_statuses: Option<Vec<Option<StatusFilter>>>,
}

#[derive(Debug, Args)]
pub(crate) struct GetInstances {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Instances in a page
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) top: u32,
    /// The page after the one that gave this token
    #[arg(long, value_name = "TOKEN")]
    pub(crate) continuation_token: Option<String>,
    #[command(flatten)]
    pub(crate) place: HubLocation,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeHistory {
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) place: HubLocation,
}

#[derive(Debug, Args)]
pub(crate) struct RaiseEvent {
    /// Name of the event [default: Event_ and a random number]
    #[arg(long, value_name = "NAME")]
    pub(crate) event_name: Option<String>,
    /// Its data: JSON, or `@file`; anything that is not JSON is taken as a text
    #[arg(long, value_name = "JSON|@FILE", allow_hyphen_values = true)]
    pub(crate) event_data: Option<String>,
    #[command(flatten)]
    pub(crate) of: OfInstance,
}

#[derive(Debug, Args)]
pub(crate) struct WithReason {
    #[command(flatten)]
    pub(crate) of: OfInstance,
    /// The reason
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

impl Durable {
    /// Selects the task hub.
    pub(crate) fn place(&self) -> &HubLocation {
        match self {
            Self::StartNew(args) => &args.place,
            Self::GetRuntimeStatus(args) => &args.of.place,
            Self::GetHistory(args) => &args.place,
            Self::GetInstances(args) => &args.place,
            Self::RaiseEvent(args) => &args.of.place,
            Self::PurgeHistory(args) => &args.place,
            Self::DeleteTaskHub(place) => place,
            Self::Terminate(args) | Self::Rewind(args) => &args.of.place,
        }
    }
}

impl Filter {
    /// The statuses asked for: `None` if none were, empty if only statuses were that no instance here ever has.
    pub(crate) fn statuses(&self) -> Option<Vec<perennial::Status>> {
        let typed: Vec<&StatusFilter> = self.runtime_statuses.iter().flatten().flatten().collect();
        (!typed.is_empty()).then(|| typed.into_iter().filter_map(|filter| filter.0).collect())
    }

    /// The library's filter; `None` if no instance can match.
    pub(crate) fn filter(&self) -> Option<perennial::Filter> {
        let mut filter = perennial::Filter::new();
        if let Some(statuses) = self.statuses() {
            if statuses.is_empty() {
                return None;
            }
            filter = statuses.into_iter().fold(filter, perennial::Filter::status);
        }
        if let Some(from) = self.created_after {
            filter = filter.created_from(from);
        }
        if let Some(to) = self.created_before {
            filter = filter.created_to(to.end_of_second());
        }
        Some(filter)
    }
}
