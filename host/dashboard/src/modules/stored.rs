//! Stored modules: the versions of a module that the hub has, and rolling back to one, with the same preview as an upload.
//!
//! Invariant: a roll-back names the component that was deployed when its preview was made, so that it does not undo a deployment that the
//! visitor has not seen.

use axum::http::StatusCode;
use maud::{Markup, html};
use perennial::{DefinitionKind, ModuleInfo, StoredModule};

use super::changes::Offered;
use super::live::Pinned;
use super::preview::{Preview, not_by_you, said, taken};
use super::{check, digest, one};
use crate::admit::Path;
use crate::change::{self, Sent};
use crate::fields::Fields;
use crate::page::Page;
use crate::refused::{OnPage as _, Refused, Shown};
use crate::{layout, link, show};

/// Versions in a list.
const LISTED: usize = 50;

/// Names of modules that are shown of one version.
const NAMES: usize = 20;

/// What a form sends if nothing was deployed under the name.
const NOTHING: &str = "nothing";

/// The page of a stored module, as a version of the module with this name.
pub(crate) fn path(page: &Page, digest: &str, name: Option<&str>) -> String {
    let query = link::query([("name", name.unwrap_or_default())]);
    page.path(&format!("/stored/{}{query}", link::part(digest)))
}

/// A link to the page of a stored module that is not the deployed one.
pub(crate) fn to_roll_back(page: &Page, digest: &str, name: Option<&str>) -> Markup {
    html! {
        a href=(path(page, digest, name)) {
            @if page.may_change() { "Roll back to this version" } @else { "What it has" }
        }
    }
}

/// The versions of a module that are stored, the newest first.
pub(crate) fn versions(
    page: &Page,
    module: &ModuleInfo,
    stored: &[StoredModule],
    pinned: &Pinned,
) -> Markup {
    let is_version = |one: &&StoredModule| {
        let mut names = one.versions_of.iter().chain(&one.deployed_as);
        names.any(|name| *name == module.name)
    };
    let all: Vec<&StoredModule> = stored.iter().filter(is_version).collect();
    html! {
        section.card aria-labelledby="versions-title" {
            h2 #versions-title { "Versions" }
            p.hint { "Components that define names of this module and are still stored. "
                "Those that nothing needs can be deleted on the page of " a href=(page.path("/modules")) { "all modules" } "." }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Digest" } th scope="col" { "Stored" } th scope="col" { "Versions of orchestrations" }
                    th.num scope="col" { "Live instances" } th.num scope="col" { "Size" } th scope="col" { span.hidden { "Deploy" } }
                } }
                tbody { @for one in all.iter().take(LISTED) { (version(page, module, one, pinned)) } }
            } }
            @if all.len() > LISTED { p.hint { "And " (all.len() - LISTED) " older ones." } }
        }
    }
}

fn version(page: &Page, module: &ModuleInfo, one: &StoredModule, pinned: &Pinned) -> Markup {
    let full = one.digest.to_string();
    let is_now = module.digest == full;
    html! {
        tr {
            th scope="row" { div.digest { (digest(&full)) } }
            td { (show::time(one.stored_at)) }
            td { (orchestrations(one)) }
            td.num { @if pinned.more { "at least " } (show::count(pinned.on.get(&full).copied().unwrap_or_default())) }
            td.num { (show::bytes(one.size)) }
            td { @if is_now { strong { "deployed" } } @else { (to_roll_back(page, &full, Some(&module.name))) } }
        }
    }
}

/// The orchestrations of a module with their versions.
fn orchestrations(module: &StoredModule) -> Markup {
    let all = module.definitions.iter();
    let all: Vec<_> = all
        .filter(|one| one.kind == DefinitionKind::Orchestration)
        .collect();
    html! {
        @if all.is_empty() { span.none { "none" } }
        ul.plain {
            @for one in all.iter().take(NAMES) {
                li { (show::cut(&one.name, 120)) @if let Some(version) = &one.version { " " span.chip { (show::cut(version, 120)) } } }
            }
            @if all.len() > NAMES { li.none { "and " (all.len() - NAMES) " more" } }
        }
    }
}

