//! The table of instances.

use maud::{Markup, html};
use perennial::{InstanceStatus, Status};

use crate::instances::{picked, short};
use crate::page::Page;
use crate::{link, show};

/// Characters that are shown of an id, of a name and of a tag.
const ID: usize = 90;
const NAME: usize = 60;
const TAG: usize = 40;

/// Characters that are shown of a failure or a custom status.
const SAYS: usize = 140;

/// Tags that are shown of an instance.
const TAGS: usize = 5;

/// The table. Rows can be selected if something can be done with them.
pub(super) fn table(page: &Page, instances: &[InstanceStatus]) -> Markup {
    let may_select = page.may_change();
    html! {
        div.scroll {
            table.instances {
                thead { tr {
                    @if may_select {
                        th.tight scope="col" {
                            span.needs-js { input type="checkbox" data-all aria-label="Select all on this page"; }
                        }
                    }
                    th scope="col" { "Id" }
                    th.tight scope="col" { "Status" }
                    th scope="col" { "Orchestration" }
                    th scope="col" { "What it says" }
                    th scope="col" { "Tags" }
                    th.tight scope="col" { "Created" }
                    th.tight scope="col" { "Last updated" }
                } }
                tbody { @for instance in instances { (row(page, instance, may_select)) } }
            }
        }
    }
}

fn row(page: &Page, instance: &InstanceStatus, may_select: bool) -> Markup {
    let id = &instance.instance_id;
    let shown = short(id, ID);
    let to = page.instance(id, "");
    html! {
        tr data-href=(to) {
            @if may_select {
                td.tight { input type="checkbox" name="id" value=(picked::value(instance)) aria-label=(format!("Select {shown}")); }
            }
            td.id {
                a.mono href=(to) title=[(shown.len() != id.len()).then_some(id)] { (shown) }
                @if let Some(parent) = &instance.parent_instance_id {
                    div.hint { "child of " a href=(page.instance(parent, "")) { (short(parent, ID)) } }
                }
            }
            td.tight {
                (show::status(instance.runtime_status))
                @if instance.quarantine.is_some() { div { span.chip.quarantined { "quarantined" } } }
            }
            td.name { (orchestration(page, instance)) }
            td.says { (says(instance)) }
            td.tags { (tags(page, instance)) }
            td.tight { (show::ago(instance.created_at)) }
            td.tight { (show::ago(instance.last_updated_at)) }
        }
    }
}

fn orchestration(page: &Page, instance: &InstanceStatus) -> Markup {
    let query = link::query([("name", &*instance.name)]);
    html! {
        a.plain href=(page.path(&format!("/instances{query}"))) title="List its instances" { (short(&instance.name, NAME)) }
        @if let Some(version) = &instance.version { " " span.chip title="Version" { (short(version, TAG)) } }
    }
}

/// The failure, the reason of a quarantine, or the custom status, in a short form.
fn says(instance: &InstanceStatus) -> Markup {
    if let Some(failure) = &instance.failure {
        let message = short(&failure.message, SAYS);
        return html! {
            strong { (short(&failure.kind, NAME)) }
            @if !message.is_empty() { ": " (message) }
        };
    }
    if let Some(quarantine) = &instance.quarantine {
        return html! { (short(&quarantine.reason, SAYS)) };
    }
    if let Some(custom) = &instance.custom_status {
        return html! { code { (short(custom.as_str(), SAYS)) } };
    }
    match instance.scheduled_for {
        Some(at) if instance.runtime_status == Status::Pending => {
            html! { "starts " (show::ago(at)) }
        }
        _ => html! { span.none { "–" } },
    }
}

fn tags(page: &Page, instance: &InstanceStatus) -> Markup {
    let more = instance.tags.len().saturating_sub(TAGS);
    html! {
        @for (key, value) in instance.tags.iter().take(TAGS) {
            @let text = format!("{key}={value}");
            // A key with this sign could not be told from the value.
            @if key.contains('=') {
                span.chip { (short(&text, TAG)) }
            } @else {
                a.chip href=(page.path(&format!("/instances{}", link::query([("tag", &*text)])))) title="List instances with this tag" {
                    (short(&text, TAG))
                }
            }
            " "
        }
        @if more > 0 { span.hint { "+" (more) } }
    }
}
