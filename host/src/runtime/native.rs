//! Activities that are closures of the embedding program.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use perennial_core::{Digest, Failure, Json, Timestamp, kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builtin::Builtins;
use crate::client::HttpManagementPayload;
use crate::engine::executor::{
    ActivityExecutor, Attempt, AttemptError, AttemptFuture, HeartbeatError,
};
use crate::engine::workers::processors::Pace;
use crate::foreign::{Foreign, panic_message};
use crate::runtime::apart::{Apart, paced};

/// The context of an activity attempt: its caller, number and deadline.
#[derive(Clone, Debug)]
pub struct ActivityContext {
    attempt: Arc<Attempt>,
}

impl ActivityContext {
    /// The id of the calling instance.
    pub fn instance_id(&self) -> &str {
        &self.attempt.instance_id
    }

    /// The id of the calling execution.
    pub fn execution_id(&self) -> &str {
        &self.attempt.execution_id
    }

    /// The name of the calling orchestration.
    pub fn orchestration(&self) -> &str {
        &self.attempt.orchestration
    }

    /// The number of the attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.attempt
    }

    /// A key that is the same for all attempts of a task, so that a remote system can recognise a repeated request.
    pub fn idempotency_key(&self) -> String {
        self.attempt.idempotency_key()
    }

    /// The time at which the attempt is abandoned.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.attempt.deadline
    }

    /// The HTTP management URLs of the calling instance; `None` if the host has no
    /// [`HostBuilder::management_url`](crate::HostBuilder::management_url).
    pub fn management_urls(&self) -> Option<HttpManagementPayload> {
        let urls = self.attempt.management_urls.as_ref()?;
        serde_json::from_str(urls.as_str()).ok()
    }

    /// Says that the attempt makes progress, and how far it is. The next attempt goes on from there ([`last_heartbeat`](Self::last_heartbeat)), and
    /// the status of the instance shows it.
    ///
    /// Never waits. The newest details of all attempts are written about once a second: if the host dies, those of the last second or so are lost;
    /// if the attempt fails, none are. At most 16 KiB of JSON. If the call has a
    /// heartbeat timeout, an attempt that sends none for so long fails.
    ///
    /// # Errors
    /// [`HeartbeatError::Canceled`] and [`HeartbeatError::Draining`] say that the attempt should stop; `?` in the closure does that.
    pub fn heartbeat(&self, details: impl Serialize) -> Result<(), HeartbeatError> {
        let text = serde_json::to_string(&details);
        let text = text.map_err(|error| HeartbeatError::Invalid(error.to_string()))?;
        self.attempt.heart.beat(Some(Json::from_text(text)))
    }

    /// The details of the last heartbeat: of this attempt, or else of one before it. `None` if there are none of this type.
    pub fn last_heartbeat<T: DeserializeOwned>(&self) -> Option<T> {
        let details = self.attempt.heart.details()?;
        serde_json::from_str(details.as_str()).ok()
    }

    /// Whether the host is about to stop, so that an attempt which cannot end soon should return
    /// [`HeartbeatError::Draining`](crate::HeartbeatError::Draining) as its failure.
    pub fn is_draining(&self) -> bool {
        self.attempt.heart.is_draining()
    }

    /// Completes when the host is about to stop. Long work can be raced against it.
    pub async fn draining(&self) {
        self.attempt.heart.draining().await;
    }

    /// Whether the result is no longer needed.
    pub fn is_canceled(&self) -> bool {
        self.attempt.interrupt.is_set()
    }

    /// Completes when the result is no longer needed. Long work can be raced against it.
    pub async fn canceled(&self) {
        self.attempt.interrupt.told().await;
    }
}

type Run = dyn Fn(ActivityContext, Option<Json>) -> AttemptFuture + Send + Sync;

/// A registered closure, and a measure of how long its polls take.
#[derive(Clone)]
pub(crate) struct NativeActivity {
    run: Arc<Foreign<Box<Run>>>,
    pace: Arc<Pace>,
}

