//! A database that is away, and one that comes back without the last transactions that it had confirmed, as a standby does that was behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use perennial::{Client, DirGrant, Grants, Store};
use perennial_tests::postgres::Database;
use perennial_tests::{DataDir, Serve, guest, module};

use crate::{database, divided, serve, told};

/// A server, and a hub in it that was copied while one instance had ended.
struct World {
    database: Database,
    dirs: [DataDir; 2],
    log: tempfile::NamedTempFile,
}

impl World {
    /// A hub with the instance `kept`. Then the server is copied, and the host goes on, with `lost`. `None` if there are no programs.
    fn new() -> Option<(Self, Serve)> {
        let mut world = Self {
            database: Database::start()?,
            dirs: [DataDir::new(), DataDir::new()],
            log: tempfile::NamedTempFile::new().unwrap(),
        };
        for guest_of in ["hello-sequence", "workloads"] {
            world.runs(&["deploy", "-q", guest(guest_of).to_str().unwrap()]);
        }
        let address = world.database.address();
        let args = [
            "--store",
            &address,
            "--log",
            "info",
            "--listen",
            "127.0.0.1:0",
        ];
        let host = Serve::start_logged(world.dir(0), &args, world.log.path());
        world.runs(&["start", "HelloSequence", "--id", "kept"]);
        world.runs(&["wait", "kept"]);
        world.database.down("INT");
        world.database.keep();
        world.database.up();
        // The host goes on by itself.
        world.runs(&["start", "HelloSequence", "--id", "lost"]);
        world.runs(&["wait", "lost"]);
        Some((world, host))
    }

    fn dir(&self, host: usize) -> &Path {
        self.dirs[host].path()
    }

    fn runs(&self, args: &[&str]) -> String {
        let (text, succeeds) = told(&self.database.address(), self.dir(0), args);
        assert!(succeeds, "{args:?}: {text}");
        text
    }

    /// Replaces the server by its copy.
    fn fails_over(&mut self) {
        self.database.down("INT");
        self.database.bring_back();
        self.database.up();
    }

    /// The former host said what happened, and the next one has what the database has.
    fn is_told_and_read_again(&self) {
        let log = std::fs::read_to_string(self.log.path()).unwrap();
        let said = "the database has lost the last ";
        let lost = log
            .split(said)
            .nth(1)
            .unwrap_or_else(|| panic!("nothing is said: {log}"));
        let lost: u64 = lost.split(' ').next().unwrap().parse().unwrap();
        // A start, its turns and their activities.
        assert!(lost >= 3, "{log}");
        let ends = format!(
            "error: the database of task hub \"default\" has lost {lost} transactions that it had confirmed"
        );
        assert!(log.contains(&ends), "{log}");
        assert!(log.contains("synchronous_standby_names"), "{log}");
        assert!(
            !log.contains("nothing that was acknowledged is lost"),
            "{log}"
        );
        assert!(self.runs(&["status", "kept"]).contains("Completed"));
        let (text, succeeds) = told(&self.database.address(), self.dir(0), &["status", "lost"]);
        assert!(!succeeds && text.contains("lost"), "{text}");
        // It may happen again, from its beginning.
        self.runs(&["start", "HelloSequence", "--id", "lost"]);
        self.runs(&["wait", "lost"]);
        assert!(self.runs(&["check"]).contains("is sound"));
    }
}

#[test]
fn an_idle_host_says_what_its_database_lost_and_ends() {
    let Some((mut world, host)) = World::new() else {
        return;
    };
    world.fails_over();
    assert_eq!(host.ended(), Some(1));
    let args = ["--store", &world.database.address()];
    let _next = Serve::start(world.dir(0), &args);
    world.is_told_and_read_again();
}

