//! A change on its way through the writer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::change::Change;
use crate::store::codec::encode;
use crate::store::live::LiveChange;
use crate::store::reply::Reply;
use crate::store::rows::Rows;
use crate::store::rules::apply::apply;
use crate::store::types::Effects;

/// One change with its callback. It is committed or rolled back as a whole, in a batch with others.
pub(crate) struct Write {
    change: Change,
    now: Timestamp,
    /// The token of the command of another process that this change executes.
    token: Option<String>,
    /// The version of what the engine knew of the hub when it prepared the change.
    known: Option<i64>,
    outcome: Outcome,
    bytes: usize,
    done: Done,
}

/// Receives the result of a [`Write`], on the writer's thread or on one that answers for it, so it must return at once.
pub(crate) type Done = Box<dyn FnOnce(Change, Result<Outcome, StoreError>) + Send>;

/// The result of a change, and its effects outside the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    pub(crate) effects: Effects,
}

impl Write {
    /// A change with the time of its request and its callback.
    pub(crate) fn new(
        change: Change,
        now: Timestamp,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) -> Self {
        let bytes = change.bytes();
        Self {
            change,
            now,
            token: None,
            known: None,
            outcome: Outcome::default(),
            bytes,
            done: Box::new(done),
        }
    }

    /// Also records the result as the answer to a command of another process, in the same transaction.
    pub(crate) fn answering(mut self, token: String) -> Self {
        self.token = Some(token);
        self
    }

    /// As [`answering`](Self::answering) for a command, if it is one.
    pub(crate) fn answering_if(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// It was prepared with this version of what the engine knows of the hub.
    pub(crate) fn knowing(mut self, version: i64) -> Self {
        self.known = Some(version);
        self
    }

    /// Whether it starts something by names that may have changed since it was prepared.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn is_outdated(&self, version: i64) -> bool {
        self.known.is_some_and(|known| known < version) && self.change.starts()
    }

    /// See [`Change::bytes`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it may free pages of the file.
    pub(crate) fn frees(&self) -> bool {
        self.change.frees()
    }

    /// Makes the change. May be called again after a rollback.
    ///
    /// # Errors
    /// [`StoreError::TakenBack`] if another process withdrew the command that it executes: then it must not take effect.
    pub(crate) fn run(&mut self, rows: &mut impl Rows) -> Result<(), StoreError> {
        let effects = &mut self.outcome.effects;
        effects.clear();
        self.outcome.reply = apply(rows, &self.change, self.now, effects)?;
        if let Some(token) = &self.token
            && !matches!(self.outcome.reply, Reply::RewindFirst(_))
            && !rows.answer_command(token, &encode(&self.outcome.reply)?)?
        {
            return Err(StoreError::TakenBack);
        }
        Ok(())
    }

    /// What it changes.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn change(&self) -> &Change {
        &self.change
    }

    /// What came of it, once it was made.
    #[cfg(test)]
    pub(in crate::store) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The token of the command of another process that it executes.
    #[cfg(feature = "postgres")]
    pub(in crate::store) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether it executes a command of another process.
    #[cfg(test)]
    pub(in crate::store) fn answers(&self) -> bool {
        self.token.is_some()
    }

    /// How it changes the number of live instances.
    pub(crate) fn live(&self) -> &LiveChange {
        &self.outcome.effects.live
    }

    /// The time of the request.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Calls the callback with the result.
    pub(crate) fn answer(self, result: Result<(), StoreError>) {
        (self.done)(self.change, result.map(|()| self.outcome));
    }
}

/// The changes of a transaction, and what each is answered.
pub(in crate::store) struct Committed {
    batch: Vec<Write>,
    results: Vec<Result<(), StoreError>>,
}

impl Committed {
    /// Each change of the batch has a result.
    pub(in crate::store) fn new(batch: Vec<Write>, results: Vec<Result<(), StoreError>>) -> Self {
        debug_assert_eq!(batch.len(), results.len());
        Self { batch, results }
    }

    /// The number of changes.
    #[cfg(any(test, feature = "postgres"))]
    pub(in crate::store) fn len(&self) -> usize {
        self.batch.len()
    }

    /// Answers all of them on this thread.
    pub(in crate::store) fn answer(self) {
        for (job, result) in self.batch.into_iter().zip(self.results) {
            // A callback may panic; the others are still called.
            if catch_unwind(AssertUnwindSafe(|| job.answer(result))).is_err() {
                tracing::error!("what follows a change panicked");
            }
        }
    }
}
