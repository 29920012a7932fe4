//! The forms of what-if: the component, what could have come in instead, and what is entered.

use axum::response::Response;
use maud::{Markup, html};
use perennial::{Digest, Event, HistoryEvent, InstanceStatus, Json};

use super::modules::{Choices, From};
use super::walk::{Candidate, candidates};
use super::{replace, spread, view, what_if_of};
use crate::fields::Fields;
use crate::instance::event::{self, About};
use crate::page::Page;
use crate::refused::OnPage;
use crate::show::cut;
use crate::{link, show};

/// Longer payloads cannot be edited.
const EDITED_BYTES: usize = 64 << 10;

pub(super) fn explanation(page: &Page, id: &str) -> Markup {
    html! {
        section.card aria-labelledby="what-if-title" {
            h2 #what-if-title { "What if" }
            p {
                "Replays the recorded history of this instance on a copy in which something else came in, and shows from which turn on the orchestration \
                 would have answered differently. Nothing is written, no activity runs, and the instance does not notice it."
            }
            p.row { a href=(page.instance(id, "/turns")) { "All turns" } }
        }
    }
}

/// The component to replay on. That of the instance is in the hub as long as something needs it.
pub(super) fn component_card(page: &Page, status: &InstanceStatus, known: &Choices) -> Markup {
    let id = &status.instance_id;
    let event = page.query.text("event").unwrap_or_default();
    let to = page.instance(id, "/what-if");
    let back = format!("{to}{}", link::query([("event", event)]));
    let has_own = known.all.iter().any(|one| one.from == From::Own);
    let own =
        html! { @if let Some(digest) = status.module { (show::copyable(&digest.to_string())) } };
    html! {
        section.card aria-labelledby="component-title" {
            h2 #component-title { "The component" }
            @if !known.is_own_gone {
                p { "The task hub has stored the module that this instance runs on, and replays use it: " (own) }
            } @else if has_own {
                p.done { "The component of the module that this instance runs on is here: it was given to this page." }
            } @else {
                p.warning {
                    "The task hub does not have the module any more that this instance runs on: nothing needed it, and it was deleted. \
                     Give its component (the .wasm file) to replay on it. Its digest is " (own)
                }
            }
            details open[!has_own] {
                summary { @if has_own { "With another component" } @else { "Give a component" } }
                p.hint {
                    "It is inspected and kept in the memory of the host for replays only; it is not deployed. To find out whether another module could take \
                     the instance over, give that one."
                }
                noscript { p.warning { "Giving a file needs JavaScript. `perennial export` and `perennial replay` do the same on the command line." } }
                form.component.needs-js data-to=(page.instance(id, "/what-if/component")) data-back=(back) {
                    label for="file" { "Component (.wasm)" }
                    input #file type="file" accept=".wasm,application/wasm" required;
                    div.row { button type="submit" { "Take it for replays" } span.told role="status" {} }
                }
            }
        }
    }
}

/// The fields of each form that replays: the token, the history that is meant, and the module.
fn common(page: &Page, status: &InstanceStatus, known: &Choices, sent: Option<&Fields>) -> Markup {
    let chosen = sent.unwrap_or(&page.query).text("module");
    let chosen = chosen.and_then(Digest::from_hex);
    html! {
        (page.token_field())
        input type="hidden" name="state" value=(state_of(status));
        label for="module" { "Replay on" }
        select #module name="module" required {
            @for (at, one) in known.all.iter().enumerate() {
                option value=(one.digest) selected[chosen.map_or(at == 0, |chosen| chosen == one.digest)] {
                    (cut(&one.name, 120)) " (" (one.digest.short()) ")"
                    @match one.from {
                        From::Own => ", on which the instance runs",
                        From::Deployed => ", deployed now",
                        From::Stored => ", another stored version",
                        From::Given => ", given here",
                    }
                }
            }
        }
    }
}

/// Identifies the history that the page was made from.
pub(super) fn state_of(status: &InstanceStatus) -> String {
    format!("{}.{}", status.execution_id, status.rewinds.len())
}

/// A replay without a change.
pub(super) fn plain(page: &Page, status: &InstanceStatus, known: &Choices) -> Markup {
    html! {
        section.card aria-labelledby="plain-title" {
            h2 #plain-title { "Without a change" }
            p { "Whether a module answers as recorded in all turns: so another version can take the instance over, or a repaired one a quarantined instance." }
            @if known.all.is_empty() {
                p.hint { "Give a component first." }
            } @else {
                form method="post" action=(page.instance(&status.instance_id, "/what-if")) {
                    (common(page, status, known, None))
                    p { button type="submit" { "Replay without a change" } }
                }
            }
        }
    }
}

