//! What a hub takes up on disk, what could be freed, and how long ended instances are kept.
//!
//! It is a page of its own because it visits each instance once.

use axum::http::StatusCode;
use axum::response::Response;
use futures::StreamExt;
use maud::{Markup, html};
use perennial::{Client, HubStats, Order, Retention, Status};

use crate::page::Page;
use crate::refused::OnPage;
use crate::{layout, show};

/// Ended instances whose histories are measured to say what deleting all of them would free.
const SAMPLED: u32 = 500;

pub(super) async fn page(page: Page) -> Result<Response, Response> {
    let stats = page.client.stats().await.on(&page)?;
    let retention = page.client.retention().await.on(&page)?;
    let ended = ended(&stats);
    let freed = freed(&page.client, ended).await.on(&page)?;
    let body = html! {
        h1 { "Storage of " (page.hub()) }
        div.grid {
            section.card { h2 { "On disk" } (sizes(&stats)) }
            section.card { h2 { "What could be freed" } (freeable(&page, &stats, ended, freed)) }
            section.card { h2 { "How long ended instances are kept" } (kept(page.hub(), &retention)) }
        }
    };
    Ok(layout::page(
        &page,
        StatusCode::OK,
        "Storage",
        "Overview",
        &body,
    ))
}

fn ended(stats: &HubStats) -> u64 {
    let ended = stats.instances.iter().filter(|(status, _)| status.is_end());
    ended.map(|(_, count)| count).sum()
}

/// About how many bytes the histories of all ended instances have, from those that ended first.
async fn freed(client: &Client, ended: u64) -> perennial::Result<u64> {
    let mut list = client.list().order(Order::EndedFirst).limit(SAMPLED);
    for status in [Status::Completed, Status::Failed, Status::Terminated] {
        list = list.status(status);
    }
    let (mut sampled, mut bytes) = (0, 0);
    let mut found = list.stream();
    while let Some(one) = found.next().await {
        sampled += 1;
        bytes += one?.history_bytes;
        if sampled >= u64::from(SAMPLED) {
            break;
        }
    }
    Ok(bytes.saturating_mul(ended) / sampled.max(1))
}

fn sizes(stats: &HubStats) -> Markup {
    html! {
        dl.facts {
            @match &stats.hub.path {
                Some(file) => { dt { "File" } dd { code { (file.display()) } } }
                None => { dt { "Database" } dd { code { (stats.hub.database.as_deref().unwrap_or_default()) } } }
            }
            dt { "Size" } dd { (show::bytes(stats.hub.bytes)) }
            dt { "Used" } dd { (show::bytes(stats.used_bytes)) }
            dt { "Histories" } dd { "about " (show::bytes(stats.history_bytes)) " in " (show::count(stats.history_events)) " events, " (show::count(stats.history_turns)) " turns" }
            dt { "Modules" } dd { (show::bytes(stats.module_bytes)) " in " (show::count(stats.stored_modules)) " components, " (show::count(stats.modules)) " deployed" }
        }
    }
}

fn freeable(page: &Page, stats: &HubStats, ended: u64, freed: u64) -> Markup {
    html! {
        dl.facts {
            dt { "By purging" } dd {
                (show::count(ended)) " ended instances, about " (show::bytes(freed)) " of history. "
                @if ended > 0 { a href=(page.path("/instances?status=Completed&status=Failed&status=Terminated&order=ended")) { "Show them" } }
            }
            dt { "By compacting" } dd {
                (show::bytes(stats.free_bytes)) " that the file holds but does not use. "
                "A running host gives them back little by little; " code { "perennial hubs compact " (page.hub()) } " does it at once while no host runs."
            }
            @if stats.has_garbage { dt { "Being removed" } dd { "The host still removes histories of instances that were purged." } }
        }
    }
}

fn kept(hub: &str, retention: &Retention) -> Markup {
    let ages = [
        (Status::Completed, retention.completed),
        (Status::Failed, retention.failed),
        (Status::Terminated, retention.terminated),
    ];
    html! {
        dl.facts {
            @for (status, age) in ages {
                dt { (show::status(status)) }
                dd { @match age { Some(age) => (show::span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))), None => "until they are purged" } }
            }
        }
        p.hint { code { "perennial hubs set " (hub) " --retain-completed 7d" } " changes it." }
    }
}
