//! Checks of live instances: could they go on with another module.
//!
//! Invariant: at most one check runs, of at most [`CHECKED`] instances, also if nobody waits for it any more.

use std::sync::{Arc, LazyLock};

use axum::http::StatusCode;
use maud::{Markup, html};
use perennial::{CheckOutcome, CheckReport, CheckedInstance, Module};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::changes::{Changes, Offered};
use super::live::CHECKED;
use super::preview::lives;
use crate::page::Page;
use crate::refused::Refused;
use crate::show;

/// Instances in a list.
const LISTED: usize = 200;

/// Replays take all processors.
static CHECKS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// Starts a check, which goes on to its end if the visitor leaves. `told` receives the number of instances checked, and of all.
pub(crate) async fn begin(
    page: &Page,
    module: impl Future<Output = Result<Module, Refused>>,
    told: impl Fn(usize, usize) + Send + Sync + 'static,
) -> Result<JoinHandle<Markup>, Refused> {
    let Ok(permit) = Arc::clone(&CHECKS).try_acquire_owned() else {
        let message = "Another check runs at the moment. Try again when it has ended.";
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let module = module.await?;
    let deployed = page.client.modules().await?;
    let changes = Changes::of(&Offered::uploaded(&module), &deployed);
    let lives = lives(&page.client, &changes).await?;
    if lives > CHECKED {
        let message = format!(
            "{lives} live instances are too many to check here; use the command perennial deploy --check."
        );
        return Err(Refused::invalid(message));
    }
    let check = page.client.check(module).on_progress(told);
    let page = page.clone();
    Ok(tokio::spawn(async move {
        let checked = check.await;
        drop(permit);
        match checked {
            Ok(checked) => report(&page, &checked),
            Err(failed) => Refused::from(failed).alert(),
        }
    }))
}

fn report(page: &Page, report: &CheckReport) -> Markup {
    let fits = |one: &&CheckedInstance| matches!(one.outcome, CheckOutcome::Compatible { .. });
    let fine = report.instances.iter().filter(fits).count();
    let not: Vec<&CheckedInstance> = report.incompatible().collect();
    html! {
        @if not.is_empty() { p.done { "All " (fine) " could go on with it." } } @else {
            p.warning { (not.len()) " could not go on with it, and " (fine) " could. They stay on the module that they started on." }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Instance" } th scope="col" { "Orchestration" } th scope="col" { "Status" } th scope="col" { "Why" }
                } }
                tbody {
                    @for one in not.iter().take(LISTED) { tr {
                        th scope="row" { a href=(page.instance(&one.instance_id, "")) { (one.instance_id) } }
                        td { (one.name) }
                        td { (show::status(one.runtime_status)) }
                        td { (why(&one.outcome)) }
                    } }
                }
            } }
            @if not.len() > LISTED { p.hint { "And " (not.len() - LISTED) " more." } }
        }
    }
}

fn why(outcome: &CheckOutcome) -> String {
    match outcome {
        CheckOutcome::Differs(why) => why.to_string().chars().take(1_000).collect(),
        CheckOutcome::NotDefined => "The component does not define its orchestration.".to_owned(),
        CheckOutcome::Busy => "It changed too fast to be checked.".to_owned(),
        CheckOutcome::Ended | CheckOutcome::Compatible { .. } => String::new(),
        _ => "It could not be checked.".to_owned(),
    }
}
