//! The page with the list, and the counts of what matches.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use perennial::Status;

use crate::export::{self, Format};
use crate::instances::command::Action;
use crate::instances::search::{Search, is_stale_token};
use crate::instances::{filters, table};
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::{change, layout, show};

/// How long a page without any instance is followed by the next one at once.
const GO_ON_FOR: Duration = Duration::from_millis(100);

/// What was found, or why nothing could be looked for.
enum Found {
    Page(perennial::Page),
    Refused(Refused),
}

pub(super) async fn page(page: Page) -> Shown {
    let search = Search::parse(&page.query);
    let found = find(&page, &search).await.on(&page)?;
    let names = filters::names(&page).await;
    let status = match &found {
        Found::Page(_) => StatusCode::OK,
        Found::Refused(refused) => refused.status,
    };
    // It knows fewer conditions than the list; what it tells of other instances only makes the page be read again.
    let prefix = search.of("idPrefix").next().unwrap_or_default();
    let body = html! {
        div data-live=(page.live(3, &[("idPrefix", prefix)])) {
            div.row.spread.heading {
                h1 { "Instances" }
                div.row {
                    span.live {}
                    @if page.may_change() { a.button.primary href=(page.path("/start")) { "Start an instance" } }
                }
            }
            (change::notice(&page))
            (views())
            (filters::form(&page, &search, &names))
            (filters::chips(&page, &search))
            @match &found {
                Found::Refused(why) => p.error role="alert" { (why.message) },
                Found::Page(found) => (results(&page, &search, found)),
            }
        }
    };
    Ok(layout::page(&page, status, "Instances", "Instances", &body))
}

async fn find(page: &Page, search: &Search) -> Result<Found, Refused> {
    let mut list = match search.list(&page.client) {
        Ok(list) => list.limit(search.size),
        Err(problems) => return Ok(Found::Refused(Refused::invalid(problems))),
    };
    if let Some(token) = &search.after {
        list = list.continuation_token(token);
    }
    let mut found = list.clone().await;
    // A page on which nothing was found is no use to anybody, as long as the next one comes soon.
    let begun = Instant::now();
    while let Ok(none) = &found
        && none.instances.is_empty()
        && let Some(token) = &none.continuation_token
        && begun.elapsed() < GO_ON_FOR
    {
        found = list.clone().continuation_token(token).await;
    }
    match found {
        Ok(mut found) => {
            let instances = std::mem::take(&mut found.instances);
            found.instances = table::described(&page.client, instances).await;
            Ok(Found::Page(found))
        }
        Err(error) if is_stale_token(search, &error) => {
            let message = "This link belongs to another list, or to one of an earlier hub. Apply the filter to begin again.";
            Ok(Found::Refused(Refused::invalid(message)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Saved views, which the browser keeps; a script serves this.
fn views() -> Markup {
    html! {
        details #views.menu.needs-js {
            summary { "Saved views" }
            div.drop {
                ul #saved-views {}
                p.hint #no-views { "A view is a filter with a name. This browser keeps it; nobody else sees it." }
                form #save-view {
                    label for="view-name" { "Save this filter as" }
                    div.row.tight-row {
                        input #view-name maxlength="80" required autocomplete="off";
                        button type="submit" { "Save" }
                    }
                }
            }
        }
    }
}

fn results(page: &Page, search: &Search, found: &perennial::Page) -> Markup {
    html! {
        form.results method="post" action=(page.path("/bulk/confirm")) {
            @if page.may_change() { (page.token_field()) (commands(search)) }
            p.warning #held hidden role="status" {
                "The list has changed. It stays as it is while rows are ticked that it would lose. "
                button type="button" data-update { "Untick them, and show the changes" }
            }
            div data-part="rows" {
                @if found.instances.is_empty() { (empty(page, search, found)) } @else { (table::table(page, &found.instances)) }
                (pager(page, search, found))
            }
        }
        (exports(page, search))
    }
}

/// The bar that leads to the confirmation of a command on many instances.
fn commands(search: &Search) -> Markup {
    let all = if search.is_everything() {
        "all instances of the hub"
    } else {
        "all that match this filter"
    };
    html! {
        input type="hidden" name="filter" value=(search.query());
        div.row.commands role="group" aria-label="Do something with several instances" {
            label.inline for="scope" { "With" }
            select #scope name="scope" {
                option value="selected" selected { "the selected rows" }
                option value="filter" { (all) }
            }
            label.inline for="action" { "do" }
            select #action name="action" {
                @for action in Action::ALL { option value=(action.name()) { (action.label()) } }
            }
            button type="submit" { "Review…" }
            span.hint #selected role="status" {}
        }
    }
}

