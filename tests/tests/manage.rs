//! The management of many instances and of task hubs, through the client of a running host and through one that finds no host.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "manage/starts.rs"]
mod starts;
#[path = "manage/waits.rs"]
mod waits;
#[path = "manage/wide.rs"]
mod wide;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use perennial::{
    Client, Event, Filter, Hubs, Millis, Order, Retention, SimClock, Status, Timestamp,
};
use perennial_tests::{DataDir, module};

const LIMIT: Duration = Duration::from_secs(60);

/// Starts an instance and waits until it has ended.
async fn ended(client: &Client, name: &str, id: &str, input: u32) -> Status {
    client.start(name).id(id).input(&input).await.unwrap();
    let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
    waited.reached().unwrap().runtime_status
}

/// Waits for an event in each of so many instances, and until they do.
async fn waiting(client: &Client, prefix: &str, count: usize) {
    for i in 0..count {
        let id = format!("{prefix}{i}");
        client
            .start("Wait")
            .id(&id)
            .tag("of", prefix)
            .await
            .unwrap();
        client
            .wait_for_start(&id, LIMIT)
            .await
            .unwrap()
            .reached()
            .unwrap();
    }
}

async fn ids(client: &Client, filter: Filter) -> BTreeSet<String> {
    let list = client.list().filter(filter).limit(7).stream();
    list.map_ok(|instance| instance.instance_id)
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_purge_deletes_what_has_ended_and_with_its_descendants_if_asked() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    assert_eq!(
        ended(&client, "ChildSum", "family", 5).await,
        Status::Completed
    );
    assert_eq!(ended(&client, "Chain", "alone", 2).await, Status::Completed);
    waiting(&client, "live", 1).await;
    assert_eq!(
        client.counts().await.unwrap(),
        [(Status::Running, 1), (Status::Completed, 7)]
    );

    assert!(client.purge("live0").await.unwrap_err().is_wrong_state());
    assert!(
        client
            .purge("live0")
            .recursive()
            .await
            .unwrap_err()
            .is_wrong_state()
    );
    assert_eq!(client.purge("nobody").await.unwrap(), 0);
    assert_eq!(client.purge("alone").await.unwrap(), 1);
    assert_eq!(client.purge("alone").await.unwrap(), 0);
    assert!(client.status("alone").await.unwrap().is_none());
    assert!(client.history("alone").await.unwrap().is_none());
    assert_eq!(client.purge("family").recursive().await.unwrap(), 6);
    assert_eq!(client.counts().await.unwrap(), [(Status::Running, 1)]);

    // An id is free again, and what waits is not disturbed.
    assert_eq!(ended(&client, "Chain", "alone", 1).await, Status::Completed);
    client.raise_event("live0", "Go", "on").await.unwrap();
    let waited = client.wait_for_completion("live0", LIMIT).await.unwrap();
    assert_eq!(waited.status().runtime_status, Status::Completed);
    host.shut_down().await;
}

#[tokio::test]
async fn what_is_done_to_many_is_done_to_those_that_fit_and_to_no_others() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    waiting(&client, "a", 20).await;
    waiting(&client, "b", 20).await;
    ended(&client, "Chain", "done", 1).await;
    let a = || Filter::new().tag("of", "a");

    let would = client.terminate_where(a()).dry_run().await.unwrap();
    assert_eq!((would.matched, would.done, would.dry_run), (20, 0, true));
    let suspended = client.suspend_where(a()).reason("hold").await.unwrap();
    assert_eq!(
        (suspended.matched, suspended.done, suspended.skipped),
        (20, 20, 0)
    );
    for i in 0..20 {
        let is_suspended =
            |status: &perennial::InstanceStatus| status.runtime_status == Status::Suspended;
        client
            .wait_until(&format!("a{i}"), LIMIT, is_suspended)
            .await
            .unwrap()
            .reached()
            .unwrap();
    }
    let counts = client.list().filter(a()).counts().await.unwrap();
    assert_eq!(counts, [(Status::Suspended, 20)]);
    // Nothing is suspended twice, and what is not suspended is not resumed.
    assert_eq!(client.suspend_where(a()).await.unwrap().matched, 0);
    assert_eq!(
        client
            .resume_where(Filter::new().tag("of", "b"))
            .await
            .unwrap()
            .matched,
        0
    );
    assert_eq!(client.resume_where(Filter::new()).await.unwrap().done, 20);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let terminated = client
        .terminate_where(Filter::new().name("Wait").id_prefix("a"))
        .reason("enough")
        .on_progress(move |so_far| told.lock().unwrap().push(so_far.done));
    assert_eq!(terminated.await.unwrap().done, 20);
    assert_eq!(seen.lock().unwrap().last(), Some(&20));
    assert!(seen.lock().unwrap().len() > 1);
    for i in 0..20 {
        let waited = client
            .wait_for_completion(&format!("a{i}"), LIMIT)
            .await
            .unwrap();
        let status = waited.reached().unwrap();
        assert_eq!(
            (status.runtime_status, status.output.unwrap().as_str()),
            (Status::Terminated, "\"enough\"")
        );
    }

    let restarted = client
        .restart_where(a().status(Status::Terminated).id_prefix("a1"))
        .await
        .unwrap();
    assert_eq!((restarted.matched, restarted.done), (11, 11));
    assert_eq!(
        client
            .list()
            .tag("of", "a")
            .status(Status::Terminated)
            .counts()
            .await
            .unwrap(),
        [(Status::Terminated, 9)]
    );
    assert_eq!(ids(&client, a()).await.len(), 20);

    // A filter that names only what lives purges nothing.
    assert_eq!(
        client
            .purge_where(Filter::new().status(Status::Running))
            .await
            .unwrap()
            .matched,
        0
    );
    let purged = client.purge_where(Filter::new()).await.unwrap();
    assert_eq!((purged.matched, purged.done, purged.skipped), (10, 10, 0));
    assert_eq!(ids(&client, Filter::new().id_prefix("b")).await.len(), 20);
    host.shut_down().await;
}

