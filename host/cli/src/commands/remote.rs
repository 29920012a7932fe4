//! Which commands `--url` sends to a host, and how the others refuse.

use crate::args::{Command, Durable, HubsCommand};
use crate::error::{CliError, Exit};
use crate::session::Session;

/// The access that a command needs.
enum Needs {
    /// A client of the hub, wherever that is.
    Client,
    /// The hub's file, or the directory that it is in.
    File(&'static str),
    /// No hub.
    Nothing(&'static str),
}

fn needs(command: &Command) -> Needs {
    match command {
        Command::Serve(_) => Needs::File("serve"),
        Command::Dev(_) => Needs::File("dev"),
        Command::Backup(_) => Needs::File("backup"),
        Command::Restore(_) => Needs::File("restore"),
        Command::Doctor => Needs::File("doctor"),
        Command::Check => Needs::File("check"),
        Command::DeleteTaskHub(_) => Needs::File("delete-task-hub"),
        Command::Durable(Durable::DeleteTaskHub { .. }) => Needs::File("durable delete-task-hub"),
        Command::Hubs(hubs) => match hubs.command {
            None | Some(HubsCommand::List) => Needs::File("hubs list"),
            Some(HubsCommand::Create { .. }) => Needs::File("hubs create"),
            Some(HubsCommand::Copy { .. }) => Needs::File("hubs copy"),
            Some(HubsCommand::Compact { .. }) => Needs::File("hubs compact"),
            Some(HubsCommand::Show { .. } | HubsCommand::Set(_)) => Needs::Client,
        },
        Command::Deploy(deploy) if deploy.check => Needs::File("deploy --check"),
        Command::New(_) => Needs::Nothing("new"),
        Command::Build(_) => Needs::Nothing("build"),
        Command::Inspect(_) => Needs::Nothing("inspect"),
        Command::Replay(_) => Needs::Nothing("replay"),
        Command::Completions(_) => Needs::Nothing("completions"),
        Command::Man(_) => Needs::Nothing("man"),
        Command::Run(_)
        | Command::Deploy(_)
        | Command::Modules(_)
        | Command::Grants(_)
        | Command::Start(_)
        | Command::Status(_)
        | Command::History(_)
        | Command::Export(_)
        | Command::List(_)
        | Command::Wait(_)
        | Command::Values(_)
        | Command::Tag(_)
        | Command::RaiseEvent(_)
        | Command::Request(_)
        | Command::Requests(_)
        | Command::PendingEvents(_)
        | Command::Logs(_)
        | Command::Cancel(_)
        | Command::Terminate(_)
        | Command::Suspend(_)
        | Command::Resume(_)
        | Command::Rewind(_)
        | Command::Restart(_)
        | Command::Purge(_)
        | Command::Durable(_)
        | Command::Workers
        | Command::Keys(_) => Needs::Client,
    }
}

/// Refuses commands that do not work over HTTP. Commands that need no hub ignore an address from the environment.
pub(super) fn check(command: &Command, session: &Session) -> anyhow::Result<()> {
    if session.has_two_places() {
        let said = "both --url and --store say where the task hub is";
        let said = CliError::new(Exit::Usage, said.to_owned());
        return Err(said.hint("leave one of them out").into());
    }
    let (verb, why) = match (session.url(), needs(command)) {
        (None, _) | (Some(_), Needs::Client) => return Ok(()),
        (Some(_), Needs::File(verb)) => {
            (verb, "it needs the files of the task hub, or its database")
        }
        (Some(_), Needs::Nothing(_)) if !session.is_url_typed() => return Ok(()),
        (Some(_), Needs::Nothing(verb)) => (verb, "it uses no task hub"),
    };
    let without = if session.is_url_typed() {
        "leave --url out"
    } else {
        "unset PERENNIAL_URL"
    };
    let hint = match why {
        "it uses no task hub" => without.to_owned(),
        _ => format!(
            "{without}, and do it on the machine that the host runs on, or with --store where the task hub is in a database"
        ),
    };
    let said = CliError::new(
        Exit::Usage,
        format!("`perennial {verb}` is not done over HTTP: {why}"),
    );
    Err(said.hint(hint).into())
}
