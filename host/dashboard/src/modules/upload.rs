//! Deploying a component from a browser: a preview of what it would change, a check of live instances, and the deployment.
//!
//! Invariants: nothing is kept between the steps, each request brings the component; a deployment names the digest that was previewed, so
//! that a file which changed meanwhile is not deployed; at most one check of live instances runs, of at most [`CHECKED`] of them.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use maud::{Markup, html};
use perennial::{CheckOutcome, CheckReport, CheckedInstance, DefinitionKind, Module, ModuleInfo};
use tokio::sync::{Semaphore, mpsc};

use super::changes::{Change, Changes, Name};
use super::{digest, grants, live, one};
use crate::page::{Page, data};
use crate::refused::Refused;
use crate::{change, show};

/// Live instances that a check replays at most. The command line has no such limit, and does not burden the host.
const CHECKED: u64 = 2_000;

/// Names and instances in a list.
const LISTED: usize = 200;

/// Replays take all processors.
static CHECKS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// The place of a page where a component is chosen.
pub(crate) fn place(page: &Page) -> Markup {
    let name = page.query.text("name").unwrap_or_default();
    html! {
        section #deploy.card aria-labelledby="deploy-title" data-deploy=(page.path("/deploy")) {
            h2 #deploy-title { "Deploy a component" }
            noscript { p.warning {
                "To deploy from a browser needs JavaScript. The command line does the same: " code { "perennial deploy FILE.wasm" }
            } }
            div.deploy hidden {
                p.hint { "A preview comes first. Nothing changes until you confirm it." }
                div.drop {
                    label for="component" { "Component, a .wasm file; or drop it here" }
                    input #component type="file" accept=".wasm,application/wasm";
                }
                label for="module-name" { "Name of the module" }
                input #module-name value=(name) autocomplete="off" spellcheck="false" aria-describedby="module-name-hint";
                p.hint #module-name-hint {
                    "Under the name of a deployed module, it replaces that one. By default it is the name of the file."
                }
                p { button type="button" data-step="inspect" { "Preview" } }
                div.preview aria-live="polite" {}
            }
        }
    }
}

/// The component in a body, inspected.
async fn component(page: &Page, body: Body) -> Result<Module, Refused> {
    let name = page.query.text("name");
    let name = name.ok_or_else(|| Refused::invalid("Give the module a name."))?;
    // The host has bounded it.
    let bytes = to_bytes(body, usize::MAX).await;
    let bytes = bytes
        .map_err(|_| Refused::invalid("The component did not arrive whole; send it again."))?;
    if bytes.is_empty() {
        return Err(Refused::invalid(
            "Choose a component first: this file is empty.",
        ));
    }
    Ok(page.client.look_at(name, bytes.into()).await?)
}

/// A part of a page, for a script to show.
fn fragment(shown: Result<Markup, Refused>) -> Response {
    let (status, markup) = match shown {
        Ok(markup) => (StatusCode::OK, markup),
        Err(refused) => (refused.status, error(&refused)),
    };
    (
        status,
        data("text/html; charset=utf-8", markup.into_string()),
    )
        .into_response()
}

fn error(refused: &Refused) -> Markup {
    html! { p.error role="alert" { (refused.message) } }
}

pub(crate) async fn inspect(page: Page, body: Body) -> Response {
    fragment(inspected(&page, body).await)
}

async fn inspected(page: &Page, body: Body) -> Result<Markup, Refused> {
    let module = component(page, body).await?;
    let deployed = page.client.modules().await?;
    let before = deployed.iter().find(|info| info.name == module.name());
    let changes = Changes::of(&module, &deployed);
    let mut lives = 0;
    for name in concerned(&changes) {
        lives += live::live_of(&page.client, name).await?;
    }
    let takes = changes.taken().next().is_some();
    let allowed = page.visitor.deploy(module.clone(), takes).await;
    let refused = allowed.err().map(Refused::from);
    Ok(preview(page, &module, before, &changes, (lives, refused)))
}

