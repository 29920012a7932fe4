//! Programs of the SDK as components on a real host: left alone, dropped from memory between the steps, and with the host restarted
//! between the steps. What comes out is the same.
#![allow(
    clippy::unwrap_used,
    reason = "what is missing in a test has failed it"
)]

mod activities;
mod library;
mod mistakes;
mod programs;
mod sandbox;
mod shapes;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use perennial::{
    ActivityContext, Client, Clock as _, Failure, Host, HostBuilder, InstanceStatus, Limits,
    Millis, Module, SimClock, Status, SystemClock, Wait, Waited,
};
use perennial_tests::{DataDir, Way, module};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
const ID: &str = "it";

/// What happens between two steps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Between {
    Nothing,
    Evict,
    Restart,
}

const ALL: [Between; 3] = [Between::Nothing, Between::Evict, Between::Restart];

/// A host of a hub, whose clock stands still until a test moves it.
struct Stage {
    dir: DataDir,
    clock: SimClock,
    limits: Limits,
    host: Option<Host>,
    replays: u64,
}

impl Stage {
    /// With a guest deployed.
    async fn with(guest: &str, limits: Limits) -> Self {
        let mut stage = Self {
            dir: DataDir::new(),
            clock: SimClock::new(SystemClock.now()),
            limits,
            host: None,
            replays: 0,
        };
        stage.open().await;
        stage.client().deploy(looked_at(guest)).await.unwrap();
        stage
    }

    async fn probe() -> Self {
        Self::with("probe", Limits::default()).await
    }

    async fn open(&mut self) {
        let builder = self.dir.host().clock(self.clock.clone());
        let builder = natives(builder).limits(self.limits);
        self.host = Some(builder.start().await.unwrap());
    }

    async fn close(&mut self) {
        let host = self.host.take().unwrap();
        self.replays += host.stats().replays;
        host.shut_down().await;
    }

    fn client(&self) -> Client {
        self.host.as_ref().unwrap().client()
    }

    async fn start(&self, name: &str, input: Value) {
        let client = self.client();
        client.start(name).id(ID).input(&input).await.unwrap();
    }

    async fn raise(&self, name: &str, data: Value) {
        self.client().raise_event(ID, name, &data).await.unwrap();
    }

    fn advance(&self, secs: u64) {
        self.clock.advance(Millis(secs * 1_000));
    }

    /// Waits until an instance is as it should be. One that waits for that has not ended.
    async fn until(
        &self,
        id: &str,
        mut is_so: impl FnMut(&InstanceStatus) -> bool,
    ) -> InstanceStatus {
        let begun = Instant::now();
        loop {
            let look = Duration::from_millis(10);
            let waited = self
                .client()
                .wait_until(id, look, &mut is_so)
                .await
                .unwrap();
            let status = match waited {
                Waited::Reached(status) | Waited::TimedOut(status) => status,
            };
            if is_so(&status) {
                return status;
            }
            assert!(!status.is_ended() && begun.elapsed() < LIMIT, "{status:?}");
        }
    }

    /// Waits until the instance waits for this event.
    async fn awaits(&self, event: &str) -> InstanceStatus {
        let is_it = |wait: &Wait| matches!(wait, Wait::ExternalEvent { name } if name == event);
        self.until(ID, |status| status.waits_for.iter().any(is_it))
            .await
    }

    async fn disturb(&mut self, between: Between) {
        match between {
            Between::Nothing => {}
            Between::Evict => {
                let (host, begun) = (self.host.as_ref().unwrap(), Instant::now());
                while host.stats().resident > 0 {
                    host.evict_all();
                    assert!(begun.elapsed() < LIMIT, "a guest does not go");
                    tokio::task::yield_now().await;
                }
            }
            Between::Restart => {
                self.close().await;
                self.open().await;
            }
        }
    }

    /// The end of an instance.
    async fn end(&self, id: &str) -> InstanceStatus {
        let waited = self.client().wait_for_completion(id, LIMIT).await.unwrap();
        match waited {
            Waited::Reached(status) => status,
            Waited::TimedOut(status) => panic!("it does not end: {status:?}"),
        }
    }

    /// Runs an orchestration to its end, by itself.
    async fn run(&self, name: &str, input: Value) -> InstanceStatus {
        let id = self.client().start(name).input(&input).await.unwrap();
        self.end(&id).await
    }
}

/// A guest, which all tests together look at once.
fn looked_at(guest: &str) -> Module {
    static MODULES: Mutex<BTreeMap<String, Module>> = Mutex::new(BTreeMap::new());
    let mut modules = MODULES.lock().unwrap();
    let found = modules.entry(guest.to_owned());
    found.or_insert_with(|| module(guest)).clone()
}

/// `Native` gives its input as a text, `Flaky` always fails, `Hold` never ends; the rest is what random programs call.
fn natives(builder: HostBuilder) -> HostBuilder {
    builder
        .activity("Native", |_: ActivityContext, n: u32| async move {
            Ok::<_, Failure>(format!("native {n}"))
        })
        .activity("Flaky", |_: ActivityContext, (): ()| async {
            Err::<(), _>(Failure::retryable("Flaky", "not yet"))
        })
        .activity("Hold", |_: ActivityContext, (): ()| {
            std::future::pending::<Result<(), Failure>>()
        })
        .activity("Echo", |_: ActivityContext, value: Value| async move {
            Ok::<_, Failure>(value)
        })
        .activity("Broken", |_: ActivityContext, _: Value| async {
            Err::<(), _>(Failure::permanent("Broken", "for good"))
        })
        .activity(
            "FailsFirst",
            |context: ActivityContext, (value, fails): (u64, u32)| async move {
                if context.attempt() <= fails {
                    return Err(Failure::retryable("Flaky", "not yet"));
                }
                Ok(value)
            },
        )
}

fn output(status: &InstanceStatus) -> Value {
    assert_eq!(status.runtime_status, Status::Completed, "{status:?}");
    status.output_as().unwrap()
}

fn failure(status: &InstanceStatus) -> &Failure {
    assert_eq!(status.runtime_status, Status::Failed, "{status:?}");
    status.failure.as_ref().unwrap()
}
