//! Modules: what is deployed, what live instances still run on, what is stored and not used, deploying, and rolling back.
//!
//! A deployment has two steps: a preview, which changes nothing, and the deployment of the component that was previewed. The browser sends
//! the component with both, so the host keeps nothing between them; the second step names the digest that the first one showed.

mod changes;
mod check;
mod grants;
mod live;
mod one;
mod preview;
mod stored;
mod upload;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use maud::{Markup, html};
use perennial::{Collect, CollectedModule, Definition, DefinitionKind, ModuleInfo, StoredModule};

use crate::change::{self, Sent};
use crate::page::Page;
use crate::refused::OnPage as _;
use crate::refused::Shown;
use crate::{layout, link, show};
use live::{Counts, Pinned};

/// Modules on the page.
const LISTED: usize = 200;

/// Names of definitions in a row.
const NAMES: usize = 12;

/// Stored modules that are listed.
const STORED: usize = 50;

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/{hub}/modules", get(page))
        .route("/{hub}/modules/{name}", get(one::page))
        .route("/{hub}/modules/{name}/grants", post(grants::change))
        .route("/{hub}/modules/{name}/remove", post(one::remove))
        .route(
            "/{hub}/stored/{digest}",
            get(stored::page).post(stored::act),
        )
        .route("/{hub}/deploy", post(upload::deploy))
        .route("/{hub}/deploy/inspect", post(upload::inspect))
        .route("/{hub}/deploy/check", post(upload::check))
        .route("/{hub}/collect", post(collect))
}

async fn page(page: Page) -> Shown {
    let modules = page.client.modules().await.on(&page)?;
    let mut counts = Counts::new(&page.client);
    let mut rows = Vec::new();
    for module in modules.iter().take(LISTED) {
        rows.push((module, counts.of_module(module).await.on(&page)?));
    }
    let pinned = Pinned::of_hub(&page.client).await.on(&page)?;
    let unused = page
        .client
        .collect_modules(Collect::new().dry_run(true))
        .await
        .on(&page)?;
    let old = Collect::new().old_versions(true).dry_run(true);
    let old = page.client.collect_modules(old).await.on(&page)?;
    let stored = page.client.stored_modules().await.on(&page)?;
    let body = html! {
        h1 { "Modules" }
        (change::notice(&page))
        @if modules.is_empty() { (nothing(&page)) } @else { (table(&page, &rows, modules.len())) }
        @if page.may_change() { (upload::place(&page)) }
        (still_needed(&page, &pinned, &modules, &stored))
        (not_used(&page, &unused, &old, &stored))
    };
    Ok(layout::page(
        &page,
        StatusCode::OK,
        "Modules",
        "Modules",
        &body,
    ))
}

fn nothing(page: &Page) -> Markup {
    html! {
        div.empty {
            strong { "No module is deployed" }
            @if page.may_change() {
                p { "Deploy a component below, or with the command " code { "perennial deploy hello-sequence.wasm" } "." }
            } @else {
                p { "A module is a component with orchestrations and activities. Somebody with an admin key can deploy one." }
            }
        }
    }
}

fn table(page: &Page, rows: &[(&ModuleInfo, Option<u64>)], all: usize) -> Markup {
    html! {
        div.card.scroll { table {
            thead { tr {
                th scope="col" { "Module" } th scope="col" { "Orchestrations" } th scope="col" { "Activities" }
                th.num scope="col" title="Live instances of the names that it defines, also those that run on an earlier component" { "Live, by name" }
                th scope="col" { "Grants" } th scope="col" { "Deployed" } th.num scope="col" { "Size" }
            } }
            tbody { @for (module, live) in rows { (row(page, module, *live)) } }
        } }
        @if all > rows.len() { p.hint { "And " (all - rows.len()) " more modules." } }
    }
}

fn row(page: &Page, module: &ModuleInfo, live: Option<u64>) -> Markup {
    let to = one::path(page, &module.name, "");
    html! {
        tr data-href=(to) {
            th scope="row" { a href=(to) { (module.name) } div.digest { (digest(&module.digest)) } }
            td { (names(page, module, DefinitionKind::Orchestration)) }
            td { (names(page, module, DefinitionKind::Activity)) }
            td.num { @match live { Some(count) => (show::count(count)), None => span title="Not counted on this page" { "–" } } }
            td { (granted(module)) }
            td { (one::deployed(module)) }
            td.num { (show::bytes(module.size)) }
        }
    }
}

/// A digest in short; the button copies all of it.
fn digest(digest: &str) -> Markup {
    let short: String = digest.chars().take(12).collect();
    html! {
        span.copyable {
            code title=(digest) { (short) }
            (show::copy(digest, "Copy the digest"))
        }
    }
}

