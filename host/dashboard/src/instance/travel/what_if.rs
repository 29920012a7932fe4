//! What-if: a replay of the recorded history in which something else came in, or on another module.
//!
//! Invariant: nothing is written, no activity runs, and no instance notices it.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use perennial::{
    Digest, Event, Failure, HistoryEvent, InstanceStatus, Json, Module, RecordedHistory, parse_json,
};

use super::lab::Lab;
use super::line::{self, Line};
use super::replace::{self, Instead};
use super::told::Told;
use super::walk::{Candidate, candidates, event};
use super::{Tab, found, frame, spread, view, what_if_of};
use crate::admit::Path;
use crate::change::Sent;
use crate::fields::Fields;
use crate::page::{Page, data};
use crate::refused::{OnPage, Refused, Shown};
use crate::show;
use crate::show::cut;

/// Histories of more bytes are not copied for a replay.
const HISTORY_BYTES: u64 = 32 << 20;

/// Longer payloads cannot be edited.
const EDITED_BYTES: usize = 64 << 10;

/// Characters that are kept of the name of a component's file.
const NAME_CHARS: usize = 100;

/// What the page shows beside the choice.
#[derive(Default)]
struct Shows {
    error: Option<String>,
    result: Option<Markup>,
    /// What the visitor sent.
    sent: Option<Fields>,
}

pub(super) async fn page(
    page: Page,
    State(lab): State<Lab>,
    Path((_, id)): Path<(String, String)>,
) -> Shown {
    let status = found(&page, &id).await?;
    shown(&page, &lab, &status, Shows::default()).await
}

/// Replays, and shows what that showed.
pub(super) async fn replay(
    page: Page,
    State(lab): State<Lab>,
    Path((_, id)): Path<(String, String)>,
    Sent(fields): Sent,
) -> Shown {
    let status = found(&page, &id).await?;
    let mut shows = Shows::default();
    match replayed(&page, &lab, &status, &fields).await {
        Ok(result) => shows.result = Some(result),
        Err(refused) => shows.error = Some(refused.message),
    }
    shows.sent = Some(fields);
    shown(&page, &lab, &status, shows).await
}

/// Takes a component in for replays. The script of the page sends it.
pub(super) async fn component(
    page: Page,
    State(lab): State<Lab>,
    Path((_, id)): Path<(String, String)>,
    request: Request,
) -> Shown {
    found(&page, &id).await?;
    let name = page.query.text("name").unwrap_or("component");
    let name = cut(name.trim_end_matches(".wasm"), NAME_CHARS);
    // The host has bounded it.
    let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await;
    let added = match bytes {
        Ok(bytes) => lab.add(page.hub(), name, bytes.into()).await,
        Err(_) => Err(Refused::invalid(
            "The component did not arrive whole; send it again.",
        )),
    };
    Ok(match added {
        Ok(module) => data("text/plain; charset=utf-8", module.digest().to_string()),
        Err(refused) => {
            let text = data("text/plain; charset=utf-8", refused.message);
            (refused.status, text).into_response()
        }
    })
}

async fn replayed(
    page: &Page,
    lab: &Lab,
    status: &InstanceStatus,
    sent: &Fields,
) -> Result<Markup, Refused> {
    if let Some(why) = impossible(status) {
        return Err(Refused::invalid(why));
    }
    if sent.text("state") != Some(&*state_of(status)) {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "The instance was rewound or began another execution meanwhile. Choose the event again.",
        ));
    }
    let digest = sent.text("module").and_then(Digest::from_hex);
    let module = digest.and_then(|digest| lab.component(page.hub(), digest));
    let module = module.ok_or_else(|| {
        Refused::invalid("The component is no longer there; give it again. Only the latest few are kept, until the host restarts.")
    })?;
    let id = &status.instance_id;
    let history = page.client.export(id).await?;
    let history = history.ok_or_else(|| Refused::no_instance(id))?;
    let changed = changed(&history, sent)?;
    let is_changed = changed.is_some();
    let verdict = lab.replay(module.clone(), history, changed).await?;
    let told = Told {
        page,
        status,
        module: &module,
        is_changed,
        event: sent.text("event"),
    };
    told.show(&verdict).await
}

