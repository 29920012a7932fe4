//! The page that explains a command on many instances before it is given, and the request that gives it.

use std::pin::pin;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use maud::{Markup, html};
use perennial::{InstanceStatus, Timestamp, parse_time};

use crate::change::Sent;
use crate::fields::Fields;
use crate::instances::command::{self, Action, Command};
use crate::instances::filters;
use crate::instances::jobs::{Jobs, Targets};
use crate::instances::picked::{self, Picked};
use crate::instances::search::{SIZES, Search};
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::show::cut;
use crate::{layout, show};

/// Instances that are named.
const NAMED: usize = 20;

/// Characters that are shown of an id.
const ID: usize = 120;

/// Instances that a confirmation names one by one in its form; of more it says until when they matched.
const EACH: usize = 500;

/// What a form asked for: an action, and the instances it is for.
struct Asked {
    action: Action,
    scope: Scope,
    search: Search,
}

enum Scope {
    Selected(Vec<Picked>),
    /// All that match. `confirmed` is what a confirmation showed.
    Filter {
        confirmed: Option<Confirmed>,
    },
}

impl Scope {
    fn is_filter(&self) -> bool {
        matches!(self, Self::Filter { .. })
    }
}

/// What a confirmation of a command on all that match was for. It goes with the form, so that the command is for that and for nothing that
/// began to match later.
struct Confirmed {
    count: u64,
    as_of: Timestamp,
    /// All of them, if they are not too many for a form.
    picked: Option<Vec<Picked>>,
}

/// Instances that would be changed: their number, and the first of them with their statuses if they exist.
struct Preview {
    count: u64,
    as_of: Timestamp,
    first: Vec<(Picked, Option<InstanceStatus>)>,
    /// All of them, if they are not too many for a form.
    picked: Option<Vec<Picked>>,
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
    let targets = match targets(asked, &sent) {
        Ok(targets) => targets,
        Err((asked, why)) => return confirmation(&page, &asked, &sent, Some(&why)).await,
    };
    let job = jobs.begin(&page.client, query, command, targets).await;
    let job = job.ok_or_else(|| {
        let why = "Too many such commands run at present. Nothing was changed; try again when one of them has ended.";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, why).on(&page)
    })?;
    Ok(Redirect::to(&page.path(&format!("/bulk/{}", job.key))).into_response())
}

/// The instances that a command is for; or what is asked for, and why it is not known.
fn targets(asked: Asked, sent: &Fields) -> Result<Targets, (Asked, String)> {
    if let Scope::Selected(picked) = asked.scope {
        return Ok(Targets {
            confirmed: picked.len() as u64,
            picked: Some(picked),
            filter: None,
            as_of: show::now(),
            then: None,
        });
    }
    if asked.search.is_everything() && !sent.is_set("all") {
        let why = "Without a filter the command applies to every instance of the hub. If you mean that, tick the box.";
        return Err((asked, why.to_owned()));
    }
    let filter = match asked.search.among(asked.action.statuses()) {
        Ok(Some(filter)) => filter,
        Ok(None) => return Err((asked, "No instance can match.".to_owned())),
        Err(why) => return Err((asked, why)),
    };
    let Scope::Filter {
        confirmed:
            Some(Confirmed {
                count,
                as_of,
                picked,
            }),
    } = asked.scope
    else {
        let why = "The form does not say what was shown. Look at it here, and confirm it.";
        return Err((asked, why.to_owned()));
    };
    let unchanged = asked.action.is_for_ended();
    let then = asked.search.up_to(filter.clone(), as_of, unchanged);
    Ok(Targets {
        picked,
        filter: Some(filter),
        as_of,
        then: Some(then),
        confirmed: count,
    })
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
            let confirmed = confirmed(sent)?;
            Scope::Filter { confirmed }
        }
        Some("selected") => Scope::Selected(selected(sent)?),
        _ => return Err(Refused::invalid("Choose what the action is for.")),
    };
    Ok(Asked {
        action,
        scope,
        search,
    })
}

fn selected(sent: &Fields) -> Result<Vec<Picked>, Refused> {
    let picked = picked::all(sent)?;
    let most = SIZES[SIZES.len() - 1] as usize;
    if picked.is_empty() {
        return Err(Refused::invalid(
            "No instance is selected. Go back and select at least one.",
        ));
    }
    if picked.len() > most {
        return Err(Refused::invalid(format!(
            "At most {most} instances can be selected at once."
        )));
    }
    Ok(picked)
}

/// What the form of a confirmation says that it was for; `None` before a confirmation.
fn confirmed(sent: &Fields) -> Result<Option<Confirmed>, Refused> {
    let Some(count) = sent.text("count") else {
        return Ok(None);
    };
    let unreadable = || {
        Refused::invalid(
            "The form does not say what was shown. Go back to the list, and begin again.",
        )
    };
    let count = count.parse().map_err(|_| unreadable())?;
    let as_of = sent
        .text("asOf")
        .and_then(parse_time)
        .ok_or_else(unreadable)?;
    let picked = match sent.is_set("each") {
        true => Some(picked::all(sent)?),
        false => None,
    };
    if picked.as_ref().is_some_and(|all| all.len() as u64 != count) {
        return Err(unreadable());
    }
    Ok(Some(Confirmed {
        count,
        as_of,
        picked,
    }))
}

