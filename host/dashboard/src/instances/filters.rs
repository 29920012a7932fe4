//! The form of the filter, and the chips that say which conditions are set.

use maud::{Markup, html};
use perennial::{DefinitionKind, Status, WaitKind, parse_time};

use crate::instances::search::{FIELDS, Field, Input, ORDERS, SIZES, Search};
use crate::page::Page;
use crate::show;
use crate::show::cut;

/// Names that are proposed.
const NAMES: usize = 200;

/// Characters of a value that are shown in a chip.
const CHIP: usize = 60;

/// The names of the deployed orchestrations. Without them the form works, too, so an error is not shown.
pub(super) async fn names(page: &Page) -> Vec<String> {
    let modules = page.client.modules().await.unwrap_or_default();
    let definitions = modules.into_iter().flat_map(|module| module.definitions);
    let names = definitions.filter(|one| one.kind == DefinitionKind::Orchestration);
    let mut names: Vec<String> = names.map(|one| one.name).collect();
    names.sort();
    names.dedup();
    names.truncate(NAMES);
    names
}

/// The form. It is sent by GET, so that the URL of the list says what it shows.
pub(super) fn form(page: &Page, search: &Search, names: &[String]) -> Markup {
    // The less usual conditions are folded unless one of them is set.
    let is_more = |field: &&Field| field.input == Input::Time || field.name == "version";
    let opened = FIELDS
        .iter()
        .filter(is_more)
        .any(|field| search.of(field.name).next().is_some());
    html! {
        form.card.filters #filters method="get" action=(page.path("/instances")) autocomplete="off" {
            // On narrow screens the conditions are folded behind this; it has no name, so that it is not sent.
            label.inline.unfold { input #unfold type="checkbox"; "Filter and order" }
            div.foldable {
            @for field in FIELDS.iter().filter(|field| field.input == Input::Statuses) { (control(field, search)) }
            div.fields {
                @for field in FIELDS.iter().filter(|field| field.input != Input::Statuses && !is_more(field)) { (control(field, search)) }
            }
            datalist #names { @for name in names { option value=(name) {} } }
            details #more-filters open[opened] {
                summary { "Version and times" }
                p.hint { "Times are in " span data-zone { "UTC" } "; “from” includes the time itself, “before” does not." }
                div.fields { @for field in FIELDS.iter().filter(is_more) { (control(field, search)) } }
            }
            div.row.spread.last { (how(search)) button.primary type="submit" { "Apply" } }
            }
        }
    }
}

/// Order and size.
fn how(search: &Search) -> Markup {
    html! {
        div.row {
            label.inline for="order" { "Order" }
            select #order name="order" {
                @for (name, label, order) in ORDERS {
                    option value=(name) selected[order == search.order] { (label) }
                }
            }
            label.inline for="limit" { "Rows" }
            select #limit name="limit" {
                @if !SIZES.contains(&search.size) { option value=(search.size) selected { (search.size) } }
                @for size in SIZES { option value=(size) selected[size == search.size] { (size) } }
            }
        }
    }
}

fn control(field: &Field, search: &Search) -> Markup {
    let id = format!("f-{}", field.name);
    let value = search.of(field.name).next();
    html! {
        @match field.input {
            Input::Statuses => {
                div.row.statuses role="group" aria-label=(field.label) {
                    @for status in Status::ALL {
                        label.inline {
                            input type="checkbox" name=(field.name) value=(status.name())
                                checked[search.of(field.name).any(|name| Status::from_name(name) == Some(status))];
                            (show::status(status))
                        }
                    }
                }
            }
            Input::Names => div {
                label for=(id) { (field.label) }
                input id=(id) name=(field.name) value=[value] list="names" placeholder=(field.hint) spellcheck="false";
            },
            Input::Waits => div {
                label for=(id) { (field.label) }
                input id=(id) name=(field.name) value=[value] list="waits" placeholder=(field.hint) spellcheck="false";
                datalist #waits { @for kind in WaitKind::ALL { option value=(kind.name()) {} } }
            },
            Input::Text => div {
                label for=(id) { (field.label) }
                input id=(id) name=(field.name) value=[value] placeholder=(field.hint) spellcheck="false";
            },
            // One more field than there are values, for the next one.
            Input::Tags => @for (at, value) in search.of(field.name).map(Some).chain([None]).enumerate() {
                div {
                    label for=(format!("{id}-{at}")) { (field.label) @if at > 0 { " " (at + 1) } }
                    input id=(format!("{id}-{at}")) name=(field.name) value=[value] placeholder=(field.hint) spellcheck="false";
                }
            },
            Input::Time => div {
                label for=(id) { (field.label) }
                input id=(id) type="datetime-local" step="any" name=(field.name) value=[value.and_then(local)];
            },
        }
    }
}

/// A time as a field for times takes it: in UTC, without a zone.
fn local(text: &str) -> Option<String> {
    let text = show::utc(parse_time(text)?);
    let text = text.trim_end_matches('Z').trim_end_matches(".000");
    Some(text.to_owned())
}

/// The conditions that are set, each with a link that removes it.
pub(super) fn chips(page: &Page, search: &Search) -> Markup {
    let list = |query: String| page.path(&format!("/instances{query}"));
    html! {
        @if search.has_values() {
            ul.chips aria-label="Conditions that are set" {
                @for value in search.values() {
                    @let text = search.text(value);
                    li.chip {
                        (value.field.label) ": "
                        @match (value.field.input, parse_time(text)) {
                            (Input::Time, Some(at)) => (show::time(at)),
                            _ => strong { (cut(text, CHIP)) },
                        }
                        a href=(list(search.query_without(value))) title="Remove this condition"
                            aria-label=(format!("Remove the condition {}: {}", value.field.label, cut(text, CHIP))) { "✕" }
                    }
                }
                li { a href=(list(search.query_without_all())) { "Clear all" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fit_the_fields_of_a_form() {
        assert_eq!(
            local("2026-03-01T12:00+01:00").as_deref(),
            Some("2026-03-01T11:00:00")
        );
        assert_eq!(
            local("2026-03-01T12:00:00.250Z").as_deref(),
            Some("2026-03-01T12:00:00.250")
        );
        assert_eq!(local("soon"), None);
    }

    #[test]
    fn hostile_values_are_text() {
        let search =
            Search::parse_text("tag=a%3D%22%3E%3Cscript%3E&idPrefix=%3Cb%3E&name=%27%22%3E%3Ci%3E");
        for field in &FIELDS {
            let shown = control(field, &search).into_string();
            for markup in ["<script>", "<b>", "<i>"] {
                assert!(!shown.contains(markup), "{shown}");
            }
        }
    }
}
