//! Command-line arguments. Nothing here reads a file, asks the clock or opens a hub.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use perennial::{DirGrant, Timestamp};

use crate::output::Columns;
use crate::payload::Source;
use crate::value::{self, EnvGrant, Limit};

pub(crate) mod again;
mod durable;
mod help;
mod manage;
mod modules;
mod project;
pub(crate) mod replay;
mod requests;
mod serve;
#[cfg(test)]
mod told;
mod values;

pub(crate) use durable::{
    Durable, GetInstances, GetRuntimeStatus, OfInstance, PurgeHistory,
    RaiseEvent as DurableRaiseEvent, StartNew, WithReason,
};
pub(crate) use manage::{DeleteTaskHub, FilterArgs, Hubs, HubsCommand, HubsSet, Purge, Selection};
pub(crate) use modules::{GrantsArgs, Modules, ModulesVerb, RemoveModule, SaveModule};
pub(crate) use project::{Build, Completions, Dev, Inspect, Man, New};
pub(crate) use requests::{Logs, OrStart, PendingEvents, Request, Requests};
pub(crate) use serve::{Http, Keys, QuotaArgs, Serve};
pub(crate) use values::{Tag, Values};

/// Durable workflows in WebAssembly: deploy modules, run a task hub, manage instances
#[derive(Debug, Parser)]
#[command(name = "perennial", version, max_term_width = 100, after_help = help::EXIT_CODES, after_long_help = help::MAIN)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Directory that the task hubs are in; with `--store`, what this machine keeps for itself
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PERENNIAL_DATA_DIR",
        default_value = ".perennial",
        hide_env_values = true
    )]
    #[arg(help_heading = "Global options")]
    pub(crate) data_dir: PathBuf,
    /// Whether that was typed, as opposed to `PERENNIAL_DATA_DIR` and the default.
    #[arg(skip)]
    pub(crate) is_data_dir_typed: bool,
    /// PostgreSQL database that the task hubs are in instead, such as `postgres://user@host/database`; also from `PERENNIAL_STORE`, where
    /// other people of this machine do not see its password
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub(crate) store: Option<String>,
    /// Streaming replica of that database: lists, counts and overviews are read there while it is at most 5 s behind; also from
    /// `PERENNIAL_READ_REPLICA`
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub(crate) read_replica: Option<String>,
    /// Task hub: 1 to 64 letters, digits and dashes
    #[arg(long, global = true, value_name = "NAME", env = "PERENNIAL_TASK_HUB", default_value = perennial::DEFAULT_TASK_HUB)]
    #[arg(hide_env_values = true, help_heading = "Global options")]
    pub(crate) task_hub: String,
    /// Address of a running host, such as `http://127.0.0.1:7071`: the command is sent there; also from `PERENNIAL_URL`, unless `--store` or
    /// `--data-dir` is given
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub(crate) url: Option<String>,
    /// A key of that host; also from `PERENNIAL_KEY`, where other people of this machine do not see it
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        help_heading = "Global options"
    )]
    pub(crate) key: Option<String>,
    /// Print JSON: data on stdout, errors on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Columns that lines are cut to, or `none` for whole lines [default: those of the terminal; none elsewhere]
    #[arg(long, global = true, value_name = "COLUMNS", value_parser = value::columns)]
    #[arg(help_heading = "Global options")]
    pub(crate) width: Option<Columns>,
    /// Print nothing but errors on stderr
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deploy a file, start one of its orchestrations, wait, and print the result
    #[command(after_help = help::RUN)]
    Run(Run),
    /// Deploy modules; new instances of the orchestrations that they define run them
    #[command(after_help = help::DEPLOY)]
    Deploy(Deploy),
    /// List the deployed modules, or delete those that nothing points to
    #[command(after_help = help::MODULES)]
    Modules(Modules),
    /// Show or change what modules are granted, without a deployment
    #[command(after_help = help::GRANTS)]
    Grants(GrantsArgs),
    /// Run the task hub until SIGINT, SIGTERM or SIGHUP
    #[command(after_help = help::SERVE)]
    Serve(Box<Serve>),
    /// Start an instance and print its id
    #[command(after_help = help::START)]
    Start(Start),
    /// Show one instance, and what it waits for
    #[command(after_help = help::STATUS)]
    Status(Status),
    /// Show what happened in an instance, event by event
    #[command(after_help = help::HISTORY)]
    History(History),
    /// Print the recorded history of an instance, for `replay`
    #[command(after_help = replay::EXPORT)]
    Export(replay::Export),
    /// Replay recorded histories on a file, and say whether it fits them
    #[command(after_help = replay::REPLAY)]
    Replay(replay::Replay),
    /// List instances, newest first
    #[command(after_help = help::LIST)]
    List(List),
    /// Wait until an instance has ended, and print its result
    #[command(after_help = help::WAIT)]
    Wait(Wait),
    /// Show the named values that an instance has set, or wait for one
    #[command(after_help = values::VALUES)]
    Values(Values),
    /// Set and remove labels of an instance
    #[command(after_help = values::TAG)]
    Tag(Tag),
    /// Send an event to an instance
    #[command(after_help = help::RAISE_EVENT)]
    RaiseEvent(RaiseEvent),
    /// Ask an instance something, and print its answer
    #[command(after_help = requests::REQUEST)]
    Request(Request),
    /// Show what an instance was asked, and its answers
    #[command(after_help = requests::REQUESTS)]
    Requests(Requests),
    /// Show the events that an instance has received and not used
    #[command(after_help = requests::PENDING_EVENTS)]
    PendingEvents(PendingEvents),
    /// Show what an instance has logged since the host started
    #[command(after_help = requests::LOGS)]
    Logs(Logs),
    /// Ask an instance, or many, to end in good order
    #[command(after_help = help::CANCEL)]
    Cancel(Cancel),
    /// Terminate an instance, or many
    #[command(after_help = help::TERMINATE)]
    Terminate(Terminate),
    /// Suspend an instance, or many
    #[command(after_help = help::SUSPEND)]
    Suspend(Change),
    /// Resume a suspended instance, or many
    #[command(after_help = help::RESUME)]
    Resume(Resume),
    /// Rewind a failed instance to before its failure, and let it go on
    #[command(after_help = again::REWIND)]
    Rewind(again::Rewind),
    /// Run an instance again from its beginning
    #[command(after_help = again::RESTART)]
    Restart(again::Restart),
    /// Check the task hub: its file, its histories, and the replay of live instances
    #[command(after_help = help::CHECK)]
    Check,
    /// Copy the task hub to a file, while it runs
    #[command(after_help = help::BACKUP)]
    Backup(Backup),
    /// Make a task hub from a backup
    #[command(after_help = help::RESTORE)]
    Restore(Restore),
    /// Delete instances that have ended, with their histories
    #[command(after_help = help::PURGE)]
    Purge(Purge),
    /// List, make, show and set up task hubs
    #[command(after_help = help::HUBS)]
    Hubs(Hubs),
    /// Delete a task hub, with everything in it
    #[command(after_help = help::DELETE_TASK_HUB)]
    DeleteTaskHub(DeleteTaskHub),
    /// Make a guest project, with the SDK in it
    #[command(after_help = help::NEW)]
    New(New),
    /// Compile a guest project to a component
    #[command(after_help = help::BUILD)]
    Build(Build),
    /// Show what a file defines, imports and can be granted
    #[command(after_help = help::INSPECT)]
    Inspect(Inspect),
    /// Build, deploy and run a guest project, again at each change
    #[command(after_help = help::DEV)]
    Dev(Dev),
    /// Look at the toolchain, the task hub and its host, and say what to fix
    #[command(after_help = help::DOCTOR)]
    Doctor,
    /// The commands of `func durable`: start-new, get-runtime-status, ...
    #[command(after_help = help::DURABLE)]
    #[command(
        subcommand,
        disable_help_subcommand = true,
        arg_required_else_help = true
    )]
    Durable(Durable),
    /// Show the remote workers that are connected to the host, and what waits for one
    #[command(after_help = help::WORKERS)]
    Workers,
    /// Make, list and revoke the keys of the HTTP API
    #[command(subcommand, after_help = help::KEYS)]
    Keys(Keys),
    /// Print a script that completes command lines
    #[command(after_help = help::COMPLETIONS)]
    Completions(Completions),
    /// Write the manual pages
    #[command(after_help = help::MAN)]
    Man(Man),
}

