//! Replays for visitors: the components that they gave, and how many replays run at once. What the hub has stored is not kept here.
//!
//! Invariants: nothing of this is written anywhere; at most [`AT_ONCE`] replays and inspections run, also those that nobody waits for any
//! more; at most [`KEPT`] components of [`KEPT_BYTES`] together are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use perennial::{
    CheckOutcome, Client, Digest, Error, InstanceStatus, Module, Quarantine, RecordedHistory,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refused::Refused;
use crate::show;

/// Replays at once.
const AT_ONCE: usize = 2;

/// How long a visitor waits for a replay. Each turn of a guest is bounded by its fuel, and the replay goes on until it is done.
const PATIENCE: Duration = Duration::from_secs(60);

/// Components that are kept.
const KEPT: usize = 8;

/// Their bytes together. The one that came last is kept whatever its size.
const KEPT_BYTES: usize = 128 << 20;

/// Histories of more bytes are not copied for a replay.
const HISTORY_BYTES: u64 = 32 << 20;

/// The place of all replays that the pages make.
#[derive(Clone)]
pub(in crate::instance) struct Lab {
    free: Arc<Semaphore>,
    /// With the name of the hub whose visitor gave it, the latest first.
    components: Arc<Mutex<VecDeque<(String, Module)>>>,
}

impl Default for Lab {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(AT_ONCE)),
            components: Arc::default(),
        }
    }
}

/// What a replay needs.
pub(super) struct Prepared {
    pub(super) module: Module,
    pub(super) history: RecordedHistory,
    /// The history in which something else came in.
    pub(super) changed: Option<RecordedHistory>,
}

/// What a replay showed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The module asks for the same in all turns.
    Same { turns: u32 },
    /// It asks for something else from there on.
    Differs(Box<Quarantine>),
    /// It does not define the orchestration.
    NotDefined,
    /// It asks for something else already without the change, so a comparison says nothing.
    Unfit(Box<Quarantine>),
}

impl Lab {
    /// The components that visitors of a hub gave, the latest first.
    pub(super) fn components(&self, hub: &str) -> Vec<Module> {
        let all = self
            .components
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = all.iter().filter(|(of, _)| of == hub);
        own.map(|(_, module)| module.clone()).collect()
    }

    pub(super) fn component(&self, hub: &str, digest: Digest) -> Option<Module> {
        let own = self.components(hub);
        own.into_iter().find(|module| module.digest() == digest)
    }

    /// Inspects a component, and keeps it for replays.
    pub(super) async fn add(
        &self,
        hub: &str,
        name: String,
        bytes: Vec<u8>,
    ) -> Result<Module, Refused> {
        let look = move || Module::from_bytes(name, &bytes);
        let module = work(self.place()?, look).await??;
        let mut all = self
            .components
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, known)| of != hub || known.digest() != module.digest());
        all.push_front((hub.to_owned(), module.clone()));
        let mut room = KEPT_BYTES;
        let mut at = 0;
        all.retain(|(_, module)| {
            let left = room.checked_sub(module.size());
            room = left.unwrap_or(0);
            at += 1;
            at == 1 || (at <= KEPT && left.is_some())
        });
        Ok(module)
    }

    /// Replays a history on a module; with a changed copy, first the history itself if the module is another one than it ran on, and then
    /// the copy. Nothing is prepared, which takes as much memory as the component and the history, before there is a place for it.
    pub(super) async fn replay(
        &self,
        client: &Client,
        prepared: impl Future<Output = Result<Prepared, Refused>>,
    ) -> Result<Verdict, Refused> {
        let place = self.place()?;
        let Prepared {
            module,
            history,
            changed,
        } = prepared.await?;
        let client = client.clone();
        let replay = move || -> Result<Verdict, Error> {
            let is_own = history.module == Some(module.digest());
            let replayer = client.replayer(module)?;
            let Some(changed) = changed else {
                return Ok(verdict(replayer.replay(&history)?));
            };
            if !is_own && let CheckOutcome::Differs(why) = replayer.replay(&history)? {
                return Ok(Verdict::Unfit(why));
            }
            drop(history);
            Ok(verdict(replayer.replay(&changed)?))
        };
        Ok(work(place, replay).await??)
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("The host is busy with {AT_ONCE} other replays. Try again in a moment."),
            )
        })
    }
}

/// Why this history cannot be replayed here.
pub(super) fn impossible(status: &InstanceStatus) -> Option<String> {
    if status.history_events == 0 {
        return Some("The instance has not begun: there is nothing to replay yet.".to_owned());
    }
    if status.module.is_none() {
        return Some("A remote worker runs this orchestration, and no module: only its own program can replay it.".to_owned());
    }
    if status.history_bytes > HISTORY_BYTES {
        return Some(format!(
            "The history has {}, and the dashboard replays up to {}. `perennial export` and `perennial replay` replay longer ones.",
            show::bytes(status.history_bytes),
            show::bytes(HISTORY_BYTES)
        ));
    }
    None
}

/// Does something that takes a processor, in a place for it.
async fn work<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    let work = tokio::task::spawn_blocking(move || {
        // It is free again when the work is done, however long anybody waits for it.
        let _place = place;
        work()
    });
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The replay stopped because of an error of this program.",
        )),
        Err(_) => Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "The replay was not done after {} s. `perennial export` and `perennial replay` replay a history of any length.",
                PATIENCE.as_secs()
            ),
        )),
    }
}

fn verdict(outcome: CheckOutcome) -> Verdict {
    match outcome {
        CheckOutcome::Compatible { turns } => Verdict::Same { turns },
        CheckOutcome::Differs(why) => Verdict::Differs(why),
        CheckOutcome::NotDefined => Verdict::NotDefined,
        other => Verdict::Differs(Box::new(Quarantine::because(format!("{other:?}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_replays_run_at_once_and_a_third_is_told_so() {
        let lab = Lab::default();
        let held = [lab.place().unwrap(), lab.place().unwrap()];
        let refused = lab.place().unwrap_err();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.message.contains("busy"), "{}", refused.message);
        drop(held);
        assert_eq!(work(lab.place().unwrap(), || 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_is_no_component_is_refused_in_the_words_of_the_host() {
        let lab = Lab::default();
        let refused = lab
            .add("default", "x".to_owned(), b"no wasm".to_vec())
            .await
            .unwrap_err();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(lab.components("default").is_empty());
    }
}
