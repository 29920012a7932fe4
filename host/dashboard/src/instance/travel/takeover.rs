//! Whether the module that is deployed now could take an instance over, which runs on the module that it started on.

use maud::{Markup, html};
use perennial::{Definition, DefinitionKind, InstanceStatus, ModuleInfo, Status};

use super::lab::{Lab, Prepared, Verdict, impossible};
use super::told::Told;
use crate::page::Page;
use crate::refused::Refused;
use crate::{link, show};

/// The deployed module that defines an orchestration, and its definition there.
pub(in crate::instance) fn deployed<'a>(
    modules: &'a [ModuleInfo],
    orchestration: &str,
) -> Option<(&'a ModuleInfo, &'a Definition)> {
    modules.iter().find_map(|info| {
        let definition = info
            .definitions
            .iter()
            .find(|one| one.kind == DefinitionKind::Orchestration && one.name == orchestration)?;
        Some((info, definition))
    })
}

/// The module of an instance, the one that is deployed now, and the way to find out whether that could take the instance over.
pub(in crate::instance) fn card(
    page: &Page,
    status: &InstanceStatus,
    modules: &[ModuleInfo],
    answer: &Markup,
) -> Markup {
    let Some(own) = status.module else {
        return html! {};
    };
    let full = own.to_string();
    let version = |version: Option<&String>| {
        html! { @if let Some(version) = version { ", version " (show::cut(version, 120)) } }
    };
    html! {
        section.card aria-labelledby="module-title" {
            h2 #module-title { "Module" }
            p {
                "Runs on " a href=(page.path(&format!("/stored/{full}"))) title=(full) { code { (own.short()) } }
                (version(status.version.as_ref())) ". "
                @match deployed(modules, &status.name) {
                    None => "No deployed module defines this orchestration any more.",
                    Some((info, _)) if info.digest == full => { "This is what is deployed now as " (module(page, info)) "." },
                    Some((info, definition)) => {
                        "Another one is deployed now: " (module(page, info)) " ("
                        code { (info.digest.chars().take(12).collect::<String>()) } (version(definition.version.as_ref())) ")."
                    },
                }
            }
            @if deployed(modules, &status.name).is_some_and(|(info, _)| info.digest != full) { (offer(page, status)) }
            (answer)
        }
    }
}

fn module(page: &Page, info: &ModuleInfo) -> Markup {
    html! { a href=(page.path(&format!("/modules/{}", link::part(&info.name)))) { (show::cut(&info.name, 120)) } }
}

/// The button. What has completed or was terminated never runs again, on no module.
fn offer(page: &Page, status: &InstanceStatus) -> Markup {
    let goes_on = !status.is_ended() || status.runtime_status == Status::Failed;
    html! {
        @if goes_on && page.may_change() && impossible(status).is_none() {
            form method="post" action=(page.instance(&status.instance_id, "")) {
                (page.token_field())
                button type="submit" { "Could it take this instance over?" }
            }
            p.hint { "The recorded history is replayed on it. Nothing is written." }
        }
    }
}

/// Replays the history on the module that is deployed now, and says in words what that showed.
pub(in crate::instance) async fn answer(
    page: &Page,
    lab: &Lab,
    status: &InstanceStatus,
) -> Result<Markup, Refused> {
    if let Some(why) = impossible(status) {
        return Err(Refused::invalid(why));
    }
    let modules = page.client.modules().await?;
    let (info, _) = deployed(&modules, &status.name).ok_or_else(|| {
        Refused::invalid("No deployed module defines this orchestration any more.")
    })?;
    let id = &status.instance_id;
    let prepared = async {
        let module = page.client.load_module(&info.digest).await?;
        let history = page.client.export(id).await?;
        let history = history.ok_or_else(|| Refused::no_instance(id))?;
        Ok(Prepared {
            module,
            history,
            changed: None,
        })
    };
    let verdict = lab.replay(&page.client, prepared).await?;
    let told = Told {
        page,
        status,
        module: &info.name,
        event: None,
    };
    Ok(html! { div.result role="status" { (words(&told, &verdict).await?) } })
}

async fn words(told: &Told<'_>, verdict: &Verdict) -> Result<Markup, Refused> {
    let name = show::cut(told.module, 120);
    Ok(match verdict {
        Verdict::Same { turns } => html! {
            p.done {
                strong { "Yes." } " " (name) " answers as recorded in " (Told::turns_text(*turns))
                ", so it could take this instance over."
            }
            p.hint { (how(told.status)) }
        },
        Verdict::NotDefined => html! {
            p.warning { strong { "No." } " " (name) " does not define the orchestration." }
        },
        Verdict::Differs(why) | Verdict::Unfit(why) => html! {
            p.warning {
                strong { "No." } " " (name) " answers differently than is recorded"
                @if let Some(turn) = why.turn { ", from turn " (turn) " on" } "."
            }
            (told.difference(why).await?)
        },
    })
}

/// How it would be taken over: a deployment alone moves no instance.
fn how(status: &InstanceStatus) -> &'static str {
    if status.quarantine.is_some() {
        "It is quarantined: resume it on that module, with the actions below."
    } else if status.runtime_status == Status::Failed {
        "It has failed: a rewind can continue it on that module, with the actions below."
    } else {
        "It goes on with its own module, though: only an instance that is quarantined or has failed is moved to another one."
    }
}
