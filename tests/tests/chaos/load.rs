//! The load: whatever clients do, each with instances of its own.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use perennial::{Client, CommandOutcome, InstanceStatus, Status};
use perennial_tests::Dice;
use serde_json::json;
use tokio::sync::watch;

use crate::check::{EVENT, waits};
use crate::now;
use crate::record::{Asked, Outcome, Record, What};

/// Events that each counter waits for: more than the load sends it.
const EVENTS: i64 = 12;

/// How long an answer may take: as long as a client of the library waits, and some more.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// How long all instances of a check may take to their end.
const SETTLED_MAX: Duration = Duration::from_secs(180);

/// Finds a client of a host; which one, a random number says.
pub(crate) type Reach = Arc<dyn Fn(u64) -> Option<Client> + Send + Sync>;

/// What the clients share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) reach: Reach,
    pub(crate) record: Arc<Mutex<Record>>,
    /// Requests that were answered, by what was asked for or by a refusal.
    pub(crate) answered: watch::Sender<u64>,
    /// Those that had no answer.
    pub(crate) unanswered: watch::Sender<u64>,
    /// The slowest answer.
    pub(crate) slowest: Arc<Mutex<Duration>>,
    /// The directory that activities see as `/out`, and the file in it that they write to.
    pub(crate) out: std::path::PathBuf,
    pub(crate) file: Arc<Mutex<String>>,
}

impl Shared {
    pub(crate) fn new(reach: Reach, out: &std::path::Path) -> Self {
        Self {
            reach,
            record: Arc::default(),
            answered: watch::Sender::default(),
            unanswered: watch::Sender::default(),
            slowest: Arc::default(),
            out: out.to_owned(),
            file: Arc::new(Mutex::new("attempts".to_owned())),
        }
    }