/// Grants: the resources that a module's code may reach.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// Let activities see a directory, read-only unless it ends in `:rw`
    ///
    /// GUEST is the path that they know it by; without it, HOST as typed.
    #[arg(long = "grant-dir", value_name = "HOST[::GUEST][:rw]", value_parser = value::dir_grant)]
    pub(crate) dirs: Vec<DirGrant>,
    /// Let activities see an environment variable; without a value, with the one it has here
    #[arg(long = "grant-env", value_name = "NAME[=VALUE]", value_parser = value::env_grant)]
    pub(crate) env: Vec<EnvGrant>,
    /// Let orchestrations send HTTP requests to a host; without a port, to those of http and https
    #[arg(long = "allow-http", value_name = "HOST[:PORT]", value_parser = value::http_host)]
    pub(crate) http_hosts: Vec<String>,
}

/// Limits of a module's executions.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LimitArgs {
    /// Fuel of a turn, about an instruction each, such as `20G`; each event of the turn brings a tenth of it more [default: as the host says]
    ///
    /// Limits are kept with the module's name, for executions that begin from now on. Giving one replaces both; giving none keeps them.
    #[arg(long, value_name = "N", value_parser = value::amount)]
    pub(crate) fuel: Option<u64>,
    /// Memory of an instance, such as `256MiB` [default: as the host says]
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    pub(crate) memory: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A component, as `cargo build --target wasm32-wasip2` or another guest toolchain makes it
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,
    /// Which of its orchestrations; may be left out where it defines one
    pub(crate) orchestration: Option<String>,
    /// Input: JSON, `@file`, or `-` for stdin
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(crate) input: Option<Source>,
    /// Id of the instance, instead of a new one
    #[arg(long)]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Give up waiting after this long, such as `30s` or `1h30m`; the instance is kept
    #[arg(long, value_name = "DURATION", default_value = "none", value_parser = value::limit)]
    pub(crate) timeout: Limit,
    /// In the end let activities that still run end, for at most this long, such as `30s`; a signal then stops at once
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub(crate) drain: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Components
    #[arg(value_name = "FILE.wasm", required_unless_present = "stored")]
    pub(crate) files: Vec<PathBuf>,
    /// Deploy a stored module again, instead of a file: at least six digits of its digest, as `perennial modules --stored` lists it
    #[arg(long, value_name = "DIGEST", conflicts_with = "files")]
    pub(crate) stored: Option<String>,
    /// Name of the module, instead of its file's; for one file, or a stored module
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Take over names that other modules own
    #[arg(long)]
    pub(crate) replace: bool,
    /// Deploy nothing: print what would change, and which live instances could go on with the module
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Its name, as `perennial modules` lists it
    pub(crate) orchestration: String,
    /// Input: JSON, `@file`, or `-` for stdin
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(crate) input: Option<Source>,
    /// Id of the instance, instead of a new one
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// A version of the orchestration, instead of the one deployed last
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// A label; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = value::tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// Which instance with this id may be replaced
    #[arg(long, value_enum, default_value_t = Reuse::Ended)]
    pub(crate) reuse: Reuse,
    /// Begin at this time, such as `2026-01-31T12:00Z`; it is Pending until then
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub(crate) at: Option<Timestamp>,
    /// Begin after this long, such as `30s` or `1h30m`
    #[arg(long, value_name = "DURATION", value_parser = value::duration, conflicts_with = "at")]
    pub(crate) after: Option<Duration>,
    /// Ask it to cancel after this long; it then fails with `Timeout`
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub(crate) execution_timeout: Option<Duration>,
    /// Wait until it has ended, and print its result on the line after the id; or until its start
    #[arg(long, value_enum, value_name = "FOR", num_args = 0..=1, require_equals = true, default_missing_value = "completion")]
    pub(crate) wait: Option<WaitFor>,
    /// Give up waiting after this long; the instance is kept
    #[arg(long, value_name = "DURATION", default_value = "none", value_parser = value::limit, requires = "wait")]
    pub(crate) timeout: Limit,
}

