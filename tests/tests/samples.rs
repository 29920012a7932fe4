//! Every sample on a real host: left alone, with its guest dropped between the steps, and with the host restarted between the steps. What
//! comes out is the same.
#![allow(clippy::unwrap_used, reason = "a sample that does not run has failed")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perennial::{
    ActivityContext, Client, Clock as _, DirGrant, Event, Failure, Grants, Host, InstanceStatus,
    Millis, SimClock, Status, SystemClock, Wait, Waited,
};
use perennial_tests::{DataDir, Way, guest, module};
use serde_json::{Value, json};

#[path = "../../samples/embedded/src/main.rs"]
#[expect(dead_code, reason = "its `main` is the program's")]
mod embedded;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR: u64 = 60 * 60;

/// What happens between two steps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Between {
    Nothing,
    Evict,
    Restart,
}

const ALL: [Between; 3] = [Between::Nothing, Between::Evict, Between::Restart];

/// A host with a sample, and one instance of it.
struct Stage {
    dir: DataDir,
    clock: SimClock,
    notices: Arc<Mutex<Vec<String>>>,
    between: Between,
    host: Option<Host>,
    replays: u64,
}

const ID: &str = "it";

impl Stage {
    async fn new(sample: &str, orchestration: &str, input: &Value, between: Between) -> Self {
        let mut stage = Self {
            dir: DataDir::new(),
            // Not in the past: the limit of an attempt is kept by the clock of the machine.
            clock: SimClock::new(SystemClock.now()),
            notices: Arc::default(),
            between,
            host: None,
            replays: 0,
        };
        stage.start_host().await;
        let client = stage.client();
        client.deploy(module(sample)).await.unwrap();
        client
            .start(orchestration)
            .id(ID)
            .input(input)
            .await
            .unwrap();
        stage
    }

    async fn start_host(&mut self) {
        let notices = Arc::clone(&self.notices);
        let notify = move |_: ActivityContext, notice: Value| {
            let to = notice["to"].as_str().unwrap().to_owned();
            notices.lock().unwrap().push(to);
            async { Ok::<_, Failure>(()) }
        };
        let host = self.dir.host().clock(self.clock.clone());
        self.host = Some(host.activity("Notify", notify).start().await.unwrap());
    }

    fn client(&self) -> Client {
        self.host.as_ref().unwrap().client()
    }

    async fn stop_host(&mut self) {
        let host = self.host.take().unwrap();
        self.replays += host.stats().replays;
        host.shut_down().await;
    }

    /// Waits for what only a whole status says, of which nobody is told.
    async fn until(&self, mut done: impl FnMut(&InstanceStatus) -> bool) -> InstanceStatus {
        let begun = Instant::now();
        loop {
            let look = Duration::from_millis(10);
            match self.client().wait_until(ID, look, &mut done).await.unwrap() {
                Waited::Reached(status) => return status,
                Waited::TimedOut(status) => assert!(begun.elapsed() < LIMIT, "{status:?}"),
            }
        }
    }

    /// The end of a step that leaves the instance waiting.
    async fn step(&mut self, done: impl FnMut(&InstanceStatus) -> bool) -> InstanceStatus {
        let status = self.until(done).await;
        assert!(!status.is_ended(), "{status:?}");
        match self.between {
            Between::Nothing => {}
            Between::Evict => {
                let host = self.host.as_ref().unwrap();
                let begun = Instant::now();
                while host.stats().resident > 0 {
                    host.evict_all();
                    assert!(begun.elapsed() < LIMIT, "a guest does not go");
                    tokio::task::yield_now().await;
                }
            }
            Between::Restart => {
                self.stop_host().await;
                self.start_host().await;
            }
        }
        status
    }

    fn advance(&self, secs: u64) {
        self.clock.advance(Millis(secs * 1_000));
    }

    async fn raise(&self, name: &str, data: Value) {
        self.client().raise_event(ID, name, &data).await.unwrap();
    }

