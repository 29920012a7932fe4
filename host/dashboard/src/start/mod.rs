//! Starting an instance: which orchestration, its input, and when.
//!
//! Invariants: what was typed is never lost, a refused start shows the form as it was sent; the input is made on the server, so that the
//! form works without scripts; a JSON text that was typed is kept as it is.

mod again;
mod form;
mod schema;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use perennial::{Definition, DefinitionKind, Json, Reuse, parse_time};

use crate::change::{self, Sent};
use crate::fields::Fields;
use crate::page::Page;
use crate::refused::OnPage as _;
use crate::refused::{Refused, Shown};
use crate::show::{cut, sentence};
use crate::{layout, link};
use again::Again;
use schema::Member;

/// Orchestrations in the list.
const LISTED: usize = 500;

/// Tags of one form.
const TAGS: usize = 100;

/// What may become of an instance that has the id: the value of the field, and what it means.
const REUSES: [(&str, &str); 3] = [
    ("ended", "Replace it if it has ended"),
    ("never", "Refuse the start"),
    ("any", "Replace it, live or not"),
];

/// Units of spans of time: the value of the field, and its seconds.
const UNITS: [(&str, u64); 4] = [
    ("seconds", 1),
    ("minutes", 60),
    ("hours", 3_600),
    ("days", 86_400),
];

pub(crate) fn routes() -> Router {
    Router::new().route("/{hub}/start", get(page).post(start))
}

/// The last part of the path of a start.
const START: &str = "/start";

/// Shows the form again, filled, when a start was refused because its token is not one of this visitor, as after a restart of the host: the
/// refusal would lose what was typed. It lies around the guard, which decides.
pub(crate) async fn keep_typed(request: Request, next: Next) -> Response {
    let is_start = request.method() == Method::POST && request.uri().path().ends_with(START);
    if !is_start {
        return next.run(request).await;
    }
    let (mut head, body) = request.into_parts();
    // The host has bounded it.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return next.run(Request::from_parts(head, Body::empty())).await;
    };
    let again = Request::from_parts(head.clone(), Body::from(bytes.clone()));
    let response = next.run(again).await;
    let fields = Fields::parse(&bytes);
    let is_outdated = response.status() == StatusCode::FORBIDDEN
        && (fields.text("name").is_some() || fields.text(again::OF).is_some());
    if !is_outdated || form_of_another_site(&head) {
        return response;
    }
    head.uri = "/".parse().unwrap_or(head.uri);
    match Page::from_request_parts(&mut head, &()).await {
        Ok(page) if page.may_change() && !is_own(&page, &fields) => {
            outdated(&page, &fields).await.unwrap_or(response)
        }
        _ => response,
    }
}

/// Whether a browser says that another site sent the form: what it filled in is not shown as if this visitor had typed it.
fn form_of_another_site(head: &axum::http::request::Parts) -> bool {
    let site = head.headers.get("sec-fetch-site");
    site.is_some_and(|site| site != "same-origin" && site != "none")
}

fn is_own(page: &Page, fields: &Fields) -> bool {
    let token = fields.text("token");
    token.is_some_and(|token| page.visitor.is_form_token(token))
}

async fn outdated(page: &Page, fields: &Fields) -> Option<Response> {
    let again = Again::of(page, fields).await.ok()?;
    let asked = Asked::of(page, fields, again).await.ok()?;
    let message = "The form was made before the host was restarted, or for another key. It is up to date now; look at it and send it again.";
    let refused = Refused::new(StatusCode::FORBIDDEN, message);
    Some(shown(page, &asked, fields, true, Some(&refused)))
}

/// What the form is about.
struct Asked {
    /// The deployed orchestrations.
    known: Vec<Definition>,
    name: Option<String>,
    form: Option<Member>,
    /// Whether the input is typed as JSON although there is a form.
    as_json: bool,
    /// The instance whose orchestration is to run again.
    again: Option<Again>,
}

impl Asked {
    async fn of(page: &Page, fields: &Fields, again: Option<Again>) -> perennial::Result<Self> {
        let modules = page.client.modules().await?;
        let all = modules.into_iter().flat_map(|module| module.definitions);
        let mut known: Vec<Definition> = all
            .filter(|one| one.kind == DefinitionKind::Orchestration)
            .collect();
        known.sort_by(|a, b| a.name.cmp(&b.name));
        known.dedup_by(|a, b| a.name == b.name);
        let only = (known.len() == 1).then(|| known[0].name.as_str());
        let of = again.as_ref().map(Again::name);
        let name = of.or(fields.text("name")).or(only).map(str::to_owned);
        let schema = match &name {
            Some(name) => schema::schema_of(&page.client, name).await?,
            None => None,
        };
        Ok(Self {
            known,
            name,
            form: schema.as_ref().and_then(schema::form_of),
            as_json: fields.text("as") == Some("json"),
            again,
        })
    }

