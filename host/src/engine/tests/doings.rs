//! Activities that a test controls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use perennial_core::{Failure, Json};
use tokio::sync::{mpsc, oneshot};

use super::guests::json;
use crate::engine::executor::{
    ActivityExecutor, Attempt, AttemptError, AttemptFuture, Resource, Shortage,
};

pub(super) type Run = Arc<dyn Fn(Attempt) -> AttemptFuture + Send + Sync>;

/// An attempt whose outcome the test decides.
pub(crate) struct Held {
    pub(crate) attempt: Attempt,
    answer: oneshot::Sender<Result<Option<Json>, AttemptError>>,
}

impl Held {
    pub(crate) fn ends(self, outcome: Result<&str, Failure>) {
        // An abandoned attempt needs no answer.
        let outcome = outcome.map(|text| Some(json(text)));
        let _ = self.answer.send(outcome.map_err(AttemptError::from));
    }

    /// Ends the attempt with a shortage of the host.
    pub(crate) fn lacks(self, resource: Resource) {
        let shortage = Shortage::new(resource, "there is none left");
        let _ = self.answer.send(Err(shortage.into()));
    }

    /// Whether the host still waits for the attempt.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// The activities by name, and all attempts that began.
#[derive(Clone)]
pub(crate) struct Activities {
    pub(super) by_name: Arc<Mutex<BTreeMap<String, Run>>>,
    pub(super) began: Arc<Mutex<Vec<(String, u32)>>>,
    pub(super) held: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Held>>>,
}

impl Default for Activities {
    /// `Echo` returns its input, `Hold` waits for the test, `Flaky` fails with a retryable failure, `Broken` fails permanently.
    fn default() -> Self {
        let (hold, held) = mpsc::unbounded_channel();
        let this = Self {
            by_name: Arc::default(),
            began: Arc::default(),
            held: Arc::new(tokio::sync::Mutex::new(held)),
        };
        this.add("Echo", |attempt| Ok(attempt.input));
        this.add("Flaky", |_| Err(Failure::retryable("Flaky", "")));
        this.add("Broken", |_| Err(Failure::permanent("Broken", "")));
        let hold: Run = Arc::new(move |attempt| {
            let (answer, answered) = oneshot::channel();
            hold.send(Held { attempt, answer })
                .unwrap_or_else(|_| panic!("the test is over"));
            Box::pin(async move {
                answered
                    .await
                    .unwrap_or_else(|_| Err(Failure::permanent("Forgotten", "").into()))
            })
        });
        this.by_name.lock().unwrap().insert("Hold".to_owned(), hold);
        this
    }
}

impl Activities {
    pub(crate) fn add(
        &self,
        name: &str,
        run: impl Fn(Attempt) -> Result<Option<Json>, Failure> + Send + Sync + 'static,
    ) {
        let run: Run = Arc::new(move |attempt| {
            let outcome = run(attempt).map_err(AttemptError::from);
            Box::pin(std::future::ready(outcome))
        });
        self.by_name.lock().unwrap().insert(name.to_owned(), run);
    }

    /// The attempts that began, as idempotency key and number.
    pub(crate) fn began(&self) -> Vec<(String, u32)> {
        self.began.lock().unwrap().clone()
    }
}

impl ActivityExecutor for Activities {
    fn run(&self, attempt: Attempt) -> AttemptFuture {
        self.began
            .lock()
            .unwrap()
            .push((attempt.idempotency_key(), attempt.attempt));
        let run = Arc::clone(&self.by_name.lock().unwrap()[&attempt.name]);
        run(attempt)
    }
}
