//! How far a command on many instances is, and what it did. With `?wait=SECONDS` the answer comes when it has ended, or after that time.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};

use crate::admit::Path;
use crate::change::Sent;
use crate::instances::jobs::{End, Job, Jobs, NOTES_MAX, Report};
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::show::cut;
use crate::{layout, show};

/// Characters that are shown of an id, and of a reason.
const ID: usize = 120;
const WHY: usize = 4_000;

/// The longest wait for the end.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Until it has ended, the browser reads the page again every few seconds, with or without scripts.
const AGAIN: HeaderValue = HeaderValue::from_static("2");

pub(super) async fn page(
    page: Page,
    State(jobs): State<Jobs>,
    Path((_, key)): Path<(String, String)>,
) -> Shown {
    let job = jobs.find(page.hub(), &key).ok_or_else(gone).on(&page)?;
    if let Some(seconds) = page.query.text("wait").and_then(|text| text.parse().ok()) {
        job.ended(Duration::from_secs(seconds).min(WAIT_MAX)).await;
    }
    let report = job.report();
    let title = title(&job, &report);
    let body = html! {
        h1 { (title) }
        (state(&page, &job, &report))
        (numbers(&job, &report))
        (notes(&page, &report))
        p { a.button href=(page.path(&format!("/instances{}", job.query))) { "Back to the list" } }
    };
    let mut response = layout::page(&page, StatusCode::OK, &title, "Instances", &body);
    if report.end.is_none() {
        response.headers_mut().insert(header::REFRESH, AGAIN);
    }
    Ok(response)
}

pub(super) async fn stop(
    page: Page,
    State(jobs): State<Jobs>,
    Path((_, key)): Path<(String, String)>,
    Sent(_): Sent,
) -> Shown {
    let job = jobs.find(page.hub(), &key).ok_or_else(gone).on(&page)?;
    job.stop();
    Ok(Redirect::to(&page.path(&format!("/bulk/{key}"))).into_response())
}

fn gone() -> Refused {
    let message = "The result of this command is no longer kept, because the host was restarted or others followed. \
                   What it changed stays changed.";
    Refused::new(StatusCode::NOT_FOUND, message)
}

fn title(job: &Job, report: &Report) -> String {
    let what = job.command.action.label();
    match &report.end {
        None => format!("{what}: running"),
        Some(End::Finished) => format!("{what}: finished"),
        Some(End::Failed(_)) => format!("{what}: could not go on"),
        Some(End::Stopped) => format!("{what}: stopped"),
    }
}

fn state(page: &Page, job: &Job, report: &Report) -> Markup {
    let handled = report
        .changed
        .saturating_add(report.skipped)
        .saturating_add(report.failed);
    html! {
        @match &report.end {
            None => {
                @match report.matched {
                    Some(matched) if matched > 0 => {
                        label for="progress" { (show::count(handled.min(matched))) " of " (show::plural(matched, "instance")) }
                        progress #progress max=(matched) value=(handled.min(matched)) {}
                    }
                    _ => p role="status" { "The instances are being counted." },
                }
                p.hint { "It goes on if you leave this page." }
                @if page.may_change() {
                    form method="post" action=(page.path(&format!("/bulk/{}/stop", job.key))) {
                        (page.token_field())
                        button type="submit" { "Stop it" }
                        span.hint { " What was changed until then stays changed." }
                    }
                }
            }
            Some(End::Finished) if report.failed > 0 => p.warning role="status" {
                "Some instances could not be changed; see below."
            },
            Some(End::Finished) => p.done role="status" { "Done." },
            Some(End::Failed(why)) => {
                p.error role="alert" { (why) }
                p { "What was changed until then stays changed; the rest was not attempted. Give the command again to do the rest." }
            }
            Some(End::Stopped) => p.warning role="status" {
                "It was stopped. What was changed until then stays changed, and the instances that were being changed may be changed, too."
            },
        }
    }
}

fn numbers(job: &Job, report: &Report) -> Markup {
    html! {
        dl.facts.card {
            dt { "Confirmed" }
            dd { (show::count(job.confirmed)) }
            @if let Some(matched) = report.matched {
                dt { "Matched" }
                dd {
                    (show::count(matched))
                    @if matched != job.confirmed {
                        span.hint { " of those that were there when the command was confirmed match now" }
                    }
                }
            }
            @if report.newer > 0 {
                dt { "Left alone" }
                dd { (show::count(report.newer)) span.hint { " more match now, and did not when the command was confirmed" } }
            }
            dt { "Changed" }
            dd { (show::count(report.changed)) " " (job.command.action.done()) }
            @if report.changed > 0 {
                dd.hint { "A command takes effect soon after it is counted here, and is not lost if the host stops." }
            }
            dt { "Skipped" }
            dd {
                (show::count(report.skipped))
                @if report.skipped > 0 && report.notes.is_empty() {
                    span.hint { " had changed or were deleted before the command reached them" }
                }
            }
            @if report.failed > 0 { dt { "Refused" } dd { (show::count(report.failed)) } }
        }
    }
}

fn notes(page: &Page, report: &Report) -> Markup {
    let all = report.skipped.saturating_add(report.failed);
    html! {
        @if !report.notes.is_empty() {
            section.card aria-labelledby="left" {
                h2 #left { "Instances that were not changed" }
                div.scroll { table {
                    thead { tr { th scope="col" { "Id" } th.tight scope="col" { "Result" } th scope="col" { "Why" } } }
                    tbody { @for note in &report.notes { tr {
                        td { a.mono href=(page.instance(&note.id, "")) { (cut(&note.id, ID)) } }
                        td.tight { @if note.is_failure { strong { "refused" } } @else { "skipped" } }
                        td { (cut(&note.why, WHY)) }
                    } } }
                } }
                @if all > NOTES_MAX as u64 { p.hint { "and " (show::count(all - NOTES_MAX as u64)) " more" } }
            }
        }
    }
}