#[tokio::test]
async fn without_a_host_many_are_changed_too_and_it_takes_effect_when_there_is_one() {
    let dir = DataDir::new();
    let client = dir.client();
    client.deploy(module("workloads")).await.unwrap();
    for i in 0..30 {
        client.start("Wait").id(format!("i{i}")).await.unwrap();
    }
    assert_eq!(
        client
            .terminate_where(Filter::new().id_prefix("i1"))
            .await
            .unwrap()
            .done,
        11
    );
    // What has not begun has nothing to be waited for.
    assert_eq!(client.purge_where(Filter::new()).await.unwrap().done, 11);
    let host = dir.host().start().await.unwrap();
    for i in (0..10).chain(20..30).filter(|i| *i != 1) {
        let id = format!("i{i}");
        client
            .wait_for_start(&id, LIMIT)
            .await
            .unwrap()
            .reached()
            .unwrap();
    }
    // Through the host of another process, as far as this client knows.
    assert_eq!(
        client.terminate_where(Filter::new()).await.unwrap().done,
        19
    );
    for i in (0..10).chain(20..30).filter(|i| *i != 1) {
        let waited = client
            .wait_for_completion(&format!("i{i}"), LIMIT)
            .await
            .unwrap();
        assert_eq!(waited.reached().unwrap().runtime_status, Status::Terminated);
    }
    host.shut_down().await;
    assert_eq!(client.purge_where(Filter::new()).await.unwrap().done, 19);
    assert_eq!(client.counts().await.unwrap(), []);
}

#[tokio::test]
async fn a_list_is_read_in_pages_and_a_token_belongs_to_its_list() {
    let dir = DataDir::new();
    let client = dir.client();
    client.deploy(module("workloads")).await.unwrap();
    for i in 0..25 {
        let start = client.start("Wait").id(format!("i{i:02}")).input(&i);
        start
            .tag("half", if i < 12 { "first" } else { "second" })
            .await
            .unwrap();
    }
    let page = client.list().limit(10).show_input().await.unwrap();
    let first: Vec<_> = page
        .instances
        .iter()
        .map(|one| one.instance_id.as_str())
        .collect();
    assert_eq!((first[0], first[9], first.len()), ("i24", "i15", 10));
    assert_eq!(page.instances[0].input.as_ref().unwrap().as_str(), "24");
    let token = page.continuation_token.unwrap();

    let second = client
        .list()
        .limit(5)
        .continuation_token(&token)
        .await
        .unwrap();
    assert_eq!(second.instances[0].instance_id, "i14");
    assert_eq!(second.instances[0].input, None);
    let others = [
        client.list().name("Wait"),
        client.list().order(Order::OldestFirst),
        client.list().status(Status::Pending),
        client.list().tag("half", "first"),
        client.list().created_from(Timestamp(0)),
    ];
    for other in others {
        let error = other.continuation_token(&token).await.unwrap_err();
        assert!(
            error.is_invalid() && error.to_string().contains("token"),
            "{error}"
        );
    }
    let forged = token.replacen(token.chars().next().unwrap(), "f", 1);
    for forged in [
        "",
        "x",
        ".",
        "..",
        "0.0.",
        "1.2.3",
        &forged,
        &format!("{token}0"),
    ] {
        assert!(
            client
                .list()
                .continuation_token(forged)
                .await
                .unwrap_err()
                .is_invalid(),
            "{forged}"
        );
    }
    // The hub that made it knows it, whoever asks, and no other hub does.
    let host = dir.host().start().await.unwrap();
    assert_eq!(
        host.client()
            .list()
            .continuation_token(&token)
            .await
            .unwrap()
            .instances
            .len(),
        15
    );
    host.shut_down().await;
    let elsewhere = Hubs::new(dir.store());
    elsewhere.create("other").await.unwrap();
    let other = elsewhere.client("other").unwrap();
    assert!(
        other
            .list()
            .continuation_token(&token)
            .await
            .unwrap_err()
            .is_invalid()
    );

    let oldest = client.list().order(Order::OldestFirst).limit(4).stream();
    let oldest: Vec<String> = oldest
        .map_ok(|one| one.instance_id)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        oldest,
        (0..25).map(|i| format!("i{i:02}")).collect::<Vec<_>>()
    );
    assert_eq!(
        ids(&client, Filter::new().tag("half", "first")).await.len(),
        12
    );
}