/// Which instance a start may replace if its id is in use.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Reuse {
    /// One that has ended
    Ended,
    /// None
    Never,
    /// A live one too: it ends
    Any,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Id of the instance
    pub(crate) id: String,
    /// With its input
    #[arg(long, alias = "show-input")]
    pub(crate) input: bool,
    /// With its history
    #[arg(long, alias = "show-history")]
    pub(crate) history: bool,
    /// The instance with its children and theirs, on a line each
    #[arg(long, conflicts_with_all = ["input", "history"])]
    pub(crate) tree: bool,
    /// The HTTP addresses at which it is managed, below the one where a host's `/instances` is
    #[arg(long, value_name = "BASE_URL", conflicts_with_all = ["input", "history", "tree"])]
    pub(crate) urls: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Id of the instance
    pub(crate) id: String,
    /// Begin with the event of this number
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true,
        conflicts_with = "timeline"
    )]
    pub(crate) from: u64,
    /// When each task began, how long it took, and how often it was tried
    #[arg(long)]
    pub(crate) timeline: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// At most this many instances: 1 to 1000
    #[arg(long, alias = "top", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// The page after the one that gave this token
    #[arg(long, value_name = "TOKEN")]
    pub(crate) continuation_token: Option<String>,
    /// The oldest first, instead of the newest
    #[arg(long)]
    pub(crate) oldest_first: bool,
    /// With their inputs
    #[arg(long)]
    pub(crate) input: bool,
    /// With their outputs, which tables show anyway
    #[arg(long)]
    pub(crate) output: bool,
    /// Only how many instances are in each status
    #[arg(long, conflicts_with_all = ["limit", "continuation_token", "oldest_first", "input", "output"])]
    pub(crate) counts: bool,
    /// Print the list again every second, or at this interval, until Ctrl-C
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_parser = value::limit)]
    #[arg(conflicts_with = "counts")]
    pub(crate) watch: Option<Limit>,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Id of the instance
    pub(crate) id: String,
    /// Give up after this long, such as `30s` or `1h30m`; `none` never does
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = value::limit)]
    pub(crate) timeout: Limit,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t = WaitFor::Completion)]
    pub(crate) wait_for: WaitFor,
}

