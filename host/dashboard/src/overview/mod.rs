//! What is going on in a hub: how many instances there are and how they are, what fails, what activities do, and what the hub takes up.

mod chart;
mod hosts;
mod storage;

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use maud::{Markup, html};
use perennial::{ActivityDurations, HostStats, OpenActivity, Overview, Status, WaitKind};

use crate::page::Page;
use crate::refused::{OnPage, Shown};
use crate::visit::base;
use crate::{change, layout, link, show};

/// The windows that can be chosen: the value of the parameter `last`, its text, its length in hours, and its number of bars.
const WINDOWS: [(&str, &str, u64, u32); 4] = [
    ("hour", "1 hour", 1, 60),
    ("day", "24 hours", 24, 48),
    ("week", "7 days", 7 * 24, 84),
    ("month", "30 days", 30 * 24, 60),
];

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/{hub}/", get(overview))
        .route("/{hub}/storage", get(storage::page))
}

async fn overview(page: Page) -> Shown {
    let asked = page.query.text("last").unwrap_or("day");
    let window = WINDOWS.iter().find(|(name, ..)| *name == asked);
    let &(name, _, hours, bars) = window.unwrap_or(&WINDOWS[1]);
    let last = Duration::from_secs(hours * 3_600);
    let seen = page.client.overview().last(last).buckets(bars);
    let seen = seen.await.on(&page)?;
    let shared = page.client.hosts().await.on(&page)?;
    let body = html! {
        div.row.spread { h1 { "Overview" } p.live {} }
        (change::notice(&page))
        div data-live=(page.live(3, &[])) {
            div data-part="counts" { (counts(&page, &seen)) (waits(&page, &seen)) }
            section.card data-part="chart" { (flow(&page, &seen, name)) }
            div.grid data-part="now" { (activities(&page, &seen)) (failures(&page, &seen)) (orchestrations(&page, &seen)) (host(seen.host.as_ref())) (hosts::card(&shared)) }
            div data-part="slow" { (open(&page, "Most retried activities", &seen.most_retried)) (open(&page, "Activities that run longest", &seen.longest_running)) (slowest(&seen.slowest)) }
        }
        (hubs(&page).await)
        p { a href=(page.path("/storage")) { "What this hub takes up on disk, and what could be freed" } }
    };
    Ok(layout::page(
        &page,
        StatusCode::OK,
        "Overview",
        "Overview",
        &body,
    ))
}

/// A list of instances under a filter.
fn listed<'a>(page: &Page, filter: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    page.path(&format!("/instances{}", link::query(filter)))
}

const SHOWN: [Status; 6] = [
    Status::Running,
    Status::Pending,
    Status::Suspended,
    Status::Completed,
    Status::Failed,
    Status::Terminated,
];

fn counts(page: &Page, seen: &Overview) -> Markup {
    let none = seen.counts.iter().all(|(_, count)| *count == 0);
    html! {
        @if none {
            div.card.empty {
                strong { "No instances yet" }
                @if page.may_change() { p { a href=(page.path("/modules")) { "Deploy a module" } ", then " a href=(page.path("/start")) { "start an orchestration" } "." } }
                @else { p { "They appear here once somebody starts one." } }
            }
        } @else {
            ul.tiles {
                @for status in SHOWN {
                    @let count = seen.counts.iter().find(|(known, _)| *known == status).map_or(0, |(_, count)| *count);
                    li { a href=(listed(page, [("status", &*status.to_string())])) { (show::status(status)) strong { (show::count(count)) } } }
                }
            }
        }
    }
}

/// What live instances wait for, what needs a person first: the text of each kind, and whether somebody should look.
const WAITS: [(WaitKind, &str, bool); 10] = [
    (WaitKind::Quarantine, "Quarantined", true),
    (WaitKind::Worker, "Waiting for a worker", true),
    (WaitKind::Retry, "Retrying after a failure", true),
    (WaitKind::Event, "Waiting for an event", false),
    (WaitKind::Request, "Ready to answer a request", false),
    (WaitKind::Answer, "Waiting for an answer", false),
    (WaitKind::Activity, "Waiting for an activity", false),
    (WaitKind::Child, "Waiting for a child", false),
    (WaitKind::Timer, "Waiting for a timer", false),
    (WaitKind::Start, "Scheduled to start", false),
];

