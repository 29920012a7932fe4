//! The page of a module: what it defines, imports, may touch and may use, and its removal.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use perennial::{
    Definition, DefinitionKind, ModuleInfo, RemoveInUse, Status, StoredModule, parse_time,
};

use super::live::{Counts, Pinned};
use super::{grants, stored};
use crate::admit::Path;
use crate::change::{self, Sent};
use crate::fields::Fields;
use crate::page::Page;
use crate::refused::OnPage as _;
use crate::refused::{Refused, Shown};
use crate::{layout, link, show};

/// Definitions of each kind on a page.
const LISTED: usize = 200;

/// Characters of a description.
const DESCRIPTION: usize = 1_000;

/// Bytes of a schema that are shown.
const SCHEMA: usize = 16 << 10;

/// Bytes of all schemas on a page.
const SCHEMAS: usize = 256 << 10;

/// The path of a module, or of a change of it, such as `/grants`.
pub(crate) fn path(page: &Page, name: &str, below: &str) -> String {
    page.path(&format!("/modules/{}{below}", link::part(name)))
}

/// The deployed module of a name, or with a digest.
pub(crate) async fn find(page: &Page, name: &str) -> Result<ModuleInfo, Refused> {
    let modules = page.client.modules().await?;
    let by_name = modules.iter().find(|info| info.name == name);
    let found = by_name.or_else(|| modules.iter().find(|info| info.digest == name));
    found.cloned().ok_or_else(|| {
        let name = show::cut(name, 200);
        let message = format!(
            "No module {name:?} is deployed. It may have been removed, or replaced by another one."
        );
        Refused::new(StatusCode::NOT_FOUND, message)
    })
}

/// Refuses a form that was made for another component than the one that is deployed under the name now.
pub(crate) async fn expect(page: &Page, name: &str, sent: &Fields) -> Result<(), Response> {
    let now = find(page, name).await.on(page)?;
    if sent.text("digest") == Some(&now.digest) {
        return Ok(());
    }
    let why = Refused::invalid(format!(
        "The module has changed since: another component is deployed as {name:?} than the one that was shown, or the form does not say \
         which. Nothing was changed."
    ));
    Err(change::outdated(page, why, &path(page, name, "")))
}

pub(crate) async fn page(page: Page, Path((_, name)): Path<(String, String)>) -> Shown {
    let module = find(&page, &name).await.on(&page)?;
    let mut counts = Counts::new(&page.client);
    let mut lives = Vec::new();
    for definition in of_kind(&module, DefinitionKind::Orchestration).take(LISTED) {
        lives.push(counts.of(&definition.name).await.on(&page)?);
    }
    let pinned = Pinned::of_hub(&page.client).await.on(&page)?;
    let stored = page.client.stored_modules().await.on(&page)?;
    Ok(shown(&page, &module, &lives, (&pinned, &stored)))
}

fn of_kind(module: &ModuleInfo, kind: DefinitionKind) -> impl Iterator<Item = &Definition> {
    module
        .definitions
        .iter()
        .filter(move |one| one.kind == kind)
}

fn shown(
    page: &Page,
    module: &ModuleInfo,
    lives: &[Option<u64>],
    (pinned, stored): (&Pinned, &[StoredModule]),
) -> Response {
    let body = html! {
        p { a href=(page.path("/modules")) { "All modules" } }
        h1 { "Module " (module.name) }
        (change::notice(page))
        section.card aria-label="What it is" { (facts(page, module, pinned)) }
        (orchestrations(page, module, lives))
        (activities(module))
        (stored::versions(page, module, stored, pinned))
        section.card aria-labelledby="grants-title" {
            h2 #grants-title { "Grants" }
            (grants::facts(&module.grants))
            @if page.may_change() { (grants::form(page, module)) }
        }
        section.card aria-labelledby="imports-title" {
            h2 #imports-title { "Imports" }
            (imports(&module.imports))
        }
        @if page.may_change() { (later(page, module)) }
    };
    layout::page(page, StatusCode::OK, &module.name, "Modules", &body)
}

fn facts(page: &Page, module: &ModuleInfo, pinned: &Pinned) -> Markup {
    let live = pinned.on.get(&module.digest).copied().unwrap_or_default();
    html! {
        dl.facts {
            dt { "Digest" } dd { (show::copyable(&module.digest)) }
            dt { "Size" } dd { (show::bytes(module.size)) }
            dt { "Deployed" } dd { (deployed(module)) }
            dt { "Fuel of a turn" } dd { (limit(module.limits.fuel.map(show::count))) }
            dt { "Memory" } dd { (limit(module.limits.memory_bytes.map(show::bytes))) }
            dt { "Run on this component" }
            dd { @if pinned.more { "at least " } (show::plural(live, "live instance")) }
        }
        @if !page.may_change() { p.hint { "This key may only read." } }
    }
}

fn limit(text: Option<String>) -> Markup {
    html! { @match text { Some(text) => (text), None => span.none { "as the host gives it" } } }
}

/// When a module was deployed.
pub(crate) fn deployed(module: &ModuleInfo) -> Markup {
    match parse_time(&module.deployed_time) {
        Some(at) => show::time(at),
        None => html! { (module.deployed_time) },
    }
}

