//! The remote workers that are connected, what each runs, and what waits for one.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use maud::{Markup, html};
use perennial::{WaitingWork, Worker, WorkerItem, WorkerName};

use crate::page::Page;
use crate::refused::{OnPage, Shown};
use crate::{layout, show};

/// Names and running items of one worker that are listed.
const LISTED: usize = 50;

pub(crate) fn routes() -> Router {
    Router::new().route("/{hub}/workers", get(workers))
}

async fn workers(page: Page) -> Shown {
    let found = page.client.workers().await.on(&page)?;
    let body = html! {
        h1 { "Workers" }
        p.hint {
            "Programs written with the Durable Task SDKs that run orchestrations and activities of this hub. Components need none: the host runs them."
        }
        div data-live=(page.live(3, &[])) {
            div data-part="waiting" { (waiting(&found.waiting)) }
            div data-part="workers" { (connected(&page, &found.connected)) }
            p.live {}
        }
    };
    Ok(layout::page(
        &page,
        StatusCode::OK,
        "Workers",
        "Workers",
        &body,
    ))
}

fn named(name: &str, version: Option<&str>) -> Markup {
    html! { code { (name) } @if let Some(version) = version { " " span.chip { (version) } } }
}

fn waiting(waiting: &[WaitingWork]) -> Markup {
    html! {
        @if !waiting.is_empty() {
            section.card {
                h2 { "Waits for a worker" }
                p { "No connected worker that runs these has room. Start one, or one with more room." }
                div.scroll { table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Kind" } th.num scope="col" { "Waiting" } } }
                    tbody {
                        @for one in waiting {
                            tr { td { (named(&one.name, one.version.as_deref())) } td { (one.kind) } td.num { (show::count(one.count)) } }
                        }
                    }
                } }
            }
        }
    }
}

fn connected(page: &Page, workers: &[Worker]) -> Markup {
    html! {
        @if workers.is_empty() {
            div.card.empty {
                strong { "No worker is connected" }
                p { "A worker of the Durable Task SDKs connects to this address over gRPC: its endpoint is " code { (page.visitor.origin()) } ", and its task hub " code { (page.hub()) } "." }
            }
        }
        @for worker in workers { (one(page, worker)) }
    }
}

fn one(page: &Page, worker: &Worker) -> Markup {
    html! {
        section.card {
            h2 { (worker.name) }
            dl.facts {
                dt { "Connected" } dd { (show::ago(worker.connected_at)) }
                dt { "Orchestrations" } dd { (names(worker.orchestrations.as_deref())) ", at most " (worker.orchestrations_max) " at once" }
                dt { "Activities" } dd { (names(worker.activities.as_deref())) ", at most " (worker.activities_max) " at once" }
                dt { "Answered" } dd { (show::count(worker.answered)) }
            }
            @if worker.running.is_empty() { p.none { "It runs nothing now." } } @else { (running(page, &worker.running)) }
        }
    }
}

fn names(names: Option<&[WorkerName]>) -> Markup {
    html! {
        @match names {
            None => { "all" },
            Some([]) => { "none" },
            Some(names) => {
                @for (at, one) in names.iter().take(LISTED).enumerate() {
                    @if at > 0 { ", " }
                    code { (one.name) }
                    @for version in &one.versions { " " span.chip { (version) } }
                }
                @if names.len() > LISTED { " and " (names.len() - LISTED) " more" }
            },
        }
    }
}

fn running(page: &Page, items: &[WorkerItem]) -> Markup {
    html! {
        div.scroll { table {
            caption { "Runs now" }
            thead { tr { th scope="col" { "Instance" } th scope="col" { "Name" } th scope="col" { "Kind" } th scope="col" { "Since" } } }
            tbody {
                @for item in items.iter().take(LISTED) {
                    tr data-href=(page.instance(&item.instance_id, "")) {
                        td { a href=(page.instance(&item.instance_id, "")) { (item.instance_id) } }
                        td { (named(&item.name, item.version.as_deref())) }
                        td { (item.kind) }
                        td { (show::ago(item.running_since)) }
                    }
                }
            }
        } }
        @if items.len() > LISTED { p.hint { (items.len() - LISTED) " more" } }
    }
}
