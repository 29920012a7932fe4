//! Arguments about modules and grants.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::GrantArgs;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Modules {
    /// List all stored modules, the newest first: also earlier versions, to which `perennial deploy --stored` rolls back
    #[arg(long, conflicts_with = "gc")]
    pub(crate) stored: bool,
    /// Delete the modules that nothing points to any more
    #[arg(long)]
    pub(crate) gc: bool,
    /// Delete nothing: print which modules would be deleted
    #[arg(long, requires = "gc")]
    pub(crate) dry_run: bool,
    /// Also delete modules that only define older versions of orchestrations
    #[arg(long, requires = "gc")]
    pub(crate) old_versions: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<ModulesVerb>,
}

/// The subcommands of `modules`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModulesVerb {
    /// Remove a module's name: what it defines can no longer be started
    Remove(RemoveModule),
    /// Write the component of a stored module to a file, as it was deployed
    Save(SaveModule),
}

#[derive(Debug, Args)]
pub(crate) struct SaveModule {
    /// At least six digits of its digest, as `perennial modules --stored` lists it, or the name of a deployed module
    #[arg(value_name = "DIGEST|NAME")]
    pub(crate) module: String,
    /// The file to write, which must not exist yet
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveModule {
    /// Its name, as `perennial modules` lists it
    pub(crate) name: String,
    /// Remove it even if live instances run it; they go on, but their activities lose their grants
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GrantsArgs {
    /// The module, as `perennial modules` lists it; without it, all of them are shown
    #[arg(required_if_eq("set", "true"))]
    pub(crate) module: Option<String>,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    /// Replace the grants with those given here, which may be none; without this, they are added
    #[arg(long)]
    pub(crate) set: bool,
}
