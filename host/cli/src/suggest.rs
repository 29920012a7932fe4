//! Suggestions for misspelt names.

use perennial::{DefinitionKind, Hubs, closest};

use crate::args::{Command, FilterArgs, ModulesVerb};
use crate::session::Session;

/// Only the newest instances are searched: more would take longer than typing the id again.
const INSTANCES_LOOKED_AT: u32 = 1_000;

/// The names in a command that may be misspelt.
pub(crate) struct Typed {
    instance: Option<String>,
    module: Option<String>,
}

impl Typed {
    pub(crate) fn of(command: &Command) -> Self {
        let instance = match command {
            Command::Status(args) => Some(&args.id),
            Command::History(args) => Some(&args.id),
            Command::Wait(args) => Some(&args.id),
            Command::Values(args) => Some(&args.id),
            Command::Tag(args) => Some(&args.id),
            Command::RaiseEvent(args) => Some(&args.id),
            Command::Request(args) => Some(&args.id),
            Command::Requests(args) => Some(&args.id),
            Command::Rewind(args) => Some(&args.id),
            Command::Cancel(args) => args.terminate.change.selection.id.as_ref(),
            Command::Terminate(args) => args.change.selection.id.as_ref(),
            Command::Suspend(args) => args.selection.id.as_ref(),
            Command::Resume(args) => args.change.selection.id.as_ref(),
            Command::Restart(args) => args.selection.id.as_ref(),
            Command::Purge(args) => args.selection.id.as_ref(),
            _ => None,
        };
        let module = match command {
            Command::Modules(args) => match &args.verb {
                Some(ModulesVerb::Remove(args)) => Some(&args.name),
                _ => None,
            },
            Command::Grants(args) => args.module.as_ref(),
            Command::Resume(args) => args.module.as_ref(),
            Command::Rewind(args) => args.module.as_ref(),
            _ => None,
        };
        Self {
            instance: instance.cloned(),
            module: module.cloned(),
        }
    }

    /// The closest existing name to the one that an error reports as missing. `None` too if the names cannot be read.
    pub(crate) async fn meant(&self, error: &anyhow::Error, session: &Session) -> Option<String> {
        let message = error.to_string();
        if let Some(typed) = &self.module
            && message.contains("there is no module")
        {
            let modules = session.client().ok()?.modules().await.ok()?;
            let names = modules.iter().map(|module| module.name.as_str());
            return closest(typed, names).map(str::to_owned);
        }
        if let Some(typed) = &self.instance
            && message.contains("there is no instance")
        {
            let client = session.client().ok()?;
            let page = client.list().limit(INSTANCES_LOOKED_AT).await.ok()?;
            let ids = page.instances.iter().map(|one| one.instance_id.as_str());
            return closest(typed, ids).map(str::to_owned);
        }
        None
    }
}

/// After a filter matched nothing: notes that no deployed module has its orchestration, with the closest name that one has.
pub(crate) async fn tell_unknown(filter: &FilterArgs, session: &Session) {
    if let Some(said) = unknown(filter, session).await {
        session.output().note(&said);
    }
}

async fn unknown(filter: &FilterArgs, session: &Session) -> Option<String> {
    let name = filter.name.as_ref()?;
    let modules = session.client().ok()?.modules().await.ok()?;
    let definitions = modules.iter().flat_map(|module| &module.definitions);
    let known: Vec<&str> = definitions
        .filter(|definition| definition.kind == DefinitionKind::Orchestration)
        .map(|definition| definition.name.as_str())
        .collect();
    if known.contains(&name.as_str()) {
        return None;
    }
    let meant = closest(name, known);
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"));
    Some(format!(
        "no deployed module has an orchestration {name:?}{meant}"
    ))
}

/// A hint that lists the hubs of the store, and suggests the closest name.
pub(crate) fn hubs(session: &Session) -> Option<String> {
    let names = Hubs::new(session.store().ok()?).names().ok()?;
    let list = match names.len() {
        0 => return None,
        1..=10 => names.join(", "),
        more => format!("{} and {} more", names[..10].join(", "), more - 10),
    };
    let there = format!("there are: {list}");
    Some(
        match closest(session.task_hub(), names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant:?}? {there}"),
            None => there,
        },
    )
}