#[tokio::test]
async fn a_long_history_is_read_bit_by_bit() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    ended(&client, "Chain", "long", 600).await;
    let status = client.status("long").show_history().await.unwrap().unwrap();
    let streamed: Vec<_> = client.history("long").stream().try_collect().await.unwrap();
    assert_eq!(streamed.len() as u64, status.history_events);
    assert!(
        streamed
            .iter()
            .enumerate()
            .all(|(i, event)| event.number == i as u64)
    );
    let outputs = |history: &[perennial::HistoryEvent]| {
        let has = |event: &&perennial::HistoryEvent| {
            matches!(
                &event.event,
                Event::ActivityCompleted {
                    output: Some(_),
                    ..
                }
            )
        };
        history.iter().filter(has).count()
    };
    let inputs = |history: &[perennial::HistoryEvent]| {
        let has = |event: &&perennial::HistoryEvent| {
            matches!(
                &event.event,
                Event::ActivityScheduled { input: Some(_), .. }
            )
        };
        history.iter().filter(has).count()
    };
    assert_eq!((outputs(&streamed), inputs(&streamed)), (600, 600));
    let bare = client
        .history("long")
        .hide_inputs()
        .hide_outputs()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (bare.len(), outputs(&bare), inputs(&bare)),
        (streamed.len(), 0, 0)
    );
    let shown = status.history.unwrap();
    assert_eq!(
        (shown.len(), outputs(&shown), inputs(&shown)),
        (streamed.len(), 0, 0)
    );
    let shown = client
        .status("long")
        .show_history_output()
        .await
        .unwrap()
        .unwrap()
        .history
        .unwrap();
    assert_eq!((outputs(&shown), inputs(&shown)), (600, 0));
    let shown = client
        .status("long")
        .show_input()
        .show_history()
        .await
        .unwrap()
        .unwrap()
        .history
        .unwrap();
    assert_eq!((outputs(&shown), inputs(&shown)), (0, 600));

    let nobody = client
        .history("nobody")
        .stream()
        .try_next()
        .await
        .unwrap_err();
    assert!(nobody.is_not_found(), "{nobody}");
    // One that begins another history meanwhile says so, instead of mixing the two.
    let mut reading = client.history("long").stream();
    reading.try_next().await.unwrap().unwrap();
    client.restart("long").await.unwrap();
    let rest: Result<Vec<_>, _> = reading.try_collect().await;
    assert!(rest.unwrap_err().is_wrong_state());
    host.shut_down().await;
}

