//! The page that explains a command on many instances before it is given, and the request that gives it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use futures::future::join_all;
use maud::{Markup, html};
use perennial::{InstanceStatus, Status};

use crate::change::Sent;
use crate::fields::Fields;
use crate::instances::command::{self, Action, Command};
use crate::instances::filters;
use crate::instances::jobs::{Jobs, Targets};
use crate::instances::search::{SIZES, Search};
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::show::cut;
use crate::{layout, show};

/// Instances that are named.
const NAMED: usize = 20;

/// Characters that are shown of an id.
const ID: usize = 120;

/// What a form asked for: an action, and the instances it is for.
struct Asked {
    action: Action,
    scope: Scope,
    search: Search,
}

enum Scope {
    Ids(Vec<String>),
    Filter,
}

/// Instances that would be changed: their number, and the first of them with their statuses if they exist.
struct Preview {
    count: u64,
    first: Vec<(String, Option<Status>)>,
}

/// These pages need what a form sends; who reloads them is led to the list.
pub(super) async fn to_list(page: Page) -> Response {
    Redirect::to(&page.path("/instances")).into_response()
}

pub(super) async fn page(page: Page, Sent(sent): Sent) -> Shown {
    let asked = asked(&sent).on(&page)?;
    confirmation(&page, &asked, &sent, None).await
}

/// Gives the command. If an option is wrong, the page asks again, with what was entered.
pub(super) async fn run(page: Page, State(jobs): State<Jobs>, Sent(sent): Sent) -> Shown {
    let asked = asked(&sent).on(&page)?;
    let command = match Command::parse(asked.action, &sent) {
        Ok(command) => command,
        Err(why) => return confirmation(&page, &asked, &sent, Some(&why)).await,
    };
    let query = asked.search.query();
    let targets = match asked.scope {
        Scope::Ids(ids) => Targets::Ids(ids),
        Scope::Filter => {
            if asked.search.is_everything() && !sent.is_set("all") {
                let why = "Without a filter the command applies to every instance of the hub. If you mean that, tick the box.";
                return confirmation(&page, &asked, &sent, Some(why)).await;
            }
            let filter = asked.search.among(asked.action.statuses());
            let Some(filter) = filter.map_err(Refused::invalid).on(&page)? else {
                return Err(Refused::invalid("No instance can match.").on(&page));
            };
            // Instances that are created from now on were not confirmed.
            let end = asked
                .search
                .created_before(perennial::Timestamp(show::now().0.saturating_add(1)));
            Targets::Filter(filter.created_to(end))
        }
    };
    let job = jobs.begin(&page.client, query, command, targets).await;
    let job = job.ok_or_else(|| {
        let why = "Too many such commands run at present. Nothing was changed; try again when one of them has ended.";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, why).on(&page)
    })?;
    Ok(Redirect::to(&page.path(&format!("/bulk/{}", job.key))).into_response())
}

fn asked(sent: &Fields) -> Result<Asked, Refused> {
    let action = sent.text("action").and_then(Action::of);
    let action = action.ok_or_else(|| Refused::invalid("There is no such action."))?;
    let search = Search::parse_text(sent.text("filter").unwrap_or_default());
    let scope = match sent.text("scope") {
        Some("filter") => {
            if !search.problems.is_empty() {
                return Err(Refused::invalid(search.problems.join(" ")));
            }
            Scope::Filter
        }
        Some("selected") => Scope::Ids(ids(sent)?),
        _ => return Err(Refused::invalid("Choose what the action is for.")),
    };
    Ok(Asked {
        action,
        scope,
        search,
    })
}

