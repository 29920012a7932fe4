//! The commands. Each has a file; small ones that belong together share one.

pub(super) mod again;
mod backup;
mod bulk;
pub(crate) mod change;
mod check;
mod collect;
pub(crate) mod definitions;
pub(super) mod deploy;
mod grants;
mod history;
pub(super) mod hosts;
mod hubs;
mod keys;
mod list;
mod listen;
mod logs;
mod missing;
pub(super) mod modules;
mod remote;
mod replay;
mod requests;
mod run;
pub(super) mod serve;
pub(super) mod start;
mod status;
mod stored;
mod timeline;
mod tree;
mod urls;
mod values;
mod verify;
mod wait;
mod watch;
mod workers;

use crate::args::Command;
use crate::error::Exit;
use crate::log;
use crate::project;
use crate::session::Session;

/// Executes a command.
pub(crate) async fn dispatch(command: Command, session: &Session) -> anyhow::Result<Exit> {
    remote::check(&command, session)?;
    match &command {
        Command::Serve(args) => return serve::serve(args, session).await,
        Command::Dev(args) => return project::dev(args, session).await,
        Command::Run(_) if !session.output().is_quiet() => log::start_quietly(log::Need::Guests)?,
        _ if session.output().is_quiet() => log::start_quietly(log::Need::Quiet)?,
        _ => log::start_quietly(log::Need::Warnings)?,
    }
    match command {
        Command::Run(args) => run::run(args, session).await,
        Command::Deploy(args) => deploy::deploy(args, session).await,
        Command::Modules(args) => modules::modules(args, session).await,
        Command::Grants(args) => grants::grants(args, session).await,
        Command::Serve(args) => serve::serve(&args, session).await,
        Command::Start(args) => start::start(args, session).await,
        Command::Status(args) => status::status(args, session).await,
        Command::History(args) => history::history(args, session).await,
        Command::Export(args) => replay::export(args, session).await,
        Command::Replay(args) => replay::replay(args, session).await,
        Command::List(args) => match args.watch {
            Some(every) if !args.counts => watch::watch(args, every.duration(), session).await,
            _ => list::list(args, session).await,
        },
        Command::Wait(args) => wait::wait(args, session).await,
        Command::Values(args) => values::values(args, session).await,
        Command::Tag(args) => values::tag(args, session).await,
        Command::RaiseEvent(args) => change::raise_event(args, session).await,
        Command::Request(args) => requests::request(args, session).await,
        Command::Requests(args) => requests::requests(args, session).await,
        Command::PendingEvents(args) => requests::pending_events(args, session).await,
        Command::Logs(args) => logs::logs(&args, session).await,
        Command::Cancel(args) => change::cancel(args, session).await,
        Command::Terminate(args) => change::terminate(args, session).await,
        Command::Suspend(args) => change::suspend(args, session).await,
        Command::Resume(args) => change::resume(args, session).await,
        Command::Rewind(args) => again::rewind(args, session).await,
        Command::Restart(args) => again::restart(args, session).await,
        Command::Check => verify::check(session).await,
        Command::Backup(args) => backup::backup(args, session).await,
        Command::Restore(args) => backup::restore(args, session).await,
        Command::Purge(args) => bulk::purge(args, session).await,
        Command::Hubs(args) => hubs::hubs(args.command, session).await,
        Command::DeleteTaskHub(args) => hubs::delete(args, session).await,
        Command::New(args) => project::new(&args, session),
        Command::Build(args) => project::build(args, session).await,
        Command::Inspect(args) => project::inspect(args, session).await,
        Command::Dev(args) => project::dev(&args, session).await,
        Command::Doctor => project::doctor(session).await,
        Command::Completions(args) => project::completions(&args, session),
        Command::Man(args) => project::man(&args, session),
        Command::Durable(verb) => crate::durable::durable(verb, session).await,
        Command::Workers => workers::workers(session).await,
        Command::Keys(command) => keys::keys(command, session).await,
    }
}
