//! The first page of an instance: what it is, why it waits, what went in and came out, and what can be done.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use perennial::{InstanceStatus, RequestState, RequestStatus};

use super::cause::{self, Cause};
use super::travel::{Lab, takeover};
use super::{Tab, actions, frame, payloads, pending, quarantine, waits};
use crate::admit::Path;
use crate::change::Sent;
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::show::{brief, cut};
use crate::{link, show};

/// Requests, rewinds and tags that are shown.
const SHOWN: usize = 50;

pub(super) async fn page(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = whole(&page, &id).await?;
    shown(&page, &status, &html! {}).await
}

/// Says whether the module that is deployed now could take the instance over.
pub(super) async fn take_over(
    page: Page,
    State(lab): State<Lab>,
    Path((_, id)): Path<(String, String)>,
    Sent(_): Sent,
) -> Shown {
    let status = whole(&page, &id).await?;
    let answer = takeover::answer(&page, &lab, &status).await;
    let answer = answer.unwrap_or_else(|refused| refused.alert());
    shown(&page, &status, &answer).await
}

async fn whole(page: &Page, id: &str) -> Result<InstanceStatus, Response> {
    let status = page.client.status(id).show_input().await.on(page)?;
    status.ok_or_else(|| Refused::no_instance(id).on(page))
}

async fn shown(page: &Page, status: &InstanceStatus, answer: &Markup) -> Shown {
    // A purge in between is told on the next look.
    let requests = page.client.requests(&status.instance_id).await;
    let requests = requests.unwrap_or_default();
    let pending = pending::find(page, status).await;
    let modules = page.client.modules().await.on(page)?;
    let cause = cause::find(&page.client, status).await;
    let body = html! {
        div data-part="state" data-key=(actions::key(status)) {
            @if let Some(why) = &status.quarantine { (quarantine::card(page, why)) }
            (failure(page, status, cause.as_ref()))
            (waits::card(page, status))
            (pending::card(page, status, &pending))
        }
        (takeover::card(page, status, &modules, answer))
        div.columns {
            div data-part="payloads" { (payloads::cards(page, status)) (answers(status, &requests)) (rewinds(status)) }
            section.card data-part="facts" aria-labelledby="facts" { h2 #facts { "Facts" } (facts(page, status)) }
        }
        @if page.may_change() { (actions::section(page, status)) }
    };
    Ok(frame(page, status, Tab::Summary, &body))
}

fn failure(page: &Page, status: &InstanceStatus, cause: Option<&Cause>) -> Markup {
    html! {
        @if let Some(failure) = &status.failure {
            section.card aria-labelledby="failure" {
                h2 #failure { "Failure" }
                @if let Some(cause) = cause { (cause::line(page, status, cause)) }
                (show::failure(failure))
            }
        }
    }
}

fn answers(status: &InstanceStatus, requests: &[RequestStatus]) -> Markup {
    html! {
        @if !requests.is_empty() {
            section.card aria-labelledby="requests" {
                h2 #requests { "Requests" }
                div.scroll { table {
                    caption { "Requests to " (brief(&status.instance_id)) ", the newest first" }
                    thead { tr {
                        th scope="col" { "Request" } th scope="col" { "State" }
                        th scope="col" { "Accepted" } th scope="col" { "Answer" }
                    } }
                    tbody { @for request in requests.iter().take(SHOWN) { (answer(request)) } }
                } }
                (more(requests.len()))
            }
        }
    }
}

fn answer(request: &RequestStatus) -> Markup {
    let (state, class) = match request.state {
        RequestState::Completed => ("answered", "completed"),
        RequestState::Failed => ("failed", "failed"),
        _ => ("no answer yet", "pending"),
    };
    html! {
        tr {
            td { b { (brief(&request.name)) } br; code.hint { (brief(&request.request_id)) } }
            td.tight { span class=(format!("status {class}")) { (state) } }
            td { (show::maybe(request.accepted_at)) }
            td {
                @if let Some(failure) = &request.failure { (show::failure(failure)) }
                @if let Some(output) = &request.output { (small(output.as_str())) }
            }
        }
    }
}

/// A payload as text, of which only the beginning is shown.
fn small(text: &str) -> Markup {
    html! { code { (cut(text, 500)) } }
}

fn rewinds(status: &InstanceStatus) -> Markup {
    html! {
        @if !status.rewinds.is_empty() {
            section.card aria-labelledby="rewinds" {
                h2 #rewinds { "Rewinds" }
                ol {
                    @for rewind in status.rewinds.iter().rev().take(SHOWN) {
                        li { (show::time(rewind.at)) @if let Some(reason) = &rewind.reason { ": " (cut(reason, 1_000)) } }
                    }
                }
                (more(status.rewinds.len()))
            }
        }
    }
}

fn more(all: usize) -> Markup {
    html! { @if all > SHOWN { p.hint { "and " (show::count((all - SHOWN) as u64)) " more" } } }
}

fn facts(page: &Page, status: &InstanceStatus) -> Markup {
    html! {
        dl.facts {
            dt { "Status" } dd { (show::status(status.runtime_status)) }
            dt { "Orchestration" } dd { (status.name) @if let Some(version) = &status.version { " " span.hint { "version " (version) } } }
            @if let Some(module) = &status.module {
                dt { "Module" }
                dd { a href=(page.path(&format!("/stored/{module}"))) title=(module) { code { (module.short()) } } }
            }
            dt { "Created" } dd { (show::time(status.created_at)) }
            @if let Some(at) = status.scheduled_for { dt { "Scheduled for" } dd { (show::time(at)) } }
            dt { "Started" } dd { (show::maybe(status.started_at)) }
            dt { "Last updated" } dd { (show::time(status.last_updated_at)) }
            @if let Some(started) = status.started_at.filter(|_| status.is_ended()) {
                dt { "Duration" } dd { (show::span(status.last_updated_at.since(started).0)) }
            }
            dt { "Execution" } dd { (show::copyable(&status.execution_id)) }
            @if let Some(parent) = &status.parent_instance_id { dt { "Parent" } dd { a href=(page.instance(parent, "")) { (parent) } } }
            dt { "History" }
            dd {
                a href=(page.instance(&status.instance_id, "/history")) { (show::plural(status.history_events, "event")) }
                ", about " (show::bytes(status.history_bytes))
            }
            dt { "Tags" }
            dd {
                @if status.tags.is_empty() { span.none { "none" } }
                @for (key, value) in status.tags.iter().take(SHOWN) {
                    a.chip href=(page.path(&format!("/instances{}", link::query([("tag", &*format!("{key}={value}"))])))) {
                        (brief(key)) "=" (brief(value))
                    }
                    " "
                }
                (more(status.tags.len()))
            }
        }
    }
}