pub(crate) async fn page(page: Page, Path((_, digest)): Path<(String, String)>) -> Shown {
    let name = page.query.text("name").map(str::to_owned);
    shown(&page, &digest, name.as_deref(), &html! {}).await
}

/// Checks live instances, or rolls back: the two buttons of the page.
pub(crate) async fn act(
    page: Page,
    Path((_, digest)): Path<(String, String)>,
    Sent(fields): Sent,
) -> Shown {
    let name = fields.text("name");
    let result = match fields.text("step") {
        Some("check") => checked(&page, &digest, name).await,
        _ => match deployed(&page, &digest, &fields).await {
            Ok(done) => {
                let to = one::path(&page, &done.name, "");
                return Ok(change::done(&to, &said(&done)));
            }
            Err(refused) => Err(refused),
        },
    };
    let result = result.unwrap_or_else(|refused| refused.alert());
    shown(&page, &digest, name, &result).await
}

async fn checked(page: &Page, digest: &str, name: Option<&str>) -> Result<Markup, Refused> {
    let module = async {
        let module = page.client.load_module(digest).await?;
        Ok(match name {
            Some(name) => module.named(name),
            None => module,
        })
    };
    let report = check::begin(page, module, |_, _| {}).await?.await;
    report.map_err(|_| {
        let message = "The check stopped because of an error of this program.";
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })
}

async fn deployed(
    page: &Page,
    digest: &str,
    fields: &Fields,
) -> Result<perennial::Deployment, Refused> {
    let name = fields.text("name");
    let name = name.ok_or_else(|| Refused::invalid("Give the module a name."))?;
    let modules = page.client.modules().await?;
    let now = modules.iter().find(|info| info.name == name);
    if fields.text("before") != Some(now.map_or(NOTHING, |info| &info.digest)) {
        let message = format!(
            "Something else is deployed as {name} than when this preview was made. Nothing was changed; look at what it would do now."
        );
        return Err(Refused::new(StatusCode::CONFLICT, message));
    }
    let replace = fields.is_set("replace");
    let deploy = page.visitor.deploy_stored(digest, name, replace);
    Ok(deploy.await?.await?)
}

/// The page, with what a button of it led to.
async fn shown(page: &Page, digest: &str, name: Option<&str>, result: &Markup) -> Shown {
    let module = page.client.stored_module(digest).await.on(page)?;
    let deployed = page.client.modules().await.on(page)?;
    let name = name.or_else(|| module.likely_name());
    let preview = match name {
        Some(name) => {
            let offered = Offered::stored(&module, name);
            Some(
                Preview::of(&page.client, offered, &deployed)
                    .await
                    .on(page)?,
            )
        }
        None => None,
    };
    let confirmation = match &preview {
        Some(preview) => confirmed(page, &module, preview).await,
        None => html! {},
    };
    let title = format!("Stored module {}", module.digest.short());
    let body = html! {
        p {
            a href=(page.path("/modules")) { "All modules" }
            @if let Some(info) = preview.as_ref().and_then(|preview| preview.before) {
                " · " a href=(one::path(page, &info.name, "")) { "Module " (info.name) }
            }
        }
        h1 { (title) }
        section.card aria-label="What it is" { (facts(page, &module)) }
        @match &preview {
            Some(preview) => section.card #deploy aria-labelledby="roll-back-title" {
                h2 #roll-back-title {
                    @match preview.before { Some(info) => { "Roll back " (info.name) " to this version" }, None => "Deploy it again" }
                }
                (result)
                (preview.show(page, &check_button(page, &module, preview), &confirmation))
            },
            None => (result),
        }
        (other_name(page, &module, name))
    };
    Ok(layout::page(page, StatusCode::OK, &title, "Modules", &body))
}

