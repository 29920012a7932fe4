//! Arguments of the project commands, and of `completions` and `man`.

use std::path::PathBuf;

use clap::Args;

use crate::payload::Source;

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Directory to make; its last part is the name of the project
    #[arg(value_name = "NAME")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The project
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A component, or a core module with a component type
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The project
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Start this orchestration after each deployment, and print its outcome
    #[arg(long, value_name = "ORCHESTRATION")]
    pub(crate) start: Option<String>,
    /// Its input: JSON, `@file`, or `-` for stdin
    #[arg(
        long,
        value_name = "JSON|@FILE|-",
        allow_hyphen_values = true,
        requires = "start"
    )]
    pub(crate) input: Option<Source>,
    #[command(flatten)]
    pub(crate) grants: super::GrantArgs,
    #[command(flatten)]
    pub(crate) limits: super::LimitArgs,
    /// What to log, as `info` or `perennial=debug,warn`
    #[arg(
        long,
        value_name = "FILTER",
        env = "PERENNIAL_LOG",
        default_value = "info",
        hide_env_values = true
    )]
    pub(crate) log: String,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory to write them to; created if it does not exist
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