fn orchestrations(page: &Page, module: &ModuleInfo, lives: &[Option<u64>]) -> Markup {
    let count = of_kind(module, DefinitionKind::Orchestration).count();
    let mut schemas = SCHEMAS;
    html! {
        section.card aria-labelledby="orchestrations-title" {
            h2 #orchestrations-title { "Orchestrations" }
            @if count == 0 { p.none { "It defines none." } } @else {
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "Name" } th scope="col" { "Version" } th.num scope="col" title="Live instances of this name, on whichever component" { "Live, by name" }
                        th scope="col" { "What it does" }
                        @if page.may_change() { th scope="col" { span.hidden { "Start" } } }
                    } }
                    tbody {
                        @for (one, live) in of_kind(module, DefinitionKind::Orchestration).zip(lives) {
                            (orchestration(page, one, *live, &mut schemas))
                        }
                    }
                } }
                p.hint { "“Live, by name” counts the live instances of a name on all components. One that began before the last deployment \
                    runs on the component that it began with, so that the number of those that run on this one, above, may differ." }
                @if count > lives.len() { p.hint { "And " (count - lives.len()) " more." } }
            }
        }
    }
}

fn orchestration(page: &Page, one: &Definition, live: Option<u64>, schemas: &mut usize) -> Markup {
    let all = link::query([("name", one.name.as_str())]);
    html! {
        tr {
            th scope="row" { a href=(page.path(&format!("/instances{all}"))) { (one.name) } }
            td { (version(one)) }
            td.num { @match live {
                Some(0) => "0",
                Some(count) => a href=(page.path(&format!("/instances{}", live_query(&one.name)))) { (show::count(count)) },
                None => "–",
            } }
            td { (described(one, schemas)) }
            @if page.may_change() { td.tight { a href=(page.path(&format!("/start{all}"))) { "Start" } } }
        }
    }
}

fn live_query(name: &str) -> String {
    let statuses =
        [Status::Pending, Status::Running, Status::Suspended].map(|status| status.to_string());
    let statuses = statuses.iter().map(|status| ("status", status.as_str()));
    link::query([("name", name)].into_iter().chain(statuses))
}

fn version(one: &Definition) -> Markup {
    html! { @match &one.version { Some(version) => code { (version) }, None => span.none { "–" } } }
}

fn described(one: &Definition, schemas: &mut usize) -> Markup {
    let text = one.description.as_deref().unwrap_or_default();
    let schema = one.input_schema.as_deref().unwrap_or_default();
    let shown = schema.floor_char_boundary(SCHEMA.min(*schemas));
    *schemas -= shown;
    html! {
        @if text.is_empty() { span.none { "–" } } @else { (show::cut(text, DESCRIPTION)) }
        @if shown > 0 {
            details {
                summary { "Schema of its input" }
                pre { (schema[..shown]) @if shown < schema.len() { "…" } }
            }
        }
    }
}

fn activities(module: &ModuleInfo) -> Markup {
    let count = of_kind(module, DefinitionKind::Activity).count();
    let mut schemas = SCHEMAS;
    html! {
        section.card aria-labelledby="activities-title" {
            h2 #activities-title { "Activities" }
            @if count == 0 { p.none { "It defines none." } } @else {
                div.scroll { table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "What it does" } } }
                    tbody {
                        @for one in of_kind(module, DefinitionKind::Activity).take(LISTED) {
                            tr { th scope="row" { (one.name) } td { (described(one, &mut schemas)) } }
                        }
                    }
                } }
                @if count > LISTED { p.hint { "And " (count - LISTED) " more." } }
            }
        }
    }
}

/// Interfaces that a component imports.
pub(crate) fn imports(imports: &[String]) -> Markup {
    html! {
        @if imports.is_empty() { p.none { "None." } } @else {
            ul.plain { @for import in imports.iter().take(LISTED) { li { code { (import) } } } }
            @if imports.len() > LISTED { p.hint { "And " (imports.len() - LISTED) " more." } }
        }
    }
}

/// What can be done with it: deploy another component, go back to an earlier one, remove it.
fn later(page: &Page, module: &ModuleInfo) -> Markup {
    let deploy = page.path(&format!(
        "/modules{}",
        link::query([("name", module.name.as_str())])
    ));
    html! {
        section.card aria-labelledby="later-title" {
            h2 #later-title { "Replace, roll back or remove" }
            p { "To replace it, " a href=(format!("{deploy}#deploy")) { "deploy another component" }
                " under the same name; to roll back, choose one of its " a href="#versions-title" { "versions" }
                ". Live instances continue on the module that they started on." }
            details #remove {
                summary { "Remove this module" }
                form method="post" action=(path(page, &module.name, "/remove")) data-confirm="Remove this module?" {
                    (page.token_field())
                    input type="hidden" name="digest" value=(module.digest);
                    p { "Its orchestrations can no longer be started, its activities can no longer be called by others, and its grants "
                        "are deleted. Live instances continue on it, but their activities have no grants any more. "
                        "Ended instances and their histories stay." }
                    p { label.inline {
                        input type="checkbox" name="in-use" value="yes";
                        "Remove it even if live instances run it"
                    } }
                    button.danger type="submit" { "Remove " (module.name) }
                }
            }
        }
    }
}

pub(crate) async fn remove(
    page: Page,
    Path((_, name)): Path<(String, String)>,
    Sent(fields): Sent,
) -> Shown {
    expect(&page, &name, &fields).await?;
    let also = if fields.is_set("in-use") {
        RemoveInUse::Yes
    } else {
        RemoveInUse::No
    };
    Ok(match page.client.remove_module(&name, also).await {
        Ok(()) => change::done(
            &page.path("/modules"),
            &format!("The module {name} was removed."),
        ),
        Err(error) => change::refused(&path(&page, &name, ""), &error.into()),
    })
}
