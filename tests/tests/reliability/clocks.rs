//! Clocks that are set under real guests, and what a status says meanwhile.

use std::time::Duration;

use perennial::{Client, InstanceStatus, Millis, SimClock, Status, Timestamp};
use perennial_tests::{DataDir, Dice, module};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// When it begins: late enough to be set back from.
const BEGIN: Timestamp = Timestamp(1_750_000_000_000);

/// How long each of the two people has.
const PATIENCE_MS: u64 = 60_000;

async fn until(
    client: &Client,
    id: &str,
    is: impl Fn(&InstanceStatus) -> bool + Clone,
) -> InstanceStatus {
    let every = Duration::from_millis(10);
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let waited = client.wait_until(id, every, is.clone()).await.unwrap();
            if is(waited.status()) {
                return client.status(id).await.unwrap().unwrap();
            }
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{id} hangs"))
}

fn asks(who: &'static str) -> impl Fn(&InstanceStatus) -> bool + Clone {
    let shown = format!("\"waits for the {who}\"");
    move |status| {
        status.is_ended()
            || status
                .custom_status
                .as_ref()
                .is_some_and(|is| is.as_str() == shown)
    }
}

async fn start(client: &Client, id: &str) {
    let request = json!({ "purpose": "a trip", "patience_secs": PATIENCE_MS / 1_000 });
    client
        .start("Approve")
        .id(id)
        .input(&request)
        .await
        .unwrap();
    until(client, id, asks("manager")).await;
}

/// Short: a few jumps; long: many, at random.
fn jumps() -> Vec<i64> {
    let day = DAY.cast_signed();
    let mut jumps = vec![-day, -day, 3 * day, -3 * day, -1_500];
    if std::env::var_os("PERENNIAL_LONG").is_some() {
        let mut dice = Dice(7);
        jumps.extend((0..200).map(|_| dice.roll(2 * DAY).cast_signed() - day));
    }
    jumps
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_makes_no_limit_of_a_guest_longer() {
    let (dir, clock) = (DataDir::new(), SimClock::new(BEGIN));
    let host = dir.host().clock(clock.clone()).resident_max(2);
    let host = host.start().await.unwrap();
    let client = host.client();
    client.deploy(module("human-approval")).await.unwrap();
    for (number, jump) in jumps().into_iter().enumerate() {
        let id = format!("a{number}");
        start(&client, &id).await;
        let now = perennial::Clock::now(&clock);
        clock.set(Timestamp(now.0.saturating_add_signed(jump)));
        // The first limit had begun. The second begins while the guest's time is ahead of the clock, or behind it.
        clock.advance(Millis(PATIENCE_MS));
        until(&client, &id, asks("director")).await;
        clock.advance(Millis(PATIENCE_MS));
        let status = until(&client, &id, InstanceStatus::is_ended).await;
        assert_eq!(status.runtime_status, Status::Completed, "{id}");
        let output = status.output.unwrap();
        assert!(output.as_str().contains("\"approved\":false"), "{output}");
    }
    let found = client.verify().await.unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_the_right_clock_goes_on_with_what_one_days_ahead_began() {
    let dir = DataDir::new();
    let clock = SimClock::new(Timestamp(BEGIN.0 + 3 * DAY));
    let host = dir.host().clock(clock).start().await.unwrap();
    let client = host.client();
    client.deploy(module("human-approval")).await.unwrap();
    start(&client, "a").await;
    start(&client, "b").await;
    client.suspend("b", None).await.unwrap();
    let held = |status: &InstanceStatus| status.runtime_status == Status::Suspended;
    until(&client, "b", held).await;
    drop(client);
    host.shut_down().await;

    let clock = SimClock::new(BEGIN);
    let host = dir.host().clock(clock.clone()).start().await.unwrap();
    let client = host.client();
    client.resume("b", None).await.unwrap();
    let runs = |status: &InstanceStatus| status.runtime_status == Status::Running;
    until(&client, "b", runs).await;
    for who in ["director", "nobody"] {
        clock.advance(Millis(PATIENCE_MS));
        for id in ["a", "b"] {
            until(&client, id, asks(who)).await;
        }
    }
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_says_what_is_waited_for_after_turns_without_a_guest() {
    let (dir, clock) = (DataDir::new(), SimClock::new(BEGIN));
    let host = dir.host().clock(clock).resident_max(0);
    let host = host.start().await.unwrap();
    let client = host.client();
    client.deploy(module("human-approval")).await.unwrap();
    start(&client, "a").await;
    let waits = |status: &InstanceStatus| {
        let waits = status.waits_for.iter().map(ToString::to_string);
        waits.collect::<Vec<_>>()
    };
    let said = waits(&client.status("a").await.unwrap().unwrap());
    assert!(
        said.iter().any(|wait| wait.contains("Decision")),
        "{said:?}"
    );
    for _ in 0..3 {
        client.suspend("a", None).await.unwrap();
        let held = |status: &InstanceStatus| status.runtime_status == Status::Suspended;
        let status = until(&client, "a", held).await;
        let told = waits(&status);
        assert!(told[0].contains("it is suspended"), "{told:?}");
        assert_eq!(told[1..], said);
        client.resume("a", None).await.unwrap();
        let runs = |status: &InstanceStatus| status.runtime_status == Status::Running;
        let status = until(&client, "a", runs).await;
        assert_eq!(waits(&status), said);
    }
    host.shut_down().await;
}