/// The orchestrations whose live instances a check replays.
fn concerned(changes: &Changes) -> impl Iterator<Item = &str> {
    let orchestrations = changes.names.iter();
    let orchestrations = orchestrations.filter(|name| name.kind == DefinitionKind::Orchestration);
    orchestrations.map(|name| name.name.as_str())
}

fn preview(
    page: &Page,
    module: &Module,
    before: Option<&ModuleInfo>,
    changes: &Changes,
    (lives, refused): (u64, Option<Refused>),
) -> Markup {
    let bytes = u64::try_from(module.size()).unwrap_or(u64::MAX);
    let full = module.digest().to_string();
    let is_same = before.is_some_and(|info| info.digest == full);
    html! {
        h3 { "What this deployment would do" }
        dl.facts {
            dt { "Module" }
            dd { (module.name()) @match before { Some(_) => ", which is deployed", None => ", a new name" } }
            dt { "Digest" }
            dd { @if let Some(info) = before { @if !is_same { (digest(&info.digest)) " → " } } (digest(&full)) }
            dt { "Size" }
            dd { @if let Some(info) = before { @if !is_same { (show::bytes(info.size)) " → " } } (show::bytes(bytes)) }
            dt { "Contract" } dd { (module.contract()) }
        }
        @if is_same { p.warning { "This component is deployed under this name already." } }
        (names(page, changes))
        (imports(changes, before.is_some()))
        h3 { "Grants" }
        @match before {
            Some(info) => { p.hint { "It keeps those of the module; they can be changed on its page." } (grants::facts(&info.grants)) },
            None => p.none { "None. They can be given on the page of the module once it is deployed." },
        }
        (live_instances(lives))
        @match refused {
            Some(refused) => { h3 { "This cannot be deployed by you" } (error(&refused)) },
            None => (confirmation(module, changes, &full)),
        }
    }
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
                    td { (becomes(page, name)) }
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

fn becomes(page: &Page, name: &Name) -> Markup {
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

fn live_instances(lives: u64) -> Markup {
    html! {
        h3 { "Live instances" }
        @if lives == 0 { p.none { "There are none of these orchestrations." } } @else {
            p {
                (show::count(lives)) " of these orchestrations. A deployment does not touch them: "
                "each continues on the module that it started on."
            }
            @if lives <= CHECKED {
                p.row {
                    button type="button" data-step="check" { "Check whether they could go on with it" }
                    progress.check max="1" value="0" hidden aria-label="Instances checked" {}
                    span.checked {}
                }
                p.hint { "Their histories are replayed on the new component. Nothing is written." }
                div.report {}
            } @else {
                p.hint { "These are too many to check here; use the command " code { "perennial deploy --check FILE.wasm" } "." }
            }
        }
    }
}

fn confirmation(module: &Module, changes: &Changes, full: &str) -> Markup {
    let taken = changes.taken().count();
    html! {
        div.confirm data-digest=(full) data-name=(module.name()) {
            @if taken > 0 {
                p.warning {
                    "Other modules own " (taken) " of these names. The deployment takes them over: "
                    "those modules keep their other names."
                }
                p { label.inline { input type="checkbox" data-replace; "Take the names over" } }
            }
            p { button.primary type="button" data-step="deploy" { "Deploy " (module.name()) } }
            div.outcome role="alert" {}
        }
    }
}

pub(crate) async fn deploy(page: Page, body: Body) -> Response {
    match deployed(&page, body).await {
        // The script leads there.
        Ok((to, said)) => {
            let answer = data("text/plain; charset=utf-8", to.clone());
            change::telling(answer, &to, &said)
        }
        Err(refused) => fragment(Err(refused)),
    }
}

async fn deployed(page: &Page, body: Body) -> Result<(String, String), Refused> {
    let module = component(page, body).await?;
    if page.query.text("digest") != Some(&module.digest().to_string()) {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "This is not the component that was previewed: the file has changed. Nothing was deployed; preview it again.",
        ));
    }
    let replace = page.query.is_set("replace");
    let done = page.visitor.deploy(module, replace).await?.await?;
    let changed = done.names.iter().filter(|name| name.changed).count();
    let said = format!("Deployed; {changed} of {} names changed.", done.names.len());
    Ok((one::path(page, &done.name, ""), said))
}

