//! `perennial check`: whether a hub is whole.

use perennial::{HubCheck, HubProblem};
use serde::Serialize;

use crate::error::Exit;
use crate::format::count;
use crate::output::plain;
use crate::progress::Bar;
use crate::session::Session;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckJson<'a> {
    task_hub: &'a str,
    sound: bool,
    file_problems: &'a [String],
    instances: u64,
    replayed: u64,
    turns: u64,
    moved: u64,
    problems: Vec<ProblemJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProblemJson<'a> {
    instance_id: &'a str,
    name: &'a str,
    runtime_status: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<&'a str>,
}

pub(super) async fn check(session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let bar = Bar::new(session.output(), "checking");
    let found = client
        .verify()
        .on_progress(move |done, total| bar.show(done, total))
        .await?;
    let output = session.output();
    if output.is_json() {
        output.json(&CheckJson {
            task_hub: session.task_hub(),
            sound: found.is_sound(),
            file_problems: &found.file_problems,
            instances: found.instances,
            replayed: found.replayed,
            turns: found.turns,
            moved: found.moved,
            problems: found.problems.iter().map(ProblemJson::from).collect(),
        })?;
    } else {
        for line in lines_of(&found, session) {
            output.line(&line)?;
        }
    }
    Ok(if found.is_sound() {
        Exit::Ok
    } else {
        Exit::Differs
    })
}

fn lines_of(found: &HubCheck, session: &Session) -> Vec<String> {
    let hub = session.task_hub();
    let (whole, of) = match session.has_database() {
        true => ("its rows agree", "the rows"),
        false => ("the file is whole", "the file"),
    };
    let mut lines = Vec::new();
    for problem in &found.file_problems {
        lines.push(format!("{of}: {}", plain(problem)));
    }
    for problem in &found.problems {
        lines.extend(lines_of_problem(problem));
    }
    let looked = format!(
        "{} with {}, of which {} on their modules",
        count(found.instances, "instance"),
        count(found.turns, "turn"),
        match found.replayed {
            1 => "1 live one was repeated".to_owned(),
            live => format!("{live} live ones were repeated"),
        }
    );
    lines.push(if found.is_sound() {
        format!("task hub {hub:?} is sound: {whole}, {looked}")
    } else {
        let (file, instances) = (found.file_problems.len(), found.problems.len());
        format!(
            "task hub {hub:?} is not sound: {} of {of}, {} of instances; {looked}. A backup from before can be made a hub \
             of its own by `perennial --task-hub NEW restore FILE`",
            count(file as u64, "problem"),
            count(instances as u64, "problem"),
        )
    });
    if found.moved > 0 {
        lines.push(format!(
            "{} ended, left or went on too fast while the check ran",
            count(found.moved, "instance")
        ));
    }
    lines
}

fn lines_of_problem(problem: &HubProblem) -> Vec<String> {
    let why = &problem.why;
    let place = match (why.turn, why.event) {
        (Some(turn), Some(event)) => format!(" at turn {turn}, event {event}"),
        (Some(turn), None) => format!(" at turn {turn}"),
        _ => String::new(),
    };
    let mut lines = vec![format!(
        "{} ({}, {}){place}: {}",
        problem.instance_id,
        problem.name,
        problem.runtime_status,
        plain(&why.reason)
    )];
    let texts = [("recorded", &why.recorded), ("asked", &why.asked)];
    lines.extend(
        texts
            .into_iter()
            .filter_map(|(what, text)| Some(format!("    {what:<8}  {}", plain(text.as_ref()?)))),
    );
    lines
}

impl<'a> From<&'a HubProblem> for ProblemJson<'a> {
    fn from(problem: &'a HubProblem) -> Self {
        Self {
            instance_id: &problem.instance_id,
            name: &problem.name,
            runtime_status: problem.runtime_status.name(),
            reason: &problem.why.reason,
            turn: problem.why.turn,
            event: problem.why.event,
            recorded: problem.why.recorded.as_deref(),
            asked: problem.why.asked.as_deref(),
        }
    }
}