/// The history with what was sent in it; `None` without a change.
fn changed(history: &RecordedHistory, sent: &Fields) -> Result<Option<RecordedHistory>, Refused> {
    let Some(number) = sent.text("event") else {
        return Ok(None);
    };
    let number: u64 = number
        .parse()
        .map_err(|_| Refused::invalid("An event is given by its number."))?;
    let instead = instead(sent)?;
    let mut is_same = false;
    let changed = replace::in_history(history, number, |event| {
        let other = replace::replaced(event, as_recorded(event, instead))?;
        is_same = other == *event;
        Some(other)
    });
    let changed = changed.map_err(Refused::invalid)?;
    if is_same {
        let same = "This is what is recorded. Enter something else, or replay without a change.";
        return Err(Refused::invalid(same));
    }
    Ok(Some(changed))
}

/// What was entered.
fn instead(sent: &Fields) -> Result<Instead, Refused> {
    if sent.text("as") == Some("failure") {
        let kind = sent.text("kind");
        let kind =
            kind.ok_or_else(|| Refused::invalid("A failure needs a kind, such as Declined."))?;
        let message = sent.text("message").unwrap_or_default();
        let failure = match sent.is_set("retryable") {
            true => Failure::retryable(kind, message),
            false => Failure::permanent(kind, message),
        };
        return Ok(Instead::Failure(failure));
    }
    let value = sent.text("value").map(parse_json).transpose();
    let value =
        value.map_err(|error| Refused::invalid(format!("The value is not valid JSON: {error}")))?;
    Ok(Instead::Value(value))
}

/// White space between the tokens of what is recorded is no change; parts of a failure that the form does not have stay as they are.
fn as_recorded(event: &Event, instead: Instead) -> Instead {
    match instead {
        Instead::Value(Some(new)) => {
            let text = spread::compact(new.as_str());
            let old = line::payload(event).flatten();
            let same = old.filter(|old| spread::compact(old.as_str()) == text);
            Instead::Value(Some(same.cloned().unwrap_or_else(|| Json::from_text(text))))
        }
        Instead::Value(None) => Instead::Value(None),
        Instead::Failure(new) => Instead::Failure(match crate::instance::event::failure(event) {
            Some(old) => Failure {
                kind: new.kind,
                message: lines(&old.message, new.message),
                retryable: new.retryable,
                ..old.clone()
            },
            None => new,
        }),
    }
}

/// A form sends line breaks in another way than they are recorded, and is read without spaces around it.
fn lines(old: &str, new: String) -> String {
    let same = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    if same(old) == same(&new) {
        old.to_owned()
    } else {
        new
    }
}

/// Identifies the history that the page was made from.
fn state_of(status: &InstanceStatus) -> String {
    format!("{}.{}", status.execution_id, status.rewinds.len())
}

/// Why this history cannot be replayed here.
fn impossible(status: &InstanceStatus) -> Option<String> {
    if status.history_events == 0 {
        return Some("The instance has not begun: there is nothing to replay yet.".to_owned());
    }
    if status.module.is_none() {
        return Some("A remote worker runs this orchestration, and no module: only its own program can replay it.".to_owned());
    }
    if status.history_bytes > HISTORY_BYTES {
        return Some(format!(
            "The history has {}, and the dashboard replays up to {}. `perennial export` and `perennial replay` replay longer ones.",
            show::bytes(status.history_bytes),
            show::bytes(HISTORY_BYTES)
        ));
    }
    None
}