/// How many live instances wait for what. An instance may wait for several things.
fn waits(page: &Page, seen: &Overview) -> Markup {
    let of = |kind: WaitKind| {
        seen.waits
            .iter()
            .find(move |one| one.waits_for == kind.name())
    };
    let is_partial = seen.waits.iter().any(|one| one.partial);
    html! {
        @if !seen.waits.is_empty() {
            section.card.waiting aria-labelledby="waiting" {
                h2 #waiting { "What live instances wait for" }
                ul.counts {
                    @for (kind, text, is_stuck) in WAITS {
                        @if let Some(one) = of(kind) {
                            li { a.stuck[is_stuck] href=(listed(page, [("waitsFor", kind.name())])) {
                                (text) " " strong { (show::count(one.count)) @if one.partial { "+" } }
                            } }
                        }
                    }
                }
                @if is_partial { p.hint { "Too many instances are live to look at all of them, so that each number may be larger; each list has all." } }
            }
        }
    }
}

fn flow(page: &Page, seen: &Overview, chosen: &str) -> Markup {
    let ms = seen.to.0.saturating_sub(seen.from.0).max(1);
    let started: u64 = seen.buckets.iter().map(|one| one.started).sum();
    let ended = seen.buckets.iter();
    let ended: u64 = ended
        .map(|one| one.completed + one.failed + one.terminated)
        .sum();
    html! {
        div.row.spread {
            h2 { "Started and ended" }
            nav.row aria-label="Window" {
                @for (name, text, ..) in WINDOWS {
                    a href=(page.path(&format!("/?last={name}"))) aria-current=[(name == chosen).then_some("true")] { (text) }
                }
            }
        }
        p { (show::count(started)) " started (" (rate(started, ms)) "), " (show::count(ended)) " ended (" (rate(ended, ms)) ")"
            @if seen.buckets.iter().any(|one| one.partial) { " – at least: there are too many to count them all" }
            "." br; span.hint { "Only instances that are still kept count: one that was purged, or restarted under its id, does not." } }
        (chart::chart(&seen.buckets, seen.bucket_millis))
        (chart::table(&seen.buckets))
    }
}

/// A count in a span of milliseconds, per second or, where that is too few, per minute or hour.
fn rate(count: u64, ms: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let per_second = count as f64 * 1_000.0 / ms as f64;
    let (rate, unit) = match per_second {
        rate if rate >= 1.0 || count == 0 => (rate, "s"),
        rate if rate * 60.0 >= 1.0 => (rate * 60.0, "min"),
        rate => (rate * 3_600.0, "h"),
    };
    format!("{rate:.1} / {unit}")
}

fn activities(page: &Page, seen: &Overview) -> Markup {
    let counts = &seen.activities;
    html! {
        section.card {
            h2 { "Activities now" }
            dl.facts {
                dt { "Running" } dd { (show::count(counts.running)) }
                dt { "Queued" } dd { (show::count(counts.queued)) }
                dt { "Retrying" } dd { a href=(listed(page, [("waitsFor", "retry")])) { (show::count(counts.retrying)) } }
            }
            p.hint { "Queued activities wait for a free place; retrying ones wait for the time of their next attempt." }
        }
    }
}

fn failures(page: &Page, seen: &Overview) -> Markup {
    html! {
        section.card {
            h2 { "Failures by kind" }
            @if seen.failures.is_empty() { p.none { "No instance failed in this time." } }
            @else {
                table {
                    thead { tr { th scope="col" { "Kind" } th.num scope="col" { "Instances" } } }
                    tbody { @for one in &seen.failures {
                        tr { td { a href=(listed(page, [("status", "Failed"), ("failureKind", &*one.kind)])) { (one.kind) } } td.num { (show::count(one.count)) } }
                    } }
                }
            }
        }
    }
}

fn orchestrations(page: &Page, seen: &Overview) -> Markup {
    html! {
        section.card {
            h2 { "Live instances by orchestration" }
            @if seen.orchestrations.is_empty() { p.none { "None is live." } }
            @else {
                table {
                    thead { tr { th scope="col" { "Orchestration" } th.num scope="col" { "Live" } } }
                    tbody { @for one in &seen.orchestrations {
                        tr { td { a href=(listed(page, [("name", &*one.name)])) { (one.name) } } td.num { (show::count(one.live)) } }
                    } }
                }
            }
        }
    }
}

