//! `perennial workers`.

use perennial::{DefinitionKind, WaitingWork, Worker, WorkerItem, WorkerName, Workers};

use crate::error::Exit;
use crate::format::{count, time};
use crate::output::{Cell, Output};
use crate::session::Session;

pub(super) async fn workers(session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let client = session.client()?;
    let workers = client.workers().await?;
    if output.is_json() {
        output.json(&workers)?;
        return Ok(Exit::Ok);
    }
    print(&workers, output)?;
    if let Some(note) = note(&workers, client.is_hosted()) {
        output.note(&note);
    }
    Ok(Exit::Ok)
}

fn print(workers: &Workers, output: &Output) -> anyhow::Result<()> {
    const CONNECTED: [&str; 6] = [
        "WORKER",
        "CONNECTED (UTC)",
        "ORCHESTRATIONS",
        "ACTIVITIES",
        "ANSWERED",
        "RUNS",
    ];
    const RUNNING: [&str; 4] = ["INSTANCE", "RUNS", "SINCE (UTC)", "WORKER"];
    const WAITING: [&str; 4] = ["WAITING", "NAME", "VERSION", "COUNT"];
    let running = workers.connected.iter().flat_map(|worker| {
        let items = worker.running.iter();
        items.map(|item| running(item, worker))
    });
    let tables = [
        (
            &CONNECTED[..],
            workers.connected.iter().map(connected).collect(),
        ),
        (&RUNNING[..], running.collect::<Vec<_>>()),
        (&WAITING[..], workers.waiting.iter().map(waiting).collect()),
    ];
    let tables = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
    for (i, (header, rows)) in tables.enumerate() {
        if i > 0 {
            output.line("")?;
        }
        output.table(header, rows)?;
    }
    Ok(())
}

fn connected(worker: &Worker) -> Vec<Cell> {
    vec![
        Cell::new(&worker.name),
        Cell::new(time(worker.connected_at)),
        Cell::new(share(
            worker.orchestrations.as_deref(),
            worker.orchestrations_max,
        )),
        Cell::new(share(worker.activities.as_deref(), worker.activities_max)),
        Cell::new(worker.answered),
        Cell::new(worker.running.len()),
    ]
}

/// The names that a worker runs, and how many at once.
fn share(names: Option<&[WorkerName]>, max: u32) -> String {
    let with_versions = |name: &WorkerName| match name.versions.as_slice() {
        [] => name.name.clone(),
        versions => format!("{} {}", name.name, versions.join("|")),
    };
    match names {
        _ if max == 0 => "none".to_owned(),
        Some([]) => "none".to_owned(),
        None => format!("all, {max} at once"),
        Some(names) => {
            let names: Vec<String> = names.iter().map(with_versions).collect();
            format!("{}, {max} at once", names.join(", "))
        }
    }
}

fn running(item: &WorkerItem, worker: &Worker) -> Vec<Cell> {
    let what = match item.task {
        Some(task) => format!("activity {} (task {task})", item.name),
        None => format!("a turn of {}", item.name),
    };
    vec![
        Cell::new(&item.instance_id),
        Cell::new(what),
        Cell::new(time(item.running_since)),
        Cell::new(&worker.name),
    ]
}

fn waiting(waiting: &WaitingWork) -> Vec<Cell> {
    vec![
        Cell::new(waiting.kind),
        Cell::new(&waiting.name),
        Cell::new(waiting.version.as_deref().unwrap_or_default()),
        Cell::new(waiting.count),
    ]
}

/// What people should know besides the tables.
fn note(workers: &Workers, is_hosted: bool) -> Option<String> {
    if !is_hosted {
        return Some(
            "no host runs the task hub, so no worker is connected: see `perennial serve --help`"
                .to_owned(),
        );
    }
    let nobody = workers.connected.is_empty();
    if workers.waiting.is_empty() {
        return nobody.then(|| "no worker is connected, and nothing waits for one".to_owned());
    }
    let waiting = waiting_in_words(&workers.waiting);
    Some(if nobody {
        format!(
            "no worker is connected, and {waiting}; start a worker that runs these names, with the address of the host"
        )
    } else {
        format!("{waiting}: no connected worker runs these names, or those that do have no room")
    })
}

/// `2 turns and 1 activity wait for a worker`.
fn waiting_in_words(waiting: &[WaitingWork]) -> String {
    let number = |kind| {
        let of_kind = waiting.iter().filter(|waiting| waiting.kind == kind);
        of_kind.map(|waiting| waiting.count).sum::<u64>()
    };
    let turns = match number(DefinitionKind::Orchestration) {
        0 => None,
        turns => Some(count(turns, "turn")),
    };
    let activities = match number(DefinitionKind::Activity) {
        0 => None,
        1 => Some("1 activity".to_owned()),
        many => Some(format!("{many} activities")),
    };
    let all: u64 = waiting.iter().map(|waiting| waiting.count).sum();
    let verb = if all == 1 { "waits" } else { "wait" };
    let words: Vec<String> = turns.into_iter().chain(activities).collect();
    format!("{} {verb} for a worker", words.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(connected: &str, waiting: &str) -> Workers {
        let json = format!(r#"{{"connected": [{connected}], "waiting": [{waiting}]}}"#);
        serde_json::from_str(&json).expect("workers")
    }

    const ONE: &str = r#"{"name": "w", "connectedTime": "2026-01-31T12:00:00Z",
        "orchestrations": [{"name": "Order", "versions": ["1.0", "2.0"]}, {"name": "Refund"}],
        "orchestrationsMax": 4, "activitiesMax": 9, "answered": 3,
        "running": [{"kind": "activity", "name": "Pay", "instanceId": "o", "task": 2,
        "runningSince": "2026-01-31T12:00:05Z"}]}"#;

    #[test]
    fn a_worker_is_shown_with_its_names_versions_and_room() {
        let workers = workers(ONE, "");
        let worker = &workers.connected[0];
        let names = worker.orchestrations.as_deref();
        assert_eq!(share(names, 4), "Order 1.0|2.0, Refund, 4 at once");
        assert_eq!(share(worker.activities.as_deref(), 9), "all, 9 at once");
        assert_eq!(share(Some(&[]), 9), "none");
        assert_eq!(share(None, 0), "none");
        assert_eq!(connected(worker).len(), 6);
        assert_eq!(running(&worker.running[0], worker).len(), 4);
    }

    #[test]
    fn what_waits_is_said_and_what_to_do_about_it() {
        let waiting = r#"{"kind": "orchestration", "name": "Order", "count": 2},
            {"kind": "activity", "name": "Pay", "version": "1.0", "count": 1}"#;
        let nobody = note(&workers("", waiting), true).expect("a note");
        assert_eq!(
            nobody,
            "no worker is connected, and 2 turns and 1 activity wait for a worker; start a worker that runs these names, \
             with the address of the host"
        );
        let some = note(&workers(ONE, waiting), true).expect("a note");
        assert!(some.ends_with("have no room"), "{some}");
        assert_eq!(note(&workers(ONE, ""), true), None);
        let no_host = note(&workers("", ""), false).expect("a note");
        assert!(no_host.contains("perennial serve"), "{no_host}");
    }
}
