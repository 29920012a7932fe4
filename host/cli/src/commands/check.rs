//! `perennial deploy --check`: what a deployment would change, and which live instances could go on with it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use perennial::{
    CheckOutcome, CheckReport, CheckedInstance, CheckedName, Client, DefinitionKind, Grants,
    Module, NameChange,
};
use serde::Serialize;

use super::modules::{GrantsJson, granted};
use crate::error::Exit;
use crate::format::count;
use crate::output::{Output, plain, say};
use crate::session::Session;

/// Compatible instances that are named; the others are counted.
const COMPATIBLE_SHOWN: usize = 10;

/// Between two lines of progress where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn check(
    client: &Client,
    modules: Vec<Module>,
    grants: Option<Grants>,
    replaces: bool,
    session: &Session,
) -> anyhow::Result<Exit> {
    let mut reports = Vec::new();
    for module in modules {
        let name = module.name().to_owned();
        let progress = Progress::new(session.output());
        let mut check = client
            .check(module)
            .on_progress(move |done, total| progress.show(done, total));
        if let Some(grants) = &grants {
            check = check.grants(grants.clone());
        }
        let report = check
            .await
            .with_context(|| format!("could not check module {name:?}"))?;
        reports.push(report);
    }
    let output = session.output();
    if output.is_json() {
        output.json(&reports.iter().map(ReportJson::from).collect::<Vec<_>>())?;
    } else {
        for report in &reports {
            for line in lines_of(report) {
                output.line(&line)?;
            }
        }
    }
    let fits = |report: &CheckReport| {
        report.incompatible().next().is_none() && (replaces || report.taken().next().is_none())
    };
    Ok(if reports.iter().all(fits) {
        Exit::Ok
    } else {
        Exit::Differs
    })
}

/// The progress of the check, on stderr.
enum Progress {
    Silent,
    Bar(ProgressBar),
    Lines(Mutex<Instant>),
}

impl Progress {
    fn new(output: &Output) -> Self {
        use std::io::IsTerminal;
        if output.is_quiet() {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Mutex::new(Instant::now()));
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} instances");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::Bar(bar)
    }

    fn show(&self, done: usize, total: usize) {
        match self {
            Self::Silent => {}
            Self::Bar(bar) => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                if done == total {
                    bar.finish_and_clear();
                }
            }
            Self::Lines(last) => {
                let Ok(mut last) = last.lock() else { return };
                if last.elapsed() >= PLAIN_EVERY {
                    *last = Instant::now();
                    say(&format!("checked {done} of {total} instances"));
                }
            }
        }
    }
}

fn lines_of(report: &CheckReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}  (checked, not deployed)",
        report.module,
        report.digest.short()
    )];
    let width = report
        .names
        .iter()
        .map(|name| name.name.chars().count())
        .max()
        .unwrap_or(0);
    lines.extend(report.names.iter().map(|name| {
        let kind = name.kind;
        format!("  {kind:<13}  {:width$}  {}", name.name, change_of(name))
    }));
    let change = |sign: &'static str, what: &'static str| {
        move |text: &String| format!("  {sign} {what} {text}")
    };
    lines.extend(report.imports_added.iter().map(change("+", "imports")));
    lines.extend(report.imports_removed.iter().map(change("-", "imports")));
    let (before, after) = (
        granted(&report.grants_before),
        granted(&report.grants_after),
    );
    let added = after.iter().filter(|line| !before.contains(line));
    lines.extend(added.map(change("+", "may")));
    let removed = before.iter().filter(|line| !after.contains(line));
    lines.extend(removed.map(change("-", "may")));
    lines.extend(instances(report));
    lines
}

/// Incompatible instances first, with the difference, then compatible ones.
fn instances(report: &CheckReport) -> Vec<String> {
    let mut lines = Vec::new();
    for instance in report.incompatible() {
        lines.push(format!(
            "  {}  {}",
            instance.instance_id,
            outcome_of(instance)
        ));
        if let CheckOutcome::Differs(why) = &instance.outcome {
            let texts = [("recorded", &why.recorded), ("asked", &why.asked)];
            lines.extend(texts.into_iter().filter_map(|(what, text)| {
                Some(format!("    {what:<8}  {}", plain(text.as_ref()?)))
            }));
        }
    }
    let different = lines.is_empty();
    let compatible: Vec<&CheckedInstance> = report
        .instances
        .iter()
        .filter(|instance| matches!(instance.outcome, CheckOutcome::Compatible { .. }))
        .collect();
    lines.extend(
        compatible
            .iter()
            .take(COMPATIBLE_SHOWN)
            .map(|instance| format!("  {}  {}", instance.instance_id, outcome_of(instance))),
    );
    if compatible.len() > COMPATIBLE_SHOWN {
        let more = compatible.len() - COMPATIBLE_SHOWN;
        lines.push(format!("  and {more} more that are compatible"));
    }
    lines.push(match (report.instances.len(), different) {
        (0, _) => "  no live instances".to_owned(),
        (all, true) => format!(
            "  all of {} could go on with it",
            count(all as u64, "live instance")
        ),
        (all, false) => format!(
            "  {} of {} could not go on with it; they stay with the module that they are pinned to",
            report.incompatible().count(),
            count(all as u64, "live instance")
        ),
    });
    lines
}

