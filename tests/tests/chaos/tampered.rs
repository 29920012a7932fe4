//! The checker finds nothing in what a host did that nobody disturbed, and each thing that is wrong when it is put there.

use std::sync::Arc;

use futures::future::join_all;
use perennial::{Event, HistoryEvent, Status};
use perennial_core::Json;
use perennial_tests::DataDir;
use tokio::sync::watch;

use crate::check::problems;
use crate::load::{Load, Shared, settle};
use crate::record::{Asked, Attempt, Instance, Outcome, Record, Seen, What};

/// Answers that show every kind of instance and of request.
const ENOUGH: u64 = 500;

type Tamper = fn(&mut Record, &mut Seen);

/// What is wrong, in words of the checker, and how it is made so.
const TAMPERED: [(&str, Tamper); 21] = [
    ("its acknowledged start is lost", |_, seen| {
        let id = seen.any(|instance| instance.status.name == "HelloSequence");
        seen.instances.remove(&id);
    }),
    (
        "it was started although the start was refused",
        |record, seen| {
            let id = seen.any(|instance| instance.status.name == "HelloSequence");
            record.of(&id, |asked| asked.what == What::Start).outcome = Outcome::Refused;
        },
    ),
    (
        "it is there after its acknowledged purge",
        |record, seen| {
            let id = seen.any(|instance| instance.status.name == "Sleep");
            record.adds(&id, What::Purge, "");
        },
    ),
    ("nobody started it", |_, seen| {
        let id = seen.any(|instance| instance.status.name == "Logged");
        let mut stray = seen.instances[&id].clone();
        stray.status.instance_id = "stray".to_owned();
        seen.instances.insert("stray".to_owned(), stray);
    }),
    ("is lost", |_, seen| {
        let history = seen.history(&counted);
        history.remove(place_of(history, is_counted));
    }),
    ("came twice", |_, seen| {
        let history = seen.history(&counted);
        let place = place_of(history, is_counted);
        history.insert(place, history[place].clone());
    }),
    ("came although it was refused", |record, seen| {
        let id = seen.any(counted);
        let is_event = |asked: &Asked| matches!(asked.what, What::Event(_));
        record.of(&id, is_event).outcome = Outcome::Refused;
    }),
    ("was never sent", |record, seen| {
        let id = seen.any(counted);
        let is_event = |asked: &&mut Asked| matches!(asked.what, What::Event(_)) && asked.id == id;
        record.asked.iter_mut().find(is_event).unwrap().id = "another".to_owned();
    }),
    ("came before an earlier one", |record, seen| {
        let id = seen.any(counted);
        let is_event = |asked: &&Asked| matches!(asked.what, What::Event(_)) && asked.id == id;
        let sent: Vec<Asked> = record
            .asked
            .iter()
            .filter(is_event)
            .rev()
            .cloned()
            .collect();
        record.asked.retain(|asked| !is_event(&asked));
        record.asked.extend(sent);
    }),
    ("its history is not lawful", |_, seen| {
        let history = seen.history(&|instance| instance.status.name == "Logged");
        let place = place_of(history, |event| {
            matches!(event, Event::ActivityCompleted { .. })
        });
        let doubled = history[place].clone();
        history.insert(place, doubled);
        (0..)
            .zip(history)
            .for_each(|(number, event)| event.number = number);
    }),
    ("its status says", |_, seen| {
        let id = seen.any(|instance| instance.status.name == "HelloSequence");
        seen.instances.get_mut(&id).unwrap().status.output = Some(Json::from_text("1"));
    }),
    ("it was started 2 times", |_, seen| {
        let mut parents = seen
            .instances
            .values_mut()
            .filter(|instance| instance.status.name == "LoggedBelow");
        let (one, other) = (parents.next().unwrap(), parents.next().unwrap());
        let is_child = |event: &Event| matches!(event, Event::ChildScheduled { .. });
        let place = place_of(&other.history, is_child);
        other.history[place] = one.history[place_of(&one.history, is_child)].clone();
    }),
    ("another execution", |_, seen| {
        let again = Attempt {
            execution: "again".to_owned(),
            ..seen.attempt()
        };
        seen.attempts.push(again);
    }),
    ("ms after the result was recorded", |_, seen| {
        let late = Attempt {
            began: seen.attempt().began + 3_600_000,
            ..seen.attempt()
        };
        seen.attempts.push(late);
    }),
    ("is recorded and did not run", |_, seen| {
        seen.attempts.clear()
    }),
    ("ran, and the instance is not there", |_, seen| {
        let of_nobody = Attempt {
            id: "nobody".to_owned(),
            ..seen.attempt()
        };
        seen.attempts.push(of_nobody);
    }),
    ("ran and is not in its history", |_, seen| {
        let unasked = Attempt {
            task: 4_711,
            ..seen.attempt()
        };
        seen.attempts.push(unasked);
    }),
    ("it was told", |_, seen| {
        let is_child = |instance: &Instance| instance.status.parent_instance_id.is_some();
        let id = seen.any(is_child);
        let child = seen.instances.get_mut(&id).unwrap();
        child.status.output = Some(Json::from_text("4711"));
    }),
    ("which is not there", |_, seen| {
        let is_detached = |instance: &Instance| instance.status.instance_id.ends_with("-a");
        let id = seen.any(is_detached);
        seen.instances.remove(&id);
    }),
    ("was acknowledged and is lost", |record, seen| {
        let rewound = |instance: &Instance| !instance.status.rewinds.is_empty();
        let id = seen.any(rewound);
        seen.instances.get_mut(&id).unwrap().status.rewinds.clear();
        record.adds(&id, What::Suspend, "not heard");
    }),
    (
        "it was terminated, and nobody asked for it",
        |record, seen| {
            let id = seen.any(|instance| instance.status.runtime_status == Status::Terminated);
            record
                .asked
                .retain(|asked| asked.id != id || asked.what != What::Terminate);
        },
    ),
];

