//! The pages of one instance: what it is and waits for, its timeline, its history, its family, and what can be done with it.
//!
//! Invariant: each page is bounded, however long the history, large the payloads, or many the children are.

mod act;
mod actions;
mod cause;
mod event;
mod events;
mod history;
mod logs;
mod payloads;
mod pending;
mod quarantine;
mod spans;
mod summary;
mod timeline;
mod travel;
mod tree;
pub(crate) mod waits;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use perennial::InstanceStatus;

use crate::page::Page;
use crate::refused::{OnPage, Refused};
use crate::show::brief;
use crate::{change, layout, link, show};

pub(crate) fn routes() -> Router {
    Router::new()
        .route(
            "/{hub}/instances/{id}",
            get(summary::page).post(summary::take_over),
        )
        .route("/{hub}/instances/{id}/timeline", get(timeline::page))
        .route("/{hub}/instances/{id}/timeline.json", get(timeline::json))
        .route("/{hub}/instances/{id}/history", get(history::page))
        .route("/{hub}/instances/{id}/history.csv", get(history::csv))
        .route("/{hub}/instances/{id}/history.json", get(history::json))
        .route("/{hub}/instances/{id}/history.jsonl", get(history::lines))
        .route(
            "/{hub}/instances/{id}/recorded.json",
            get(history::recorded),
        )
        .route("/{hub}/instances/{id}/history/{number}", get(history::one))
        .route(
            "/{hub}/instances/{id}/history/{number}/payload",
            get(history::payload),
        )
        .route("/{hub}/instances/{id}/logs", get(logs::page))
        .route("/{hub}/instances/{id}/payload/{of}", get(payloads::text))
        .route("/{hub}/instances/{id}/tree", get(tree::page))
        .route("/{hub}/instances/{id}/do/{action}", post(act::act))
        .merge(travel::routes())
        .with_state(travel::Lab::default())
}

/// The pages of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Summary,
    Timeline,
    History,
    Turns,
    Logs,
    Tree,
}

impl Tab {
    const ALL: [Self; 6] = [
        Self::Summary,
        Self::Timeline,
        Self::History,
        Self::Turns,
        Self::Logs,
        Self::Tree,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Summary => "Summary",
            Self::Timeline => "Timeline",
            Self::History => "History",
            Self::Turns => "Turns",
            Self::Logs => "Logs",
            Self::Tree => "Tree",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Summary => "",
            Self::Timeline => "/timeline",
            Self::History => "/history",
            Self::Turns => "/turns",
            Self::Logs => "/logs",
            Self::Tree => "/tree",
        }
    }
}

/// The status of an instance, without its input; the page that says so if there is no such instance.
pub(crate) async fn found(page: &Page, id: &str) -> Result<InstanceStatus, Response> {
    let status = page.client.status(id).await.on(page)?;
    status.ok_or_else(|| Refused::no_instance(id).on(page))
}

/// A page of an instance: its header, the tabs, and the content of this tab.
///
/// It is live: elements of the body with `data-part` are replaced after each change of the instance.
pub(crate) fn frame(page: &Page, status: &InstanceStatus, tab: Tab, body: &Markup) -> Response {
    let id = &status.instance_id;
    let title = match tab {
        Tab::Summary => id.clone(),
        _ => format!("{} · {id}", tab.name()),
    };
    let whole = html! {
        div.instance data-live=(page.live(1, &[("id", &status.instance_id)])) {
            (header(page, status))
            nav.tabs aria-label="Instance" {
                @for other in Tab::ALL {
                    a href=(page.instance(id, other.path())) aria-current=[(other == tab).then_some("page")] { (other.name()) }
                }
            }
            (change::notice(page))
            (body)
        }
    };
    layout::page(page, StatusCode::OK, &title, "Instances", &whole)
}

fn header(page: &Page, status: &InstanceStatus) -> Markup {
    html! {
        div.row.spread {
            h1 { (show::copyable(&status.instance_id)) }
            span.live role="status" {}
        }
        div.row.head data-part="head" {
            (show::status(status.runtime_status))
            span { (kind(page, status)) }
            @if let Some(text) = lasts(status) { span.hint { (text) } }
            span.hint { "changed " (show::ago(status.last_updated_at)) }
            @if let Some(parent) = &status.parent_instance_id {
                span.hint { "child of " a href=(page.instance(parent, "")) { (brief(parent)) } }
            }
            @if status.quarantine.is_some() { strong.held { "quarantined" } }
        }
    }
}

/// The orchestration, with a link to its other instances.
fn kind(page: &Page, status: &InstanceStatus) -> Markup {
    let query = link::query([("name", &*status.name)]);
    html! {
        a href=(page.path(&format!("/instances{query}"))) { (brief(&status.name)) }
        @if let Some(version) = &status.version { " " span.chip title="Version" { (brief(version)) } }
    }
}

/// How long it took, or has run so far.
fn lasts(status: &InstanceStatus) -> Option<Markup> {
    let started = status.started_at?;
    Some(match status.is_ended() {
        true => html! { "took " (show::span(status.last_updated_at.since(started).0)) },
        false => html! { "for " (show::lasting(started)) },
    })
}
