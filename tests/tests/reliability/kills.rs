//! Hosts that are killed while everything goes on at once.

use std::time::{Duration, Instant};

use perennial::{Client, Status};
use perennial_tests::{DataDir, Dice, Serve, module};

/// Rounds of a usual run, and of a long one.
const ROUNDS: (u64, u64) = (25, 300);

/// Events that each counter waits for.
const EVENTS: u32 = 8;

/// How long an instance is waited for before it is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two checks of the whole hub.
const CHECK_EVERY: u64 = 8;

/// What is known of an instance by what was acknowledged.
#[derive(Debug, Default)]
struct Known {
    id: String,
    /// Whether it counts events.
    counts: bool,
    /// Events that were accepted, in order; those that may have been accepted are negative.
    events: Vec<i64>,
    ended_by_hand: bool,
    purged: bool,
    /// Whether a purge was asked for and not answered.
    maybe_purged: bool,
}

/// The load: whatever a client can do, one after the other.
struct Load {
    client: Client,
    dice: Dice,
    known: Vec<Known>,
    acknowledged: u64,
    unanswered: u64,
}

impl Load {
    async fn one(&mut self) {
        match self.dice.roll(10) {
            0..=3 => self.start().await,
            4..=6 => self.raise().await,
            7 => self.hold().await,
            _ => self.end().await,
        }
    }

    fn count<T>(&mut self, result: &perennial::Result<T>) {
        match result {
            Ok(_) => self.acknowledged += 1,
            Err(_) => self.unanswered += 1,
        }
    }

    async fn start(&mut self) {
        let n = self.known.len();
        let id = format!("k{n}");
        let (name, input) = [
            ("Chain", 6),
            ("ChildSum", 3),
            ("Sleep", 150),
            ("Retries", 5),
            ("CountDown", 4),
            ("CountEvents", EVENTS),
        ][self.dice.roll(6) as usize];
        let started = self.client.start(name).id(&id).input(&input).await;
        self.count(&started);
        // One that was not answered is nobody's, and its id is not used again.
        self.known.push(Known {
            id,
            counts: name == "CountEvents",
            purged: started.is_err(),
            maybe_purged: started.is_err(),
            ..Known::default()
        });
    }

    fn any(&mut self, is: impl Fn(&Known) -> bool) -> Option<usize> {
        let those: Vec<usize> = (0..self.known.len())
            .filter(|n| is(&self.known[*n]))
            .collect();
        let sides = those.len() as u64;
        (sides > 0).then(|| those[self.dice.roll(sides) as usize])
    }

    async fn raise(&mut self) {
        let Some(n) =
            self.any(|known| known.counts && !known.purged && known.events.len() < EVENTS as usize)
        else {
            return;
        };
        let number = self.known[n].events.len() as i64 + 1;
        let id = self.known[n].id.clone();
        let raised = self.client.raise_event(&id, "go", &number).await;
        self.count(&raised);
        let known = &mut self.known[n];
        known
            .events
            .push(if raised.is_ok() { number } else { -number });
    }

    async fn hold(&mut self) {
        let Some(n) = self.any(|known| !known.purged) else {
            return;
        };
        let id = self.known[n].id.clone();
        let held = match self.dice.roll(2) {
            0 => self.client.suspend(&id, None).await,
            _ => self.client.resume(&id, None).await,
        };
        // One that has ended is neither held nor let go.
        if !held.as_ref().is_err_and(perennial::Error::is_wrong_state) {
            self.count(&held);
        }
    }

    async fn end(&mut self) {
        let Some(n) = self.any(|known| !known.purged && !known.counts) else {
            return;
        };
        let id = self.known[n].id.clone();
        if self.dice.roll(3) == 0 {
            let ended = self.client.terminate(&id, None).await;
            self.known[n].ended_by_hand = true;
            if !ended.as_ref().is_err_and(perennial::Error::is_wrong_state) {
                self.count(&ended);
            }
            return;
        }
        match self.client.purge(&id).await {
            Ok(count) => {
                assert!(count <= 1);
                self.acknowledged += 1;
                self.known[n].purged = true;
            }
            Err(error) if error.is_wrong_state() => {}
            Err(_) => {
                self.unanswered += 1;
                (self.known[n].purged, self.known[n].maybe_purged) = (true, true);
            }
        }
    }

