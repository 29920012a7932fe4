//! Several processes send commands at random to the same few instances, beside a host that keeps nothing in memory.
//!
//! The model knows only the table: each refusal names the status that it was for, and the table must say the same. When all is quiet, each
//! command is sent once more, and the table must say exactly what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use perennial::Client;
use perennial_tests::{DataDir, Dice, Serve, store_in};

use crate::{Hub, PATIENCE, STATUSES, TABLE, by_client, check};

/// The variables that make a process of the race of this test binary: its hub, and its seed.
const HUB: &str = "PERENNIAL_TEST_RACE_HUB";
const DATABASE: &str = "PERENNIAL_TEST_RACE_DATABASE";
const SEED: &str = "PERENNIAL_TEST_RACE_SEED";

const PROCESSES: u64 = 4;
const STEPS: u32 = 250;
const ROUNDS_MIN: u64 = 3;
const ROUNDS_MAX: u64 = 40;
const INSTANCES: u64 = 5;

/// What the table says of a command in a status.
fn cell(command: &str, status: &str) -> &'static str {
    let (_, cells) = TABLE.iter().find(|(name, _)| *name == command).unwrap();
    let column = STATUSES.iter().position(|name| *name == status);
    cells[column.unwrap_or_else(|| panic!("{status} is no status"))]
}

/// One command of the race, and what came of it: `ok`, or the refusal as it was said.
async fn step(client: &Client, dice: &mut Dice) -> (String, String) {
    let id = format!("race-{}", dice.roll(INSTANCES));
    let end = match dice.roll(5) {
        // The orchestration takes a text, and fails with anything else.
        0 => client.raise_event(&id, "Go", "well").await,
        1 => client.raise_event(&id, "Go", &5).await,
        _ => {
            let (command, _) = TABLE[dice.roll(TABLE.len() as u64) as usize];
            let done = crate::send(client, command, &id).await;
            let said = done.map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            return (command.to_owned(), said);
        }
    };
    let said = end.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
    ("raise event".to_owned(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_race() {
    // Only where the race below starts it.
    let (Ok(hub), Ok(seed)) = (std::env::var(HUB), std::env::var(SEED)) else {
        return;
    };
    let database = std::env::var(DATABASE).ok();
    let store = store_in(Path::new(&hub), database.as_deref());
    let client = Client::open(store, perennial::DEFAULT_TASK_HUB).unwrap();
    let mut dice = Dice(seed.parse().unwrap());
    for _ in 0..STEPS {
        let (command, said) = step(&client, &mut dice).await;
        println!("race\t{command}\t{said}");
    }
}

/// Lets the processes race for a round; everything that they sent and were told.
fn round(dir: &DataDir, seed: u64) -> Vec<(String, String)> {
    let start = |number: u64| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "races::a_process_of_the_race", "--nocapture"])
            .env(HUB, dir.path())
            .envs(dir.database().map(|database| (DATABASE, database)))
            .env(SEED, (seed.wrapping_add(number)).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..PROCESSES).map(start).collect();
    let mut told = Vec::new();
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}{error}");
        // The harness may put its own words before the first of them.
        let lines = text.lines().filter_map(|line| line.split_once("race\t"));
        let fields = lines.filter_map(|(_, line)| line.split_once('\t'));
        told.extend(fields.map(|(command, said)| (command.to_owned(), said.to_owned())));
    }
    assert_eq!(told.len() as u64, PROCESSES * u64::from(STEPS));
    told
}

/// Checks what was said against the table. Whether the command was done.
fn judge(command: &str, said: &str, ids: &str) -> bool {
    if said == "ok" {
        let some = STATUSES
            .iter()
            .any(|status| !cell(command, status).starts_with('!'));
        assert!(some, "{command} is never done");
        return true;
    }
    // Something has completed since the failure that it would go back to, after a rewind of another process.
    if command == "rewind" && said.contains("rewind --forget-completed") {
        return false;
    }
    let refusal = crate::refusal(said);
    assert!(refusal.starts_with('!'), "{command}: {said}");
    let status = match refusal.as_str() {
        "!NotFound" => "missing",
        _ => STATUSES
            .into_iter()
            .find(|status| said.contains(&format!(" is {status}")))
            .unwrap_or_else(|| panic!("no status in {said:?}")),
    };
    assert_eq!(cell(command, status), refusal, "{command} of {ids}: {said}");
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_several_processes_at_once_do_what_the_table_says() {
    let hub = Hub::new();
    let client = hub.dir.client();
    hub.deploy(&client).await;
    let _host = Serve::start(hub.dir.path(), &["--resident", "0"]);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = since.as_nanos() as u64;
    let mut seen: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    let both = |seen: &BTreeMap<String, BTreeSet<bool>>| {
        TABLE.iter().all(|(command, cells)| {
            let possible = |done: bool| cells.iter().any(|cell| cell.starts_with('!') != done);
            let wanted = [true, false].into_iter().filter(|done| possible(*done));
            let had = seen.get(*command);
            wanted
                .into_iter()
                .all(|done| had.is_some_and(|had| had.contains(&done)))
        })
    };
    let mut rounds = 0;
    while rounds < ROUNDS_MIN || !both(&seen) {
        assert!(
            rounds < ROUNDS_MAX,
            "seed {seed}: something never happened: {seen:?}"
        );
        for (command, said) in round(&hub.dir, seed.wrapping_add(rounds * PROCESSES)) {
            let done = judge(&command, &said, &format!("seed {seed}"));
            seen.entry(command).or_default().insert(done);
        }
        rounds += 1;
    }
    quiet(&client).await;
}

/// When nothing races any more, each command does exactly what the table says, and nothing was broken by the race.
async fn quiet(client: &Client) {
    for number in 0..INSTANCES {
        let id = format!("race-{number}");
        let mut status = settled(client, &id).await;
        for (command, _) in TABLE {
            let done = by_client(client, command, &id).await;
            check(client, &id, &status, cell(command, &status), done).await;
            status = settled(client, &id).await;
        }
    }
    let mut list = client.list().limit(1_000);
    loop {
        let page = list.await.unwrap();
        for status in &page.instances {
            assert_eq!(status.quarantine, None, "{}", status.instance_id);
        }
        match page.continuation_token {
            Some(token) => list = client.list().limit(1_000).continuation_token(token),
            None => return,
        }
    }
}

/// The status of an instance when it has done all that it can do by itself.
async fn settled(client: &Client, id: &str) -> String {
    if client.status(id).await.unwrap().is_none() {
        return "missing".to_owned();
    }
    let rests = |status: &perennial::InstanceStatus| {
        let waits = status.waits_for.iter();
        let mut waits = waits.map(ToString::to_string);
        status.is_ended()
            || status.runtime_status == perennial::Status::Suspended
            || waits.any(|wait| wait.contains("external event") || wait.contains("scheduled"))
    };
    let begun = std::time::Instant::now();
    loop {
        let status = client.status(id).await.unwrap().unwrap();
        if rests(&status) {
            return status.runtime_status.name().to_owned();
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{id} does not come to rest: {status:?}"
        );
        tokio::task::yield_now().await;
    }
}