    /// The fields with what the instance had that is to run again.
    fn filled(&mut self, chosen: &Fields) -> Fields {
        let Some(again) = &self.again else {
            return chosen.clone();
        };
        let filled = again.fields(self.form.as_ref(), chosen);
        self.as_json = filled.text("as") == Some("json");
        filled
    }

    /// The fields for the input, if it is not typed as JSON.
    fn fields(&self) -> Option<&Member> {
        self.form.as_ref().filter(|_| !self.as_json)
    }

    fn definition(&self) -> Option<&Definition> {
        let name = self.name.as_deref()?;
        self.known.iter().find(|one| one.name == name)
    }
}

async fn page(page: Page) -> Shown {
    if !page.may_change() {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "This key may only read, and a start is a change.",
        )
        .on(&page));
    }
    let again = Again::of(&page, &page.query).await.on(&page)?;
    let Some(again) = again else {
        let asked = Asked::of(&page, &page.query, None).await.on(&page)?;
        return Ok(shown(&page, &asked, &page.query, false, None));
    };
    let mut asked = Asked::of(&page, &page.query, Some(again)).await.on(&page)?;
    let filled = asked.filled(&page.query);
    Ok(shown(&page, &asked, &filled, true, None))
}

async fn start(page: Page, Sent(fields): Sent) -> Shown {
    let again = Again::of(&page, &fields).await.on(&page)?;
    let asked = Asked::of(&page, &fields, again).await.on(&page)?;
    match started(&page, &asked, &fields).await {
        Ok(id) => Ok(change::done(&page.instance(&id, ""), "Started")),
        Err(refused) => Ok(shown(&page, &asked, &fields, true, Some(&refused))),
    }
}

async fn started(page: &Page, asked: &Asked, fields: &Fields) -> Result<String, Refused> {
    let name = asked.name.as_deref();
    let name = name.ok_or_else(|| Refused::invalid("Choose an orchestration."))?;
    let mut start = page.client.start(name).input_json(input(asked, fields)?);
    let (id, reuse) = match &asked.again {
        Some(again) => again.id(fields)?,
        None => (fields.text("id"), reuse(fields)?),
    };
    start = start.reuse(reuse);
    if let Some(id) = id {
        start = start.id(id);
    }
    if let Some(version) = fields.text("version") {
        start = start.version(version);
    }
    for (key, value) in tags(fields.text("tags").unwrap_or_default())? {
        start = start.tag(key, value);
    }
    match (fields.text("at"), span(fields, "after")?) {
        (Some(_), Some(_)) => return Err(Refused::invalid("Give a delay or a time, not both.")),
        (Some(at), None) => {
            let time = parse_time(at).ok_or_else(|| {
                Refused::invalid(format!(
                    "{at:?} is no time; write it like 2026-03-01T12:00:00Z."
                ))
            });
            start = start.at(time?);
        }
        (None, Some(delay)) => start = start.after(delay),
        (None, None) => {}
    }
    if let Some(limit) = span(fields, "timeout")? {
        start = start.execution_timeout(limit);
    }
    Ok(start.await?)
}

fn input(asked: &Asked, fields: &Fields) -> Result<Option<Json>, Refused> {
    if let Some(form) = asked.fields() {
        let value = form::read(form, fields)
            .map_err(|problem| Refused::invalid(format!("The input does not fit: {problem}")))?;
        return Ok(value.map(|value| Json::from_text(value.to_string())));
    }
    // Spaces around it are no part of it.
    let Some(text) = fields.text("input") else {
        return Ok(None);
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return Err(Refused::invalid(format!("The input is not JSON: {error}.")));
    }
    Ok(Some(Json::from_text(text.to_owned())))
}

fn reuse(fields: &Fields) -> Result<Reuse, Refused> {
    match fields.text("reuse") {
        None | Some("ended") => Ok(Reuse::Ended),
        Some("never") => Ok(Reuse::Never),
        Some("any") => Ok(Reuse::Any),
        Some(_) => Err(Refused::invalid("Choose what happens if the id is taken.")),
    }
}

/// Tags, one `KEY=VALUE` in each line.
fn tags(text: &str) -> Result<Vec<(&str, &str)>, Refused> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tags = lines.map(|line| {
        let short = cut(line, 100);
        let pair = line
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()));
        pair.ok_or_else(|| {
            Refused::invalid(format!("{short:?} is no tag; write it like customer=17."))
        })
    });
    let tags = tags.take(TAGS + 1).collect::<Result<Vec<_>, _>>()?;
    if tags.len() > TAGS {
        return Err(Refused::invalid(format!(
            "An instance starts with at most {TAGS} tags here."
        )));
    }
    Ok(tags)
}

