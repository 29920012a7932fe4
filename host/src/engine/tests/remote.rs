//! Remote workers: programs that are connected by a stream, and may be lost at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use perennial_core::{
    Answer, Ending, Event, Failure, GuestEvent, Json, Limits, Mode, Status, Target, Timestamp,
    Waiting,
};
use tokio::sync::mpsc::UnboundedReceiver;

use super::world::*;
use crate::engine::executor::Executor;
use crate::engine::remote::dispatch::Token;
use crate::engine::remote::{
    ActivityItem, Connection, Filter, ItemEnd, NameFilter, Offer, OrchestrationItem, RemoteAnswer,
    WorkItem,
};
use crate::engine::{Engine, Request, StartRequest};

/// The tests here look at the engine that runs the instance.
fn one_engine(name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> World {
    World::with(name, make).with_one_engine()
}

/// A worker that runs the orchestrations of a world, which its host does not know, and the activities `Echo` and `Broken`.
pub(crate) struct Worker {
    pub(super) programs: Arc<dyn Executor>,
}

impl Worker {
    /// What it answers to a turn: it has no memory, so it repeats the turns before.
    pub(super) fn answer(&self, item: &OrchestrationItem) -> RemoteAnswer {
        let began = Timestamp(0);
        let mut guest = self
            .programs
            .instantiate(MODULE, &Limits::default(), &item.instance_id, began)
            .unwrap();
        let told = |events: &[Event]| -> Vec<GuestEvent> {
            events.iter().filter_map(Event::to_guest).collect()
        };
        for turn in item.past.iter().filter(|turn| turn.answer.is_some()) {
            guest.advance(&told(&turn.received), Mode::Replay).unwrap();
        }
        let mode = Mode::Live { fuel: u64::MAX };
        let mut answer = guest.advance(&told(&item.received), mode).unwrap();
        let mut carried = Vec::new();
        if let Ending::ContinuedAsNew { carry_over, .. } = &mut answer.ending {
            let wanted = std::mem::take(carry_over);
            let past = item.past.iter().flat_map(|turn| &turn.received);
            for event in past.chain(&item.received) {
                if let Event::ExternalEventRaised { number, name, data } = event
                    && wanted.contains(number)
                {
                    carried.push((name.clone(), data.clone()));
                }
            }
        }
        RemoteAnswer { answer, carried }
    }

    pub(super) fn outcome(item: &ActivityItem) -> Result<Option<Json>, Failure> {
        match item.name.as_str() {
            "Broken" => Err(Failure::permanent("Broken", "")),
            _ => Ok(item.input.clone()),
        }
    }

    /// Answers items until the stream ends.
    pub(super) async fn serve(
        self,
        engine: Arc<Engine>,
        connection: Connection,
        mut items: UnboundedReceiver<WorkItem>,
    ) {
        while let Some(item) = items.recv().await {
            match item {
                WorkItem::Orchestration(item) => {
                    engine.orchestration_answered(&item.token, self.answer(&item));
                }
                WorkItem::Activity(item) => {
                    engine.activity_answered(&item.token, Self::outcome(&item));
                }
            }
        }
        drop(connection);
    }
}

/// An offer to run everything.
pub(super) fn everything(orchestrations_max: u32, activities_max: u32) -> Offer {
    Offer {
        worker: "a test".to_owned(),
        orchestrations: Filter::All,
        activities: Filter::All,
        orchestrations_max,
        activities_max,
        streams_history: false,
    }
}

pub(super) fn only(names: &[(&str, &[&str])]) -> Filter {
    let names = names.iter().map(|(name, versions)| NameFilter {
        name: (*name).to_owned(),
        versions: versions.iter().map(|v| (*v).to_owned()).collect(),
    });
    Filter::Only(names.collect())
}

pub(super) fn remote(name: &str, version: Option<&str>, id: &str, input: Option<Json>) -> Request {
    Request::Remote(Box::new(Request::Start(StartRequest {
        name: name.to_owned(),
        version: version.map(str::to_owned),
        id: id.to_owned(),
        input,
        tags: Vec::new(),
        reuse: perennial_core::Reuse::Ended,
        trace_parent: None,
        scheduled_for: None,
    })))
}

pub(super) fn waiting() -> RemoteAnswer {
    ending(Ending::Waiting(Waiting::default()))
}

pub(super) fn ending(ending: Ending) -> RemoteAnswer {
    RemoteAnswer {
        answer: Answer {
            actions: Vec::new(),
            ending,
        },
        carried: Vec::new(),
    }
}

pub(super) fn turn(item: WorkItem) -> Box<OrchestrationItem> {
    match item {
        WorkItem::Orchestration(item) => item,
        WorkItem::Activity(item) => panic!("an activity: {item:?}"),
    }
}

pub(super) fn activity(item: WorkItem) -> Box<ActivityItem> {
    match item {
        WorkItem::Activity(item) => item,
        WorkItem::Orchestration(item) => panic!("a turn: {item:?}"),
    }
}

impl Host<'_> {
    /// Starts an instance that may wait for a worker, without waiting for the answer.
    pub(super) fn starts(&self, name: &str, version: Option<&str>, id: &str) {
        let engine = Arc::clone(&self.engine);
        let request = remote(name, version, id, None);
        self.world
            .spawn(async move { engine.submit(request).await });
    }

    pub(super) fn item(&self, items: &mut UnboundedReceiver<WorkItem>) -> WorkItem {
        let item = self.world.block_on("an item", items.recv());
        item.expect("the stream goes on")
    }
}