async fn preview(page: &Page, asked: &Asked) -> Result<Preview, Refused> {
    if let Scope::Selected(picked) = &asked.scope {
        let first = &picked[..picked.len().min(NAMED)];
        let of = |one: &Picked| page.client.status(&one.id).into_future();
        let statuses = join_all(first.iter().map(of)).await;
        let mut named = Vec::with_capacity(first.len());
        for (one, status) in first.iter().zip(statuses) {
            let status = match status {
                // An id that no instance can have.
                Err(error) if error.is_invalid() => None,
                status => status?,
            };
            named.push((one.clone(), status));
        }
        return Ok(Preview {
            count: picked.len() as u64,
            as_of: show::now(),
            first: named,
            picked: None,
        });
    }
    let filter = asked.search.among(asked.action.statuses());
    let Some(filter) = filter.map_err(Refused::invalid)? else {
        return Ok(Preview {
            count: 0,
            as_of: show::now(),
            first: Vec::new(),
            picked: None,
        });
    };
    let (count, as_of) = command::count(asked.action, &page.client, filter.clone()).await?;
    // One more than fit, because some may have begun to match since they were counted.
    let few = count <= EACH as u64;
    let read = if few { EACH + 1 } else { NAMED };
    let list = page.client.list().filter(filter).order(asked.search.order);
    let mut found = Vec::new();
    let mut listed = pin!(list.limit(200).stream().take(read));
    while let Some(instance) = listed.try_next().await? {
        found.push(instance);
    }
    let picked: Vec<Picked> = found.iter().map(Picked::of).collect();
    let picked = Some(picked).filter(|all| few && all.len() <= EACH);
    let named = found.into_iter().take(NAMED);
    Ok(Preview {
        count: picked.as_ref().map_or(count, |all| all.len() as u64),
        as_of,
        first: named.map(|one| (Picked::of(&one), Some(one))).collect(),
        picked,
    })
}

async fn confirmation(page: &Page, asked: &Asked, sent: &Fields, problem: Option<&str>) -> Shown {
    let preview = preview(page, asked).await.on(page)?;
    let title = title(asked, preview.count);
    let back = page.path(&format!("/instances{}", asked.search.query()));
    let body = html! {
        h1 { (title) }
        @if let Some(problem) = problem { p.error role="alert" { (problem) } }
        p { (asked.action.explanation()) }
        @if asked.scope.is_filter() { (filters::chips(page, &asked.search)) }
        (concerned(page, asked, &preview))
        @if preview.count > 0 {
            form.card method="post" action=(page.path("/bulk")) {
                (page.token_field())
                input type="hidden" name="action" value=(asked.action.name());
                input type="hidden" name="filter" value=(asked.search.query());
                (targets_fields(asked, &preview))
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

/// What the command will be for, as it is shown now.
fn targets_fields(asked: &Asked, preview: &Preview) -> Markup {
    let picked = match &asked.scope {
        Scope::Selected(picked) => Some(picked),
        Scope::Filter { .. } => preview.picked.as_ref(),
    };
    html! {
        @if asked.scope.is_filter() {
            input type="hidden" name="scope" value="filter";
            input type="hidden" name="count" value=(preview.count);
            input type="hidden" name="asOf" value=(preview.as_of);
            @if picked.is_some() { input type="hidden" name="each" value="yes"; }
        } @else {
            input type="hidden" name="scope" value="selected";
        }
        @for one in picked.into_iter().flatten() { input type="hidden" name=(picked::NAME) value=(one.value()); }
    }
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
    let has_effect =
        |status: &InstanceStatus| asked.action.statuses().contains(&status.runtime_status);
    let more = preview.count.saturating_sub(preview.first.len() as u64);
    html! {
        p.hint { "It has an effect on instances with the status " (statuses.join(", ")) "; others are left alone." }
        @if asked.search.is_everything() && asked.scope.is_filter() && preview.count > 0 {
            p.warning role="alert" { strong { "There is no filter." } " This is for every instance of the task hub " (page.hub()) "." }
        }
        @if preview.count == 0 {
            div.empty { strong { "No instance matches" } p { "None that matches has one of these statuses." } }
        } @else {
            section.card aria-labelledby="concerned" {
                h2 #concerned { @if more > 0 { "The first " (preview.first.len()) " of them" } @else { "These instances" } }
                ul.concerned {
                    @for (one, status) in &preview.first {
                        li {
                            a.mono href=(page.instance(&one.id, "")) { (cut(&one.id, ID)) } " "
                            @match status {
                                Some(status) if status.run != one.run => span.none { "was started again since it was selected" },
                                Some(status) => (show::status(status.runtime_status)),
                                None => span.none { "does not exist" },
                            }
                            @if !status.as_ref().is_some_and(|status| status.run == one.run && has_effect(status)) {
                                " " span.chip { "will be skipped" }
                            }
                        }
                    }
                }
                @if more > 0 { p.hint { "and " (show::count(more)) " more" } }
                @if asked.scope.is_filter() { p.hint { "What begins to match later is left alone." } }
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
        @if asked.search.is_everything() && asked.scope.is_filter() {
            div { label.inline {
                input type="checkbox" name="all" value="yes" required checked[sent.is_set("all")];
                "Yes, I mean every instance of this task hub"
            } }
        }
    }
}