/// A span of time from a number and a unit.
fn span(fields: &Fields, name: &str) -> Result<Option<Duration>, Refused> {
    let Some(text) = fields.text(name) else {
        return Ok(None);
    };
    let unit = fields
        .text(&format!("{name}-unit"))
        .unwrap_or("seconds")
        .to_owned();
    let unit = UNITS
        .iter()
        .find(|(known, _)| *known == unit)
        .map(|(_, seconds)| *seconds);
    let seconds = text
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit));
    let wrong = || {
        Refused::invalid(format!(
            "{:?} is no span of time; write a whole number.",
            cut(text, 40)
        ))
    };
    seconds
        .map(|seconds| Some(Duration::from_secs(seconds)))
        .ok_or_else(wrong)
}

fn shown(
    page: &Page,
    asked: &Asked,
    fields: &Fields,
    is_sent: bool,
    refused: Option<&Refused>,
) -> Response {
    let status = refused.map_or(StatusCode::OK, |refused| refused.status);
    let body = html! {
        h1 { @if asked.again.is_some() { "Run again with another input" } @else { "Start an instance" } }
        (change::notice(page))
        @if let Some(again) = &asked.again { (again.says(page)) }
        @if let Some(refused) = refused { p.error role="alert" { (sentence(&refused.message)) " Nothing was started." } }
        @if asked.known.is_empty() && asked.name.is_none() {
            div.empty {
                strong { "No orchestration is deployed" }
                p { "Deploy a module first: " a href=(page.path("/modules")) { "Modules" } }
            }
        } @else {
            @if asked.again.is_none() { (choice(page, asked)) }
            @if let Some(name) = &asked.name { (details(page, asked, name, fields, is_sent)) }
        }
    };
    layout::page(page, status, "Start", "Start", &body)
}

/// The choice of the orchestration, which reads the page again with the form for its input.
fn choice(page: &Page, asked: &Asked) -> Markup {
    let name = asked.name.as_deref().unwrap_or_default();
    html! {
        form.card.start-name method="get" action=(page.path("/start")) {
            label for="name" { "Orchestration" }
            div.row {
                input #name name="name" value=(name) list="names" required autocomplete="off" spellcheck="false" data-submit-on-choice;
                button type="submit" { "Choose" }
            }
            datalist #names { @for one in asked.known.iter().take(LISTED) { option value=(one.name) {} } }
            @if asked.known.len() > 1 && name.is_empty() {
                ul.choices {
                    @for one in asked.known.iter().take(LISTED) {
                        li {
                            a href=(page.path(&format!("/start{}", link::query([("name", one.name.as_str())])))) { (one.name) }
                            @if let Some(text) = &one.description { " " span.none { (cut(text, 200)) } }
                        }
                    }
                }
                @if asked.known.len() > LISTED { p.hint { "And " (asked.known.len() - LISTED) " more: type a name." } }
            }
            @match asked.definition() {
                Some(one) => @if let Some(text) = &one.description { p.hint { (cut(text, 2_000)) } },
                None => @if !name.is_empty() {
                    p.warning { "No deployed module defines this name. It can be started only if a remote worker runs it." }
                },
            }
        }
    }
}

fn details(page: &Page, asked: &Asked, name: &str, fields: &Fields, is_sent: bool) -> Markup {
    let mode = if asked.fields().is_some() {
        "form"
    } else {
        "json"
    };
    html! {
        form.start method="post" action=(page.path("/start")) {
            (page.token_field())
            input type="hidden" name="name" value=(name);
            input type="hidden" name="as" value=(mode);
            section.card aria-labelledby="input-title" {
                div.row.spread {
                    h2 #input-title { "Input" }
                    @if asked.form.is_some() { (switch(page, asked, name, mode, fields)) }
                }
                @match asked.fields() {
                    Some(form) => (form::fields(form, is_sent.then_some(fields))),
                    None => (json(fields)),
                }
            }
            (options(asked, fields))
            p.row { button.primary type="submit" { "Start" } span.hint { "It leads to the page of the instance." } }
        }
    }
}

/// The way between the form for the input and its JSON.
fn switch(page: &Page, asked: &Asked, name: &str, mode: &str, fields: &Fields) -> Markup {
    let (to, text) = match mode {
        "form" => ("json", "Type it as JSON instead"),
        _ => ("form", "Fill in a form instead"),
    };
    let of = asked.again.as_ref().and_then(|_| fields.text(again::OF));
    let what = of.map_or(("name", name), |of| (again::OF, of));
    html! { a href=(page.path(&format!("/start{}", link::query([what, ("as", to)])))) { (text) } }
}

