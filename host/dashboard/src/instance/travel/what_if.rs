//! What-if: a replay of the recorded history in which something else came in, or on another module.
//!
//! Invariant: nothing is written, no activity runs, and no instance notices it.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use maud::{Markup, html};
use perennial::{Digest, Event, Failure, InstanceStatus, Json, RecordedHistory, parse_json};

use super::lab::{Lab, Prepared, impossible};
use super::modules::{choices, load};
use super::replace::{self, Instead};
use super::told::Told;
use super::{Tab, form, found, frame, spread};
use crate::admit::Path;
use crate::change::Sent;
use crate::fields::Fields;
use crate::instance::event;
use crate::instance::events;
use crate::page::{Page, data};
use crate::refused::{OnPage, Refused, Shown};
use crate::show::cut;

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
    if sent.text("state") != Some(&*form::state_of(status)) {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "The instance was rewound or began another execution meanwhile. Choose the event again.",
        ));
    }
    let digest = sent.text("module").and_then(Digest::from_hex);
    let digest = digest.ok_or_else(|| Refused::invalid("Choose the module to replay on."))?;
    let id = &status.instance_id;
    let mut name = String::new();
    let prepared = async {
        let module = load(page, lab, digest).await?;
        module.name().clone_into(&mut name);
        let history = page.client.export(id).await?;
        let history = history.ok_or_else(|| Refused::no_instance(id))?;
        let changed = changed(&history, sent)?;
        Ok(Prepared {
            module,
            history,
            changed,
        })
    };
    let verdict = lab.replay(&page.client, prepared).await?;
    let told = Told {
        page,
        status,
        module: &name,
        // Without an event nothing is changed.
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
            let old = event::payload(event).flatten();
            let same = old.filter(|old| spread::compact(old.as_str()) == text);
            Instead::Value(Some(same.cloned().unwrap_or_else(|| Json::from_text(text))))
        }
        Instead::Value(None) => Instead::Value(None),
        Instead::Failure(new) => Instead::Failure(match event::failure(event) {
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

async fn shown(page: &Page, lab: &Lab, status: &InstanceStatus, shows: Shows) -> Shown {
    let id = &status.instance_id;
    let number = match &shows.sent {
        Some(sent) => sent.text("event"),
        None => page.query.text("event"),
    };
    let chosen = match number.and_then(|number| number.parse().ok()) {
        Some(number) => events::one(&page.client, id, number).await.on(page)?,
        None => None,
    };
    let chosen = chosen.filter(|(of, _)| replace::is_replaceable(&of.event));
    let known = choices(page, lab, status).await.on(page)?;
    let may = page.may_change();
    let body = html! {
        (form::explanation(page, id))
        @if let Some(error) = &shows.error { p.error role="alert" { (error) } }
        @if let Some(result) = &shows.result { (result) }
        @if let Some(why) = impossible(status) {
            @if shows.error.is_none() { p.warning { (why) } }
        } @else if !may {
            p.warning { "This key may only read. A replay takes time on the host, so it needs a key that may change something." }
        } @else {
            (form::component_card(page, status, &known))
            @match &chosen {
                Some((of, line)) => (form::editor(page, status, &known, of, line, shows.sent.as_ref())),
                None => {
                    @if number.is_some() { p.warning { "The chosen event is not one that came in, or is not there any more." } }
                    (form::plain(page, status, &known))
                    (form::choice(page, id).await?)
                }
            }
        }
    };
    Ok(frame(page, status, Tab::Turns, &body))
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
            let shown = form::Entry::of(&event, None).value.replace('\n', "\r\n");
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
        let entry = form::Entry::of(&hostile, None);
        let shown = html! { textarea { (entry.value) } }.into_string();
        assert!(!shown.contains("<script>"), "{shown}");
        let huge = raised(&format!("\"{}\"", "x".repeat(4 << 20)));
        assert!(form::Entry::of(&huge, None).value.is_empty());
    }
}