fn empty(page: &Page, search: &Search, found: &perennial::Page) -> Markup {
    let list = page.path(&format!("/instances{}", search.query_without_all()));
    html! {
        div.empty {
            @if found.continuation_token.is_some() {
                strong { "None among those looked at so far" }
                p { "Few instances match, so only a part of the hub was looked at. The next page goes on from there." }
            } @else if search.after.is_some() {
                strong { "The list ends here" }
                p { "There are no further instances." }
            } @else if search.has_values() {
                strong { "No instance matches" }
                p { "Remove a condition above, or " a href=(list) { "clear them all" } "." }
            } @else if search.is_everything() {
                strong { "There are no instances yet" }
                @if page.may_change() {
                    p { a href=(page.path("/start")) { "Start one here" } ", or with " code { "perennial start NAME" } "." }
                    p { "It needs a " a href=(page.path("/modules")) { "module" } " that defines the orchestration." }
                } @else {
                    p { "They appear here as soon as somebody starts one." }
                }
            } @else {
                strong { "No instance has ended yet" }
                p { "This order lists only instances that have ended. " a href=(page.path("/instances")) { "List all" } "." }
            }
        }
    }
}

fn pager(page: &Page, search: &Search, found: &perennial::Page) -> Markup {
    let rows = found.instances.len();
    html! {
        nav.row.spread.pager aria-label="Pages of the list" {
            span.hint {
                (show::plural(rows as u64, "instance")) " on this page"
                @if found.continuation_token.is_none() && search.after.is_none() { ", all that match" }
                @if rows > 0 { " · " a href=(page.path(&format!("/count{}", search.query()))) { "Count all by status" } }
            }
            span.row {
                @if search.after.is_some() {
                    a.button href=(page.path(&format!("/instances{}", search.query()))) { "« First page" }
                }
                @if let Some(token) = &found.continuation_token {
                    a.button rel="next" href=(page.path(&format!("/instances{}", search.query_after(token)))) { "Next page ›" }
                }
            }
        }
    }
}

fn exports(page: &Page, search: &Search) -> Markup {
    let query = search.query();
    let join = if query.is_empty() { '?' } else { '&' };
    let to = |format: Format| page.path(&format!("/instances.{}{query}", format.end()));
    let payloads = to(Format::Lines) + &format!("{join}payloads=yes");
    html! {
        p.hint.exports {
            "Export all that match: " (export::links(to)) " "
            a href=(payloads) download { "JSON lines with inputs and outputs" }
        }
    }
}

/// The number of matching instances in each status. It may take a while in a large hub, so it is a page of its own.
pub(super) async fn count(page: Page) -> Result<Response, Response> {
    let search = Search::parse(&page.query);
    let filter = search
        .among(&Status::ALL)
        .map_err(Refused::invalid)
        .on(&page)?;
    let counts = match filter {
        Some(filter) => page.client.list().filter(filter).counts().await.on(&page)?,
        None => Vec::new(),
    };
    let list = |query: String| page.path(&format!("/instances{query}"));
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let body = html! {
        h1 { "Instances by status" }
        (filters::chips(&page, &search))
        div.card.narrow {
            table {
                thead { tr { th scope="col" { "Status" } th.num scope="col" { "Instances" } } }
                tbody { @for (status, count) in &counts { tr {
                    th scope="row" { a href=(list(search.query_of_status(Some(*status)))) { (show::status(*status)) } }
                    td.num { (show::count(*count)) }
                } } }
                tfoot { tr { th scope="row" { "Together" } td.num { (show::count(total)) } } }
            }
            p { a href=(list(search.query())) { "Back to the list" } }
        }
    };
    Ok(layout::page(
        &page,
        StatusCode::OK,
        "Instances by status",
        "Instances",
        &body,
    ))
}