impl NativeActivity {
    pub(crate) fn new<I, O, F, Fut>(run: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, Failure>> + Send + 'static,
    {
        let run: Box<Run> = Box::new(move |context: ActivityContext, input: Option<Json>| {
            let name = context.attempt.name.clone();
            let text = input.as_ref().map_or("null", Json::as_str);
            let input: I = match serde_json::from_str(text) {
                Ok(input) => input,
                Err(error) => {
                    let message = format!("activity {name:?} cannot read its input: {error}");
                    return Box::pin(std::future::ready(Err(Failure::permanent(
                        "InvalidInput",
                        message,
                    )
                    .into())));
                }
            };
            let result = run(context, input);
            Box::pin(async move {
                let output = result.await?;
                match serde_json::to_string(&output) {
                    Ok(text) => Ok(Some(Json::from_text(text))),
                    Err(error) => {
                        let message =
                            format!("the result of activity {name:?} is no JSON: {error}");
                        Err(Failure::permanent(kind::INVALID_RESULT, message).into())
                    }
                }
            })
        });
        Self {
            run: Arc::new(Foreign::new("a closure that is an activity", run)),
            pace: Arc::new(Pace::unknown()),
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Activities(BTreeMap<String, NativeActivity>);

impl Activities {
    pub(crate) fn insert(&mut self, name: String, activity: NativeActivity) {
        self.0.insert(name, activity);
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Combines the closures with the activities of modules and the builtin ones.
    pub(crate) fn with(
        self,
        wasm: Arc<dyn ActivityExecutor>,
        builtins: Builtins,
        management: Option<Management>,
    ) -> NativeOrWasm {
        NativeOrWasm {
            native: self,
            builtins,
            wasm,
            management,
        }
    }
}

/// The HTTP management URL of a hub.
pub(crate) struct Management {
    pub(crate) base_url: String,
    pub(crate) hub: String,
}

impl Management {
    fn urls(&self, id: &str) -> Option<Json> {
        let payload = HttpManagementPayload::new(&self.base_url, &self.hub, id).ok()?;
        serde_json::to_string(&payload).ok().map(Json::from_text)
    }
}

/// Runs closures and builtin activities here, and all others as wasm. Adds the management URLs to each attempt.
pub(crate) struct NativeOrWasm {
    native: Activities,
    builtins: Builtins,
    wasm: Arc<dyn ActivityExecutor>,
    management: Option<Management>,
}

impl ActivityExecutor for NativeOrWasm {
    fn prepare(&self, module: Digest) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.wasm.prepare(module)
    }

    fn run(&self, mut attempt: Attempt) -> AttemptFuture {
        let management = self.management.as_ref();
        attempt.management_urls = management.and_then(|urls| urls.urls(&attempt.instance_id));
        if attempt.module.is_some() {
            return self.wasm.run(attempt);
        }
        let Some(activity) = self.native.0.get(&attempt.name).cloned() else {
            if self.builtins.has(&attempt.name) {
                return self.builtins.run(attempt);
            }
            // The closure was registered when the task was scheduled, but this process is another program.
            let message = format!(
                "this host has no closure registered for activity {:?}",
                attempt.name
            );
            let failure = Failure::retryable(kind::UNKNOWN_ACTIVITY, message);
            return Box::pin(std::future::ready(Err(failure.into())));
        };
        let input = attempt.input.clone();
        let turn = attempt.share.turn();
        let context = ActivityContext {
            attempt: Arc::new(attempt),
        };
        Box::pin(async move {
            let NativeActivity { run, pace } = activity;
            let running = async move {
                match run.code() {
                    Some(run) => run(context, input).await,
                    None => Err(AttemptError::from(Failure::retryable(
                        kind::PANIC,
                        "it is gone",
                    ))),
                }
            };
            // Runs as its own task, so that a panic fails only its attempt.
            let running = AbortOnDrop(if pace.is_quick() {
                tokio::spawn(paced(running, pace))
            } else {
                tokio::spawn(Apart::new(running, turn, pace))
            });
            running
                .await
                .unwrap_or_else(|message| Err(Failure::retryable(kind::PANIC, message).into()))
        })
    }
}

/// A task that is aborted when dropped.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Option<Json>, AttemptError>>);

impl Future for AbortOnDrop {
    type Output = Result<Result<Option<Json>, AttemptError>, String>;

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map_err(|error| match error.try_into_panic() {
                Ok(panic) => {
                    panic_message(panic).unwrap_or_else(|| "the activity panicked".to_owned())
                }
                Err(error) => error.to_string(),
            })
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
