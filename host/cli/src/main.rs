//! The binary `perennial`: deploys modules, runs hubs, and manages instances from a command line.
//!
//! Two layers: [`args`] parses the command line, and each file in [`commands`] carries out one command with the library's public API. Only
//! data goes to stdout; notes, progress and errors go to stderr.

#![warn(clippy::too_many_lines)]

mod args;
mod commands;
mod durable;
mod error;
mod format;
mod hints;
mod log;
mod output;
mod paint;
mod payload;
mod progress;
mod project;
mod report;
mod screen;
mod session;
mod suggest;
mod value;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
use perennial_core::text::{is_unseen, visible};

use crate::args::Cli;
use crate::error::Exit;
use crate::output::Output;
use crate::report::report;
use crate::session::Session;

/// Memory moves between threads here, from client to worker to writer, and the system's allocator on Linux makes a thread wait to free what
/// another one allocated. A library leaves the choice of the allocator to its program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parses the arguments, runs the command, and returns the exit code.
fn main() -> ExitCode {
    let cli = match parsed() {
        Ok(cli) => cli,
        Err(error) => return report::usage(&seen_whole(on_their_lines().unwrap_or(error))),
    };
    let output = Output::new(cli.global.json, cli.global.quiet, cli.global.width);
    let global = &cli.global;
    let (store, url) = (global.store.as_deref(), global.url.as_deref());
    hints::remember(&global.data_dir, store, &global.task_hub, url);
    let session = Session::new(cli.global, output);
    let exit = match run(cli.command, &session) {
        Ok(exit) => exit,
        Err((error, meant)) => report(&error, meant.as_deref(), &session),
    };
    screen::finish();
    exit.into()
}

/// The command line, with what is known only of what was typed.
fn parsed() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let mut typed = command.try_get_matches_from_mut(std::env::args_os())?;
    let is_data_dir_typed = typed.value_source("data_dir") == Some(ValueSource::CommandLine);
    let mut cli =
        Cli::from_arg_matches_mut(&mut typed).map_err(|error| error.format(&mut command))?;
    cli.global.is_data_dir_typed = is_data_dir_typed;
    Ok(cli)
}

/// The parse error of a command line whose arguments contain characters that a terminal would obey or nobody would see, with these escaped:
/// clap's message quotes arguments.
fn on_their_lines() -> Option<clap::Error> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    if !arguments
        .iter()
        .any(|argument| argument.contains(is_unseen))
    {
        return None;
    }
    let written_out = arguments
        .iter()
        .map(|argument| visible(argument).into_owned());
    Cli::try_parse_from(written_out).err()
}

/// A parse error with what it quotes escaped, which may also come from the environment.
fn seen_whole(mut error: clap::Error) -> clap::Error {
    use clap::error::ContextValue;
    let quoted = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) if text.contains(is_unseen) => {
            Some((kind, ContextValue::String(visible(text).into_owned())))
        }
        _ => None,
    });
    for (kind, value) in quoted.collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    error
}

/// Starts the runtime. Tokio panics if the system has no thread left; this returns an error that says so.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // A thread that there was once is there when the system has no other.
    builder
        .thread_keep_alive(std::time::Duration::from_secs(60 * 60))
        .enable_all();
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.build()));
    std::panic::set_hook(told);
    let built = built.unwrap_or_else(|_| Err(std::io::ErrorKind::WouldBlock.into()));
    built.context(
        "could not start the threads of the program; `ulimit -u` and pids.max of its control group say how many it may have",
    )
}

/// Runs a command. An error comes with a suggestion for a misspelt name, if there is one.
fn run(command: args::Command, session: &Session) -> Result<Exit, (anyhow::Error, Option<String>)> {
    let runtime = runtime().map_err(|error| (error, None))?;
    let typed = suggest::Typed::of(&command);
    let exit = runtime.block_on(Box::pin(async {
        outlive_file_limit();
        match commands::dispatch(command, session).await {
            Ok(exit) => Ok(exit),
            Err(error) => {
                let meant = typed.meant(&error, session).await;
                Err((error, meant))
            }
        }
    }));
    // A read of stdin or of the file that nobody waits for any more must not hold the process back.
    runtime.shutdown_background();
    exit
}

/// Handles SIGXFSZ, so that a write beyond `ulimit -f` fails as on a full disk instead of killing the process.
fn outlive_file_limit() {
    use tokio::signal::unix::{SignalKind, signal};
    /// SIGXFSZ, on every system that this runs on.
    const FILE_TOO_LARGE: i32 = 25;
    if let Err(error) = signal(SignalKind::from_raw(FILE_TOO_LARGE)) {
        tracing::debug!(%error, "the signal of the limit of files stays as it is");
    }
}
