//! What an instance waits for, in sentences.

use maud::{Markup, html};
use perennial::{AtWorker, InstanceStatus, PendingCancellation, Wait};

use super::{brief, cut};
use crate::page::Page;
use crate::show;

/// Waits that are shown one by one.
const SHOWN: usize = 50;

/// Why an instance does not go on, the most important first; nothing if it has ended and nothing of it runs.
pub(super) fn card(page: &Page, status: &InstanceStatus) -> Markup {
    let waits = ranked(status);
    // What holds it is told first: nothing else moves it on before that is over.
    let (held, others): (Vec<&Wait>, Vec<&Wait>) =
        (waits.into_iter()).partition(|wait| matches!(wait, Wait::Resume { .. }));
    html! {
        @if let Some(asked) = &status.pending_cancellation { (pending(asked)) }
        @if !held.is_empty() || !others.is_empty() || status.waits_for_more > 0 {
            section.card aria-labelledby="waits" {
                h2 #waits { "Waits for" }
                @if held.is_empty() { (list(page, &others, status.waits_for_more)) } @else {
                    (list(page, &held, 0))
                    @if !others.is_empty() || status.waits_for_more > 0 {
                        h3 { "And then for" }
                        (list(page, &others, status.waits_for_more))
                    }
                }
            }
        }
        @if !status.still_runs.is_empty() {
            section.card aria-labelledby="runs" {
                h2 #runs { "Still runs, though the instance has ended" }
                (list(page, &status.still_runs.iter().collect::<Vec<_>>(), 0))
                p.hint { "A recursive termination stops it; see the actions." }
            }
        }
        @if !status.events_without_effect.is_empty() {
            section.card.warning aria-labelledby="unused" {
                h2 #unused { "Events without effect" }
                p {
                    "These events arrived, and the instance awaits none of them now. Each is kept until it does. Perhaps a name is misspelt."
                }
                p.row {
                    @for name in status.events_without_effect.iter().take(SHOWN) { span.chip { (brief(name)) } }
                    @if let Some(more) = status.events_without_effect.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                        span.hint { "and " (more) " more" }
                    }
                }
            }
        }
    }
}

/// A cancellation that the instance has not been told of.
fn pending(asked: &PendingCancellation) -> Markup {
    html! {
        section.card.warning aria-labelledby="pending" {
            h2 #pending { "Asked to end, but not told yet" }
            p {
                "It was cancelled " (show::ago(asked.at))
                @if let Some(reason) = &asked.reason { ": " (cut(reason, 1_000)) }
                ". It is suspended, so it is told when it is resumed, and then has " (show::span(asked.grace_millis))
                " to end. Terminate ends it at once."
            }
        }
    }
}

/// What an instance waits for, the most important first.
fn ranked(status: &InstanceStatus) -> Vec<&Wait> {
    let mut waits: Vec<&Wait> = status.waits_for.iter().collect();
    waits.sort_by_key(|wait| rank(wait));
    waits
}

/// What a live instance waits for in one line: the most important, and how much else.
pub(crate) fn line(page: &Page, status: &InstanceStatus) -> Option<Markup> {
    let waits = ranked(status);
    let first = waits.first()?;
    let more = status.waits_for_more + waits.len() as u64 - 1;
    Some(html! {
        "waits for " (sentence(page, first, false))
        @if more > 0 { span.hint { " and " (show::count(more)) " more" } }
    })
}

fn list(page: &Page, waits: &[&Wait], more: u64) -> Markup {
    let unlisted = more + waits.len().saturating_sub(SHOWN) as u64;
    html! {
        ul.waits {
            @for wait in waits.iter().take(SHOWN) { li { (sentence(page, wait, true)) } }
            @if unlisted > 0 { li.hint { "and " (show::count(unlisted)) " more" } }
        }
    }
}

/// What only a person can end comes first, then what has failed before, then what goes on by itself.
fn rank(wait: &Wait) -> u8 {
    match wait {
        Wait::Quarantine(_) | Wait::Resume { .. } => 0,
        Wait::Host | Wait::Nothing => 1,
        Wait::Note(_) => 2,
        Wait::ExternalEvent { .. } | Wait::Request { .. } => 3,
        Wait::Activity {
            at_worker: Some(AtWorker::Waits),
            ..
        }
        | Wait::Worker {
            running_since: None,
            ..
        } => 4,
        Wait::Activity {
            last_failure,
            failed_attempts,
            ..
        } if last_failure.is_some() || !failed_attempts.is_empty() => 5,
        Wait::Activity { .. } | Wait::Worker { .. } => 6,
        Wait::Child { .. } | Wait::Answer { .. } => 7,
        _ => 8,
    }
}