pub(super) fn world() -> World {
    let mut world = World::new();
    world.remote = true;
    world
}

#[test]
fn a_worker_runs_an_orchestration_and_its_activities() {
    let world = world().and("Chain", chain("Echo", 3));
    let host = world.open();
    let _worker = host.worker();
    host.start("Chain", "a");
    assert_eq!(host.end("a"), "2");
    let row = host.row("a").unwrap();
    assert_eq!(row.module, None);
    let targets = host
        .events("a")
        .into_iter()
        .filter_map(|event| match event {
            Event::ActivityScheduled { target, .. } => Some(target),
            _ => None,
        });
    assert_eq!(targets.collect::<Vec<_>>(), vec![Target::Native; 3]);
    host.check_histories();
    let component = one_engine("Chain", chain("Echo", 3));
    let other = component.open();
    other.start("Chain", "a");
    other.end("a");
    let commits = [&host, &other].map(|host| {
        let before = host.commits();
        host.start("Chain", "b");
        host.end("b");
        host.idle();
        host.commits() - before
    });
    assert_eq!(commits, [4, 4]);
}

#[test]
fn an_activity_that_only_a_worker_has_goes_to_it() {
    let world = world().and("Chain", chain("Elsewhere", 2));
    let host = world.open();
    host.starts("Chain", None, "a");
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    let item = turn(host.item(&mut items));
    assert_eq!(item.past.len(), 0);
    let programs = host.programs();
    assert!(
        host.engine
            .orchestration_answered(&item.token, programs.answer(&item))
    );
    let work = activity(host.item(&mut items));
    assert_eq!((work.name.as_str(), work.task.0), ("Elsewhere", 0));
    assert!(
        host.engine
            .activity_answered(&work.token, Ok(work.input.clone()))
    );
    assert!(
        !host.engine.activity_answered(&work.token, Ok(None)),
        "a second answer changes nothing"
    );
    let item = turn(host.item(&mut items));
    assert_eq!(item.past.len(), 1);
    assert!(
        host.engine
            .orchestration_answered(&item.token, programs.answer(&item))
    );
    let work = activity(host.item(&mut items));
    assert!(
        host.engine
            .activity_answered(&work.token, Ok(work.input.clone()))
    );
    let item = turn(host.item(&mut items));
    assert!(
        host.engine
            .orchestration_answered(&item.token, programs.answer(&item))
    );
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn an_instance_waits_for_a_worker_and_the_hub_has_it() {
    let world = world();
    let host = world.open();
    host.start("Later", "a");
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Pending);
    drop(host);
    let host = world.open();
    host.idle();
    let (_connection, mut items) = host.engine.connect(Offer {
        orchestrations: only(&[("Other", &[])]),
        ..everything(10, 10)
    });
    host.idle();
    assert!(items.try_recv().is_err(), "it runs other names");
    let (_connection, mut items) = host.engine.connect(Offer {
        orchestrations: only(&[("later", &[])]),
        ..everything(10, 10)
    });
    let item = turn(host.item(&mut items));
    let done = ending(Ending::Completed(Some(json(1))));
    assert!(host.engine.orchestration_answered(&item.token, done));
    assert_eq!(host.end("a"), "1");
}

