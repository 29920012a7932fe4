//! The history of an instance as a table, with filters, and the payload of each event.
//!
//! Invariant: a page holds at most [`ROWS`] events, whose payloads are cut; the history is read in parts and never held whole.

use std::collections::VecDeque;

use axum::http::StatusCode;
use axum::response::Response;
use futures::TryStreamExt;
use maud::{Markup, html};
use perennial::{Client, Error, HistoryEvent, InstanceStatus, Timestamp};

use super::event::{self, About, Named};
use super::{Tab, cut, found, frame};
use crate::admit::Path;
use crate::page::{Page, data};
use crate::refused::{OnPage, Refused, Shown};
use crate::{link, show};

/// Events on a page.
const ROWS: usize = 100;

/// Bytes of a payload that the table shows.
const SMALL: usize = 1_000;

/// What is asked for.
#[derive(Debug, Default)]
struct Asked {
    /// The type of the events.
    kind: String,
    /// A text in small letters.
    text: String,
    newest_first: bool,
    /// The event at which the page begins, in its order.
    from: Option<u64>,
}

/// A line of the table.
struct Row {
    number: u64,
    at: Timestamp,
    turn: u32,
    kind: &'static str,
    failed: bool,
    about: About,
    /// The size of the payload, and its text if it is small.
    payload: Option<(usize, String)>,
}

/// What was found: rows in the order of the page, and the events at which the next and the previous page begin.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    next: Option<u64>,
    has_before: bool,
}

impl Asked {
    fn of(page: &Page) -> Self {
        Self {
            kind: page.query.text("event").unwrap_or_default().to_owned(),
            text: page.query.text("text").unwrap_or_default().to_lowercase(),
            newest_first: page.query.text("order") == Some("newest"),
            from: page.query.text("from").and_then(|from| from.parse().ok()),
        }
    }

    fn fits(&self, event: &HistoryEvent, about: &About) -> bool {
        let kind = event.event.name();
        if !self.kind.is_empty() && self.kind != kind {
            return false;
        }
        self.text.is_empty()
            || kind.to_lowercase().contains(&self.text)
            || about.contains(&self.text)
            || event::payload(&event.event)
                .is_some_and(|json| json.as_str().to_lowercase().contains(&self.text))
    }

    /// The query of this page from another event on.
    fn query(&self, from: Option<u64>) -> String {
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let order = if self.newest_first { "newest" } else { "" };
        link::query([
            ("event", &*self.kind),
            ("text", &*self.text),
            ("order", order),
            ("from", &*from),
        ])
    }
}

pub(super) async fn page(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = found(&page, &id).await?;
    let asked = Asked::of(&page);
    let found = find(&page.client, &id, &asked).await.on(&page)?;
    let body = html! {
        (filter(&page, &id, &asked))
        div data-part="history" { (table(&page, &status, &asked, &found)) }
    };
    Ok(frame(&page, &status, Tab::History, &body))
}

/// Reads from the beginning on, because a result is named after its call.
async fn find(client: &Client, id: &str, asked: &Asked) -> Result<Found, Error> {
    let mut named = Named::default();
    let mut rows: VecDeque<Row> = VecDeque::new();
    let mut found = Found::default();
    let mut history = client.history(id).stream();
    while let Some(event) = history.try_next().await? {
        named.tell(&event.event);
        let about = named.about(&event.event);
        if asked.newest_first {
            if asked.from.is_some_and(|from| event.number > from) {
                found.has_before = true;
                break;
            }
            if asked.fits(&event, &about) {
                rows.push_back(Row::new(&event, about));
            }
            if rows.len() > ROWS + 1 {
                rows.pop_front();
            }
        } else if asked.from.is_some_and(|from| event.number < from) {
            found.has_before = true;
        } else if asked.fits(&event, &about) {
            rows.push_back(Row::new(&event, about));
            if rows.len() > ROWS {
                break;
            }
        }
    }
    if asked.newest_first {
        rows.make_contiguous().reverse();
    }
    found.next = rows.get(ROWS).map(|row| row.number);
    rows.truncate(ROWS);
    found.rows = rows.into();
    Ok(found)
}

impl Row {
    /// A page of large payloads would take hundreds of MiB, so only their sizes are kept.
    fn new(event: &HistoryEvent, about: About) -> Self {
        let payload = event::payload(&event.event).map(|json| match json.size() {
            small @ ..=SMALL => (small, json.as_str().to_owned()),
            large => (large, String::new()),
        });
        Self {
            number: event.number,
            at: event.at,
            turn: event.turn,
            kind: event.event.name(),
            failed: event::failure(&event.event).is_some(),
            about,
            payload,
        }
    }
}

fn filter(page: &Page, id: &str, asked: &Asked) -> Markup {
    html! {
        form.row.filter method="get" action=(page.instance(id, "/history")) role="search" aria-label="Filter the history" {
            div { label for="event" { "Event" }
                select #event name="event" {
                    option value="" { "all" }
                    @for name in event::NAMES { option selected[name == asked.kind] { (name) } }
                } }
            div { label for="text" { "Text" }
                input #text type="search" name="text" value=(asked.text) placeholder="in names, ids and payloads" autocomplete="off"; }
            div { label for="order" { "Order" }
                select #order name="order" {
                    option value="" { "oldest first" }
                    option value="newest" selected[asked.newest_first] { "newest first" }
                } }
            div { label for="from" { "From event" }
                input #from type="number" min="0" name="from" value=[asked.from]; }
            button type="submit" { "Show" }
            a.button href=(page.api(&format!("/instances/{}/export", link::part(id)))) download { "Export" }
        }
    }
}

