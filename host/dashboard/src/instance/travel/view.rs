//! One turn in full: its events, and the execution after it.

use maud::{Markup, html};
use perennial::{Event, InstanceStatus, Json, TaskId, Wait};

use super::states::{Open, Phase, State, What};
use super::walk::Chosen;
use super::which::Which;
use super::{replace, what_if_of};
use crate::instance::event::{self, About};
use crate::page::Page;
use crate::show::cut;
use crate::{payload as tree, show};

/// Events that are shown of each side of a turn.
const EVENTS: usize = 100;

/// Tasks, requests and values that are shown one by one.
const SHOWN: usize = 100;

/// Bytes of payloads on a page. Those beyond have a link only.
const BYTES: usize = 256 << 10;

/// What one payload counts at most, because more of it is not shown.
const BYTES_EACH: usize = 64 << 10;

/// A payload of so many bytes is shown in the line.
const INLINE: usize = 80;

/// How many bytes of payloads a page may still show.
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(BYTES)
    }
}

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes.min(BYTES_EACH));
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

pub(super) fn turn(
    page: &Page,
    status: &InstanceStatus,
    which: Which<'_>,
    chosen: &Chosen,
) -> Markup {
    let mut room = Room::default();
    let (received, produced) = chosen.events.split_at(chosen.received);
    let (received_lines, produced_lines) = chosen.lines.split_at(chosen.received);
    let is_asked = matches!(
        received.first().map(|of| &of.event),
        Some(Event::TurnStarted { .. })
    );
    html! {
        section.card aria-labelledby="turn-title" {
            div.row.spread {
                h2 #turn-title { "Turn " (chosen.number) }
                (show::status(chosen.state.phase.status(chosen.state.is_suspended)))
            }
            dl.facts {
                dt { "Recorded" } dd { (show::time(chosen.at)) }
                dt { "Until the next turn" }
                dd {
                    @match chosen.next_at {
                        Some(next) => (show::span(next.since(chosen.at).0)),
                        None if which.is_now() => "this is the last turn so far",
                        None => "this was the last turn before the rewind",
                    }
                }
            }
            h3 { "Came in" }
            (events(page, which, received, received_lines, &mut room))
            h3 { "The orchestration answered" }
            @if produced.is_empty() {
                p.hint {
                    @if is_asked { "Nothing new: it waited on." }
                    @else { "It was not asked in this turn." }
                }
            } @else {
                (events(page, which, produced, produced_lines, &mut room))
            }
        }
        section.card aria-labelledby="then-title" {
            h2 #then-title { "After this turn" }
            (waits(page, status, which, chosen))
            (known(page, which, chosen, &mut room))
        }
    }
}

/// Events with their payloads.
pub(super) fn events(
    page: &Page,
    which: Which<'_>,
    events: &[perennial::HistoryEvent],
    lines: &[About],
    room: &mut Room,
) -> Markup {
    html! {
        ol.events {
            @for (of, line) in events.iter().zip(lines).take(EVENTS) {
                li value=(of.number) {
                    div.row {
                        @match which.event(page, of.number) {
                            Some(to) => a href=(to) title="Event of the history" { span.num { (of.number) } },
                            None => span.num { (of.number) },
                        }
                        strong { (of.event.name()) }
                        span { (line.show(page)) }
                        @if which.is_now() && page.may_change() && replace::is_replaceable(&of.event) {
                            a.chip href=(what_if_of(page, which.id, of.number)) { "What if it were different?" }
                        }
                    }
                    (content(page, which, of.number, &of.event, room))
                }
            }
        }
        @if let Some(next) = events.get(EVENTS) {
            p.hint { (show::count((events.len() - EVENTS) as u64)) " more events of this turn"
                @if which.is_now() { ": " a href=(page.instance(which.id, &format!("/history?from={}", next.number))) { "see the history" } } }
        }
    }
}

/// The payload or the failure of an event.
fn content(page: &Page, which: Which<'_>, number: u64, of: &Event, room: &mut Room) -> Markup {
    let whole = which.event(page, number);
    if let Some(failure) = event::failure(of) {
        return match room.take(failure.size()) {
            true => show::failure(failure),
            false => {
                html! {
                    p {
                        @match whole {
                            Some(whole) => a href=(whole) { "The failure" },
                            None => "The failure is too large for this page.",
                        }
                    }
                }
            }
        };
    }
    match event::payload(of) {
        None => html! {},
        Some(json) => payload(json, &format!("payload-{number}"), whole.as_deref(), room),
    }
}

/// A payload: in the line if it is short, else to unfold.
pub(super) fn payload(
    json: Option<&Json>,
    name: &str,
    whole: Option<&str>,
    room: &mut Room,
) -> Markup {
    let Some(json) = json else {
        return html! { p.hint { "no value" } };
    };
    let size = json.size();
    html! {
        @if !room.take(size) {
            p.hint {
                (show::bytes(size as u64))
                ", not shown on this page" @if let Some(whole) = whole { ": " a href=(whole) { "see the event" } }
            }
        } @else if size <= INLINE {
            p.value { code { (json.as_str()) } }
        } @else {
            details.value id=(name) open[size <= 2_000] { summary { (show::bytes(size as u64)) } (tree::json(Some(json), whole)) }
        }
    }
}

