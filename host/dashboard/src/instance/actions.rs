//! What can be done with an instance: a form for each action that makes sense now, and why the others do not.

use maud::{Markup, html};
use perennial::{ChildPolicy, InstanceStatus, Status, Wait};

use crate::page::Page;
use crate::show::cut;
use crate::{link, show};

/// Awaited names that are proposed.
const PROPOSED: usize = 50;

/// An action, by the last part of its path.
struct Action {
    key: &'static str,
    title: &'static str,
    /// What will happen, in a sentence.
    explains: &'static str,
    /// What is on its button.
    verb: &'static str,
    /// What is asked before it is done, if it cannot be undone.
    asks: Option<&'static str>,
}

const ACTIONS: [Action; 10] = [
    Action {
        key: "event",
        title: "Raise an event",
        explains: "The event is recorded and delivered. If the instance does not await its name now, it is kept until it does.",
        verb: "Raise the event",
        asks: None,
    },
    Action {
        key: "request",
        title: "Send a request",
        explains: "The request is recorded and delivered, and this page waits for the answer for up to 10 seconds. \
            Later answers appear in the list of requests.",
        verb: "Send the request",
        asks: None,
    },
    Action {
        key: "resume",
        title: "Resume",
        explains: "The instance goes on, and everything that arrived meanwhile is delivered in order.",
        verb: "Resume",
        asks: None,
    },
    Action {
        key: "rewind",
        title: "Rewind",
        explains: "The history is cut before the failure, and failed tasks run again. What is before the cut stays and \
            does not run again. Side effects after it are not undone.",
        verb: "Rewind",
        asks: Some("Cut the history before the failure and run again from there?"),
    },
    Action {
        key: "restart",
        title: "Restart",
        explains: "The orchestration runs again from its beginning, in its newest version, with the same input and \
            tags. Under the same id, the run so far is replaced.",
        verb: "Restart",
        asks: Some(
            "Run it again from its beginning? Under the same id, its history so far is deleted.",
        ),
    },
    Action {
        key: "suspend",
        title: "Suspend",
        explains: "The instance is held until it is resumed. Running activities finish, and their results are kept.",
        verb: "Suspend",
        asks: None,
    },
    Action {
        key: "cancel",
        title: "Cancel",
        explains: perennial::cancel_explained!(),
        verb: "Cancel the instance",
        asks: Some("Ask the instance to end?"),
    },
    Action {
        key: "terminate",
        title: "Terminate",
        explains: "The instance ends without a chance to clean up.",
        verb: "Terminate",
        asks: Some("Terminate it without a chance to clean up?"),
    },
    Action {
        key: "tags",
        title: "Set or remove a tag",
        explains: "Lists find instances by tags. The orchestration is not told.",
        verb: "Change the tag",
        asks: None,
    },
    Action {
        key: "purge",
        title: "Purge",
        explains: "The instance is deleted with its history. This cannot be undone.",
        verb: "Delete",
        asks: Some("Delete the instance and its history for ever?"),
    },
];

/// What the forms were made for: they are outdated when it is another one.
pub(super) fn key(status: &InstanceStatus) -> String {
    let mut key = format!(
        "{} {}{}",
        status.run,
        status.runtime_status,
        if status.quarantine.is_some() {
            " quarantined"
        } else {
            ""
        }
    );
    for name in events(status).chain(requests(status)) {
        key.push(' ');
        key.push_str(&cut(name, 40));
    }
    key
}

pub(super) fn section(page: &Page, status: &InstanceStatus) -> Markup {
    let impossible: Vec<(&str, &str)> = ACTIONS
        .iter()
        .filter_map(|action| Some((action.title, refusal(action.key, status)?)))
        .collect();
    html! {
        section.card.actions #actions aria-labelledby="actions-title" data-key=(key(status)) {
            h2 #actions-title { "Actions" }
            p.warning.outdated hidden role="status" {
                "The instance has changed since these forms were made. What you filled in is kept; "
                a href=(page.instance(&status.instance_id, "")) { "reload" } " to see what is possible now."
            }
            @for action in ACTIONS.iter().filter(|action| refusal(action.key, status).is_none()) { (form(page, status, action)) }
            p.hint {
                "To run the orchestration with another input, "
                a href=(page.path(&format!("/start{}", link::query([("of", &*status.instance_id)])))) { "change the input and start it" }
                ": with the same tags and version, under a new id or the same."
            }
            @if !impossible.is_empty() {
                details #impossible {
                    summary { "Not possible now" }
                    dl.facts { @for (title, why) in impossible { dt { (title) } dd { (why) } } }
                }
            }
        }
    }
}

