//! A hub that this process owns: it alone runs the hub's instances and changes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::store::flight::FlightRecorder;
use crate::store::reads::Reader;
use crate::store::types::WasRunning;
use crate::store::writer::Writer;

/// What an owner says about itself, for other processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnerNote {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its version of Perennial.
    pub(crate) version: String,
    /// The kind of process, such as `perennial serve`.
    pub(crate) what: String,
    /// The socket on which it is notified of commands.
    pub(crate) socket: Option<PathBuf>,
}

/// The right to change a hub, until dropped.
pub(crate) trait Ownership: Send + Sync {
    /// Says who the owner is, and where it listens.
    fn announce(&mut self, note: &OwnerNote) -> std::io::Result<()>;
}

/// A hub that this process owns.
pub(crate) struct Owned {
    /// What makes this process the owner.
    pub(crate) owner: Box<dyn Ownership>,
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    /// Records what runs, for the next owner.
    pub(crate) flight: FlightRecorder,
    /// What ran when the last owner died.
    pub(crate) were_running: Vec<WasRunning>,
    /// Whether this call created the hub.
    pub(crate) made: bool,
}