fn outcome_of(instance: &CheckedInstance) -> String {
    match &instance.outcome {
        CheckOutcome::Compatible { turns } => {
            format!("compatible ({})", count(u64::from(*turns), "turn"))
        }
        CheckOutcome::Differs(why) => match (why.turn, why.event) {
            (Some(turn), Some(event)) => format!("differs at turn {turn}, event {event}"),
            (Some(turn), None) => format!("differs at turn {turn}"),
            _ => format!("cannot be repeated: {}", plain(&why.reason)),
        },
        CheckOutcome::NotDefined => format!("{:?} is no longer defined", instance.name),
        CheckOutcome::Ended => "ended meanwhile".to_owned(),
        _ => "changes too fast to be checked; try again".to_owned(),
    }
}

fn change_of(name: &CheckedName) -> String {
    match &name.change {
        NameChange::New => "new".to_owned(),
        NameChange::Unchanged => "unchanged".to_owned(),
        NameChange::Updated(before) => format!("updated from {}", before.short()),
        NameChange::Taken(owner) => format!(
            "belongs to module {owner}; --name {owner} deploys a new version of it, --replace takes the name over"
        ),
        NameChange::Dropped => "no longer defined".to_owned(),
        _ => "changed".to_owned(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson<'a> {
    module: &'a str,
    digest: String,
    names: Vec<NameJson<'a>>,
    imports: ChangeJson<&'a [String]>,
    grants: BeforeAfterJson<GrantsJson<'a>>,
    compatible: usize,
    incompatible: usize,
    instances: Vec<InstanceJson<'a>>,
}

#[derive(Serialize)]
struct ChangeJson<T> {
    added: T,
    removed: T,
}

#[derive(Serialize)]
struct BeforeAfterJson<T> {
    before: T,
    after: T,
}

#[derive(Serialize)]
struct NameJson<'a> {
    kind: DefinitionKind,
    name: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InstanceJson<'a> {
    instance_id: &'a str,
    name: &'a str,
    runtime_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<&'a str>,
}

impl<'a> From<&'a CheckReport> for ReportJson<'a> {
    fn from(report: &'a CheckReport) -> Self {
        let compatible = |instance: &&CheckedInstance| {
            matches!(instance.outcome, CheckOutcome::Compatible { .. })
        };
        Self {
            module: &report.module,
            digest: report.digest.to_string(),
            names: report.names.iter().map(NameJson::from).collect(),
            imports: ChangeJson {
                added: &report.imports_added,
                removed: &report.imports_removed,
            },
            grants: BeforeAfterJson {
                before: GrantsJson::from(&report.grants_before),
                after: GrantsJson::from(&report.grants_after),
            },
            compatible: report.instances.iter().filter(compatible).count(),
            incompatible: report.incompatible().count(),
            instances: report.instances.iter().map(InstanceJson::from).collect(),
        }
    }
}

impl<'a> From<&'a CheckedName> for NameJson<'a> {
    fn from(name: &'a CheckedName) -> Self {
        let (change, before, owner) = match &name.change {
            NameChange::New => ("new", None, None),
            NameChange::Unchanged => ("unchanged", None, None),
            NameChange::Updated(before) => ("updated", Some(before.to_string()), None),
            NameChange::Taken(owner) => ("taken", None, Some(owner.as_str())),
            NameChange::Dropped => ("dropped", None, None),
            _ => ("changed", None, None),
        };
        Self {
            kind: name.kind,
            name: &name.name,
            change,
            before,
            owner,
        }
    }
}

impl<'a> From<&'a CheckedInstance> for InstanceJson<'a> {
    fn from(instance: &'a CheckedInstance) -> Self {
        let why = match &instance.outcome {
            CheckOutcome::Differs(why) => Some(why),
            _ => None,
        };
        Self {
            instance_id: &instance.instance_id,
            name: &instance.name,
            runtime_status: instance.runtime_status.name(),
            module: instance.pinned.map(|digest| digest.to_string()),
            outcome: match &instance.outcome {
                CheckOutcome::Compatible { .. } => "compatible",
                CheckOutcome::Differs(_) => "differs",
                CheckOutcome::NotDefined => "notDefined",
                CheckOutcome::Ended => "ended",
                _ => "busy",
            },
            reason: why.map(|why| why.reason.as_str()),
            turn: why.and_then(|why| why.turn),
            event: why.and_then(|why| why.event),
            recorded: why.and_then(|why| why.recorded.as_deref()),
            asked: why.and_then(|why| why.asked.as_deref()),
        }
    }
}