/// Why an action makes no sense now.
fn refusal(key: &str, status: &InstanceStatus) -> Option<&'static str> {
    let is_held = status.runtime_status == Status::Suspended || status.quarantine.is_some();
    match key {
        "event" | "request" | "cancel" | "suspend" if status.is_ended() => {
            Some("The instance has ended.")
        }
        "suspend" if status.runtime_status == Status::Suspended => Some("It is suspended already."),
        "terminate" if status.is_ended() && status.still_runs.is_empty() => {
            Some("The instance has ended, and nothing below it runs.")
        }
        "resume" if status.is_ended() => Some("The instance has ended."),
        "resume" if !is_held => Some("It is neither suspended nor quarantined."),
        "rewind" if status.runtime_status != Status::Failed => {
            Some("Only an instance that has failed can be rewound.")
        }
        "purge" if !status.is_ended() => {
            Some("Only an instance that has ended can be deleted; cancel or terminate it first.")
        }
        _ => None,
    }
}

fn form(page: &Page, status: &InstanceStatus, action: &Action) -> Markup {
    let to = page.instance(&status.instance_id, &format!("/do/{}", action.key));
    let class = if action.asks.is_some() {
        "danger"
    } else {
        "primary"
    };
    html! {
        details.action id=(format!("do-{}", action.key)) open[is_likely(action.key, status)] {
            summary { (action.title) }
            form method="post" action=(to) data-confirm=[action.asks] {
                (page.token_field())
                input type="hidden" name="run" value=(status.run);
                p { (action.explains) @if action.key == "terminate" && !status.is_ended() { " " (left_behind(status)) } }
                (fields(status, action.key))
                p { button class=(class) type="submit" { (action.verb) } }
            }
        }
    }
}