fn json(fields: &Fields) -> Markup {
    html! {
        label for="input" { "JSON, or empty for no input" }
        textarea #input name="input" rows="10" spellcheck="false" data-json aria-describedby="input-hint" {
            "\n" (fields.text("input").unwrap_or_default())
        }
        p.hint #input-hint { "It is kept as it is typed." }
    }
}

fn options(asked: &Asked, fields: &Fields) -> Markup {
    let before = |name: &str| fields.text(name).unwrap_or_default().to_owned();
    let known = asked.definition().and_then(|one| one.version.clone());
    html! {
        section.card aria-labelledby="options-title" {
            h2 #options-title { "Options" }
            @if let Some(again) = &asked.again { (again.id_field(fields)) }
            div.grid {
                @if asked.again.is_none() { (id_fields(fields)) }
                div {
                    label for="version" { "Version" span.none { " (optional)" } }
                    input #version name="version" value=(before("version")) autocomplete="off" aria-describedby="version-hint";
                    p.hint #version-hint {
                        "Without one, the version that was deployed last"
                        @if let Some(version) = known { ": " code { (version) } }
                    }
                }
                div {
                    label for="tags" { "Tags" span.none { " (optional), one KEY=VALUE in each line" } }
                    textarea #tags name="tags" rows="2" spellcheck="false" { "\n" (before("tags")) }
                }
            }
            (times(fields))
        }
    }
}

fn id_fields(fields: &Fields) -> Markup {
    let id = fields.text("id").unwrap_or_default();
    let reuse = fields.text("reuse").unwrap_or("ended");
    html! {
        div {
            label for="id" { "Id" span.none { " (optional)" } }
            input #id name="id" value=(id) autocomplete="off" spellcheck="false" aria-describedby="id-hint";
            p.hint #id-hint { "Without one, the host makes one." }
        }
        div {
            label for="reuse" { "If the id is taken" }
            select #reuse name="reuse" aria-describedby="reuse-hint" {
                @for (value, text) in REUSES { option value=(value) selected[value == reuse] { (text) } }
            }
            p.hint #reuse-hint { "An instance that is replaced loses its history; a live one is terminated first." }
        }
    }
}

fn times(fields: &Fields) -> Markup {
    let before = |name: &str| fields.text(name).unwrap_or_default().to_owned();
    html! {
        div.grid {
            (span_field(fields, "after", "Begin after a delay", "It is Pending until then, also while no host runs."))
            div {
                label for="at" { "Or begin at a time" span.none { " (optional)" } }
                input #at name="at" value=(before("at")) placeholder="2026-03-01T12:00:00Z" autocomplete="off" aria-describedby="at-hint";
                p.hint #at-hint { "With a time zone; without one it is UTC." }
            }
            (span_field(fields, "timeout", "Limit of its execution",
                "It is asked to cancel when this is over, and then fails with Timeout; compensations run."))
        }
    }
}

fn span_field(fields: &Fields, name: &str, title: &str, hint: &str) -> Markup {
    let (unit_name, hint_id) = (format!("{name}-unit"), format!("{name}-hint"));
    let unit = fields.text(&unit_name).unwrap_or("seconds");
    html! {
        div {
            label for=(name) { (title) span.none { " (optional)" } }
            div.span {
                input id=(name) name=(name) value=(fields.text(name).unwrap_or_default()) inputmode="numeric" pattern="[0-9]*"
                    title="A whole number" autocomplete="off" aria-describedby=(hint_id);
                select name=(unit_name) aria-label=(format!("Unit: {title}")) {
                    @for (value, _) in UNITS { option value=(value) selected[value == unit] { (value) } }
                }
            }
            p.hint id=(hint_id) { (hint) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_lines() {
        assert_eq!(
            tags(" a = 1 \r\n\r\nb=c=d").unwrap(),
            [("a", "1"), ("b", "c=d")]
        );
        assert!(
            tags("a=1\nb")
                .unwrap_err()
                .message
                .starts_with("\"b\" is no tag")
        );
        assert!(tags(&"a=1\n".repeat(101)).is_err());
    }

    #[test]
    fn spans_have_units() {
        let fields = |text: &str| Fields::parse(text.as_bytes());
        assert_eq!(
            span(&fields("after=2&after-unit=hours"), "after").unwrap(),
            Some(Duration::from_secs(7_200))
        );
        assert_eq!(
            span(&fields("after=+&after-unit=hours"), "after").unwrap(),
            None
        );
        for wrong in [
            "after=1.5",
            "after=-1",
            "after=1&after-unit=years",
            "after=18446744073709551615&after-unit=days",
        ] {
            assert!(span(&fields(wrong), "after").is_err(), "{wrong}");
        }
    }
}
