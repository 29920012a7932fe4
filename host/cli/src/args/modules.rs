//! Arguments about modules and grants.

use clap::{Args, Subcommand};

use super::GrantArgs;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Modules {
    /// Delete the modules that nothing points to any more
    #[arg(long)]
    pub(crate) gc: bool,
    /// Only say which would be deleted
    #[arg(long, requires = "gc")]
    pub(crate) dry_run: bool,
    /// Delete those too that only have versions of orchestrations that are not the newest
    #[arg(long, requires = "gc")]
    pub(crate) old_versions: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<ModulesVerb>,
}

/// What is done with one module.
#[derive(Debug, Subcommand)]
pub(crate) enum ModulesVerb {
    /// Take a module's name away: what it defines can no longer be started
    Remove(RemoveModule),
}

#[derive(Debug, Args)]
pub(crate) struct RemoveModule {
    /// Its name, as `perennial modules` lists it
    pub(crate) name: String,
    /// Also where live instances run it; they go on, and their activities are granted nothing any more
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
    /// Grant exactly what is given here, and nothing where nothing is; without this, what is given is added
    #[arg(long)]
    pub(crate) set: bool,
}