    /// A client of the host that runs the hub.
    pub(crate) async fn owner(&self) -> Client {
        loop {
            match (self.reach)(0) {
                Some(client) => return client,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// An instance of a client.
struct Own {
    id: String,
    name: &'static str,
    events: i64,
    is_over: bool,
}

/// A client.
pub(crate) struct Load {
    shared: Shared,
    dice: Dice,
    name: String,
    own: Vec<Own>,
    /// Instances that it may start until the next check.
    room: u32,
    count: u64,
}

impl Load {
    pub(crate) fn new(shared: Shared, name: String, seed: u64) -> Self {
        Self {
            shared,
            dice: Dice(seed),
            name,
            own: Vec::new(),
            room: 0,
            count: 0,
        }
    }

    /// Forgets the instances that it has, and may start so many others.
    pub(crate) fn renew(&mut self, room: u32) {
        self.own.clear();
        self.room = room;
    }

    /// Sends requests, one after the other, until it is told to stop.
    pub(crate) async fn run(&mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.one().await;
            tokio::time::sleep(Duration::from_millis(self.dice.roll(12))).await;
        }
    }

    async fn one(&mut self) {
        // Whoever has nothing left to ask of anybody starts something.
        let may_start = self.room > 0 || self.own.iter().all(|own| own.is_over);
        match self.dice.roll(16) {
            0..=5 if may_start => self.start().await,
            0..=8 => self.raise().await,
            9..=11 => self.hold().await,
            12 => self.terminate().await,
            13 | 14 => self.mend().await,
            _ => self.purge().await,
        }
    }

    /// Sends a request, and records it with its answer.
    async fn ask<T>(
        &mut self,
        id: &str,
        what: What,
        said: &str,
        send: impl AsyncFnOnce(Client) -> perennial::Result<T>,
    ) -> Outcome {
        let client = loop {
            match (self.shared.reach)(self.dice.roll(8)) {
                Some(client) => break client,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let (begun, from) = (Instant::now(), now());
        let answer = tokio::time::timeout(ANSWER_MAX, send(client)).await;
        let answer =
            answer.unwrap_or_else(|_| panic!("{what:?} of {id} had no answer in {ANSWER_MAX:?}"));
        let outcome = Outcome::of(&answer);
        {
            let mut slowest = self.shared.slowest.lock().unwrap();
            *slowest = (*slowest).max(begun.elapsed());
        }
        match outcome {
            Outcome::Unknown => self.shared.unanswered.send_modify(|count| *count += 1),
            Outcome::Done | Outcome::Refused => {
                self.shared.answered.send_modify(|count| *count += 1)
            }
        }
        self.shared.record.lock().unwrap().asked.push(Asked {
            id: id.to_owned(),
            what,
            said: said.to_owned(),
            outcome,
            from,
            to: now(),
        });
        outcome
    }

    fn any(&mut self, is: impl Fn(&Own) -> bool) -> Option<usize> {
        let those: Vec<usize> = (0..self.own.len()).filter(|n| is(&self.own[*n])).collect();
        let sides = those.len() as u64;
        (sides > 0).then(|| those[self.dice.roll(sides) as usize])
    }

    /// A text that no other request has.
    fn reason(&mut self) -> String {
        self.count += 1;
        format!("{} {}", self.name, self.count)
    }

    async fn start(&mut self) {
        self.room = self.room.saturating_sub(1);
        self.count += 1;
        let id = format!("{}-{}", self.name, self.count);
        let file = format!("/out/{}", self.shared.file.lock().unwrap());
        let (name, input) = match self.dice.roll(10) {
            0 => ("HelloSequence", json!(null)),
            1 | 2 => ("Logged", json!({ "file": file, "steps": 8 })),
            3 => (
                "LoggedBelow",
                json!({ "file": file, "steps": 4, "children": 3 }),
            ),
            4 => ("Sleep", json!(self.dice.roll(1_500))),
            5 => ("CountDown", json!(4)),
            6 => (
                "Launches",
                json!({ "ids": [format!("{id}-a"), format!("{id}-b")], "fails": self.dice.roll(2) == 0 }),
            ),
            7 => ("Mendable", json!(format!("/out/{id}"))),
            8 => ("Wait", json!(null)),
            _ => ("CountEvents", json!(EVENTS)),
        };
        let send = |client: Client| async move {
            client.start(name).id(&id).input(&input).await.map(|_| id)
        };
        let id = format!("{}-{}", self.name, self.count);
        self.ask(&id, What::Start, name, send).await;
        self.own.push(Own {
            id,
            name,
            events: 0,
            is_over: false,
        });
    }

    async fn raise(&mut self) {
        let may_have =
            |own: &Own| own.name == "CountEvents" && !own.is_over && own.events + 1 < EVENTS;
        let Some(n) = self.any(may_have) else { return };
        self.own[n].events += 1;
        let (id, number) = (self.own[n].id.clone(), self.own[n].events);
        let to = id.clone();
        let send = |client: Client| async move { client.raise_event(&to, EVENT, &number).await };
        self.ask(&id, What::Event(number), "", send).await;
    }

    async fn hold(&mut self) {
        let Some(n) = self.any(|own| !own.is_over) else {
            return;
        };
        let (id, reason) = (self.own[n].id.clone(), self.reason());
        let (to, said) = (id.clone(), reason.clone());
        let suspends = self.dice.roll(2) == 0;
        let what = if suspends {
            What::Suspend
        } else {
            What::Resume
        };
        let send = |client: Client| async move {
            let command = match suspends {
                true => client.suspend(&to, Some(&said)),
                false => client.resume(&to, Some(&said)),
            };
            command.await
        };
        self.command(&id, what, &reason, send, is_changed).await;
    }

    /// A command that may leave everything as it is, as `changes` finds in the answer. Then it is as one that was refused.
    async fn command<T, F>(
        &mut self,
        id: &str,
        what: What,
        reason: &str,
        send: impl FnOnce(Client) -> F,
        changes: impl FnOnce(&T) -> bool,
    ) -> Outcome
    where
        F: Future<Output = perennial::Result<T>>,
    {
        let mut changed = true;
        let outcome = self.ask(id, what, reason, async |client| {
            let answer = send(client).await;
            changed = answer.as_ref().map_or(true, changes);
            answer
        });
        let outcome = outcome.await;
        if outcome == Outcome::Done && !changed {
            let mut record = self.shared.record.lock().unwrap();
            let mut asked = record.asked.iter_mut().rev();
            let asked = asked.find(|asked| asked.id == id && asked.what == what);
            asked.unwrap().outcome = Outcome::Refused;
            return Outcome::Refused;
        }
        outcome
    }

    async fn terminate(&mut self) {
        let Some(n) = self.any(|own| !own.is_over) else {
            return;
        };
        let (id, reason) = (self.own[n].id.clone(), self.reason());
        let (to, said) = (id.clone(), reason.clone());
        self.own[n].is_over = true;
        let send = |client: Client| async move { client.terminate(&to, Some(&said)).await };
        self.command(&id, What::Terminate, &reason, send, is_changed)
            .await;
    }

    /// Mends what an instance failed for, and rewinds it.
    async fn mend(&mut self) {
        let Some(n) = self.any(|own| own.name == "Mendable" && !own.is_over) else {
            return;
        };
        let (id, reason) = (self.own[n].id.clone(), self.reason());
        std::fs::write(self.shared.out.join(&id), "").unwrap();
        let (to, said) = (id.clone(), reason.clone());
        let send = |client: Client| async move { client.rewind(&to).reason(said).await };
        if self.ask(&id, What::Rewind, &reason, send).await == Outcome::Done {
            self.own[n].is_over = true;
        }
    }

    async fn purge(&mut self) {
        let is_alone =
            |own: &Own| matches!(own.name, "HelloSequence" | "Logged" | "Sleep" | "CountDown");
        let Some(n) = self.any(is_alone) else { return };
        let id = self.own[n].id.clone();
        let to = id.clone();
        let send = |client: Client| async move { client.purge(&to).await };
        // Nothing is deleted where nothing is: it may have been asked to start and not have begun.
        let deletes = |deleted: &u64| *deleted > 0;
        let outcome = self.command(&id, What::Purge, "", send, deletes).await;
        if outcome.is_possible() {
            self.own.swap_remove(n);
        }
    }
}

fn is_changed(outcome: &CommandOutcome) -> bool {
    outcome.is_changed()
}

/// Lets all instances go on, until all have ended.
pub(crate) async fn settle(shared: &Shared) {
    let begun = Instant::now();
    loop {
        let client = shared.owner().await;
        let left = live(&client).await;
        if left.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        assert!(begun.elapsed() < SETTLED_MAX, "these do not end: {left:?}");
        for instance in left.into_iter().flatten() {
            help(&client, &instance).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn live(client: &Client) -> perennial::Result<Vec<InstanceStatus>> {
    let mut left = Vec::new();
    for status in [Status::Pending, Status::Running, Status::Suspended] {
        let found: Vec<_> = client.list().status(status).stream().try_collect().await?;
        left.extend(found);
    }
    Ok(left)
}

/// What keeps an instance from its end is done. Whatever fails is tried again.
async fn help(client: &Client, instance: &InstanceStatus) {
    let id = &instance.instance_id;
    if instance.runtime_status == Status::Suspended || instance.quarantine.is_some() {
        let _ = client.resume(id, None).await;
    }
    let name = instance.name.as_str();
    if name == "CountEvents" {
        for _ in 0..EVENTS {
            let _ = client.raise_event(id, EVENT, &0).await;
        }
    } else if waits(name) || name == "Mendable" {
        let _ = client.raise_event(id, "Go", "on").await;
    }
}
