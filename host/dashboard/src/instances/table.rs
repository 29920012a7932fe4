//! The table of instances.

use futures::StreamExt;
use maud::{Markup, html};
use perennial::{Client, Failure, InstanceStatus, Status};

use crate::instance::waits;
use crate::instances::picked;
use crate::page::Page;
use crate::show::cut;
use crate::{link, show};

/// Characters that are shown of an id, of a name and of a tag.
const ID: usize = 90;
const NAME: usize = 60;
const TAG: usize = 40;

/// Characters that are shown of a failure or a custom status.
const SAYS: usize = 140;

/// The kind with which the SDK tells of a compensation of a saga that could not be carried out.
const COMPENSATION_FAILED: &str = "CompensationFailed";

/// Bytes of an output that are kept of each row.
const KEPT: usize = 2_000;

/// Instances that are read at the same time.
const READ_AT_ONCE: usize = 8;

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
                        th.tight.pick scope="col" {
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
    let shown = show::cut_middle(id, ID);
    let to = page.instance(id, "");
    html! {
        tr data-href=(to) {
            @if may_select {
                td.tight { input type="checkbox" name="id" value=(picked::value(instance)) aria-label=(format!("Select {shown}")); }
            }
            td.id {
                a.mono href=(to) title=[(shown.len() != id.len()).then_some(id)] { (shown) }
                @if let Some(parent) = &instance.parent_instance_id {
                    div.hint { "child of " a href=(page.instance(parent, "")) { (cut(parent, ID)) } }
                }
            }
            td.tight.state data-label="Status" {
                (show::status(instance.runtime_status))
                @if instance.quarantine.is_some() { div { span.chip.quarantined { "quarantined" } } }
            }
            td.name data-label="Orchestration" { (orchestration(page, instance)) }
            td.says data-label="Says" { (says(page, instance)) }
            td.tags data-label="Tags" { (tags(page, instance)) }
            td.tight data-label="Created" { (show::ago(instance.created_at)) }
            td.tight data-label="Updated" { (show::ago(instance.last_updated_at)) }
        }
    }
}

fn orchestration(page: &Page, instance: &InstanceStatus) -> Markup {
    let query = link::query([("name", &*instance.name)]);
    html! {
        a.plain href=(page.path(&format!("/instances{query}"))) title="List its instances" { (cut(&instance.name, NAME)) }
        @if let Some(version) = &instance.version { " " span.chip title="Version" { (cut(version, TAG)) } }
    }
}

/// What an instance has to say now: its failure, why it is held, what it waits for, what came out, or why it was terminated.
fn says(page: &Page, instance: &InstanceStatus) -> Markup {
    if let Some(failure) = &instance.failure {
        return failed(failure);
    }
    if let Some(quarantine) = &instance.quarantine {
        return html! { (cut(&quarantine.reason, SAYS)) };
    }
    let text = |json: &perennial::Json| html! { code { (cut(json.as_str(), SAYS)) } };
    match (instance.runtime_status, &instance.output) {
        (Status::Completed, Some(output)) => text(output),
        (Status::Completed, None) => html! { span.none { "no output" } },
        (Status::Terminated, Some(reason)) => html! { (cut(&reason_of(reason), SAYS)) },
        (Status::Terminated, None) => html! { span.none { "no reason was given" } },
        (status, _) if status.is_end() => html! { span.none { "–" } },
        _ => html! {
            @if let Some(waits) = waits::line(page, instance) { div { (waits) } }
            @else if instance.custom_status.is_none() { span.none { "–" } }
            @if let Some(custom) = &instance.custom_status { div.hint { (text(custom)) } }
        },
    }
}

/// A failure in a line, and the compensations that could not be carried out.
fn failed(failure: &Failure) -> Markup {
    let message = cut(&failure.message, SAYS);
    let lost = failure.causes.iter();
    let lost = lost
        .filter(|cause| cause.kind == COMPENSATION_FAILED)
        .count();
    html! {
        strong { (cut(&failure.kind, NAME)) }
        @if !message.is_empty() { ": " (message) }
        @if lost > 0 { div { span.chip.quarantined { (show::plural(lost as u64, "compensation")) " failed" } } }
    }
}

/// A reason as it was given, without the quotes of its JSON.
fn reason_of(json: &perennial::Json) -> String {
    serde_json::from_str(json.as_str()).unwrap_or_else(|_| json.as_str().to_owned())
}

/// The instances of a list with what a list leaves out: what they wait for, and outputs, which are kept only as far as they are shown.
pub(super) async fn described(
    client: &Client,
    instances: Vec<InstanceStatus>,
) -> Vec<InstanceStatus> {
    let described = instances.into_iter().map(|instance| async move {
        if instance.failure.is_some() || instance.quarantine.is_some() {
            return instance;
        }
        // One that is gone since stays as the list had it.
        let Ok(Some(mut now)) = client.status(&instance.instance_id).await else {
            return instance;
        };
        let is_long = |json: &perennial::Json| json.size() > KEPT;
        if let Some(long) = now.output.take_if(|json| is_long(json)) {
            let end = long.as_str().floor_char_boundary(KEPT);
            now.output = Some(perennial::Json::from_text(long.as_str()[..end].to_owned()));
        }
        now.values.clear();
        now
    });
    futures::stream::iter(described)
        .buffered(READ_AT_ONCE)
        .collect()
        .await
}

fn tags(page: &Page, instance: &InstanceStatus) -> Markup {
    let more = instance.tags.len().saturating_sub(TAGS);
    html! {
        @for (key, value) in instance.tags.iter().take(TAGS) {
            @let text = format!("{key}={value}");
            // A key with this sign could not be told from the value.
            @if key.contains('=') {
                span.chip { (cut(&text, TAG)) }
            } @else {
                a.chip href=(page.path(&format!("/instances{}", link::query([("tag", &*text)])))) title="List instances with this tag" {
                    (cut(&text, TAG))
                }
            }
            " "
        }
        @if more > 0 { span.hint { "+" (more) } }
    }
}