fn host(stats: Option<&HostStats>) -> Markup {
    html! {
        section.card {
            h2 { "Host" }
            @match stats {
                None => p.warning { "No host runs this hub: nothing makes progress until one does." },
                Some(stats) => {
                    dl.facts {
                        dt { "Turns" } dd { (show::count(stats.turns)) }
                        dt { "Commits" } dd { (show::count(stats.commits)) }
                        dt { "Activity attempts" } dd { (show::count(stats.activity_attempts)) }
                        dt { "Queued work" } dd { (show::plural(stats.work_queued as u64, "turn")) ", " (show::plural(stats.writes_waiting as u64, "write")) }
                        dt { "Guests in memory" } dd { (show::count(stats.resident as u64)) }
                        dt { "Workers" } dd { (show::count(stats.remote_workers as u64)) " connected" }
                    }
                    p.hint { "Since the host started." }
                },
            }
        }
    }
}

fn open(page: &Page, title: &str, activities: &[OpenActivity]) -> Markup {
    html! {
        @if !activities.is_empty() {
            section.card {
                h2 { (title) }
                div.scroll { table {
                    thead { tr { th scope="col" { "Activity" } th scope="col" { "Instance" } th.num scope="col" { "Attempt" } th scope="col" { "Now" } th scope="col" { "Last failure" } } }
                    tbody { @for one in activities {
                        tr data-href=(page.instance(&one.instance_id, "")) {
                            td { code { (one.name) } }
                            td { a href=(page.instance(&one.instance_id, "")) { (one.instance_id) } }
                            td.num { (one.attempt) }
                            td { (now(one)) }
                            td { @match &one.last_failure { Some(kind) => (kind), None => span.none { "–" } } }
                        }
                    } }
                } }
            }
        }
    }
}

fn slowest(activities: &[ActivityDurations]) -> Markup {
    html! {
        @if !activities.is_empty() {
            section.card {
                h2 { "Slowest activities" }
                div.scroll tabindex="0" role="group" aria-label="Slowest activities" { table {
                    caption { "Attempts that ended since the host started" }
                    thead { tr {
                        th scope="col" { "Activity" } th.num scope="col" { "Attempts" } th.num scope="col" { "Failed" }
                        th.num scope="col" { "Mean" } th.num scope="col" { "Slowest" }
                    } }
                    tbody { @for one in activities {
                        tr {
                            td { code { (show::brief(&one.name)) } }
                            td.num { (show::count(one.attempts)) }
                            td.num { (show::count(one.failed)) }
                            td.num { (show::span(one.mean_millis)) }
                            td.num { (show::span(one.slowest_millis)) }
                        }
                    } }
                } }
            }
        }
    }
}

fn now(one: &OpenActivity) -> Markup {
    match (one.running_since, one.next_attempt_at) {
        (Some(since), _) => html! { "runs for " (show::lasting(since)) },
        (None, Some(next)) => html! { "next attempt " (show::ago(next)) },
        (None, None) => html! { "queued" },
    }
}

/// The other hubs that the visitor may see.
async fn hubs(page: &Page) -> Markup {
    let mut found = Vec::new();
    for client in page.visitor.readable() {
        if let Ok(counts) = client.counts().await {
            found.push((client.task_hub(), counts));
        }
    }
    html! {
        @if found.len() > 1 {
            section.card {
                h2 { "Task hubs of this host" }
                table {
                    thead { tr { th scope="col" { "Hub" } th scope="col" { "Instances" } } }
                    tbody { @for (hub, counts) in &found {
                        tr {
                            td { a href=(format!("{}/{}/", base(&page.visitor), link::part(hub))) { (hub) } }
                            td { @for (status, count) in counts { (show::status(*status)) " " (show::count(*count)) " " } }
                        }
                    } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit_in_which_it_can_be_read() {
        assert_eq!(rate(0, 1_000), "0.0 / s");
        assert_eq!(rate(20, 1_000), "20.0 / s");
        assert_eq!(rate(1, 2_000), "30.0 / min");
        assert_eq!(rate(1, 3_600_000), "1.0 / h");
    }
}
