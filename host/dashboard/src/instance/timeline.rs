//! The timeline of an instance: a picture that a script draws from data, and a table that says the same.

use futures::TryStreamExt;
use maud::{Markup, html};
use perennial::{InstanceStatus, Timestamp};

use super::spans::{Attempt, Outcome, Span, Spans};
use super::{Tab, brief, found, frame};
use crate::admit::Path;
use crate::page::{Page, data};
use crate::refused::{OnPage, Refused, Shown};
use crate::show;

/// Spans in the table.
const ROWS: usize = 500;

/// The width of the whole time in the bars of the table.
const WIDTH: u64 = 1_000;

async fn spans(page: &Page, status: &InstanceStatus) -> Result<Spans, perennial::Error> {
    let history = page
        .client
        .history(&status.instance_id)
        .hide_inputs()
        .hide_outputs();
    let mut history = history.stream();
    let mut spans = Spans::default();
    while let Some(event) = history.try_next().await? {
        spans.tell(&event);
    }
    Ok(spans.finish(status, show::now()))
}

pub(super) async fn page(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = found(&page, &id).await?;
    let spans = spans(&page, &status).await.on(&page)?;
    let body = html! {
        @if spans.spans.is_empty() {
            div.card.empty data-part="timeline" {
                strong { "Nothing on the timeline yet" }
                "Activities, timers, events, requests and children appear here as soon as the orchestration asks for them."
            }
        } @else {
            (picture(&page, &id))
            div.card.scroll data-part="timeline" data-stamp=(stamp(&status)) tabindex="0" role="region" aria-label="The timeline as a table" { (table(&page, &spans)) }
        }
    };
    Ok(frame(&page, &status, Tab::Timeline, &body))
}

/// Differs after each change that the picture may show.
fn stamp(status: &InstanceStatus) -> String {
    format!("{}-{}", status.last_updated_at.0, status.history_events)
}

pub(super) async fn json(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = found(&page, &id).await?;
    let spans = spans(&page, &status).await.on(&page)?;
    let text = serde_json::to_string(&spans);
    let text = text
        .map_err(|error| Refused::invalid(error.to_string()))
        .on(&page)?;
    Ok(data("application/json", text))
}

/// Where the script draws. The table below says the same in words.
fn picture(page: &Page, id: &str) -> Markup {
    html! {
        section.card.timeline.needs-js aria-labelledby="picture" data-timeline=(page.instance(id, "/timeline.json"))
            data-instances=(page.path("/instances/")) data-history=(page.instance(id, "/history/")) {
            div.row.spread {
                h2 #picture { "Timeline" }
                div.row role="toolbar" aria-label="Zoom" {
                    button type="button" data-zoom="in" title="Zoom in (+)" { "Zoom in" }
                    button type="button" data-zoom="out" title="Zoom out (-)" { "Zoom out" }
                    button type="button" data-zoom="all" title="Show all (0)" { "Show all" }
                }
            }
            canvas tabindex="0" role="img" aria-label="Bars of all tasks over time; the table below has the same in words" {}
            p.detail role="status" { "Point at a bar, or choose one with the arrow keys, to see what it is." }
            p.hint {
                "Wheel or " kbd { "+" } " " kbd { "-" } ": zoom. Drag, " kbd { "←" } " " kbd { "→" } ": move in time. "
                kbd { "↑" } " " kbd { "↓" } ": choose a bar. " kbd { "Enter" } ": its event. " kbd { "0" } ": all. "
                "Vertical lines are turns; pale parts wait."
            }
        }
    }
}

fn table(page: &Page, spans: &Spans) -> Markup {
    let all = spans.spans.len() as u64 + spans.more;
    html! {
        table.spans {
            caption {
                (show::plural(all, "span")) " in " (show::span(spans.until))
                @if all > ROWS as u64 { "; the first " (ROWS) " are listed" }
            }
            thead { tr {
                th scope="col" { "What" } th.num scope="col" { "After" } th.num scope="col" { "Took" }
                th.num scope="col" { "Attempts" } th scope="col" { "Outcome" } th.bar scope="col" { "When" }
            } }
            tbody { @for span in spans.spans.iter().take(ROWS) { (row(page, spans, span)) } }
        }
    }
}

fn row(page: &Page, spans: &Spans, span: &Span) -> Markup {
    html! {
        tr {
            td {
                span.hint { (span.kind.name()) " " }
                @match &span.instance {
                    Some(id) => a href=(page.instance(id, "")) title=(brief(id)) { (span.name) },
                    None => (span.name),
                }
            }
            td.num { (show::span(span.start)) }
            td.num { @match span.end { Some(end) => (show::span(end - span.start)), None => span.none { "–" } } }
            td.num { @if !span.attempts.is_empty() { (span.attempts.len()) } }
            td {
                (span.outcome.name())
                @if let Some(at) = span.due.filter(|_| span.end.is_none()) {
                    span.hint { ", due " (show::ago(Timestamp(spans.begun.saturating_add(at)))) }
                }
                @if let Some(failure) = &span.failure { div.bad { (failure) } }
            }
            td.bar { (bar(span, spans.until)) }
        }
    }
}

/// The bar of a span: pale where it waits, full where an attempt runs.
fn bar(span: &Span, until: u64) -> Markup {
    let end = span.end.unwrap_or(until);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} 16")) preserveAspectRatio="none" width="100%" height="16" aria-hidden="true"
            class=(class(span.outcome)) {
            (rect("waits", span.start, end, until))
            @if span.attempts.is_empty() { (rect("runs", span.start, end, until)) }
            @for attempt in span.attempts.iter().take(20) { (attempt_bar(attempt, until)) }
        }
    }
}

fn attempt_bar(attempt: &Attempt, until: u64) -> Markup {
    let class = if attempt.failure.is_some() {
        "runs failed"
    } else {
        "runs"
    };
    rect(class, attempt.start, attempt.end.unwrap_or(until), until)
}

fn rect(class: &str, from: u64, to: u64, until: u64) -> Markup {
    let place = |at: u64| at.min(until).saturating_mul(WIDTH) / until.max(1);
    let (from, to) = (place(from).min(WIDTH - 4), place(to));
    html! { rect class=(class) x=(from) y="2" width=(to.saturating_sub(from).max(4)) height="12" rx="2" {} }
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed => "failed",
        Outcome::Completed | Outcome::Fired => "completed",
        Outcome::Canceled => "canceled",
        Outcome::Open | Outcome::Awaited | Outcome::Received => "running",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_lies_within_its_picture() {
        for (from, to, until) in [
            (0, 0, 0),
            (5, 3, 10),
            (10, 10, 10),
            (u64::MAX, u64::MAX, u64::MAX),
            (0, u64::MAX, 1),
        ] {
            let shown = rect("runs", from, to, until).into_string();
            let number = |name: &str| -> u64 {
                let rest = shown.split(&format!("{name}=\"")).nth(1).unwrap();
                rest.split('"').next().unwrap().parse().unwrap()
            };
            assert!(number(" x") + number("width") <= WIDTH, "{shown}");
        }
    }
}