async fn shown(page: &Page, lab: &Lab, status: &InstanceStatus, shows: Shows) -> Shown {
    let id = &status.instance_id;
    let number = match &shows.sent {
        Some(sent) => sent.text("event"),
        None => page.query.text("event"),
    };
    let chosen = match number.and_then(|number| number.parse().ok()) {
        Some(number) => event(&page.client, id, number).await.on(page)?,
        None => None,
    };
    let chosen = chosen.filter(|(of, _)| replace::is_replaceable(&of.event));
    let components = lab.components(page.hub());
    let may = page.may_change();
    let body = html! {
        (explanation(page, id))
        @if let Some(error) = &shows.error { p.error role="alert" { (error) } }
        @if let Some(result) = &shows.result { (result) }
        @if let Some(why) = impossible(status) {
            @if shows.error.is_none() { p.warning { (why) } }
        } @else if !may {
            p.warning { "This key may only read. A replay takes time on the host, so it needs a key that may change something." }
        } @else {
            (component_card(page, status, &components))
            @match &chosen {
                Some((of, line)) => (editor(page, status, &components, of, line, shows.sent.as_ref())),
                None => {
                    @if number.is_some() { p.warning { "The chosen event is not one that came in, or is not there any more." } }
                    (plain(page, status, &components))
                    (choice(page, id).await?)
                }
            }
        }
    };
    Ok(frame(page, status, Tab::Turns, &body))
}

