//! Quarantine: why a host cannot continue an execution.

use serde::{Deserialize, Serialize};

use crate::{Digest, ReplayError, Timestamp};

/// Why a host does not continue an instance: not a failure of the orchestration, but a problem that a person has to look at. Nothing is
/// consumed or written until the instance is resumed and its replay matches, or it is terminated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quarantine {
    /// What is wrong, for people.
    pub reason: String,
    /// The turn that does not repeat, where it is one.
    pub turn: Option<u32>,
    /// The number of the first event that is not what it should be.
    pub event: Option<u64>,
    /// What is recorded there.
    pub recorded: Option<String>,
    /// What the guest asks for instead.
    pub asked: Option<String>,
    /// The module that was asked.
    pub module: Option<Digest>,
    /// Which build of which host says so.
    pub host: String,
    /// When it did.
    pub at: Timestamp,
}

impl Quarantine {
    /// A quarantine for this reason; who says so and when is yet to be filled in.
    pub fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            turn: None,
            event: None,
            recorded: None,
            asked: None,
            module: None,
            host: String::new(),
            at: Timestamp(0),
        }
    }
}

impl From<&ReplayError> for Quarantine {
    fn from(error: &ReplayError) -> Self {
        let mut quarantine = Self::because(error.to_string());
        match error {
            ReplayError::Differs(difference) => {
                quarantine.turn = Some(difference.turn);
                quarantine.event = Some(difference.event);
                quarantine.recorded = Some(difference.recorded.clone());
                quarantine.asked = Some(difference.asked.clone());
            }
            ReplayError::Corrupt(corrupt) => {
                quarantine.event = Some(corrupt.number);
                quarantine.recorded = Some(corrupt.event.to_owned());
            }
            ReplayError::Stopped { turn, failure } => {
                quarantine.turn = Some(*turn);
                quarantine.recorded = Some("an answer".to_owned());
                quarantine.asked = Some(format!("nothing: it fails with {failure}"));
            }
            ReplayError::Host(_) => {}
        }
        quarantine
    }
}

impl std::fmt::Display for Quarantine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}