#[test]
fn what_a_lost_worker_had_goes_to_the_next_one() {
    let world = world();
    let host = world.open();
    let (connection, mut items) = host.engine.connect(everything(1, 1));
    host.starts("Order", None, "a");
    let first = turn(host.item(&mut items));
    drop(connection);
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    let second = turn(host.item(&mut items));
    assert_ne!(first.token, second.token);
    assert_eq!(first.received, second.received);
    let done = |n: u32| ending(Ending::Completed(Some(json(n))));
    assert!(!host.engine.orchestration_answered(&first.token, done(1)));
    assert!(host.engine.orchestration_answered(&second.token, done(2)));
    assert_eq!(host.end("a"), "2");
    assert!(!host.engine.orchestration_answered(&second.token, done(3)));
}

#[test]
fn a_turn_that_takes_its_workers_down_is_quarantined() {
    let world = world();
    let host = world.open();
    host.start("Deadly", "a");
    for _ in 0..20 {
        let (connection, mut items) = host.engine.connect(everything(1, 1));
        turn(host.item(&mut items));
        drop(connection);
    }
    let row = host.until("a", |row| row.quarantine.is_some());
    let why = row.quarantine.unwrap().reason;
    assert!(why.contains("20 times"), "{why}");
    host.terminate("a");
    assert_eq!(host.end("a"), "Terminated");
}

#[test]
fn a_termination_does_not_wait_for_the_answer_of_a_worker() {
    let world = world();
    let host = world.open();
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    host.starts("Waits", None, "a");
    host.starts("Waits", None, "b");
    let item = turn(host.item(&mut items));
    assert!(host.engine.orchestration_answered(&item.token, waiting()));
    let id = item.instance_id.clone();
    host.until(&id, |row| row.status == Status::Running);
    let other = turn(host.item(&mut items));
    host.engine.orchestration_answered(&other.token, waiting());
    host.raise(&id, "E", 1);
    let item = turn(host.item(&mut items));
    host.terminate(&id);
    assert_eq!(host.end(&id), "Terminated");
    let late = ending(Ending::Completed(None));
    assert!(!host.engine.orchestration_answered(&item.token, late));
    assert_eq!(host.row(&id).unwrap().status, Status::Terminated);
}

#[test]
fn an_event_that_arrives_while_the_question_is_out_is_not_lost() {
    let world = world().and("Listens", listens(2));
    let host = world.open();
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    let programs = host.programs();
    host.starts("Listens", None, "a");
    let item = turn(host.item(&mut items));
    host.engine
        .orchestration_answered(&item.token, programs.answer(&item));
    host.until("a", |row| row.status == Status::Running);
    host.raise("a", "E", 1);
    let item = turn(host.item(&mut items));
    host.raise("a", "E", 2);
    host.idle();
    host.engine
        .orchestration_answered(&item.token, programs.answer(&item));
    let item = turn(host.item(&mut items));
    assert_eq!(item.past.len(), 2);
    host.engine
        .orchestration_answered(&item.token, programs.answer(&item));
    assert_eq!(host.end("a"), "[1,2]");
    host.check_histories();
}

#[test]
fn an_item_that_is_given_back_goes_to_another_worker_first() {
    let world = world();
    let host = world.open();
    let (_first, mut items) = host.engine.connect(everything(1, 1));
    host.starts("Order", None, "a");
    let item = turn(host.item(&mut items));
    assert!(host.engine.abandoned(&item.token));
    host.idle();
    assert!(items.try_recv().is_err(), "not at once to the same");
    let (_second, mut others) = host.engine.connect(everything(1, 1));
    let item = turn(host.item(&mut others));
    assert!(host.engine.abandoned(&item.token));
    assert!(!host.engine.abandoned(&item.token));
    host.advance(60_000);
    let again = host.world.block_on("the item again", async {
        tokio::select! {
            item = items.recv() => item,
            item = others.recv() => item,
        }
    });
    let done = ending(Ending::Completed(Some(json(1))));
    let token = turn(again.unwrap()).token;
    assert!(host.engine.orchestration_answered(&token, done));
    assert_eq!(host.end("a"), "1");
}

#[test]
fn a_worker_that_does_not_answer_is_given_up() {
    let world = world();
    let host = world.open();
    let (silent, mut items) = host.engine.connect(everything(1, 1));
    host.starts("Order", None, "a");
    let first = turn(host.item(&mut items));
    host.advance(10 * 60_000);
    silent.expire();
    host.idle();
    assert!(items.try_recv().is_err(), "it has no room until it answers");
    let (_other, mut others) = host.engine.connect(everything(1, 1));
    let second = turn(host.item(&mut others));
    let done = |n: u32| ending(Ending::Completed(Some(json(n))));
    assert!(!host.engine.orchestration_answered(&first.token, done(1)));
    assert!(host.engine.orchestration_answered(&second.token, done(2)));
    assert_eq!(host.end("a"), "2");
}

