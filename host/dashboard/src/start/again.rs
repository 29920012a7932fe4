//! Running the orchestration of an instance again with another input: the form of a start, filled with what the instance had.

use maud::{Markup, html};
use perennial::{InstanceStatus, Json, Reuse};

use super::form;
use super::schema::Member;
use crate::fields::Fields;
use crate::page::Page;
use crate::refused::Refused;
use crate::show::{self, brief};

/// Longer inputs are not edited in a page.
const INPUT_BYTES: usize = 256 << 10;

/// The field that names the instance.
pub(super) const OF: &str = "of";

/// The instance whose orchestration runs again.
pub(super) struct Again {
    status: InstanceStatus,
}

impl Again {
    /// The instance that a form or a link names, with its input; `None` if it names none.
    pub(super) async fn of(page: &Page, fields: &Fields) -> Result<Option<Self>, Refused> {
        let Some(id) = fields.text(OF) else {
            return Ok(None);
        };
        let status = page.client.status(id).show_input().await?;
        let status = status.ok_or_else(|| Refused::no_instance(id))?;
        Ok(Some(Self { status }))
    }

    pub(super) fn name(&self) -> &str {
        &self.status.name
    }

    /// What the form is filled with, where the visitor has chosen nothing else. `form` has the fields for the input, if there are any; an
    /// input that they cannot hold is typed as JSON.
    pub(super) fn fields(&self, form: Option<&Member>, chosen: &Fields) -> Fields {
        let mut pairs: Vec<(String, String)> = chosen.pairs().map(owned).collect();
        pairs.push(owned(("name", &self.status.name)));
        let version = self.status.version.as_deref().unwrap_or_default();
        pairs.push(owned(("version", version)));
        let lines = self.tags().map(|(key, value)| format!("{key}={value}"));
        pairs.push(owned(("tags", &*lines.collect::<Vec<_>>().join("\n"))));
        let as_json = chosen.text("as") == Some("json");
        let filled = form.filter(|_| !as_json);
        let filled = filled.and_then(|form| form::filled(form, self.input()?.as_str()));
        match filled {
            Some(filled) => pairs.extend(filled),
            None => {
                pairs.push(owned(("as", "json")));
                let input = self.input().map_or("", Json::as_str);
                pairs.push(owned(("input", input)));
            }
        }
        pairs.into_iter().collect()
    }

    /// The input, if it is small enough to be edited.
    fn input(&self) -> Option<&Json> {
        let input = self.status.input.as_ref();
        input.filter(|input| input.size() <= INPUT_BYTES)
    }

    /// The tags that can be written as lines.
    fn tags(&self) -> impl Iterator<Item = &(String, String)> {
        self.status.tags.iter().filter(|pair| is_line(pair))
    }

    /// What this start is about, above its form.
    pub(super) fn says(&self, page: &Page) -> Markup {
        let id = &self.status.instance_id;
        let lost = self.status.tags.iter().filter(|pair| !is_line(pair));
        let lost: Vec<String> = lost.map(|(key, _)| brief(key)).collect();
        html! {
            p {
                "This form holds the input, the version and the tags of " a href=(page.instance(id, "")) { (brief(id)) }
                ". Change what is to be different. To run it again unchanged, restart it on its page."
            }
            @if let Some(input) = self.status.input.as_ref().filter(|input| input.size() > INPUT_BYTES) {
                p.warning {
                    "Its input has " (show::bytes(input.size() as u64)) ", too much to edit here, and is left out. "
                    code { "perennial start --input @FILE" } " takes inputs of any size."
                }
            }
            @if !lost.is_empty() {
                p.warning { "Tags that cannot be written in a line are left out: " (lost.join(", ")) }
            }
        }
    }

    /// The choice of the id.
    pub(super) fn id_field(&self, fields: &Fields) -> Markup {
        let is_ended = self.status.is_ended();
        let chosen = match fields.text("id-as") {
            Some(chosen) => chosen,
            None if is_ended => "same",
            None => "new",
        };
        let id = fields.text("id").unwrap_or_default();
        let choice = |value: &str, text: Markup| {
            html! {
                div { label.inline { input type="radio" name="id-as" value=(value) checked[chosen == value]; (text) } }
            }
        };
        html! {
            input type="hidden" name=(OF) value=(self.status.instance_id);
            fieldset {
                legend { "Id of the new run" }
                @if is_ended {
                    (choice("same", html! { "the same: the run so far is replaced, and its history deleted" }))
                } @else {
                    p.hint { "The instance has not ended, so the new run needs an id of its own." }
                }
                (choice("new", html! { "a new one, which the host makes" }))
                (choice("given", html! { "this one:" }))
                label for="id" { "New id" }
                input #id name="id" value=(id) autocomplete="off" spellcheck="false";
            }
        }
    }

    /// The id that was chosen, `None` for a new one, and what may become of an instance that has it.
    pub(super) fn id<'a>(
        &'a self,
        fields: &'a Fields,
    ) -> Result<(Option<&'a str>, Reuse), Refused> {
        match fields.text("id-as") {
            Some("same") => Ok((Some(&self.status.instance_id), Reuse::Ended)),
            Some("given") => {
                let id = fields.text("id");
                let id = id.ok_or_else(|| Refused::invalid("Type the id of the new run."))?;
                Ok((Some(id), Reuse::Never))
            }
            _ => Ok((None, Reuse::Never)),
        }
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Whether a tag is the same after it was written as a line.
fn is_line((key, value): &(String, String)) -> bool {
    let is_plain = |text: &str| text.trim() == text && !text.contains(['\n', '\r']);
    is_plain(key) && is_plain(value) && !key.contains('=') && !key.is_empty()
}