/// A part of the answer to a check: lines with the number of instances checked and of all, an empty line, and the report.
enum Said {
    Progress(usize, usize),
    Report(Markup),
}

impl Said {
    fn text(self) -> String {
        match self {
            Self::Progress(done, all) => format!("{done} {all}\n"),
            Self::Report(report) => format!("\n{}", report.into_string()),
        }
    }
}

pub(crate) async fn check(page: Page, body: Body) -> Response {
    match checking(page, body).await {
        Ok(answer) => answer,
        Err(refused) => fragment(Err(refused)),
    }
}

async fn checking(page: Page, body: Body) -> Result<Response, Refused> {
    let Ok(permit) = Arc::clone(&CHECKS).try_acquire_owned() else {
        let message = "Another check runs at the moment. Try again when it has ended.";
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let module = component(&page, body).await?;
    let changes = Changes::of(&module, &page.client.modules().await?);
    let mut lives = 0;
    for name in concerned(&changes) {
        lives += live::live_of(&page.client, name).await?;
    }
    if lives > CHECKED {
        let message = format!(
            "{lives} live instances are too many to check here; use the command perennial deploy --check."
        );
        return Err(Refused::invalid(message));
    }
    let (said, hear) = mpsc::channel(16);
    let progress = said.clone();
    let check = page.client.check(module).on_progress(move |done, all| {
        // Who does not listen misses a number, and gets the next one.
        let _ = progress.try_send(Said::Progress(done, all));
    });
    // It goes on to its end if the visitor leaves, so the permit is kept until then.
    tokio::spawn(async move {
        let checked = check.await;
        drop(permit);
        let shown = match checked {
            Ok(checked) => report(&page, &checked),
            Err(failed) => error(&failed.into()),
        };
        let _ = said.send(Said::Report(shown)).await;
    });
    let parts = stream::unfold(hear, async |mut hear| {
        let said = hear.recv().await?;
        Some((Ok::<_, Infallible>(said.text()), hear))
    });
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(parts)).into_response())
}

fn report(page: &Page, report: &CheckReport) -> Markup {
    let fits = |one: &&CheckedInstance| matches!(one.outcome, CheckOutcome::Compatible { .. });
    let fine = report.instances.iter().filter(fits).count();
    let not: Vec<&CheckedInstance> = report.incompatible().collect();
    html! {
        @if not.is_empty() { p.done { "All " (fine) " could go on with it." } } @else {
            p.warning { (not.len()) " could not go on with it, and " (fine) " could. They stay on the module that they started on." }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Instance" } th scope="col" { "Orchestration" } th scope="col" { "Status" } th scope="col" { "Why" }
                } }
                tbody {
                    @for one in not.iter().take(LISTED) { tr {
                        th scope="row" { a href=(page.instance(&one.instance_id, "")) { (one.instance_id) } }
                        td { (one.name) }
                        td { (show::status(one.runtime_status)) }
                        td { (why(&one.outcome)) }
                    } }
                }
            } }
            @if not.len() > LISTED { p.hint { "And " (not.len() - LISTED) " more." } }
        }
    }
}

fn why(outcome: &CheckOutcome) -> String {
    match outcome {
        CheckOutcome::Differs(why) => why.to_string().chars().take(1_000).collect(),
        CheckOutcome::NotDefined => "The component does not define its orchestration.".to_owned(),
        CheckOutcome::Busy => "It changed too fast to be checked.".to_owned(),
        CheckOutcome::Ended | CheckOutcome::Compatible { .. } => String::new(),
        _ => "It could not be checked.".to_owned(),
    }
}