/// A wait in words; in full with what failed before.
fn sentence(page: &Page, wait: &Wait, in_full: bool) -> Markup {
    match wait {
        Wait::ExternalEvent { name } => {
            html! { "the external event " strong { (brief(name)) } ", which somebody must raise" }
        }
        Wait::Request { name } => {
            html! { "a request " strong { (brief(name)) } ", which it is ready to answer" }
        }
        Wait::Answer {
            name, instance_id, ..
        } => html! {
            "the answer of " a href=(page.instance(instance_id, "")) { (brief(instance_id)) } " to its request " strong { (brief(name)) }
        },
        Wait::Activity { .. } => activity(wait, in_full),
        Wait::Resume { reason } => html! {
            "its resumption: it is suspended" @if let Some(reason) = reason { " (" (cut(reason, 500)) ")" }
            "; nothing goes on until it is resumed"
        },
        Wait::Worker {
            name,
            running_since: None,
        } => html! { "a remote worker that runs " strong { (brief(name)) } "; none has taken its turn" },
        Wait::Worker {
            running_since: Some(at),
            ..
        } => html! { "a remote worker, which has had its turn for " (show::lasting(*at)) },
        Wait::Timer { due, .. } => html! { "a timer that is due " (show::ago(*due)) },
        Wait::Start { due } => {
            html! { "its start, which is scheduled for " (show::time(*due)) " (" (show::ago(*due)) ")" }
        }
        Wait::Child {
            instance_id,
            status,
            ..
        } => html! {
            "its child " a href=(page.instance(instance_id, "")) { (brief(instance_id)) } ", which is " (show::status(*status))
        },
        Wait::Note(note) => html! { (cut(note, 1_000)) },
        Wait::Quarantine(why) => {
            html! { "a person: the host does not continue it, because " (cut(&why.reason, 1_000)) }
        }
        Wait::Host => html! { "a host: no host runs this task hub" },
        Wait::FirstTurn => html! { "its first turn, which the host has not come to" },
        Wait::Nothing => html! {
            "nothing that it names: no activity, timer, child or event. Only an event or a command from outside can move it on"
        },
        other => html! { (cut(&other.to_string(), 1_000)) },
    }
}

fn activity(wait: &Wait, in_full: bool) -> Markup {
    let Wait::Activity {
        name,
        attempt,
        attempts_max,
        running_since,
        queued_since,
        next_attempt_at,
        heartbeat,
        last_failure,
        failed_attempts,
        at_worker,
        ..
    } = wait
    else {
        return html! {};
    };
    let failure = failed_attempts
        .last()
        .map(|last| &last.failure)
        .or(last_failure.as_ref());
    html! {
        "the activity " strong { (brief(name)) }
        @if *attempt > 1 { ", attempt " (attempt) @if let Some(most) = attempts_max.filter(|most| *most < u32::MAX) { " of " (most) } }
        @match (running_since, next_attempt_at, at_worker) {
            (Some(at), ..) => { ", which runs for " (show::lasting(*at)) @if at_worker.is_some() { " at a remote worker" } }
            (None, Some(at), _) => { ", which is tried again " (show::ago(*at)) }
            (None, None, Some(AtWorker::Waits)) => { ": no connected remote worker that runs it has room" }
            (None, None, Some(_)) => { ", which a remote worker runs" }
            (None, None, None) => { ", which waits for a free place" }
        }
        @if let Some(at) = queued_since { " for " (show::lasting(*at)) }
        @if let Some(beat) = heartbeat.as_ref().filter(|_| in_full) {
            "; last heartbeat " (show::ago(beat.at))
            @if let Some(details) = &beat.details { ": " code { (cut(details.as_str(), 200)) } }
        }
        @if let Some(failure) = failure.filter(|_| !in_full) { "; failed with " strong { (cut(&failure.kind, 60)) } }
        @if let Some(failure) = failure.filter(|_| in_full) {
            div.failure { "The attempt before failed: " strong { (brief(&failure.kind)) } " " (cut(&failure.message, 500)) }
        }
    }
}