fn table(page: &Page, status: &InstanceStatus, asked: &Asked, found: &Found) -> Markup {
    let id = &status.instance_id;
    html! {
        @if found.rows.is_empty() {
            div.card.empty {
                @if status.history_events == 0 {
                    strong { "No events yet" } "The history begins with the first turn."
                } @else {
                    strong { "No such events" } a href=(page.instance(id, "/history")) { "Show the whole history" }
                }
            }
        } @else {
            div.card.scroll { table.history {
                caption { (show::count(status.history_events)) " events, " (show::bytes(status.history_bytes)) }
                thead { tr {
                    th.num scope="col" { "No." } th scope="col" { "Time" } th.num scope="col" { "Turn" }
                    th scope="col" { "Event" } th scope="col" { "About" } th scope="col" { "Payload" }
                } }
                tbody { @for row in &found.rows { (line(page, id, row)) } }
            } }
            (pager(page, id, asked, found))
        }
    }
}

fn pager(page: &Page, id: &str, asked: &Asked, found: &Found) -> Markup {
    let to = |from| format!("{}{}", page.instance(id, "/history"), asked.query(from));
    html! {
        nav.row aria-label="Pages" {
            @if found.has_before { a.button href=(to(None)) { "First page" } }
            @if let Some(next) = found.next { a.button rel="next" href=(to(Some(next))) { "Next " (ROWS) " events" } }
        }
    }
}

fn line(page: &Page, id: &str, row: &Row) -> Markup {
    let to = page.instance(id, &format!("/history/{}", row.number));
    html! {
        tr data-href=(to) {
            td.num { a href=(to) { (row.number) } }
            td.tight { (show::time(row.at)) }
            td.num { (row.turn) }
            td.tight { span.bad[row.failed] { (row.kind) } }
            td { (row.about.show(page)) }
            td { @if let Some((size, text)) = &row.payload { (payload_cell(*size, text, row.number, &to)) } }
        }
    }
}

/// A small payload can be unfolded; of a large one there is only a link.
fn payload_cell(size: usize, text: &str, number: u64, to: &str) -> Markup {
    html! {
        @match size {
            0..=40 => code { (text) },
            ..=SMALL => details id=(format!("payload-{number}")) { summary { code { (cut(text, 40)) } } pre { (text) } },
            _ => a href=(to) { (show::bytes(size as u64)) },
        }
    }
}

async fn event_of(page: &Page, id: &str, number: u64) -> Result<(HistoryEvent, About), Response> {
    let mut named = Named::default();
    let mut history = page.client.history(id).stream();
    while let Some(event) = history.try_next().await.on(page)? {
        named.tell(&event.event);
        if event.number == number {
            let about = named.about(&event.event);
            return Ok((event, about));
        }
    }
    let message =
        format!("There is no event {number} in the history. It may have been cut off by a rewind.");
    Err(Refused::new(StatusCode::NOT_FOUND, message).on(page))
}

pub(super) async fn one(page: Page, Path((_, id, number)): Path<(String, String, u64)>) -> Shown {
    let status = found(&page, &id).await?;
    let (event, about) = event_of(&page, &id, number).await?;
    let to = |number: u64| page.instance(&id, &format!("/history/{number}"));
    let payload = event::payload(&event.event);
    let body = html! {
        section.card aria-labelledby="event-title" {
            div.row.spread {
                h2 #event-title { "Event " (event.number) ": " (event.event.name()) }
                nav.row aria-label="Events" {
                    @if let Some(before) = number.checked_sub(1) { a.button href=(to(before)) rel="prev" { "Previous" } }
                    @if number + 1 < status.history_events { a.button href=(to(number + 1)) rel="next" { "Next" } }
                    a.button href=(format!("{}?from={number}", page.instance(&id, "/history"))) { "In the history" }
                }
            }
            dl.facts {
                dt { "Time" } dd { (show::time(event.at)) }
                dt { "Turn" } dd { (event.turn) }
                dt { "About" } dd { (about.show(&page)) }
            }
            @if let Some(failure) = event::failure(&event.event) { h3 { "Failure" } (show::failure(failure)) }
            @else {
                h3 { "Payload" }
                (show::json(payload))
            }
            @if let Some(payload) = payload {
                p { a href=(to(number) + "/payload") { "The whole payload as text" } " (" (show::bytes(payload.size() as u64)) ")" }
            }
        }
    };
    Ok(frame(&page, &status, Tab::History, &body))
}

/// The whole payload of an event, unchanged.
pub(super) async fn payload(
    page: Page,
    Path((_, id, number)): Path<(String, String, u64)>,
) -> Shown {
    let (event, _) = event_of(&page, &id, number).await?;
    let payload = event::payload(&event.event);
    let payload = payload.ok_or_else(|| {
        Refused::new(StatusCode::NOT_FOUND, "This event has no payload.").on(&page)
    })?;
    Ok(data("application/json", payload.as_str().to_owned()))
}