    /// Whether everything that was acknowledged is so.
    async fn nothing_is_lost(&self) {
        for known in self.known.iter().filter(|known| !known.maybe_purged) {
            let status = self.client.status(&known.id).await.unwrap();
            assert_eq!(status.is_none(), known.purged, "{known:?}: {status:?}");
        }
    }
}

/// What a counter counted: each accepted event once and in order, and none that was not sent.
fn check_events(known: &Known, counted: &[i64]) {
    let mut place = 0;
    for event in &known.events {
        if counted.get(place) == Some(&event.abs()) {
            place += 1;
        } else {
            assert!(*event < 0, "event {event} is lost: {known:?}, {counted:?}");
        }
    }
    let fillers = counted[place..].iter().all(|event| *event == 0);
    assert!(fillers, "an event came twice: {known:?}, {counted:?}");
}

async fn settle(load: &mut Load) {
    let (client, limit) = (load.client.clone(), Duration::from_secs(60));
    for known in load.known.iter().filter(|known| !known.purged) {
        // What is suspended is let go on; what has ended needs nothing.
        let _ = client.resume(&known.id, None).await;
        for _ in 0..if known.counts { EVENTS } else { 0 } {
            let _ = client.raise_event(&known.id, "go", &0).await;
        }
    }
    for known in load.known.iter().filter(|known| !known.purged) {
        let begun = Instant::now();
        let status = loop {
            let waited = client
                .wait_for_completion(&known.id, LOOK_EVERY)
                .await
                .unwrap();
            let status = waited.status().clone();
            if status.runtime_status.is_end() || begun.elapsed() > limit {
                break status;
            }
            if status.runtime_status == Status::Suspended {
                // A suspension that was accepted before the last kill takes effect after it, and so after the resumption that was none.
                let _ = client.resume(&known.id, None).await;
            }
        };
        let expected = if known.ended_by_hand && status.runtime_status != Status::Completed {
            Status::Terminated
        } else {
            Status::Completed
        };
        assert_eq!(status.runtime_status, expected, "{known:?}: {status:?}");
        if known.counts {
            let output = status.output.as_ref().unwrap().as_str();
            check_events(known, &serde_json::from_str::<Vec<i64>>(output).unwrap());
        }
    }
}

#[tokio::test]
async fn killed_under_every_kind_of_load_it_loses_nothing_that_was_acknowledged() {
    let rounds = match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => ROUNDS.1,
        None => ROUNDS.0,
    };
    let seed = std::env::var("PERENNIAL_SEED").map_or_else(
        |_| u64::from(std::process::id()) << 20 | 1,
        |seed| seed.parse().unwrap(),
    );
    println!("PERENNIAL_SEED={seed} gives the same commands and the same moments");
    let (dir, begun) = (DataDir::new(), Instant::now());
    let client = dir.client();
    client.deploy(module("workloads")).await.unwrap();
    let mut load = Load {
        client: client.clone(),
        dice: Dice(seed),
        known: Vec::new(),
        acknowledged: 0,
        unanswered: 0,
    };
    for round in 1..=rounds {
        let host = Serve::start(dir.path(), &[]);
        // A host that never lives long enough to do anything is another test's.
        for _ in 0..5 + load.dice.roll(20) {
            load.one().await;
        }
        let kill_after = Duration::from_micros(load.dice.roll(60_000));
        let killer = tokio::task::spawn_blocking(move || {
            let (_never, dead) = std::sync::mpsc::channel::<()>();
            let _ = dead.recv_timeout(kill_after);
            host.kill();
        });
        while !killer.is_finished() {
            load.one().await;
        }
        killer.await.unwrap();
        load.nothing_is_lost().await;
        if round % CHECK_EVERY == 0 {
            let found = client.verify().await.unwrap();
            // Whoever was running each of five times that a host died is stopped, innocent or not, until it is resumed.
            let blamed = |problem: &perennial::HubProblem| {
                problem.why.reason.contains("times when its host died")
            };
            assert!(
                found.file_problems.is_empty() && found.problems.iter().all(blamed),
                "{found:?}"
            );
        }
    }
    let _host = Serve::start(dir.path(), &[]);
    settle(&mut load).await;
    let found = client.verify().await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    println!(
        "{rounds} kills, {} instances, {} commands acknowledged, {} not answered, nothing lost, {:?}",
        load.known.len(),
        load.acknowledged,
        load.unanswered,
        begun.elapsed()
    );
}
