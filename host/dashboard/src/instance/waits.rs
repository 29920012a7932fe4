//! What an instance waits for, in sentences.

use maud::{Markup, html};
use perennial::{AtWorker, InstanceStatus, PendingCancellation, Wait, WaitWord};

use crate::page::Page;
use crate::show;
use crate::show::{brief, cut};

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

/// The sentence of a wait, in the words of the library; in short without what failed before, which a page says elsewhere.
fn sentence(page: &Page, wait: &Wait, in_full: bool) -> Markup {
    let words = if in_full {
        wait.words()
    } else {
        wait.short_words()
    };
    html! {
        @for (at, word) in words.iter().enumerate() {
            @match (word, words.get(at + 1)) {
                (WaitWord::Words(words), Some(WaitWord::Time(_))) => (before_time(words).0),
                (WaitWord::Time(time), _) => @match words[..at].last() {
                    Some(WaitWord::Words(words)) if before_time(words).1 => (show::lasting(*time)),
                    _ => (show::ago(*time)),
                },
                (word, _) => (part(page, *word)),
            }
        }
    }
}

/// The words before a time as they are before one that is told from now, `5 s ago` or `in 5 s`; and whether it is told how long it lasts.
fn before_time(words: &str) -> (String, bool) {
    if let Some(before) = words.strip_suffix(" since ") {
        return (format!("{before} for "), true);
    }
    for last in [" at ", " for "] {
        if let Some(before) = words.strip_suffix(last) {
            return (format!("{before} "), false);
        }
    }
    (words.to_owned(), false)
}

fn part(page: &Page, word: WaitWord<'_>) -> Markup {
    match word {
        WaitWord::Words(words) => html! { (words) },
        WaitWord::Number(number) => html! { (number) },
        WaitWord::Name(name) => html! { strong { (brief(name)) } },
        WaitWord::Instance(id) => html! { a href=(page.instance(id, "")) { (brief(id)) } },
        WaitWord::Status(status) => show::status(status),
        WaitWord::Time(at) => show::ago(at),
        WaitWord::Details(json) => html! { code { (cut(json.as_str(), 200)) } },
        WaitWord::Failure(failure) => {
            html! { strong { (brief(&failure.kind)) } @if !failure.message.is_empty() { ": " (cut(&failure.message, 500)) } }
        }
        WaitWord::Text(text) => html! { (cut(text, 1_000)) },
        // A word of a later version of the library says itself what it is.
        other => html! { (cut(&other.to_string(), 1_000)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_told_from_now_fits_into_its_sentence() {
        for (words, before, lasts) in [
            (", running since ", ", running for ", true),
            (", at a worker since ", ", at a worker for ", true),
            (" at ", " ", false),
            ("its start, scheduled for ", "its start, scheduled ", false),
            ("; last heartbeat ", "; last heartbeat ", false),
            (") due ", ") due ", false),
        ] {
            assert_eq!(before_time(words), (before.to_owned(), lasts), "{words}");
        }
    }
}