/// The confirmation, or why the visitor may not roll back.
async fn confirmed(page: &Page, module: &StoredModule, preview: &Preview<'_>) -> Markup {
    let replace = preview.changes.taken().next().is_some();
    let digest = module.digest.to_string();
    let deploy = page
        .visitor
        .deploy_stored(&digest, preview.offered.name, replace);
    match deploy.await {
        Err(refused) if page.may_change() => not_by_you(&refused.into()),
        _ => confirmation(page, module, preview),
    }
}

fn facts(page: &Page, module: &StoredModule) -> Markup {
    let full = module.digest.to_string();
    let list = |names: &[String]| {
        html! {
            @if names.is_empty() { span.none { "none" } }
            @for name in names.iter().take(NAMES) { a href=(one::path(page, name, "")) { (name) } " " }
            @if names.len() > NAMES { span.hint { "and " (names.len() - NAMES) " more" } }
        }
    };
    html! {
        dl.facts {
            dt { "Digest" } dd { (show::copyable(&full)) }
            dt { "Stored" } dd { (show::time(module.stored_at)) }
            dt { "Deployed as" } dd { (list(&module.deployed_as)) }
            dt { "Version of" } dd { (list(&module.versions_of)) }
            dt { "Orchestrations" } dd { (orchestrations(module)) }
            dt { "Component" }
            dd {
                a href=(page.api(&format!("/modules/{full}/component"))) download { "Save the .wasm file" }
                ", " (show::bytes(module.size))
            }
        }
    }
}

/// What each form of the page sends.
fn common(page: &Page, preview: &Preview<'_>, step: &str) -> Markup {
    let before = preview.before.map_or(NOTHING, |info| &info.digest);
    html! {
        (page.token_field())
        input type="hidden" name="step" value=(step);
        input type="hidden" name="name" value=(preview.offered.name);
        input type="hidden" name="before" value=(before);
    }
}

fn check_button(page: &Page, module: &StoredModule, preview: &Preview<'_>) -> Markup {
    html! {
        @if page.may_change() {
            form.row method="post" action=(action(page, module)) {
                (common(page, preview, "check"))
                button type="submit" { "Check whether they could go on with it" }
            }
            p.hint { "Their histories are replayed on this component. Nothing is written." }
        }
    }
}

fn confirmation(page: &Page, module: &StoredModule, preview: &Preview<'_>) -> Markup {
    if preview.is_same() {
        return html! {};
    }
    html! {
        @if page.may_change() {
            form method="post" action=(action(page, module)) {
                (common(page, preview, "deploy"))
                @if let Some(taken) = taken(&preview.changes) {
                    (taken)
                    p { label.inline { input type="checkbox" name="replace" value="yes" required; "Take the names over" } }
                }
                p { button.primary type="submit" {
                    @match preview.before { Some(info) => { "Roll back " (info.name) }, None => { "Deploy " (preview.offered.name) } }
                } }
            }
        } @else { p.hint { "This key may only read." } }
    }
}

fn action(page: &Page, module: &StoredModule) -> String {
    path(page, &module.digest.to_string(), None)
}

/// The same preview under another name.
fn other_name(page: &Page, module: &StoredModule, name: Option<&str>) -> Markup {
    html! {
        details open[name.is_none()] {
            summary { @if name.is_none() { "Deploy it again" } @else { "Under another name" } }
            form method="get" action=(action(page, module)) {
                @if name.is_none() {
                    p { "It is not clear which module this is a version of. Give the name under which it would be deployed." }
                }
                label for="module-name" { "Name of the module" }
                div.row {
                    input #module-name name="name" value=(name.unwrap_or_default()) required autocomplete="off" spellcheck="false";
                    button type="submit" { "Preview" }
                }
            }
        }
    }
}