/// The point that a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// Its end
    Completion,
    /// Its first turn, or its end
    Start,
}

#[derive(Debug, Args)]
pub(crate) struct RaiseEvent {
    /// Id of the instance
    pub(crate) id: String,
    /// Name of the event, in any case of letters
    pub(crate) name: String,
    /// Its data: JSON, `@file`, or `-` for stdin
    #[arg(
        long,
        alias = "event-data",
        value_name = "JSON|@FILE|-",
        allow_hyphen_values = true
    )]
    pub(crate) data: Option<Source>,
    #[command(flatten)]
    pub(crate) start: OrStart,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// How long it has to clean up before it is terminated, such as `30s`; for one instance
    #[arg(long, value_name = "DURATION", value_parser = value::duration, requires = "id")]
    pub(crate) grace: Option<Duration>,
    #[command(flatten)]
    pub(crate) terminate: Terminate,
}

#[derive(Debug, Args)]
pub(crate) struct Terminate {
    /// Do not ask before many are ended
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Wait until it has ended; for one instance
    #[arg(long, requires = "id")]
    pub(crate) wait: bool,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = value::limit, requires = "wait")]
    pub(crate) timeout: Limit,
    #[command(flatten)]
    pub(crate) change: Change,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Resume a quarantined instance with this module, if the module replays its history
    #[arg(
        long,
        value_name = "NAME|DIGEST",
        requires = "id",
        conflicts_with = "recursive"
    )]
    pub(crate) module: Option<String>,
    #[command(flatten)]
    pub(crate) change: Change,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Also its descendants: its children, and theirs
    #[arg(long)]
    pub(crate) recursive: bool,
    /// The reason, which is kept in the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

impl Limit {
    /// The limit as the library takes it: no limit is the longest duration.
    pub(crate) fn duration(self) -> Duration {
        self.0.unwrap_or(Duration::MAX)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where to: a file that does not exist yet
    #[arg(value_name = "FILE.db")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A file that `perennial backup` made
    #[arg(value_name = "FILE.db")]
    pub(crate) file: PathBuf,
}