fn names(page: &Page, module: &ModuleInfo, kind: DefinitionKind) -> Markup {
    let all: Vec<&Definition> = module
        .definitions
        .iter()
        .filter(|one| one.kind == kind)
        .collect();
    html! {
        @if all.is_empty() { span.none { "–" } } @else {
            ul.plain {
                @for one in all.iter().take(NAMES) { li {
                    @if kind == DefinitionKind::Orchestration {
                        a href=(page.path(&format!("/instances{}", link::query([("name", one.name.as_str())])))) { (one.name) }
                    } @else { (one.name) }
                    @if let Some(version) = &one.version { " " span.chip { (version) } }
                } }
                @if all.len() > NAMES { li.none { "and " (all.len() - NAMES) " more" } }
            }
        }
    }
}

fn granted(module: &ModuleInfo) -> Markup {
    let grants = &module.grants;
    let counts = [
        (grants.dirs.len(), "directory", "directories"),
        (grants.env.len(), "variable", "variables"),
        (grants.http_hosts.len(), "HTTP host", "HTTP hosts"),
    ];
    let texts = counts.into_iter().filter(|(count, ..)| *count > 0);
    let texts =
        texts.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }));
    let texts: Vec<String> = texts.collect();
    html! { @if texts.is_empty() { span.none { "none" } } @else { (texts.join(", ")) } }
}

/// Stored modules that no name refers to, but live instances run on.
fn still_needed(
    page: &Page,
    pinned: &Pinned,
    modules: &[ModuleInfo],
    stored: &[StoredModule],
) -> Markup {
    let old: Vec<(&str, u64)> = pinned.old(modules).collect();
    if old.is_empty() {
        return html! {};
    }
    html! {
        section.card aria-labelledby="pinned-title" {
            h2 #pinned-title { "Earlier components that live instances run on" }
            p.hint { "An instance stays on the module that it started on. These are kept until their instances have ended."
                @if pinned.more { " Only the oldest 1,000 live instances were looked at." } }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Digest" } th.num scope="col" { "Live instances on it" } th scope="col" { "Version of" }
                } }
                tbody { @for (one, count) in old.iter().take(STORED) { tr {
                    td { (digest(one)) }
                    td.num { @if pinned.more { "at least " } (show::count(*count)) }
                    td { (version_of(page, one, stored)) }
                } } }
            } }
            @if old.len() > STORED { p.hint { "And " (old.len() - STORED) " more." } }
            p { a href=(page.path("/instances")) { "All instances" } }
        }
    }
}

/// Which module a stored one is a version of, and the way back to it.
fn version_of(page: &Page, digest: &str, stored: &[StoredModule]) -> Markup {
    let found = stored.iter().find(|one| one.digest.to_string() == digest);
    let Some(found) = found else {
        return html! {};
    };
    html! {
        @for name in found.versions_of.iter().take(NAMES) { a href=(one::path(page, name, "")) { (name) } " · " }
        (stored::to_roll_back(page, digest, found.likely_name()))
    }
}

/// What could be deleted: what nothing refers to, and what only old versions keep.
fn not_used(
    page: &Page,
    unused: &[CollectedModule],
    old: &[CollectedModule],
    stored: &[StoredModule],
) -> Markup {
    if old.is_empty() {
        return html! {};
    }
    html! {
        section.card aria-labelledby="unused-title" {
            h2 #unused-title { "Stored and not used" }
            p { (sum(unused)) " that nothing refers to: no name, no live instance, and no failed one, which could be rewound." }
            @if old.len() > unused.len() {
                p { (sum(old)) " if earlier versions of orchestrations are given up too, which then cannot be started any more." }
            }
            details #unused-list {
                summary { "Which" }
                ul.plain {
                    @for one in old.iter().take(STORED) { li {
                        (digest(&one.digest.to_string())) " " (show::bytes(one.bytes)) " "
                        (version_of(page, &one.digest.to_string(), stored))
                        @if !unused.contains(one) { " " span.none { "kept for an earlier version" } }
                    } }
                    @if old.len() > STORED { li.none { "and " (old.len() - STORED) " more" } }
                }
            }
            @if page.may_change() { (deletion(page, unused, old)) }
        }
    }
}

fn deletion(page: &Page, unused: &[CollectedModule], old: &[CollectedModule]) -> Markup {
    html! {
        form.row method="post" action=(page.path("/collect"))
            data-confirm="Delete these modules? To use one again, it must be deployed again." {
            (page.token_field())
            @if old.len() > unused.len() {
                label.inline { input type="checkbox" name="old" value="yes"; "Also those of earlier versions" }
            }
            button.danger type="submit" { "Delete what is not used" }
        }
    }
}

fn sum(modules: &[CollectedModule]) -> String {
    let bytes = modules.iter().map(|one| one.bytes).sum();
    let what = if modules.len() == 1 {
        "module"
    } else {
        "modules"
    };
    format!("{} {what} of {}", modules.len(), show::bytes(bytes))
}

async fn collect(page: Page, Sent(fields): Sent) -> Shown {
    let which = Collect::new().old_versions(fields.is_set("old"));
    let to = page.path("/modules");
    Ok(match page.client.collect_modules(which).await {
        Ok(gone) => change::done(&to, &format!("Deleted: {}.", sum(&gone))),
        Err(error) => change::refused(&to, &error.into()),
    })
}
