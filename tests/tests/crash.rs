//! The main promise: a host is killed again and again while it works, and nothing is lost and nothing that was recorded runs again.

#[path = "crash/purge.rs"]
mod purge;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use perennial::{Client, Event, InstanceStatus, Status, TaskId};
use perennial_core::State;
use perennial_tests::{DataDir, Dice, Serve, module};

const INSTANCES: usize = 200;
const STEPS: u32 = 16;
const KILLS: usize = 25;

/// An instance and one of its steps.
type Step = (String, u32);

/// How often each step wrote its line.
fn lines(file: &Path) -> BTreeMap<Step, u32> {
    let mut lines = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        let (id, step) = line.rsplit_once(' ').unwrap();
        *lines
            .entry((id.to_owned(), step.parse().unwrap()))
            .or_default() += 1;
    }
    lines
}

/// Every instance, with its history.
async fn histories(client: &Client) -> Vec<InstanceStatus> {
    let mut all = Vec::new();
    for i in 0..INSTANCES {
        all.extend(
            client
                .status(format!("i{i}"))
                .show_input()
                .show_history_output()
                .await
                .unwrap(),
        );
    }
    all
}

/// Steps whose result is recorded.
fn recorded(statuses: &[InstanceStatus]) -> BTreeSet<Step> {
    let mut steps = BTreeSet::new();
    for status in statuses {
        for event in status.history.iter().flatten() {
            if let Event::ActivityCompleted {
                task: TaskId(step), ..
            } = event.event
            {
                assert!(
                    steps.insert((status.instance_id.clone(), step)),
                    "a result is recorded twice"
                );
            }
        }
    }
    steps
}

/// Folds a history as the host does: one that it could not have written is refused.
fn check_lawful(status: &InstanceStatus) {
    let mut state = State::new(0);
    for (number, event) in status.history.iter().flatten().enumerate() {
        assert_eq!(event.number, number as u64, "{}", status.instance_id);
        state
            .apply(&event.event)
            .unwrap_or_else(|corrupt| panic!("{}: {corrupt}", status.instance_id));
    }
    assert!(state.has_ended(), "{}", status.instance_id);
}

#[tokio::test]
async fn killed_at_random_it_loses_nothing_and_repeats_nothing_that_was_recorded() {
    let (dir, out) = (DataDir::new(), tempfile::tempdir().unwrap());
    let file = out.path().join("lines");
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    println!("seed {seed}");
    let mut dice = Dice(u64::from(seed) | 1);

    let client = dir.client();
    let out_dir = perennial::DirGrant::new(out.path(), "/out").writable();
    let grants = perennial::Grants::new().dir(out_dir);
    client
        .deploy(module("workloads"))
        .grants(grants)
        .await
        .unwrap();
    // Accepted while nobody runs the hub, so that all the work is still to be done when the first host comes.
    let input = serde_json::json!({ "file": "/out/lines", "steps": STEPS });
    for i in 0..INSTANCES {
        client
            .start("Append")
            .id(format!("i{i}"))
            .input(&input)
            .await
            .unwrap();
    }

    let total = INSTANCES * STEPS as usize;
    let share = total / (KILLS + 2);
    let mut host = Serve::start(dir.path(), &["--max-activities", "4"]);
    let (mut kills, mut settled) = (0, BTreeSet::new());
    while kills < KILLS {
        // Each kill falls at a random place in its share of the run.
        let goal = share * (kills + 1) + dice.roll(share as u64) as usize;
        let begun = Instant::now();
        while lines(&file).len() < goal {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the host stands still"
            );
            tokio::time::sleep(Duration::from_millis(dice.roll(3))).await;
        }
        host.kill();
        kills += 1;
        let before = lines(&file);
        let statuses = histories(&client).await;
        assert_eq!(statuses.len(), INSTANCES, "an acknowledged start is lost");
        let now = recorded(&statuses);
        assert!(settled.is_subset(&now), "a recorded result is lost");
        for step in &now {
            assert!(
                before.contains_key(step),
                "{step:?} is recorded and did not run"
            );
        }
        settled = now;
        assert!(
            settled.len() < total,
            "the work was done before the last kill"
        );
        host = Serve::start(dir.path(), &["--max-activities", "4"]);
        let after = lines(&file);
        for step in &settled {
            assert_eq!(
                after.get(step),
                before.get(step),
                "{step:?} ran again after its result was recorded"
            );
        }
    }

    for i in 0..INSTANCES {
        let waited = client
            .wait_for_completion(&format!("i{i}"), Duration::from_secs(120))
            .await
            .unwrap();
        assert_eq!(
            waited.status().runtime_status,
            Status::Completed,
            "{:?}",
            waited.status()
        );
    }
    host.kill();
    let statuses = histories(&client).await;
    statuses.iter().for_each(check_lawful);
    assert_eq!(recorded(&statuses).len(), total);
    let lines = lines(&file);
    assert_eq!(lines.len(), total, "a step is missing");
    let repeated = lines.values().filter(|count| **count > 1).count();
    println!(
        "{kills} kills, {INSTANCES} instances, {total} steps, {repeated} of them repeated before their result was recorded"
    );
}
