//! Finds which process owns a hub, and whether it responds.

use std::io::Read;
use std::time::Duration;

use serde::Serialize;

use crate::client::{Client, Error, Result};
use crate::store::{Outside, OwnerNote, Place};

/// How long a running owner may take to respond.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// The process that owns a task hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HubOwner {
    /// The program, such as `perennial serve`.
    pub name: String,
    /// The process id.
    pub process: u32,
    /// The name of its machine, if the hub is in a database, which other machines use too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Whether it responds.
    pub state: OwnerState,
}

/// Whether an owner responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum OwnerState {
    /// It responds.
    Runs,
    /// A signal stopped it, for example Ctrl-Z in a shell or a debugger. It does nothing until it is continued.
    Stopped,
    /// It exists and does not respond.
    Silent,
}

impl std::fmt::Display for HubOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {}", self.name, self.process)?;
        match &self.machine {
            Some(machine) => write!(f, " on {machine})"),
            None => f.write_str(")"),
        }
    }
}

impl Client {
    /// The process that owns the hub, and whether it responds; `None` if there is none or this is a client of a remote host.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// if let Some(owner) = client.owner().await? {
    ///     println!("{owner}: {:?}", owner.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If an internal task of the library panics.
    pub async fn owner(&self) -> Result<Option<HubOwner>> {
        let Some(place) = self.place().cloned() else {
            return Ok(None);
        };
        let looked = tokio::task::spawn_blocking(move || look(place)).await;
        looked.map_err(|_| Error::panicked())
    }
}

fn look(place: Place) -> Option<HubOwner> {
    let outside = Outside::new(place);
    let is_owned = outside.is_owned();
    let note = outside.owner().filter(|_| is_owned)?;
    let state = if is_stopped(&note) {
        OwnerState::Stopped
    } else if answers(&note) {
        OwnerState::Runs
    } else {
        OwnerState::Silent
    };
    Some(HubOwner {
        name: note.what,
        process: note.pid,
        machine: note.machine,
        state,
    })
}

/// Whether an owner closes a connection, as it does after looking for commands. An owner without a socket counts as responding.
fn answers(note: &OwnerNote) -> bool {
    let Some(socket) = &note.socket else {
        return true;
    };
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
        return false;
    };
    let mut said = [0; 64];
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).is_ok() && stream.read(&mut said).is_ok()
}

/// Whether an owner on this machine is stopped by a signal or a zombie. `false` if that cannot be determined.
pub(in crate::client) fn is_stopped(owner: &OwnerNote) -> bool {
    let process = owner.pid;
    if !owner.is_here() {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| matches!(state_in(&stat), Some('T' | 't' | 'Z' | 'X')))
}

/// The state in `/proc/PID/stat`. The process name before it may contain any character.
fn state_in(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_stands_after_its_name() {
        assert_eq!(state_in("12 (a) T (b) S 1 12 12"), Some('S'));
        assert_eq!(state_in("12 (perennial) T 1 12 12"), Some('T'));
        assert_eq!(state_in(""), None);
        assert!(!is_stopped(&OwnerNote::of_this_process("a test", None)));
    }
}