fn waits(page: &Page, status: &InstanceStatus, which: Which<'_>, chosen: &Chosen) -> Markup {
    let state = &chosen.state;
    let awaited = if chosen.is_last() && which.is_now() {
        awaited(status)
    } else {
        Vec::new()
    };
    html! {
        h3 { "It waited for" }
        @if let Some(text) = why_not(state) { p { (text) } }
        @else if state.tasks.is_empty() && awaited.is_empty() && state.requests.is_empty() {
            p { "No task: only an event or a request from outside continues it. A history does not tell which one it awaited then." }
        }
        @if state.is_suspended { p { "It was suspended: what came in was kept until it was resumed." } }
        @if state.is_canceling && why_not(state).is_none() { p { "It had been asked to end in good order." } }
        @if !state.tasks.is_empty() || !awaited.is_empty() {
            ul.waits {
                @for name in &awaited { li { "the event " strong { (cut(name, 120)) } } }
                @for (task, open) in state.tasks.iter().take(SHOWN) { li { (task_line(page, chosen, *task, open)) } }
                @if let Some(more) = state.tasks.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                    li.hint { (show::count(more as u64)) " more tasks" }
                }
            }
        }
        @if !state.requests.is_empty() {
            p { "Requests that it had not answered:" }
            ul {
                @for (request, name) in state.requests.iter().take(SHOWN) { li { strong { (name) } " " span.hint { (cut(request, 120)) } } }
                @if let Some(more) = state.requests.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                    li.hint { (show::count(more as u64)) " more requests" }
                }
            }
        }
    }
}

/// The events that the instance awaits now.
fn awaited(status: &InstanceStatus) -> Vec<&str> {
    let names = status.waits_for.iter().filter_map(|wait| match wait {
        Wait::ExternalEvent { name } => Some(&**name),
        _ => None,
    });
    names.take(SHOWN).collect()
}

/// Why an execution waits for nothing.
fn why_not(state: &State) -> Option<&'static str> {
    Some(match state.phase {
        Phase::Pending => "It had not begun.",
        Phase::Running | Phase::Returned => return None,
        Phase::Completed => "Nothing: it had completed.",
        Phase::Failed => "Nothing: it had failed.",
        Phase::Terminated => "Nothing: it was terminated.",
        Phase::ContinuedAsNew => "Nothing: it continued as a new execution.",
    })
}

fn task_line(page: &Page, chosen: &Chosen, task: TaskId, open: &Open) -> Markup {
    let since = html! {
        @if open.turn == chosen.number { " since this turn" }
        @else { " since turn " (open.turn) ", " (show::span(chosen.at.since(open.at).0)) " before" }
    };
    html! {
        @match &open.what {
            What::Activity { name, attempts_max } => {
                "the activity " strong { (name) }
                @if let Some(most) = attempts_max.filter(|most| *most > 1) { ", up to " (most) " attempts" }
            }
            What::Timer { due } => { "a " strong { "timer" } " due " (show::time(*due)) }
            What::Child { name, instance_id, attempt, due, last_failure, is_told_to_end } => {
                "the child " strong { (name) } " "
                a href=(page.instance(instance_id, "")) { (cut(instance_id, 120)) }
                @if *attempt > 1 { ", attempt " (attempt) }
                @if let Some(due) = due { ", which starts " (show::time(*due)) }
                @if let Some(failure) = last_failure { ", after " (failure) }
                @if *is_told_to_end { ", which was told to end" }
            }
            What::Request { name, instance_id } => {
                "the answer to the request " strong { (name) } " of " a href=(page.instance(instance_id, "")) { (cut(instance_id, 120)) }
            }
        }
        span.hint { " (task " (task) "," (since) ")" }
    }
}

/// The custom status, the named values and the tags.
fn known(page: &Page, which: Which<'_>, chosen: &Chosen, room: &mut Room) -> Markup {
    let state = &chosen.state;
    let history = which.is_now().then(|| page.instance(which.id, "/history"));
    let history = history.as_deref();
    html! {
        h3 { "Custom status" }
        @if state.custom_status.is_none() { p.hint { "none" } }
        @else { (payload(state.custom_status.as_ref(), "custom-status", history, room)) }
        @if !state.values.is_empty() {
            h3 { "Named values" }
            dl.facts {
                @for (at, (name, value)) in state.values.iter().take(SHOWN).enumerate() {
                    dt { (cut(name, 120)) } dd { (payload(Some(value), &format!("value-{at}"), history, room)) }
                }
            }
            @if let Some(more) = state.values.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                p.hint { (show::count(more as u64)) " more values" }
            }
        }
        @if !state.tags.is_empty() {
            h3 { "Tags" }
            p.row { @for (key, value) in state.tags.iter().take(SHOWN) { span.chip { (cut(key, 120)) "=" (cut(value, 120)) } } }
        }
    }
}
