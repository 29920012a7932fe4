//! The events that an instance has received and not used, with their payloads to unfold.

use maud::{Markup, html};
use perennial::{InstanceStatus, PendingEvent};

use super::history::payload_cell;
use crate::link;
use crate::page::Page;
use crate::show::{self, brief};

/// Events that are shown.
const SHOWN: usize = 50;

/// Reads the events, if the status says that there are any.
pub(super) async fn find(page: &Page, status: &InstanceStatus) -> Vec<PendingEvent> {
    if status.events_without_effect.is_empty() {
        return Vec::new();
    }
    // A purge in between is told on the next look.
    let found = page.client.pending_events(&status.instance_id).await;
    found.unwrap_or_default()
}

pub(super) fn card(page: &Page, status: &InstanceStatus, events: &[PendingEvent]) -> Markup {
    let id = &status.instance_id;
    let all = page.api(&format!("/instances/{}/pending-events", link::part(id)));
    html! {
        @if !events.is_empty() {
            section.card.warning aria-labelledby="unused" {
                h2 #unused { "Events without effect" }
                p {
                    "These events arrived, and the instance awaits none of them now. Each is kept until it does. \
                     Perhaps a name is misspelt."
                }
                div.scroll { table {
                    caption { "Events that " (brief(id)) " has not used, the oldest first" }
                    thead { tr {
                        th scope="col" { "Event" } th scope="col" { "Came" }
                        th scope="col" { "Payload" } th scope="col" { "In the history" }
                    } }
                    tbody { @for (at, event) in events.iter().take(SHOWN).enumerate() { (row(page, id, at, event, &all)) } }
                } }
                @if let Some(more) = events.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                    p.hint { "and " (show::count(more as u64)) " more: " a href=(all) { "all of them as JSON" } }
                }
            }
        }
    }
}

fn row(page: &Page, id: &str, at: usize, event: &PendingEvent, all: &str) -> Markup {
    let recorded = event.event_number;
    let recorded =
        recorded.map(|number| (number, page.instance(id, &format!("/history/{number}"))));
    let whole = recorded.as_ref().map_or(all, |(_, to)| to);
    let size = usize::try_from(event.data_bytes).unwrap_or(usize::MAX);
    html! {
        tr {
            td { b { (brief(&event.name)) } }
            td.tight { @match event.received_at { Some(at) => (show::ago(at)), None => span.none { "not known" } } }
            td {
                @match &event.data {
                    Some(data) => (payload_cell(size, data.as_str(), &format!("pending-{at}"), whole)),
                    None if size > 0 => a href=(whole) { (show::bytes(event.data_bytes)) },
                    None => span.none { "none" },
                }
            }
            td.tight {
                @match &recorded { Some((number, to)) => a href=(to) { "event " (number) }, None => span.none { "not taken yet" } }
            }
        }
    }
}