/// Waits until an instance is gone.
async fn gone(client: &Client, id: &str) {
    let begun = std::time::Instant::now();
    while client.status(id).await.unwrap().is_some() {
        assert!(begun.elapsed() < LIMIT, "{id} is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_kept_long_enough_is_deleted_by_the_host_and_nothing_else() {
    const DAY: Millis = Millis(24 * 60 * 60 * 1_000);
    let dir = DataDir::new();
    let clock = SimClock::new(Timestamp(1_800_000_000_000));
    let host = dir.host().clock(clock.clone()).start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    assert_eq!(client.retention().await.unwrap(), Retention::default());
    for i in 0..40 {
        ended(&client, "Chain", &format!("early{i}"), 1).await;
    }
    assert_eq!(
        ended(&client, "RunsFailing", "failed", 0).await,
        Status::Failed
    );
    waiting(&client, "live", 1).await;
    let mut retention = Retention::default();
    retention.completed = Some(Duration::from_millis(7 * DAY.0));
    client.set_retention(retention).await.unwrap();

    clock.advance(Millis(3 * DAY.0));
    ended(&client, "Chain", "late", 1).await;
    clock.advance(Millis(4 * DAY.0 + 3_600_000));
    for i in 0..40 {
        gone(&client, &format!("early{i}")).await;
    }
    assert_eq!(ids(&client, Filter::new()).await.len(), 3);
    clock.advance(Millis(3 * DAY.0));
    gone(&client, "late").await;

    // A setting that another process changes counts at once, and for what ended before.
    let other = dir.client();
    assert_eq!(other.retention().await.unwrap(), retention);
    retention.failed = Some(Duration::from_millis(DAY.0));
    other.set_retention(retention).await.unwrap();
    gone(&client, "failed").await;
    assert_eq!(
        ids(&client, Filter::new()).await,
        BTreeSet::from(["live0".to_owned()])
    );

    // It stays with the hub, and what came due without a host is deleted by the next one.
    ended(&client, "Chain", "last", 1).await;
    host.shut_down().await;
    clock.advance(Millis(8 * DAY.0));
    let host = dir.host().clock(clock.clone()).start().await.unwrap();
    gone(&host.client(), "last").await;
    host.client()
        .set_retention(Retention::default())
        .await
        .unwrap();
    ended(&host.client(), "Chain", "kept", 1).await;
    clock.advance(Millis(100 * DAY.0));
    ended(&host.client(), "Chain", "kept too", 1).await;
    assert_eq!(
        ids(&host.client(), Filter::new().status(Status::Completed))
            .await
            .len(),
        2
    );
    host.shut_down().await;
}

#[tokio::test]
async fn task_hubs_are_made_listed_counted_and_deleted() {
    let dir = DataDir::new();
    let hubs = Hubs::new(dir.store());
    assert_eq!(hubs.list().await.unwrap().len(), 0);
    assert!(hubs.stats("one").await.unwrap_err().is_not_found());
    assert!(hubs.delete("one").await.unwrap_err().is_not_found());
    assert!(hubs.create("no good").await.unwrap_err().is_invalid());
    hubs.create("one").await.unwrap();
    assert!(hubs.create("one").await.unwrap_err().is_already_exists());
    hubs.create("two").await.unwrap();
    let listed = hubs.list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|hub| hub.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(listed.iter().all(|hub| hub.owner.is_none()));

    let host = dir.host().task_hub("one").start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    ended(&client, "Chain", "c", 3).await;
    waiting(&client, "w", 2).await;
    let stats = hubs.stats("one").await.unwrap();
    assert_eq!(
        stats.instances,
        [(Status::Running, 2), (Status::Completed, 1)]
    );
    let rows = client.list().await.unwrap().instances;
    assert_eq!(
        stats.history_events,
        rows.iter().map(|row| row.history_events).sum::<u64>()
    );
    assert_eq!(
        (stats.history_turns, stats.modules, stats.stored_modules),
        (4 + 2, 1, 1)
    );
    assert!(stats.module_bytes > 10_000 && stats.hub.bytes > stats.module_bytes);
    assert!(
        stats.hub.owner.as_ref().unwrap().contains("a host"),
        "{:?}",
        stats.hub.owner
    );
    assert!(hubs.delete("one").await.unwrap_err().is_owned());
    assert!(client.status("c").await.unwrap().is_some());
    hubs.delete_forced("one").await.unwrap();
    // The host notices before it says that anything was done.
    let refused = client.start("Chain").input(&1).await.unwrap_err();
    let is_gone = refused.is_shutting_down() || refused.is_unknown_hub();
    assert!(is_gone, "{refused}");
    host.shut_down().await;
    let names: Vec<String> = hubs
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|hub| hub.name)
        .collect();
    assert_eq!(names, ["two"]);
    // A client does not go on reading what is gone.
    let two = hubs.client("two").unwrap();
    two.deploy(module("workloads")).await.unwrap();
    two.start("Wait").id("w").await.unwrap();
    assert!(two.status("w").await.unwrap().is_some());
    hubs.delete("two").await.unwrap();
    assert!(two.status("w").await.unwrap_err().is_not_found());
    hubs.create("two").await.unwrap();
    assert!(two.status("w").await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_that_is_no_hub_is_listed_with_what_is_wrong_and_hubs_make_their_directory() {
    let dir = DataDir::of_files();
    let deep = dir.path().join("deep/er");
    let hubs = Hubs::new(&deep);
    assert_eq!(hubs.list().await.unwrap().len(), 0);
    hubs.create("one").await.unwrap();
    std::fs::write(deep.join("three.db"), "not a hub at all").unwrap();
    let listed = hubs.list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|hub| hub.name.as_str()).collect();
    assert_eq!(names, ["one", "three"]);
    let problem = listed[1].problem.as_ref().unwrap();
    assert!(problem.contains("is not the file of a task hub"));
}
