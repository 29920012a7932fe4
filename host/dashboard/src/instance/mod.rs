//! The pages of one instance: what it is and waits for, its timeline, its history, its family, and what can be done with it.
//!
//! Invariant: each page is bounded, however long the history, large the payloads, or many the children are.

mod act;
mod actions;
mod cause;
mod event;
mod history;
mod payloads;
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
use crate::show::cut;
use crate::{change, layout, link, show};

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/{hub}/instances/{id}", get(summary::page))
        .route("/{hub}/instances/{id}/timeline", get(timeline::page))
        .route("/{hub}/instances/{id}/timeline.json", get(timeline::json))
        .route("/{hub}/instances/{id}/history", get(history::page))
        .route("/{hub}/instances/{id}/history/{number}", get(history::one))
        .route(
            "/{hub}/instances/{id}/history/{number}/payload",
            get(history::payload),
        )
        .route("/{hub}/instances/{id}/payload/{of}", get(payloads::text))
        .route("/{hub}/instances/{id}/tree", get(tree::page))
        .route("/{hub}/instances/{id}/do/{action}", post(act::act))
        .merge(travel::routes())
}

/// The pages of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Summary,
    Timeline,
    History,
    Turns,
    Tree,
}

impl Tab {
    const ALL: [Self; 5] = [
        Self::Summary,
        Self::Timeline,
        Self::History,
        Self::Turns,
        Self::Tree,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Summary => "Summary",
            Self::Timeline => "Timeline",
            Self::History => "History",
            Self::Turns => "Turns",
            Self::Tree => "Tree",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Summary => "",
            Self::Timeline => "/timeline",
            Self::History => "/history",
            Self::Turns => "/turns",
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
        div.instance data-live=(stream(page, status)) data-every="1000" {
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

/// The stream of changes of instances, which neither repeats the history nor ends when the instance does. It also tells of other instances
/// whose ids begin with this one, which only costs a look.
fn stream(page: &Page, status: &InstanceStatus) -> String {
    let query = link::query([("idPrefix", &*status.instance_id), ("name", &*status.name)]);
    page.api(&format!("/live{query}"))
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

/// Characters of a text that a line shows.
const BRIEF: usize = 120;

/// A text that fits in a line.
fn brief(text: &str) -> String {
    cut(text, BRIEF)
}