fn counted(instance: &Instance) -> bool {
    let events = instance
        .history
        .iter()
        .filter(|event| is_counted(&event.event));
    instance.status.runtime_status == Status::Completed && events.count() > 1
}

fn is_counted(event: &Event) -> bool {
    matches!(event, Event::ExternalEventRaised { data: Some(data), .. } if data.as_str().parse().is_ok_and(|number: i64| number > 0))
}

fn place_of(history: &[HistoryEvent], is: impl Fn(&Event) -> bool) -> usize {
    history.iter().position(|event| is(&event.event)).unwrap()
}

impl Seen {
    /// An attempt of an instance that was not purged, and has the result.
    fn attempt(&self) -> Attempt {
        let mut attempts = self.attempts.iter();
        let has_result = |attempt: &&Attempt| {
            let instance = self.instances.get(&attempt.id);
            instance.is_some_and(|instance| instance.status.runtime_status == Status::Completed)
        };
        attempts.find(has_result).expect("the load has one").clone()
    }

    fn any(&self, is: impl Fn(&Instance) -> bool) -> String {
        let mut found = self.instances.iter().filter(|(_, instance)| is(instance));
        found.next().expect("the load has one").0.clone()
    }

    fn history(&mut self, is: &dyn Fn(&Instance) -> bool) -> &mut Vec<HistoryEvent> {
        let id = self.any(is);
        &mut self.instances.get_mut(&id).unwrap().history
    }
}

impl Record {
    fn of(&mut self, id: &str, is: impl Fn(&Asked) -> bool) -> &mut Asked {
        let mut asked = self.asked.iter_mut();
        asked.find(|asked| asked.id == id && is(asked)).unwrap()
    }

    fn adds(&mut self, id: &str, what: What, said: &str) {
        self.asked.push(Asked {
            id: id.to_owned(),
            what,
            said: said.to_owned(),
            outcome: Outcome::Done,
            from: 0,
            to: 0,
        });
    }
}

/// What was asked of a host that nobody disturbed, and what its hub has.
async fn undisturbed() -> (Record, Seen) {
    let (dir, out) = (DataDir::of_files(), tempfile::tempdir().unwrap());
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    crate::deploy(&client, out.path()).await;
    let reached = client.clone();
    let shared = Shared::new(Arc::new(move |_| Some(reached.clone())), out.path());
    let (stop, stopped) = watch::channel(false);
    let loads = (0..4).map(|n| {
        let mut load = Load::new(shared.clone(), format!("c{n}"), n + 7);
        load.renew(40);
        let stopped = stopped.clone();
        async move { load.run(stopped).await }
    });
    let enough = async {
        let mut answered = shared.answered.subscribe();
        answered.wait_for(|count| *count >= ENOUGH).await.unwrap();
        stop.send_replace(true);
    };
    tokio::join!(join_all(loads), enough);
    settle(&shared).await;
    let attempts = std::fs::read_to_string(out.path().join("attempts")).unwrap();
    let seen = Seen::read(&client, &attempts).await.unwrap();
    host.shut_down().await;
    let record = shared.record.lock().unwrap().clone();
    (record, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_is_found() {
    let (record, seen) = undisturbed().await;
    let found = problems(&record, &seen);
    assert!(found.is_empty(), "{found:#?}");
    for (wrong, tamper) in TAMPERED {
        let (mut record, mut seen) = (record.clone(), seen.clone());
        tamper(&mut record, &mut seen);
        let found = problems(&record, &seen);
        assert!(
            found.iter().any(|problem| problem.contains(wrong)),
            "{wrong}: {found:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_happened_may_be_there_or_not() {
    let (record, seen) = undisturbed().await;
    // Nobody knows of anything whether it happened: all that is there is as it may be, and so would be nothing.
    let mut unknown = record.clone();
    for asked in &mut unknown.asked {
        asked.outcome = Outcome::Unknown;
    }
    let found = problems(&unknown, &seen);
    assert!(found.is_empty(), "{found:#?}");
    let found = problems(&unknown, &Seen::default());
    assert!(found.is_empty(), "{found:#?}");
    // A host that was stopped went on with what it had begun.
    let (mut record, mut seen) = (record, seen);
    let late = seen.attempt().began + 3_600_000;
    seen.attempts.push(Attempt {
        began: late,
        ..seen.attempt()
    });
    record.stalls.push((late - 1, late + 1));
    assert_eq!(problems(&record, &seen), Vec::<String>::new());
}