fn ids(sent: &Fields) -> Result<Vec<String>, Refused> {
    // As they are: an id may begin or end with a space.
    let named = sent.pairs().filter(|(name, _)| *name == "id");
    let mut ids: Vec<String> = Vec::new();
    for (_, id) in named {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    let most = SIZES[SIZES.len() - 1] as usize;
    if ids.is_empty() {
        return Err(Refused::invalid(
            "No instance is selected. Go back and select at least one.",
        ));
    }
    if ids.len() > most {
        return Err(Refused::invalid(format!(
            "At most {most} instances can be selected at once."
        )));
    }
    Ok(ids)
}

async fn preview(page: &Page, asked: &Asked) -> Result<Preview, Refused> {
    match &asked.scope {
        Scope::Ids(ids) => {
            let first = &ids[..ids.len().min(NAMED)];
            let statuses =
                join_all(first.iter().map(|id| page.client.status(id).into_future())).await;
            let mut named = Vec::with_capacity(first.len());
            for (id, status) in first.iter().zip(statuses) {
                let status = match status {
                    // An id that no instance can have.
                    Err(error) if error.is_invalid() => None,
                    status => status?,
                };
                named.push((id.clone(), status.map(|status| status.runtime_status)));
            }
            Ok(Preview {
                count: ids.len() as u64,
                first: named,
            })
        }
        Scope::Filter => {
            let filter = asked
                .search
                .among(asked.action.statuses())
                .map_err(Refused::invalid)?;
            let Some(filter) = filter else {
                return Ok(Preview {
                    count: 0,
                    first: Vec::new(),
                });
            };
            let count = command::count(asked.action, &page.client, filter.clone()).await?;
            let list = page.client.list().filter(filter).order(asked.search.order);
            let list = list.limit(u32::try_from(NAMED).unwrap_or(u32::MAX)).await?;
            let named =
                |instance: InstanceStatus| (instance.instance_id, Some(instance.runtime_status));
            let first = list.instances.into_iter().map(named).collect();
            Ok(Preview { count, first })
        }
    }
}

async fn confirmation(page: &Page, asked: &Asked, sent: &Fields, problem: Option<&str>) -> Shown {
    let preview = preview(page, asked).await.on(page)?;
    let title = title(asked, preview.count);
    let back = page.path(&format!("/instances{}", asked.search.query()));
    let body = html! {
        h1 { (title) }
        @if let Some(problem) = problem { p.error role="alert" { (problem) } }
        p { (asked.action.explanation()) }
        @if let Scope::Filter = asked.scope { (filters::chips(page, &asked.search)) }
        (concerned(page, asked, &preview))
        @if preview.count > 0 {
            form.card method="post" action=(page.path("/bulk")) {
                (page.token_field())
                input type="hidden" name="action" value=(asked.action.name());
                input type="hidden" name="filter" value=(asked.search.query());
                @match &asked.scope {
                    Scope::Filter => input type="hidden" name="scope" value="filter";,
                    Scope::Ids(ids) => {
                        input type="hidden" name="scope" value="selected";
                        @for id in ids { input type="hidden" name="id" value=(id); }
                    }
                }
                (options(asked, sent))
                div.row.last {
                    button.primary[!asked.action.is_harsh()].danger[asked.action.is_harsh()] type="submit" {
                        (button(asked, preview.count))
                    }
                    a.button href=(back) { "Do nothing" }
                }
            }
        } @else {
            p { a.button href=(back) { "Back to the list" } }
        }
    };
    let status = if problem.is_some() {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    Ok(layout::page(page, status, &title, "Instances", &body))
}

fn number(count: u64) -> String {
    match count {
        1 => "1 instance".to_owned(),
        count => format!("{} instances", show::count(count)),
    }
}

fn title(asked: &Asked, count: u64) -> String {
    match asked.action {
        _ if count == 0 => format!("{}: nothing to do", asked.action.label()),
        Action::Event => format!("Raise an event for {}?", number(count)),
        action => format!("{} {}?", action.label(), number(count)),
    }
}

fn button(asked: &Asked, count: u64) -> String {
    match asked.action {
        Action::Event => format!("Raise the event for {}", number(count)),
        action => format!("{} {}", action.label(), number(count)),
    }
}

/// The instances that it is about.
fn concerned(page: &Page, asked: &Asked, preview: &Preview) -> Markup {
    let statuses: Vec<&str> = asked
        .action
        .statuses()
        .iter()
        .map(|status| status.name())
        .collect();
    let has_effect = |status: &Option<Status>| {
        status.is_some_and(|status| asked.action.statuses().contains(&status))
    };
    let more = preview.count.saturating_sub(preview.first.len() as u64);
    html! {
        p.hint { "It has an effect on instances with the status " (statuses.join(", ")) "; others are left alone." }
        @if asked.search.is_everything() && matches!(asked.scope, Scope::Filter) && preview.count > 0 {
            p.warning role="alert" { strong { "There is no filter." } " This is for every instance of the task hub " (page.hub()) "." }
        }
        @if preview.count == 0 {
            div.empty { strong { "No instance matches" } p { "None that matches has one of these statuses." } }
        } @else {
            section.card aria-labelledby="concerned" {
                h2 #concerned { @if more > 0 { "The first " (preview.first.len()) " of them" } @else { "These instances" } }
                ul.concerned {
                    @for (id, status) in &preview.first {
                        li {
                            a.mono href=(page.instance(id, "")) { (cut(id, ID)) } " "
                            @match status {
                                Some(status) => (show::status(*status)),
                                None => span.none { "does not exist" },
                            }
                            @if !has_effect(status) { " " span.chip { "will be skipped" } }
                        }
                    }
                }
                @if more > 0 { p.hint { "and " (show::count(more)) " more" } }
            }
        }
    }
}

/// What can be said along with the action.
fn options(asked: &Asked, sent: &Fields) -> Markup {
    let action = asked.action;
    html! {
        @if action == Action::Event {
            label for="event" { "Name of the event" }
            input #event name="event" value=[sent.text("event")] required autocomplete="off" spellcheck="false";
            label for="data" { "Data as JSON (may be empty)" }
            textarea #data name="data" spellcheck="false" { (sent.text("data").unwrap_or_default()) }
        }
        @if action.takes_reason() {
            label for="reason" { "Reason (recorded in each history; may be empty)" }
            input #reason name="reason" value=[sent.text("reason")] autocomplete="off";
        }
        @if action.takes_recursive() {
            div { label.inline {
                input type="checkbox" name="recursive" value="yes" checked[sent.is_set("recursive")];
                @if action == Action::Purge { "Also delete ended descendants" } @else { "Also for all descendants" }
            } }
        }
        @if action == Action::Rewind {
            div { label.inline {
                input type="checkbox" name="allFailures" value="yes" checked[sent.is_set("allFailures")];
                "Go back to before the first failure of all, also of failures that the orchestration handled"
            } }
            div { label.inline {
                input type="checkbox" name="forgetCompleted" value="yes" checked[sent.is_set("forgetCompleted")];
                "Permit it to forget work that completed after the failure, such as compensations; their side effects are not undone"
            } }
        }
        @if asked.search.is_everything() && matches!(asked.scope, Scope::Filter) {
            div { label.inline {
                input type="checkbox" name="all" value="yes" required checked[sent.is_set("all")];
                "Yes, I mean every instance of this task hub"
            } }
        }
    }
}
