//! The payloads of an instance: each as a tree, and whole as text.

use axum::http::StatusCode;
use maud::{Markup, html};
use perennial::{InstanceStatus, Json};

use super::brief;
use crate::admit::Path;
use crate::page::{Page, data};
use crate::refused::{OnPage, Refused, Shown};
use crate::{link, payload, show};

/// Named values that are shown.
const VALUES: usize = 50;

/// The path of a whole payload: of `input`, `output`, `custom`, or of the value of a name.
fn whole(page: &Page, status: &InstanceStatus, of: &str, name: &str) -> String {
    let query = link::query([("name", name)]);
    page.instance(&status.instance_id, &format!("/payload/{of}{query}"))
}

/// The cards of what went in and came out.
pub(super) fn cards(page: &Page, status: &InstanceStatus) -> Markup {
    let tree =
        |json: Option<&Json>, of: &str| payload::json(json, Some(&whole(page, status, of, "")));
    html! {
        @if status.failure.is_none() && status.is_ended() {
            section.card aria-labelledby="output" { h2 #output { "Output" } (tree(status.output.as_ref(), "output")) }
        }
        section.card aria-labelledby="input" { h2 #input { "Input" } (tree(status.input.as_ref(), "input")) }
        @if status.custom_status.is_some() {
            section.card aria-labelledby="custom" { h2 #custom { "Custom status" } (tree(status.custom_status.as_ref(), "custom")) }
        }
        @if !status.values.is_empty() {
            section.card aria-labelledby="values" {
                h2 #values { "Named values" }
                @for (name, value) in status.values.iter().take(VALUES) {
                    h3 { (brief(name)) }
                    (payload::json(Some(value), Some(&whole(page, status, "value", name))))
                }
                @if let Some(more) = status.values.len().checked_sub(VALUES).filter(|more| *more > 0) {
                    p.hint { "and " (show::count(more as u64)) " more" }
                }
            }
        }
    }
}

/// A payload whole and unchanged.
pub(super) async fn text(page: Page, Path((_, id, of)): Path<(String, String, String)>) -> Shown {
    let status = page.client.status(&id).show_input().await.on(&page)?;
    let status = status.ok_or_else(|| Refused::no_instance(&id).on(&page))?;
    let name = page.query.text("name").unwrap_or_default();
    let found = match &*of {
        "input" => status.input,
        "output" => status.output,
        "custom" => status.custom_status,
        "value" => (status.values.into_iter())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value),
        _ => None,
    };
    let missing = || Refused::new(StatusCode::NOT_FOUND, "The instance has no such payload.");
    let found = found.ok_or_else(missing).on(&page)?;
    Ok(data("application/json", found.as_str().to_owned()))
}
