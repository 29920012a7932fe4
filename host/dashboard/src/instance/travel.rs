//! Time travel: what came in with each turn of a history, what the orchestration answered, and what it waited for then.
//!
//! Invariant: of a history of any length a page holds the lines of at most [`ROWS`] turns and one turn in full, whose events and payloads
//! are bounded too; the history is read in parts.

mod form;
mod lab;
mod modules;
mod replace;
mod spread;
mod states;
pub(super) mod takeover;
mod told;
mod view;
mod walk;
mod what_if;
mod which;

use axum::Router;
use axum::routing::{get, post};
use maud::{Markup, html};
use perennial::InstanceStatus;

use super::{Tab, cause, found, frame};
use crate::admit::Path;
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::{link, show};
pub(super) use lab::Lab;
use walk::{Asked, Chosen, ROWS, Row, Walked, walk};
use which::Which;

pub(super) fn routes() -> Router<Lab> {
    Router::new()
        .route("/{hub}/instances/{id}/turns", get(turns))
        .route(
            "/{hub}/instances/{id}/what-if",
            get(what_if::page).post(what_if::replay),
        )
        .route(
            "/{hub}/instances/{id}/what-if/component",
            post(what_if::component),
        )
}

async fn turns(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = found(&page, &id).await?;
    let asked = match page.query.text("turn") {
        None => first_shown(&page, &status).await,
        Some("last") => Asked::Last,
        Some(number) => number.parse().map(Asked::Turn).map_err(|_| {
            Refused::invalid("A turn is given by its number, or as \"last\".").on(&page)
        })?,
    };
    let before = page.query.text("before").map(str::parse).transpose();
    let before = before.map_err(|_| {
        Refused::invalid("A rewind is given by its number, counted from 0.").on(&page)
    })?;
    let which = Which { id: &id, before };
    let walked = walk(which.read(&page.client), asked).await.on(&page)?;
    let body = html! {
        (which::warning(&page, &status, which))
        @if which.is_now() && status.history_events == 0 {
            div.card.empty data-part="turns" {
                strong { "No turns yet" }
                "The first turn is recorded when the instance begins. "
                a href=(page.instance(&id, "")) { "See what it waits for" }
            }
        } @else {
            (steps(&page, which, asked, &walked))
            div.travel {
                div data-part="turn" {
                    @match &walked.chosen {
                        Some(chosen) => (view::turn(&page, &status, which, chosen)),
                        None => div.card.empty {
                            strong { "There is no such turn" }
                            "The history ends before it. " a href=(which.turn(&page, "last")) { "Show the last turn" }
                        },
                    }
                }
                (list(&page, &status, which, &walked))
            }
        }
        (which::others(&page, &status, which, walked.execution))
    };
    Ok(frame(&page, &status, Tab::Turns, &body))
}

/// The turn that is shown unless one is asked for: of an ended instance the last one, or the one in which the call failed that it failed with.
async fn first_shown(page: &Page, status: &InstanceStatus) -> Asked {
    if !status.is_ended() {
        return Asked::Turn(0);
    }
    match cause::find(&page.client, status).await {
        Some(cause) => Asked::Turn(cause.turn),
        None => Asked::Last,
    }
}

/// The way to other turns.
fn steps(page: &Page, which: Which<'_>, asked: Asked, walked: &Walked) -> Markup {
    let to = |turn: &str| which.turn(page, turn);
    let at = match (&walked.chosen, asked) {
        (Some(chosen), _) => chosen.number,
        (None, Asked::Turn(number)) => number,
        (None, Asked::Last) => 0,
    };
    let before = at.checked_sub(1).filter(|_| walked.chosen.is_some());
    let is_last = walked.chosen.as_ref().is_none_or(Chosen::is_last);
    html! {
        div.row.steps data-part="steps" {
            nav.row aria-label="Turns" {
                a.button href=(to("0")) { "First" }
                @match before {
                    Some(before) => a.button rel="prev" data-turn="before" title="Previous turn (key: left arrow)" href=(to(&before.to_string())) { "← Previous" },
                    None => span.button.off { "← Previous" },
                }
                @if is_last {
                    span.button.off { "Next →" }
                } @else {
                    a.button rel="next" data-turn="after" title="Next turn (key: right arrow)" href=(to(&(at + 1).to_string())) { "Next →" }
                }
                a.button href=(to("last")) { "Last" }
            }
            form.row method="get" action=(page.instance(which.id, "/turns")) {
                @if let Some(before) = which.before { input type="hidden" name="before" value=(before); }
                label.inline for="turn" { "Turn" }
                input #turn.short type="number" name="turn" min="0" value=(at);
                button type="submit" { "Go" }
            }
            @if which.is_now() && page.may_change() { a.button href=(page.instance(which.id, "/what-if")) { "What if…" } }
        }
    }
}

/// The turns around the chosen one.
fn list(page: &Page, status: &InstanceStatus, which: Which<'_>, walked: &Walked) -> Markup {
    let chosen = walked.chosen.as_ref().map(|chosen| chosen.number);
    let first = walked.rows.first().map_or(0, |row| row.number);
    let to = |turn: u32| which.turn(page, &turn.to_string());
    html! {
        section.card aria-labelledby="turns-title" data-part="list" {
            h2 #turns-title { "All turns" }
            div.scroll { table.turns {
                thead { tr {
                    th.num scope="col" { "Turn" } th scope="col" { "Time" } th scope="col" { "Came in" } th scope="col" { "Answered" }
                } }
                tbody { @for row in &walked.rows { (line(row, &to(row.number), chosen == Some(row.number))) } }
            } }
            nav.row aria-label="More turns" {
                @if let Some(before) = first.checked_sub(1) {
                    a.button href=(to(before)) { "Turns before " (first) }
                }
                @if let Some(after) = walked.rows_end { a.button href=(to(after)) { "Turns from " (after) " on" } }
            }
            p.hint { "Up to " (ROWS) " turns are listed at once"
                @if which.is_now() { "; " (show::plural(status.history_events, "event")) " recorded in all" } "." }
        }
    }
}

fn line(row: &Row, to: &str, is_chosen: bool) -> Markup {
    html! {
        tr data-href=(to) .chosen[is_chosen] {
            td.num { a href=(to) aria-current=[is_chosen.then_some("true")] { (row.number) } }
            td.tight { (show::time(row.at)) }
            td { (row.received) }
            td { (row.produced) }
        }
    }
}

/// The path of the page on which an event can be replaced.
fn what_if_of(page: &Page, id: &str, event: u64) -> String {
    let query = link::query([("event", &*event.to_string())]);
    page.instance(id, &format!("/what-if{query}"))
}