#[test]
fn a_host_in_the_middle_of_its_work_says_what_its_database_lost_and_another_one_takes_over() {
    let Some((mut world, host)) = World::new() else {
        return;
    };
    // Turns are under way whenever the server goes.
    for n in 0..8 {
        world.runs(&[
            "start",
            "CountDown",
            "--input",
            "1000000",
            "--id",
            &format!("busy-{n}"),
        ]);
    }
    let address = world.database.address();
    std::thread::scope(|scope| {
        let second = world.dirs[1].path().to_owned();
        let next = scope.spawn(move || Serve::start(&second, &["--store", &address]));
        world.fails_over();
        assert_eq!(host.ended(), Some(1));
        let _next = next.join().unwrap();
        world.is_told_and_read_again();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_keeps_nobody_waiting() {
    let Some((mut world, host)) = World::new() else {
        return;
    };
    let url = format!("http://{}", host.address());
    let client = Client::connect(&url, "default", None).unwrap();
    world.database.down("INT");
    let read = client.status("kept").await.unwrap_err();
    assert!(read.is_unavailable(), "{read}");
    let started = client.start("HelloSequence").id("meanwhile").await;
    let error = started.unwrap_err();
    assert!(error.is_queued(), "{error}");
    assert!(error.to_string().contains("stays queued"), "{error}");
    let refused = client.suspend("kept", None).await.unwrap_err();
    assert!(refused.is_queued() || refused.is_unavailable(), "{refused}");
    let said = std::fs::read_to_string(world.log.path()).unwrap();
    world.database.up();
    // What was queued happens, by the same host.
    let limit = Duration::from_secs(60);
    loop {
        match client.wait_for_completion("meanwhile", limit).await {
            Ok(waited) => break assert!(waited.reached().is_some()),
            Err(error) => assert!(error.is_unavailable() || error.is_not_found(), "{error}"),
        }
    }
    // It is said once in ten seconds.
    let lines = said
        .matches("the database cannot be reached; trying again")
        .count();
    assert!((1..=5).contains(&lines), "{said}");
}

/// How long an instance waits at most after its host was killed.
const GOES_ON_WITHIN: Duration = Duration::from_secs(2);

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// The longest time between two attempts of an instance, of those that began since then.
fn longest_gap(lines: &Path, since: u64) -> Duration {
    let lines = std::fs::read_to_string(lines).unwrap();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut longest = 0;
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        // Its last line may not be whole.
        let (Some(id), Some(Ok(at))) = (words.first(), words.get(4).map(|at| at.parse::<u64>()))
        else {
            continue;
        };
        let before = last.insert(id, at);
        if let Some(before) = before.filter(|_| at > since) {
            longest = longest.max(at.saturating_sub(before));
        }
    }
    // Whoever did not go on waits still.
    let waits = last.values().map(|at| now().saturating_sub(*at)).max();
    Duration::from_millis(longest.max(waits.unwrap_or(u64::MAX)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instances_of_a_host_that_is_killed_go_on_within_two_seconds() {
    let Some(database) = database() else { return };
    let (dirs, out) = (
        [DataDir::new(), DataDir::new()],
        tempfile::tempdir().unwrap(),
    );
    let store = Store::postgres(&database).unwrap().data_dir(dirs[0].path());
    let client = Client::open(store, "default").unwrap();
    let grants = Grants::new().dir(DirGrant::new(out.path(), "/out").writable());
    let deployed = client.deploy(module("workloads")).grants(grants);
    deployed.await.unwrap();
    let (mut first, mut second) = (
        serve(&database, dirs[0].path()),
        serve(&database, dirs[1].path()),
    );
    divided(&client, &[32, 32]).await;
    let input = serde_json::json!({ "file": "/out/lines", "steps": 1_000_000 });
    for n in 0..16 {
        let started = client.start("Logged").id(format!("i{n}")).input(&input);
        started.await.unwrap();
    }
    let mut gaps = Vec::new();
    // A machine that has too much else to do may take longer, but not each time.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let killed_at = now();
        first.kill();
        tokio::time::sleep(GOES_ON_WITHIN * 2).await;
        let gap = longest_gap(&out.path().join("lines"), killed_at);
        println!("an instance waited at most {gap:?} after its host was killed");
        gaps.push(gap);
        if gap < GOES_ON_WITHIN {
            return;
        }
        divided(&client, &[64]).await;
        (first, second) = (second, serve(&database, dirs[0].path()));
        divided(&client, &[32, 32]).await;
    }
    panic!("instances waited too long each time: {gaps:?}");
}