/// What can be replaced.
pub(super) async fn choice(page: &Page, id: &str) -> Result<Markup, Response> {
    let from = page.query.text("from").and_then(|from| from.parse().ok());
    let (found, next) = candidates(&page.client, id, from.unwrap_or(0))
        .await
        .on(page)?;
    let to = |from: u64| format!("{}?from={from}", page.instance(id, "/what-if"));
    Ok(html! {
        section.card aria-labelledby="choice-title" {
            h2 #choice-title { "With something else that came in" }
            p { "Choose what should have been different: a result or a failure of an activity, a child or a request; an event; or an input." }
            @if found.is_empty() { p.hint { "Nothing has come in" @if from.is_some() { " from there on" } "." } }
            @else {
                div.scroll { table {
                    thead { tr {
                        th.num scope="col" { "Event" } th.num scope="col" { "Turn" } th scope="col" { "Time" }
                        th scope="col" { "What came in" } th.num scope="col" { "Size" }
                    } }
                    tbody { @for one in &found { (candidate(page, id, one)) } }
                } }
            }
            nav.row aria-label="More events" {
                @if from.is_some_and(|from| from > 0) { a.button href=(page.instance(id, "/what-if")) { "First" } }
                @if let Some(next) = next { a.button rel="next" href=(to(next)) { "More" } }
            }
        }
    })
}

fn candidate(page: &Page, id: &str, one: &Candidate) -> Markup {
    let to = what_if_of(page, id, one.number);
    html! {
        tr data-href=(to) {
            td.num { a href=(to) { (one.number) } }
            td.num { (one.turn) }
            td.tight { (show::time(one.at)) }
            td { strong { (one.kind) } " " (one.line.show_with_failure(page)) }
            td.num { @match one.size { Some(size) => (show::bytes(size as u64)), None => span.none { "–" } } }
        }
    }
}

/// What an editor begins with: what was sent, or else what is recorded.
pub(super) struct Entry {
    is_failure: bool,
    pub(super) value: String,
    kind: String,
    message: String,
    retryable: bool,
}

impl Entry {
    pub(super) fn of(event: &Event, sent: Option<&Fields>) -> Self {
        if let Some(sent) = sent {
            let text = |name| sent.text(name).unwrap_or_default().to_owned();
            return Self {
                is_failure: sent.text("as") == Some("failure"),
                value: text("value"),
                kind: text("kind"),
                message: text("message"),
                retryable: sent.is_set("retryable"),
            };
        }
        let value = event::payload(event).flatten();
        let value = value.filter(|json| json.size() <= EDITED_BYTES);
        let failure = event::failure(event);
        Self {
            is_failure: failure.is_some(),
            value: value.map_or_else(String::new, |json| spread::spread(json.as_str())),
            kind: failure.map_or_else(String::new, |failure| failure.kind.clone()),
            message: failure.map_or_else(String::new, |failure| failure.message.clone()),
            retryable: failure.is_some_and(|failure| failure.retryable),
        }
    }
}

pub(super) fn editor(
    page: &Page,
    status: &InstanceStatus,
    known: &Choices,
    of: &HistoryEvent,
    line: &About,
    sent: Option<&Fields>,
) -> Markup {
    let id = &status.instance_id;
    let entry = Entry::of(&of.event, sent);
    let can_fail = replace::can_fail(&of.event);
    let size = event::payload(&of.event).flatten().map_or(0, Json::size);
    let mut room = view::Room::default();
    html! {
        section.card aria-labelledby="editor-title" {
            h2 #editor-title { "What if event " (of.number) " were different?" }
            p.row {
                strong { (of.event.name()) } span { (line.show(page)) }
                a href=(page.instance(id, &format!("/turns?turn={}", of.turn))) { "turn " (of.turn) }
                a href=(page.instance(id, "/what-if")) { "choose another event" }
            }
            h3 { "Recorded" }
            @match event::failure(&of.event) {
                Some(failure) => (show::failure(failure)),
                None => (view::payload(event::payload(&of.event).flatten(), "recorded", Some(&page.instance(id, &format!("/history/{}", of.number))), &mut room)),
            }
            h3 { "Instead" }
            form.what-if method="post" action=(page.instance(id, "/what-if")) {
                input type="hidden" name="event" value=(of.number);
                @if can_fail {
                    fieldset {
                        legend { "It comes back with" }
                        label.inline { input type="radio" name="as" value="value" checked[!entry.is_failure]; "a value" }
                        " "
                        label.inline { input type="radio" name="as" value="failure" checked[entry.is_failure]; "a failure" }
                    }
                }
                div.as-value {
                    label for="value" { "Value as JSON; empty for no value" }
                    // A parser drops the first line break of the content.
                    textarea #value name="value" spellcheck="false" rows="8" { "\n" (entry.value) }
                    @if size > EDITED_BYTES && sent.is_none() {
                        p.hint { "What is recorded has " (show::bytes(size as u64)) ", too much to edit here: the value begins empty." }
                    }
                }
                @if can_fail { (failure_fields(&entry)) }
                @if known.all.is_empty() {
                    p.hint { "Give the component first." }
                } @else {
                    (common(page, status, known, sent))
                    p { button.primary type="submit" { "Replay on a copy" } }
                }
            }
        }
    }
}

fn failure_fields(entry: &Entry) -> Markup {
    html! {
        div.as-failure {
            label for="kind" { "Kind of the failure" }
            input #kind name="kind" value=(entry.kind) placeholder="Declined" autocomplete="off" spellcheck="false";
            label for="message" { "Message" }
            textarea.low #message name="message" rows="2" { "\n" (entry.message) }
            label.inline { input type="checkbox" name="retryable" value="yes" checked[entry.retryable]; "trying again may help" }
        }
    }
}