/// What becomes of its children and running activities when it is terminated alone, as the starts of the children said.
fn left_behind(status: &InstanceStatus) -> String {
    let policies = status.waits_for.iter().filter_map(|wait| match wait {
        Wait::Child { when_dropped, .. } => Some(*when_dropped),
        _ => None,
    });
    let policies: Vec<ChildPolicy> = policies.collect();
    let told = [
        (ChildPolicy::Abandon, "goes on", "go on"),
        (
            ChildPolicy::Cancel,
            "is asked to cancel",
            "are asked to cancel",
        ),
        (ChildPolicy::Terminate, "is terminated", "are terminated"),
    ];
    let told = told.into_iter().filter_map(|(policy, one, many)| {
        let number = policies.iter().filter(|own| **own == policy).count();
        match number {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{number} {many}")),
        }
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        return "Running activities go on, unless they are included. It waits for no child now."
            .to_owned();
    }
    let of = match status.waits_for_more {
        0 => format!(
            "Of the {} that it waits for, ",
            plural_children(policies.len())
        ),
        _ => format!(
            "Of the first {} that it waits for, ",
            plural_children(policies.len())
        ),
    };
    format!(
        "Unless descendants are included, running activities go on. {of}{}, as their starts say.",
        told.join(", ")
    )
}

fn plural_children(number: usize) -> String {
    match number {
        1 => "1 child".to_owned(),
        many => format!("{many} children"),
    }
}

/// Whether an action is what the instance waits for.
fn is_likely(key: &str, status: &InstanceStatus) -> bool {
    match key {
        "event" => events(status).next().is_some(),
        "request" => requests(status).next().is_some(),
        "resume" => true,
        "rewind" => status.runtime_status == Status::Failed,
        _ => false,
    }
}

fn events(status: &InstanceStatus) -> impl Iterator<Item = &str> {
    let names = status.waits_for.iter().filter_map(|wait| match wait {
        Wait::ExternalEvent { name } => Some(&**name),
        _ => None,
    });
    names.take(PROPOSED)
}

fn requests(status: &InstanceStatus) -> impl Iterator<Item = &str> {
    let names = status.waits_for.iter().filter_map(|wait| match wait {
        Wait::Request { name } => Some(&**name),
        _ => None,
    });
    names.take(PROPOSED)
}

fn fields(status: &InstanceStatus, key: &str) -> Markup {
    match key {
        "event" => {
            html! { (name(key, "Name of the event", events(status).collect())) (json(key, "Data")) }
        }
        "request" => {
            html! { (name(key, "Name of the request", requests(status).collect())) (json(key, "Input")) }
        }
        "suspend" => html! { (reason(key)) (tick(key, "recursive", "Include its descendants")) },
        "resume" => html! {
            (reason(key))
            @if status.quarantine.is_some() { (module(key, "Continue on another module, such as a corrected version (name or digest)")) }
            @else { (tick(key, "recursive", "Include its descendants")) }
        },
        "cancel" => html! {
            (reason(key))
            label for="cancel-grace" { "Seconds to clean up" }
            input #cancel-grace name="grace" type="number" min="0" max="31536000" value="60";
            (tick(key, "recursive", "Include its descendants"))
        },
        "terminate" => html! { (reason(key)) (recursive_end(status)) },
        "rewind" => html! {
            (reason(key))
            (module(key, "Continue on another module (name or digest); empty for its own"))
            (tick(key, "all", "Go back to before the first failure of the whole run, also one that the orchestration handled"))
            (tick(key, "forget", "Even if that discards work that completed after the failure, such as compensations"))
        },
        "restart" => restart(status),
        "tags" => html! {
            label for="tags-key" { "Key" }
            input #tags-key name="key" required list="tags-keys" autocomplete="off";
            datalist #tags-keys { @for (key, _) in status.tags.iter().take(PROPOSED) { option value=(key) {} } }
            label for="tags-value" { "Value" }
            input #tags-value name="value" autocomplete="off";
            (tick(key, "remove", "Remove the tag instead"))
        },
        "purge" => tick(key, "recursive", "Include its ended descendants"),
        _ => html! {},
    }
}

fn restart(status: &InstanceStatus) -> Markup {
    let ended = status.is_ended();
    html! {
        @if !ended { p.hint { "The instance has not ended, so the new run needs an id of its own." } }
        fieldset {
            legend { "Id of the new run" }
            @if ended { div { label.inline { input type="radio" name="as" value="same" checked; "the same" } } }
            div { label.inline { input type="radio" name="as" value="new" checked[!ended]; "a new one, which the host generates" } }
            div { label.inline { input type="radio" name="as" value="given"; "this one:" } }
            label for="restart-id" { "New id" }
            input #restart-id name="id" autocomplete="off";
        }
    }
}

fn recursive_end(status: &InstanceStatus) -> Markup {
    html! {
        @if status.is_ended() {
            input type="hidden" name="recursive" value="1";
            p { "The instance has ended; this stops what still runs below it." }
        } @else {
            (tick("terminate", "recursive", "Include its descendants, and interrupt running activities"))
        }
    }
}

fn name(key: &str, label: &str, proposed: Vec<&str>) -> Markup {
    let (id, list) = (format!("{key}-name"), format!("{key}-names"));
    html! {
        label for=(id) { (label) }
        input id=(id) name="name" required list=(list) autocomplete="off" value=[proposed.first()];
        datalist id=(list) { @for name in &proposed { option value=(name) {} } }
        @if proposed.len() > 1 { p.hint { "It awaits " (show::count(proposed.len() as u64)) " names, which the field proposes." } }
    }
}

fn json(key: &str, label: &str) -> Markup {
    let (id, hint) = (format!("{key}-data"), format!("{key}-data-hint"));
    html! {
        label for=(id) { (label) " (JSON)" }
        textarea id=(id) name="data" rows="4" spellcheck="false" data-json aria-describedby=(hint) {}
        p.hint id=(hint) { "For example " code { "true" } ", " code { "\"a text\"" } " or " code { "{\"amount\": 3}" } "; empty for none." }
    }
}

fn reason(key: &str) -> Markup {
    let id = format!("{key}-reason");
    html! { label for=(id) { "Reason" } input id=(id) name="reason" autocomplete="off"; }
}

fn module(key: &str, label: &str) -> Markup {
    let id = format!("{key}-module");
    html! { label for=(id) { (label) } input id=(id) name="module" autocomplete="off" spellcheck="false"; }
}

fn tick(key: &str, name: &str, label: &str) -> Markup {
    let id = format!("{key}-{name}");
    html! { div { label.inline for=(id) { input id=(id) type="checkbox" name=(name) value="1"; (label) } } }
}
