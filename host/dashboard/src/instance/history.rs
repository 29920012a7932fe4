//! The history of an instance as a table, with filters, and the payload of each event.
//!
//! Invariant: a page holds at most [`ROWS`] events, whose payloads are cut; the history is read in parts and never held whole.

use std::collections::VecDeque;
use std::future::ready;

use axum::http::StatusCode;
use axum::response::Response;
use futures::TryStreamExt;
use maud::{Markup, html};
use perennial::{Client, Error, Event, HistoryEvent, InstanceStatus, Timestamp};
use serde::Serialize;

use super::event::{self, About};
use super::events;
use super::{Tab, found, frame};
use crate::admit::Path;
use crate::export::{self, Exported, Format};
use crate::link;
use crate::page::{Page, data};
use crate::refused::{OnPage, Refused, Shown};
use crate::show::{self, cut};

/// Events on a page.
const ROWS: usize = 100;

/// Events that are looked at together in the order of the newest, at first.
const BLOCK: u64 = 1_000;

/// The same, where few events fit.
const BLOCK_MAX: u64 = 16_000;

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
            || event::carried(&event.event)
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
    let found = find(&page.client, &status, &asked).await.on(&page)?;
    let body = html! {
        (filter(&page, &id, &asked))
        div data-part="history" { (table(&page, &status, &asked, &found)) }
    };
    Ok(frame(&page, &status, Tab::History, &body))
}

/// Looks for the rows of a page, without reading the history before it.
async fn find(client: &Client, status: &InstanceStatus, asked: &Asked) -> Result<Found, Error> {
    if asked.newest_first {
        return find_newest(client, status, asked).await;
    }
    let from = asked.from.unwrap_or_default();
    let mut rows = Vec::new();
    let mut events = events::from(client, &status.instance_id, from);
    while let Some((event, about)) = events.try_next().await? {
        if asked.fits(&event, &about) {
            rows.push(Row::new(&event, about));
        }
        if rows.len() > ROWS {
            break;
        }
    }
    Ok(Found::of(rows, from > 0))
}

/// As [`find`], from an event back to the beginning: in blocks, because a history is read forwards.
async fn find_newest(
    client: &Client,
    status: &InstanceStatus,
    asked: &Asked,
) -> Result<Found, Error> {
    let end = status.history_events;
    let has_before = asked.from.is_some_and(|from| from.saturating_add(1) < end);
    // The event after the block; what is added to the history meanwhile belongs to the first block.
    let mut after = asked.from.map_or(u64::MAX, |from| from.saturating_add(1));
    let mut block = BLOCK;
    let mut rows = Vec::new();
    loop {
        let begin = after.min(end.max(1)).saturating_sub(block);
        let mut some: VecDeque<Row> = VecDeque::new();
        let mut events = events::from(client, &status.instance_id, begin);
        while let Some((event, about)) = events.try_next().await? {
            if event.number >= after {
                break;
            }
            if asked.fits(&event, &about) {
                some.push_back(Row::new(&event, about));
            }
            if some.len() > ROWS + 1 {
                some.pop_front();
            }
        }
        rows.extend(some.into_iter().rev());
        if rows.len() > ROWS || begin == 0 {
            return Ok(Found::of(rows, has_before));
        }
        after = begin;
        // Where few events fit, larger blocks read less twice.
        block = (block * 2).min(BLOCK_MAX);
    }
}

impl Found {
    /// `rows` has a row more than the page if there is a next page.
    fn of(mut rows: Vec<Row>, has_before: bool) -> Self {
        let next = rows.get(ROWS).map(|row| row.number);
        rows.truncate(ROWS);
        Self {
            rows,
            next,
            has_before,
        }
    }
}

/// An event as an export has it: the event itself as JSON, and what it is about as a row.
#[derive(Serialize)]
#[serde(transparent)]
struct Line {
    event: HistoryEvent,
    #[serde(skip)]
    about: About,
}

impl Exported for Line {
    const COLUMNS: &'static [&'static str] = &[
        "number",
        "time",
        "turn",
        "event",
        "task",
        "name",
        "instanceId",
        "text",
        "failure",
        "payload",
    ];

    fn cells(&self) -> Vec<String> {
        let (of, about) = (&self.event, &self.about);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let payload = event::carried(&of.event).map(|json| json.as_str().to_owned());
        vec![
            of.number.to_string(),
            show::utc(of.at),
            of.turn.to_string(),
            of.event.name().to_owned(),
            about.task.map(|task| task.to_string()).unwrap_or_default(),
            text(&about.name),
            text(&about.instance),
            about.text.clone(),
            text(&about.failure),
            payload.unwrap_or_default(),
        ]
    }
}

