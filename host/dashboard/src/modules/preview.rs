//! What a deployment would do, before it is made: the names, the imports, the grants, and the live instances.
//!
//! An upload and a stored module have the same preview; only the buttons differ.

use maud::{Markup, html};
use perennial::{Client, DefinitionKind, ModuleInfo};

use super::changes::{Change, Changes, Name, Offered};
use super::live::CHECKED;
use super::{digest, grants, live, one};
use crate::page::Page;
use crate::refused::Refused;
use crate::show;

/// Names in a list.
const LISTED: usize = 200;

/// A deployment that may be made.
pub(crate) struct Preview<'a> {
    pub(crate) offered: Offered<'a>,
    /// What is deployed under its name.
    pub(crate) before: Option<&'a ModuleInfo>,
    pub(crate) changes: Changes,
    /// Live instances of the orchestrations concerned.
    pub(crate) lives: u64,
}

impl<'a> Preview<'a> {
    pub(crate) async fn of(
        client: &Client,
        offered: Offered<'a>,
        deployed: &'a [ModuleInfo],
    ) -> perennial::Result<Self> {
        let changes = Changes::of(&offered, deployed);
        Ok(Self {
            before: offered.before(deployed),
            lives: lives(client, &changes).await?,
            offered,
            changes,
        })
    }

    /// Whether this component is deployed under this name already.
    pub(crate) fn is_same(&self) -> bool {
        self.before
            .is_some_and(|info| info.digest == self.offered.digest)
    }

    /// `check` offers a check of the live instances, and `confirmation` the deployment.
    pub(crate) fn show(&self, page: &Page, check: &Markup, confirmation: &Markup) -> Markup {
        let Self {
            offered,
            before,
            changes,
            lives,
        } = self;
        let is_same = self.is_same();
        html! {
            h3 { "What this deployment would do" }
            dl.facts {
                dt { "Module" }
                dd { (offered.name) @match before { Some(_) => ", which is deployed", None => ", a new name" } }
                dt { "Digest" }
                dd { @if let Some(info) = before { @if !is_same { (digest(&info.digest)) " → " } } (digest(&offered.digest)) }
                dt { "Size" }
                dd { @if let Some(info) = before { @if !is_same { (show::bytes(info.size)) " → " } } (show::bytes(offered.size)) }
                dt { "Contract" } dd { (offered.contract) }
            }
            @if is_same { p.warning { "This component is deployed under this name already." } }
            (names(page, changes))
            (imports(changes, before.is_some()))
            h3 { "Grants" }
            @match before {
                Some(info) => { p.hint { "It keeps those of the module; they can be changed on its page." } (grants::facts(&info.grants)) },
                None => p.none { "None. They can be given on the page of the module once it is deployed." },
            }
            (live_instances(*lives, check))
            (confirmation)
        }
    }
}

/// The number of live instances of the orchestrations concerned.
pub(crate) async fn lives(client: &Client, changes: &Changes) -> perennial::Result<u64> {
    let mut lives = 0;
    for name in changes.orchestrations() {
        lives += live::live_of(client, name).await?;
    }
    Ok(lives)
}

/// What is said where the deployment would take names from other modules; nothing if it would not.
pub(crate) fn taken(changes: &Changes) -> Option<Markup> {
    let taken = changes.taken().count();
    (taken > 0).then(|| {
        html! {
            p.warning {
                "Other modules own " (taken) " of these names. The deployment takes them over: "
                "those modules keep their other names."
            }
        }
    })
}

/// In place of the confirmation, for whoever may not make this deployment.
pub(crate) fn not_by_you(refused: &Refused) -> Markup {
    html! { h3 { "This cannot be deployed by you" } (refused.alert()) }
}

/// What a deployment did, in a sentence.
pub(crate) fn said(done: &perennial::Deployment) -> String {
    let changed = done.names.iter().filter(|name| name.changed).count();
    format!("Deployed; {changed} of {} names changed.", done.names.len())
}

fn names(page: &Page, changes: &Changes) -> Markup {
    html! {
        h3 { "Names" }
        div.scroll { table {
            thead { tr { th scope="col" { "Name" } th scope="col" { "Kind" } th scope="col" { "Version" } th scope="col" { "Change" } } }
            tbody {
                @for name in changes.names.iter().take(LISTED) { tr {
                    th scope="row" { (name.name) }
                    td { (name.kind) }
                    td { (versions(name)) }
                    td { (change(page, name)) }
                } }
            }
        } }
        @if changes.names.len() > LISTED { p.hint { "And " (changes.names.len() - LISTED) " more." } }
    }
}

fn versions(name: &Name) -> Markup {
    let text = |version: &Option<String>| version.clone().unwrap_or_else(|| "–".to_owned());
    let is_new = matches!(name.change, Change::New);
    html! {
        @if !is_new && name.version != name.version_before { (text(&name.version_before)) " → " }
        (text(&name.version))
    }
}

fn change(page: &Page, name: &Name) -> Markup {
    html! {
        @match &name.change {
            Change::New => "new",
            Change::Unchanged => "unchanged",
            Change::Updated => "updated: new instances and calls use the new component",
            Change::Taken(owner) => strong { "taken from " a href=(one::path(page, owner, "")) { (owner) } },
            Change::Dropped => strong { @match name.kind {
                DefinitionKind::Orchestration => "dropped: it could not be started any more",
                _ => "dropped: other modules could not call it any more",
            } },
        }
        @if name.new_schema { ", with another schema of its input" }
    }
}

fn imports(changes: &Changes, replaces: bool) -> Markup {
    html! {
        h3 { "Imports" }
        @if changes.imports_added.is_empty() && changes.imports_removed.is_empty() {
            p.none { @if replaces { "Unchanged." } @else { "None." } }
        }
        @for (title, list) in [("Added", &changes.imports_added), ("No longer imported", &changes.imports_removed)] {
            @if !list.is_empty() { details { summary { (title) ": " (list.len()) } (one::imports(list)) } }
        }
    }
}

fn live_instances(lives: u64, check: &Markup) -> Markup {
    html! {
        h3 { "Live instances" }
        @if lives == 0 { p.none { "There are none of these orchestrations." } } @else {
            p {
                (show::count(lives)) " of these orchestrations. A deployment does not touch them: "
                "each continues on the module that it started on."
            }
            @if lives <= CHECKED { (check) } @else {
                p.hint { "These are too many to check here; use the command " code { "perennial deploy --check" } "." }
            }
        }
    }
}