#[test]
fn two_workers_share_what_there_is() {
    let world = world();
    let host = world.open();
    let counts = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    for n in 0..2 {
        let (connection, mut items) = host.engine.connect(everything(2, 2));
        let (engine, counts) = (Arc::clone(&host.engine), Arc::clone(&counts));
        world.spawn(async move {
            while let Some(item) = items.recv().await {
                let item = turn(item);
                counts[n].fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                engine.orchestration_answered(&item.token, ending(Ending::Completed(None)));
            }
            drop(connection);
        });
    }
    for n in 0..50 {
        host.starts("Order", None, &format!("a{n}"));
    }
    for n in 0..50 {
        let id = format!("a{n}");
        while host.row(&id).is_none() {
            std::thread::yield_now();
        }
        assert_eq!(host.end(&id), "nothing");
    }
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) > 0));
}

#[test]
fn a_start_does_not_wait_long_for_its_worker() {
    let world = world();
    let host = world.open();
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    let engine = Arc::clone(&host.engine);
    let request = remote("Order", None, "a", None);
    let started = world.spawn(async move { engine.submit(request).await });
    let slow = turn(host.item(&mut items));
    assert!(host.row("a").is_none());
    host.advance(1_000);
    let reply = world.block_on("the start", started).unwrap();
    assert_eq!(reply.unwrap(), crate::store::Reply::Done);
    assert_eq!(host.row("a").unwrap().status, Status::Pending);
    host.raise("a", "E", 1);
    host.idle();
    assert!(items.try_recv().is_err(), "it is still out");
    assert!(host.engine.orchestration_answered(&slow.token, waiting()));
    let event = turn(host.item(&mut items));
    assert_eq!(event.past.len(), 1);
    let done = ending(Ending::Completed(Some(json(2))));
    assert!(host.engine.orchestration_answered(&event.token, done));
    assert_eq!(host.end("a"), "2");
    host.check_histories();
}

#[test]
fn a_start_that_was_written_survives_the_loss_of_its_worker_and_of_its_host() {
    let world = world();
    let host = world.open();
    let (connection, mut items) = host.engine.connect(everything(1, 1));
    host.starts("Order", None, "a");
    turn(host.item(&mut items));
    host.advance(1_000);
    while host.row("a").is_none() {
        std::thread::yield_now();
    }
    drop(connection);
    let (connection, mut items) = host.engine.connect(everything(1, 1));
    turn(host.item(&mut items));
    let image = world.crash_image();
    drop(connection);
    drop(host);
    let host = image.open();
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    let item = turn(host.item(&mut items));
    let done = ending(Ending::Completed(Some(json(2))));
    assert!(host.engine.orchestration_answered(&item.token, done));
    assert_eq!(host.end("a"), "2");
}

#[test]
fn a_worker_gets_no_more_than_it_has_room_for() {
    let world = world();
    let host = world.open();
    let (_connection, mut items) = host.engine.connect(everything(2, 1));
    for n in 0..5 {
        host.starts("Order", None, &format!("a{n}"));
    }
    let mut tokens = vec![
        turn(host.item(&mut items)).token,
        turn(host.item(&mut items)).token,
    ];
    host.idle();
    assert!(items.try_recv().is_err());
    for _ in 0..3 {
        let token = tokens.pop().unwrap();
        host.engine
            .orchestration_answered(&token, ending(Ending::Completed(None)));
        tokens.push(turn(host.item(&mut items)).token);
        host.idle();
        assert!(items.try_recv().is_err());
    }
}

#[test]
fn a_loss_that_is_told_late_does_not_take_the_place_of_a_later_answer() {
    let world = world();
    let host = world.open();
    host.start("Order", "a");
    host.idle();
    let slot = host.engine.memory.slots.slot(host.row("a").unwrap().key);
    // While its body is locked, no turn takes the end of the item.
    let body = slot.body();
    for token in [2, 1] {
        let end = ItemEnd::Lost;
        host.engine.put_item_end(slot.key, Token(token), end);
    }
    let last = slot.mailbox().item_end.as_ref().map(|(token, _)| *token);
    drop(body);
    assert_eq!(last, Some(Token(2)));
}