fn explanation(page: &Page, id: &str) -> Markup {
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

/// The component to replay on. A hub gives none out, so the visitor gives the file.
fn component_card(page: &Page, status: &InstanceStatus, known: &[Module]) -> Markup {
    let id = &status.instance_id;
    let has_own = known
        .iter()
        .any(|module| Some(module.digest()) == status.module);
    let back = match page.query.text("event") {
        Some(event) => format!(
            "{}?event={}",
            page.instance(id, "/what-if"),
            crate::link::part(event)
        ),
        None => page.instance(id, "/what-if"),
    };
    html! {
        section.card aria-labelledby="component-title" {
            h2 #component-title { "The component" }
            @if has_own {
                p.done { "The component of the module that this instance runs on is here." }
            } @else {
                p {
                    "A replay needs the component (the .wasm file) of the module. This instance runs on the one with the digest "
                    @if let Some(digest) = status.module { (show::copyable(&digest.to_string())) } "."
                }
            }
            details open[!has_own] {
                summary { @if known.is_empty() { "Give a component" } @else { "Give another component" } }
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
fn common(page: &Page, status: &InstanceStatus, known: &[Module], sent: Option<&Fields>) -> Markup {
    let chosen = sent.and_then(|sent| sent.text("module"));
    html! {
        (page.token_field())
        input type="hidden" name="state" value=(state_of(status));
        label for="module" { "Replay on" }
        select #module name="module" required {
            @for module in known {
                @let digest = module.digest().to_string();
                @let is_own = Some(module.digest()) == status.module;
                option value=(digest) selected[chosen.map_or(is_own, |chosen| chosen == digest)] {
                    (module.name()) " (" (module.digest().short()) ")"
                    @if is_own { ", on which the instance runs" } @else { ", another module" }
                }
            }
        }
    }
}

/// A replay without a change.
fn plain(page: &Page, status: &InstanceStatus, known: &[Module]) -> Markup {
    html! {
        section.card aria-labelledby="plain-title" {
            h2 #plain-title { "Without a change" }
            p { "Whether a module answers as recorded in all turns: so another version can take the instance over, or a repaired one a quarantined instance." }
            @if known.is_empty() {
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
async fn choice(page: &Page, id: &str) -> Result<Markup, Response> {
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
            td { strong { (one.kind) } " " (view::about(page, &one.line)) }
            td.num { @match one.size { Some(size) => (show::bytes(size as u64)), None => span.none { "–" } } }
        }
    }
}

/// What an editor begins with: what was sent, or else what is recorded.
struct Entry {
    is_failure: bool,
    value: String,
    kind: String,
    message: String,
    retryable: bool,
}

impl Entry {
    fn of(event: &Event, sent: Option<&Fields>) -> Self {
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
        let value = line::payload(event).flatten();
        let value = value.filter(|json| json.size() <= EDITED_BYTES);
        let failure = crate::instance::event::failure(event);
        Self {
            is_failure: failure.is_some(),
            value: value.map_or_else(String::new, |json| spread::spread(json.as_str())),
            kind: failure.map_or_else(String::new, |failure| failure.kind.clone()),
            message: failure.map_or_else(String::new, |failure| failure.message.clone()),
            retryable: failure.is_some_and(|failure| failure.retryable),
        }
    }
}

fn editor(
    page: &Page,
    status: &InstanceStatus,
    known: &[Module],
    of: &HistoryEvent,
    line: &Line,
    sent: Option<&Fields>,
) -> Markup {
    let id = &status.instance_id;
    let entry = Entry::of(&of.event, sent);
    let can_fail = replace::can_fail(&of.event);
    let size = line::payload(&of.event).flatten().map_or(0, Json::size);
    let mut room = view::Room::default();
    html! {
        section.card aria-labelledby="editor-title" {
            h2 #editor-title { "What if event " (of.number) " were different?" }
            p.row {
                strong { (of.event.name()) } (view::about(page, line))
                a href=(page.instance(id, &format!("/turns?turn={}", of.turn))) { "turn " (of.turn) }
                a href=(page.instance(id, "/what-if")) { "choose another event" }
            }
            h3 { "Recorded" }
            @match crate::instance::event::failure(&of.event) {
                Some(failure) => (show::failure(failure)),
                None => (view::payload(line::payload(&of.event).flatten(), "recorded", Some(&page.instance(id, &format!("/history/{}", of.number))), &mut room)),
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
                @if known.is_empty() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Fields {
        Fields::parse(text.as_bytes())
    }

    fn raised(data: &str) -> Event {
        Event::ExternalEventRaised {
            number: 0,
            name: "go".to_owned(),
            data: Some(Json::from_text(data.to_owned())),
        }
    }

    #[test]
    fn what_is_entered_is_read_or_refused() {
        let value = instead(&sent("value=%7B%22a%22%3A+1e400%7D")).unwrap();
        assert_eq!(
            value,
            Instead::Value(Some(Json::from_text("{\"a\": 1e400}".to_owned())))
        );
        assert_eq!(
            instead(&sent("as=value&value=")).unwrap(),
            Instead::Value(None)
        );
        assert!(
            instead(&sent("value=%7B"))
                .unwrap_err()
                .message
                .contains("JSON")
        );
        assert!(instead(&sent("as=failure&message=x")).is_err());
        let failure = Failure::retryable("A", "x");
        let entered = instead(&sent("as=failure&kind=A&message=x&retryable=yes")).unwrap();
        assert_eq!(entered, Instead::Failure(failure));
    }

    #[test]
    fn what_the_editor_shows_is_no_change_when_it_is_sent_back() {
        for recorded in [
            "{\"a\" : [1.0, 2]}",
            "[]",
            "\" a  b \"",
            "{\"a\":{\"b\":[\"\\\"\"]}}",
        ] {
            let event = raised(recorded);
            let shown = Entry::of(&event, None).value.replace('\n', "\r\n");
            let entered = Instead::Value(Some(Json::from_text(shown)));
            let same = replace::replaced(&event, as_recorded(&event, entered));
            assert_eq!(same, Some(event));
        }
    }

    #[test]
    fn a_failure_keeps_what_the_form_does_not_have() {
        let old = Failure {
            trace: Some("at x".to_owned()),
            ..Failure::permanent("A", " two\nlines ")
        };
        let event = Event::ChildFailed {
            task: perennial::TaskId(0),
            failure: old.clone(),
        };
        let same = Failure::permanent("A", "two\r\nlines");
        assert_eq!(
            as_recorded(&event, Instead::Failure(same)),
            Instead::Failure(old.clone())
        );
        let other = as_recorded(&event, Instead::Failure(Failure::permanent("B", "x")));
        assert_eq!(
            other,
            Instead::Failure(Failure {
                kind: "B".to_owned(),
                message: "x".to_owned(),
                ..old
            })
        );
    }

    #[test]
    fn nothing_recorded_is_markup_in_an_editor() {
        let hostile = raised("\"</textarea><script>alert(1)</script>\"");
        let entry = Entry::of(&hostile, None);
        let shown = html! { textarea { (entry.value) } }.into_string();
        assert!(!shown.contains("<script>"), "{shown}");
        let huge = raised(&format!("\"{}\"", "x".repeat(4 << 20)));
        assert!(Entry::of(&huge, None).value.is_empty());
    }
}