type OfInstance = Path<(String, String)>;

pub(super) async fn csv(page: Page, Path((_, id)): OfInstance) -> Shown {
    matching(page, &id, Format::Csv).await
}

pub(super) async fn json(page: Page, Path((_, id)): OfInstance) -> Shown {
    matching(page, &id, Format::Json).await
}

pub(super) async fn lines(page: Page, Path((_, id)): OfInstance) -> Shown {
    matching(page, &id, Format::Lines).await
}

/// All events that match, in the order of the history.
async fn matching(page: Page, id: &str, format: Format) -> Shown {
    found(&page, id).await?;
    let asked = Asked::of(&page);
    // The newest first is an order of the page, and its first event the last one of the export.
    let (from, to) = match asked.newest_first {
        true => (0, asked.from.unwrap_or(u64::MAX)),
        false => (asked.from.unwrap_or_default(), u64::MAX),
    };
    let events = events::from(&page.client, id, from);
    let up_to = events.try_take_while(move |(event, _)| ready(Ok(event.number <= to)));
    let matching = up_to.try_filter_map(move |(event, about)| {
        let fits = asked.fits(&event, &about);
        ready(Ok(fits.then_some(Line { event, about })))
    });
    Ok(export::download(&format!("{id}-history"), format, matching))
}

/// The recorded turns, for a replay elsewhere.
pub(super) async fn recorded(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    found(&page, &id).await?;
    let pieces = page.client.export_text(&id);
    Ok(export::text(&id, "json", "application/json", pieces))
}

impl Row {
    /// A page of large payloads would take hundreds of MiB, so only their sizes are kept.
    fn new(event: &HistoryEvent, about: About) -> Self {
        let payload = event::carried(&event.event).map(|json| match json.size() {
            small @ ..=SMALL => (small, json.as_str().to_owned()),
            large => (large, String::new()),
        });
        Self {
            number: event.number,
            at: event.happened_at(),
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
                    @for name in Event::NAMES { option selected[*name == asked.kind] { (name) } }
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
        }
        p.hint.exports {
            "Export all that match: "
            (export::links(|format| page.instance(id, &format!("/history.{}{}", format.end(), asked.query(asked.from)))))
            ". For a replay elsewhere: "
            a href=(page.instance(id, "/recorded.json")) download { "the recorded history" }
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
                caption { (show::plural(status.history_events, "event")) ", " (show::bytes(status.history_bytes)) }
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
            td { (row.about.show_with_failure(page)) }
            td { @if let Some((size, text)) = &row.payload { (payload_cell(*size, text, &format!("payload-{}", row.number), &to)) } }
        }
    }
}

/// A small payload can be unfolded; of a large one there is only a link.
pub(super) fn payload_cell(size: usize, text: &str, name: &str, to: &str) -> Markup {
    html! {
        @match size {
            0..=40 => code { (text) },
            ..=SMALL => details id=(name) { summary { code { (cut(text, 40)) } } pre { (text) } },
            _ => a href=(to) { (show::bytes(size as u64)) },
        }
    }
}

async fn event_of(page: &Page, id: &str, number: u64) -> Result<(HistoryEvent, About), Response> {
    let event = events::one(&page.client, id, number).await.on(page)?;
    event.ok_or_else(|| {
        let message = format!(
            "There is no event {number} in the history. It may have been cut off by a rewind."
        );
        Refused::new(StatusCode::NOT_FOUND, message).on(page)
    })
}

pub(super) async fn one(page: Page, Path((_, id, number)): Path<(String, String, u64)>) -> Shown {
    let status = found(&page, &id).await?;
    let (event, about) = event_of(&page, &id, number).await?;
    let to = |number: u64| page.instance(&id, &format!("/history/{number}"));
    let payload = event::carried(&event.event);
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
                dt { "Time" } dd { (show::time(event.happened_at())) }
                @if event.happened_at() != event.at { dt { "Recorded" } dd { (show::time(event.at)) } }
                dt { "Turn" } dd { (event.turn) }
                dt { "About" } dd { (about.show(&page)) }
            }
            @if let Some(failure) = event::failure(&event.event) { h3 { "Failure" } (show::failure(failure)) }
            @else {
                h3 { "Payload" }
                (crate::payload::json(payload, Some(&(to(number) + "/payload"))))
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
    let payload = event::carried(&event.event);
    let payload = payload.ok_or_else(|| {
        Refused::new(StatusCode::NOT_FOUND, "This event has no payload.").on(&page)
    })?;
    Ok(data("application/json", payload.as_str().to_owned()))
}
