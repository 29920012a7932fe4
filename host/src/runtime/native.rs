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
use crate::engine::executor::{ActivityExecutor, Attempt, AttemptError, AttemptFuture};
use crate::engine::workers::processors::Pace;
use crate::foreign::{Foreign, panic_message};
use crate::runtime::apart::{Apart, paced};

/// What an activity knows about the attempt that it is.
#[derive(Clone, Debug)]
pub struct ActivityContext {
    attempt: Arc<Attempt>,
}

impl ActivityContext {
    /// The instance that called it.
    pub fn instance_id(&self) -> &str {
        &self.attempt.instance_id
    }

    /// The execution that called it.
    pub fn execution_id(&self) -> &str {
        &self.attempt.execution_id
    }

    /// The orchestration that called it.
    pub fn orchestration(&self) -> &str {
        &self.attempt.orchestration
    }

    /// Counts from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.attempt
    }

    /// The same for every attempt of one task: what a remote system needs to recognise a repeat.
    pub fn idempotency_key(&self) -> String {
        self.attempt.idempotency_key()
    }

    /// When the attempt is given up.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.attempt.deadline
    }

    /// The HTTP addresses at which the calling instance is managed, where the host serves HTTP: see
    /// [`HostBuilder::management_url`](crate::HostBuilder::management_url).
    pub fn management_urls(&self) -> Option<HttpManagementPayload> {
        let urls = self.attempt.management_urls.as_ref()?;
        serde_json::from_str(urls.as_str()).ok()
    }

    /// Whether nobody waits for the result any more.
    pub fn is_canceled(&self) -> bool {
        self.attempt.interrupt.is_set()
    }

    /// Returns when nobody waits for the result any more: what takes long can be raced against it.
    pub async fn canceled(&self) {
        self.attempt.interrupt.told().await;
    }
}

type Run = dyn Fn(ActivityContext, Option<Json>) -> AttemptFuture + Send + Sync;

/// A registered closure, and how long its polls take.
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

/// The registered closures, by name.
#[derive(Clone, Default)]
pub(crate) struct Activities(BTreeMap<String, NativeActivity>);

impl Activities {
    pub(crate) fn insert(&mut self, name: String, activity: NativeActivity) {
        self.0.insert(name, activity);
    }

    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Together with those of modules and those that come with the host.
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

/// Where instances of a hub are managed over HTTP.
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

/// Runs closures and what comes with the host here, and everything else as wasm; tells them where their instance is managed.
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
            // It was registered when it was scheduled, and this process is another program.
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
            // A task of its own, so that a closure that panics fails its attempt and nothing else.
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

/// A task that is given up when nobody waits for it any more.
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