    /// The end of the instance. It was replayed, if it was interrupted.
    async fn end(mut self) -> InstanceStatus {
        let client = self.client();
        let waited = client.wait_for_completion(ID, LIMIT).await.unwrap();
        waited.reached().expect("it ends");
        let status = client
            .status(ID)
            .show_input()
            .show_history_output()
            .await
            .unwrap()
            .unwrap();
        self.stop_host().await;
        match self.between {
            Between::Nothing => assert_eq!(self.replays, 0),
            Between::Evict | Between::Restart => assert!(self.replays > 0),
        }
        status
    }
}

fn output(status: &InstanceStatus) -> Value {
    assert_eq!(status.runtime_status, Status::Completed, "{status:?}");
    status.output_as().unwrap()
}

fn failure(status: &InstanceStatus) -> &Failure {
    assert_eq!(status.runtime_status, Status::Failed, "{status:?}");
    status.failure.as_ref().unwrap()
}

/// The activities that were scheduled, in order.
fn scheduled(status: &InstanceStatus) -> Vec<&str> {
    let events = status.history.iter().flatten();
    events
        .filter_map(|event| match &event.event {
            Event::ActivityScheduled { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// Whether the next attempt is this one, and waits for its time.
fn awaits_attempt(number: u32) -> impl Fn(&InstanceStatus) -> bool {
    move |status| {
        status.waits_for.iter().any(|wait| {
            matches!(wait, Wait::Activity { attempt, next_attempt_at: Some(_), .. } if *attempt == number)
        })
    }
}

fn shows(status: &InstanceStatus) -> Value {
    let text = status
        .custom_status
        .as_ref()
        .map_or("null", |json| json.as_str());
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn hello_sequence_goes_on_after_a_restart() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    client.start("HelloSequence").id(ID).await.unwrap();
    host.shut_down().await;
    let host = dir.host().start().await.unwrap();
    let waited = host.client().wait_for_completion(ID, LIMIT).await.unwrap();
    let greetings = json!(["Hello Tokyo!", "Hello Seattle!", "Hello London!"]);
    assert_eq!(output(waited.status()), greetings);
}

#[tokio::test]
async fn fan_out_counts_what_it_was_granted() {
    // Files are a system's.
    if !Way::here().has_system() {
        return;
    }
    let (dir, data) = (DataDir::new(), tempfile::tempdir().unwrap());
    std::fs::write(data.path().join("a"), "one two\nthree\n").unwrap();
    std::fs::write(data.path().join("b"), "four").unwrap();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    let grants = Grants::new().dir(DirGrant::new(data.path(), "/data"));
    client
        .deploy(module("fan-out"))
        .grants(grants)
        .await
        .unwrap();
    let input = json!({ "root": "/data" });
    client.start("FanOut").id(ID).input(&input).await.unwrap();
    host.shut_down().await;
    let host = dir.host().start().await.unwrap();
    let waited = host.client().wait_for_completion(ID, LIMIT).await.unwrap();
    let totals = &output(waited.status())["totals"];
    let expected = json!({ "files": 2, "unreadable": 0, "bytes": 18, "lines": 2, "words": 4 });
    assert_eq!(totals, &expected);
}

#[tokio::test]
async fn chain_with_retries_waits_longer_each_time_until_the_bank_answers() {
    for between in ALL {
        let order = json!({ "item": "chair", "cents": 4_200, "bank_outages": 3 });
        let mut stage = Stage::new("chain-with-retries", "Fulfil", &order, between).await;
        for (attempt, delay) in [(2, 1), (3, 2), (4, 4)] {
            let status = stage.step(awaits_attempt(attempt)).await;
            let Wait::Activity {
                next_attempt_at,
                last_failure,
                ..
            } = &status.waits_for[0]
            else {
                panic!("{status:?}");
            };
            let due = stage.clock.now().after(Millis(delay * 1_000));
            assert_eq!(*next_attempt_at, Some(due));
            assert_eq!(last_failure.as_ref().unwrap().kind, "BankUnreachable");
            stage.advance(delay);
        }
        let ended = stage.end().await;
        let result = output(&ended);
        let result = result.as_str().unwrap();
        assert!(result.starts_with("chair shipped, paid with "), "{result}");
        assert!(result.ends_with(" at attempt 4"), "{result}");
    }
}

#[tokio::test]
async fn chain_with_retries_does_not_retry_what_cannot_help() {
    let order = json!({ "item": "yacht", "cents": 100_001 });
    let stage = Stage::new("chain-with-retries", "Fulfil", &order, Between::Nothing).await;
    let ended = stage.end().await;
    assert_eq!(failure(&ended).kind, "CardDeclined");
    assert_eq!(scheduled(&ended), ["Charge"]);
}

#[tokio::test]
async fn human_approval_takes_the_decision_of_the_manager() {
    for between in ALL {
        let request = json!({ "purpose": "a chair" });
        let mut stage = Stage::new("human-approval", "Approve", &request, between).await;
        stage
            .step(|status| shows(status) == "waits for the manager")
            .await;
        stage.advance(71 * HOUR);
        stage
            .raise("decision", json!({ "approved": true, "by": "Ada" }))
            .await;
        let notices = Arc::clone(&stage.notices);
        let ended = stage.end().await;
        let expected = json!({ "approved": true, "by": "Ada", "escalated": false });
        assert_eq!(output(&ended), expected);
        assert_eq!(*notices.lock().unwrap(), ["manager"]);
    }
}

#[tokio::test]
async fn human_approval_escalates_when_the_time_is_up() {
    for between in ALL {
        for answer in [Some(false), None] {
            let request = json!({ "purpose": "a yacht", "patience_secs": 24 * HOUR });
            let mut stage = Stage::new("human-approval", "Approve", &request, between).await;
            for who in ["manager", "director"] {
                let expected = format!("waits for the {who}");
                stage
                    .step(|status| shows(status) == expected.as_str())
                    .await;
                match answer {
                    Some(approved) if who == "director" => {
                        let decision = json!({ "approved": approved, "by": "Grace" });
                        stage.raise("Decision", decision).await;
                    }
                    _ => stage.advance(24 * HOUR),
                }
            }
            let notices = Arc::clone(&stage.notices);
            let ended = stage.end().await;
            let by = answer.map(|_| "Grace");
            let expected = json!({ "approved": false, "by": by, "escalated": true });
            assert_eq!(output(&ended), expected);
            assert_eq!(*notices.lock().unwrap(), ["manager", "director"]);
        }
    }
}

#[tokio::test]
async fn monitor_looks_until_the_job_is_done() {
    for between in ALL {
        let job = json!({ "name": "backup", "done_at_look": 4 });
        let mut stage = Stage::new("monitor", "Monitor", &job, between).await;
        for looks in 1..4 {
            stage.step(|status| shows(status)["looks"] == looks).await;
            stage.advance(30);
        }
        let ended = stage.end().await;
        assert_eq!(output(&ended), json!({ "looks": 4, "done": true }));
    }
}

#[tokio::test]
async fn monitor_gives_up_when_the_time_is_up() {
    for between in ALL {
        let job = json!({ "name": "backup", "done_at_look": 9, "every_secs": 40, "give_up_after_secs": 90 });
        let mut stage = Stage::new("monitor", "Monitor", &job, between).await;
        for looks in 1..3 {
            stage.step(|status| shows(status)["looks"] == looks).await;
            stage.advance(40);
        }
        let ended = stage.end().await;
        assert_eq!(failure(&ended).kind, "GaveUp");
        assert_eq!(failure(&ended).message, "backup is not done after 3 looks");
    }
}

#[tokio::test]
async fn aggregator_loses_no_event_when_it_continues_as_new() {
    for between in ALL {
        let mut stage = Stage::new("aggregator", "Aggregate", &Value::Null, between).await;
        let first = stage.until(|status| shows(status)["bookings"] == 0).await;
        // Over two executions and a half, some of them in one turn.
        for batch in 0..5 {
            for amount in 1..=50 {
                stage.raise("Book", json!(amount)).await;
            }
            stage
                .step(|status| shows(status)["bookings"] == (batch + 1) * 50)
                .await;
        }
        stage.raise("CLOSE", Value::Null).await;
        let ended = stage.end().await;
        assert_eq!(
            output(&ended),
            json!({ "balance": 5 * 1_275, "bookings": 250 })
        );
        assert_ne!(ended.execution_id, first.execution_id);
        assert!(ended.history_events < 300, "{}", ended.history_events);
    }
}

#[tokio::test]
async fn saga_trip_books_everything() {
    let trip = json!({ "city": "Lisbon" });
    let stage = Stage::new("saga-trip", "BookTrip", &trip, Between::Nothing).await;
    let ended = stage.end().await;
    let expected =
        json!({ "hotel": "hotel in Lisbon", "flight": "flight in Lisbon", "car": "car in Lisbon" });
    assert_eq!(output(&ended), expected);
    assert_eq!(scheduled(&ended), ["BookHotel", "BookFlight", "BookCar"]);
}

#[tokio::test]
async fn saga_trip_undoes_only_what_was_done() {
    let trip = json!({ "city": "Lisbon", "failing": ["BookFlight"] });
    let stage = Stage::new("saga-trip", "BookTrip", &trip, Between::Nothing).await;
    let ended = stage.end().await;
    assert_eq!(failure(&ended).message, "BookFlight was refused");
    assert_eq!(failure(&ended).causes, []);
    assert_eq!(
        scheduled(&ended),
        ["BookHotel", "BookFlight", "CancelHotel"]
    );
}

#[tokio::test]
async fn saga_trip_undoes_in_reverse_and_names_what_could_not_be_undone() {
    for between in ALL {
        let trip = json!({ "city": "Lisbon", "failing": ["BookCar", "CancelFlight"] });
        let mut stage = Stage::new("saga-trip", "BookTrip", &trip, between).await;
        for attempt in 2..=10 {
            stage.step(awaits_attempt(attempt)).await;
            stage.advance(60);
        }
        let ended = stage.end().await;
        let failure = failure(&ended);
        assert_eq!(
            (&*failure.kind, &*failure.message),
            ("Refused", "BookCar was refused")
        );
        let causes: Vec<_> = failure
            .causes
            .iter()
            .map(|cause| (&*cause.kind, &*cause.message))
            .collect();
        let expected = r#"activity "CancelFlight" failed: Refused: CancelFlight was refused"#;
        assert_eq!(causes, [("CompensationFailed", expected)]);
        let order = [
            "BookHotel",
            "BookFlight",
            "BookCar",
            "CancelFlight",
            "CancelHotel",
        ];
        assert_eq!(scheduled(&ended), order);
    }
}

#[tokio::test]
async fn regional_report_adds_up_its_children_and_goes_on_without_one_that_failed() {
    for restart in [false, true] {
        let regions = json!([
            { "name": "north", "stores": ["Oslo", "Tromso"] },
            { "name": "east", "stores": [] },
            { "name": "south", "stores": ["Rome"] },
        ]);
        let mut stage = Stage::new("regional-report", "Report", &regions, Between::Nothing).await;
        if restart {
            stage.stop_host().await;
            stage.start_host().await;
        }
        let status = stage.until(InstanceStatus::is_ended).await;
        let expected = json!({
            "regions": [{ "region": "north", "sales": 1_000 }, { "region": "south", "sales": 400 }],
            "sales": 1_400,
            "missing": ["NoStores: east has no stores"],
        });
        assert_eq!(output(&status), expected);
        let child = stage.client().status("it-north").await.unwrap().unwrap();
        assert_eq!(child.parent_instance_id.as_deref(), Some(ID));
        assert_eq!(child.name, "RegionalReport");
        stage.stop_host().await;
    }
}

#[tokio::test]
async fn embedded_runs_two_samples_with_an_activity_of_its_own() {
    let dir = DataDir::new();
    let guests = guest("hello-sequence");
    let ended = embedded::run(dir.path(), guests.parent().unwrap())
        .await
        .unwrap();
    assert_eq!(output(&ended[0])[2], "Hello London!");
    let expected = json!({ "approved": true, "by": "Ada", "escalated": false });
    assert_eq!(output(&ended[1]), expected);
}
