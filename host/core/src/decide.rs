//! What a command does to an instance, by the status of the instance.
//!
//! ```text
//!                 missing    Pending     Running     Suspended   ended
//! start           create     exists      exists      exists      replace (never: exists; any: replaces live ones too; among: those given)
//! raise event     not found  deliver     deliver     deliver     not running
//! terminate       not found  deliver     deliver     deliver     not running
//! cancel          not found  deliver     deliver     deliver     not running
//! suspend         not found  deliver     deliver     nothing     not running
//! resume          not found  nothing     nothing     deliver     not running
//! rewind          not found  not failed  not failed  not failed  Failed: deliver, others: not failed
//! restart         not found  not ended   not ended   not ended   next execution
//! restart, new id not found  create      create      create      create
//! purge           nothing    not ended   not ended   not ended   delete
//! ```

use serde::{Deserialize, Serialize};

/// The status of an instance, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Accepted and not started.
    Pending,
    /// Started and not ended.
    Running,
    /// Held until it is resumed.
    Suspended,
    /// Completed.
    Completed,
    /// Failed.
    Failed,
    /// Terminated from outside.
    Terminated,
}

impl Status {
    /// All of them, in the order of an instance's life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Suspended,
        Self::Completed,
        Self::Failed,
        Self::Terminated,
    ];

    /// Whether nothing runs any more.
    pub fn is_end(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Suspended => false,
            Self::Completed | Self::Failed | Self::Terminated => true,
        }
    }

    /// The name that clients read and write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Suspended => "Suspended",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Terminated => "Terminated",
        }
    }

    /// Reads a name, without regard to case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.name().eq_ignore_ascii_case(name))
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Whether a start may replace an instance that has the same id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reuse {
    /// It replaces an instance that has ended.
    #[default]
    Ended,
    /// It is refused.
    Never,
    /// It terminates and replaces a live instance too.
    Any,
    /// It replaces an instance in one of these statuses; a live one is terminated first.
    Among(StatusSet),
}

/// A set of statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatusSet(u8);

impl StatusSet {
    /// Whether the set contains a status.
    pub fn contains(self, status: Status) -> bool {
        self.0 & Self::bit(status) != 0
    }

    /// The statuses of the set, in the order of an instance's life.
    pub fn iter(self) -> impl Iterator<Item = Status> {
        Status::ALL
            .into_iter()
            .filter(move |status| self.contains(*status))
    }

    /// The stored form: these numbers never change.
    fn bit(status: Status) -> u8 {
        1 << match status {
            Status::Pending => 0,
            Status::Running => 1,
            Status::Suspended => 2,
            Status::Completed => 3,
            Status::Failed => 4,
            Status::Terminated => 5,
        }
    }
}

impl FromIterator<Status> for StatusSet {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        Self(
            statuses
                .into_iter()
                .map(Self::bit)
                .fold(0, |set, bit| set | bit),
        )
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Starts an instance.
    Start(Reuse),
    /// Raises an external event.
    RaiseEvent,
    /// Terminates it.
    Terminate,
    /// Asks it to end in good order.
    Cancel,
    /// Suspends it.
    Suspend,
    /// Resumes it.
    Resume,
    /// Goes back to before its failure.
    Rewind,
    /// Runs it again from the beginning under the same id.
    Restart,
    /// Runs it again from the beginning under another id.
    RestartAs,
    /// Deletes it and its history.
    Purge,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Creates the instance.
    Create,
    /// Replaces the instance with a new one; terminates it first if it is live.
    Replace,
    /// Puts a message into the instance's inbox.
    Deliver,
    /// Starts the instance's next execution.
    NextExecution,
    /// Deletes the instance.
    Delete,
    /// Nothing, because the instance is in that state already.
    Nothing,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// There is no such instance.
    #[error("there is no such instance")]
    NotFound,
    /// The id is in use.
    #[error("it exists already and is {0}")]
    AlreadyExists(Status),
    /// The instance has ended.
    #[error("it has ended and is {0}")]
    NotRunning(Status),
    /// The instance has not failed.
    #[error("it is {0}, and only a Failed instance can be rewound")]
    NotFailed(Status),
    /// The instance has not ended.
    #[error("it has not ended and is {0}")]
    NotTerminal(Status),
    /// The instance is not quarantined, and so keeps its module.
    #[error(
        "it is {0} and not quarantined; only a quarantined instance can be given another module"
    )]
    NotQuarantined(Status),
    /// The instance was sent more external events than it has read.
    #[error(
        "the external events and requests that it was sent and has not read fill {} MiB: this can be sent again once it has read some",
        crate::bounds::UNREAD_EVENT_BYTES >> 20
    )]
    TooManyUnread,
}

/// Says what `command` does to an instance in `status`, `None` meaning that there is none.
///
/// # Errors
/// [`Rejection`] says why it is refused.
pub fn decide(status: Option<Status>, command: Command) -> Result<Decision, Rejection> {
    let Some(status) = status else {
        return match command {
            Command::Start(_) => Ok(Decision::Create),
            Command::Purge => Ok(Decision::Nothing),
            Command::RaiseEvent
            | Command::Terminate
            | Command::Cancel
            | Command::Suspend
            | Command::Resume
            | Command::Rewind
            | Command::Restart
            | Command::RestartAs => Err(Rejection::NotFound),
        };
    };
    match (command, status.is_end()) {
        (Command::Start(Reuse::Any), _) | (Command::Start(Reuse::Ended), true) => {
            Ok(Decision::Replace)
        }
        (Command::Start(Reuse::Among(these)), _) if these.contains(status) => Ok(Decision::Replace),
        (Command::Start(_), _) => Err(Rejection::AlreadyExists(status)),
        (
            Command::RaiseEvent
            | Command::Terminate
            | Command::Cancel
            | Command::Suspend
            | Command::Resume,
            true,
        ) => Err(Rejection::NotRunning(status)),
        (Command::RaiseEvent | Command::Terminate | Command::Cancel, false) => {
            Ok(Decision::Deliver)
        }
        (Command::Suspend, false) if status == Status::Suspended => Ok(Decision::Nothing),
        (Command::Resume, false) if status != Status::Suspended => Ok(Decision::Nothing),
        (Command::Suspend | Command::Resume, false) => Ok(Decision::Deliver),
        (Command::Rewind, _) if status == Status::Failed => Ok(Decision::Deliver),
        (Command::Rewind, _) => Err(Rejection::NotFailed(status)),
        (Command::Restart, true) => Ok(Decision::NextExecution),
        (Command::Purge, true) => Ok(Decision::Delete),
        (Command::Restart | Command::Purge, false) => Err(Rejection::NotTerminal(status)),
        (Command::RestartAs, _) => Ok(Decision::Create),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_table_is_the_documented_one() {
        let commands = [
            Command::Start(Reuse::Ended),
            Command::Start(Reuse::Never),
            Command::Start(Reuse::Any),
            Command::Start(Reuse::Among(
                [Status::Running, Status::Failed].into_iter().collect(),
            )),
            Command::RaiseEvent,
            Command::Terminate,
            Command::Cancel,
            Command::Suspend,
            Command::Resume,
            Command::Rewind,
            Command::Restart,
            Command::RestartAs,
            Command::Purge,
        ];
        let mut table = String::new();
        for command in commands {
            let cells: Vec<_> = std::iter::once(None)
                .chain(Status::ALL.map(Some))
                .map(|status| match decide(status, command) {
                    Ok(decision) => format!("{decision:?}"),
                    Err(rejection) => format!("!{rejection:?}")
                        .split('(')
                        .next()
                        .unwrap()
                        .to_owned(),
                })
                .collect();
            table += &format!("{command:?}: {}\n", cells.join(" "));
        }
        expect![[r#"
            Start(Ended): Create !AlreadyExists !AlreadyExists !AlreadyExists Replace Replace Replace
            Start(Never): Create !AlreadyExists !AlreadyExists !AlreadyExists !AlreadyExists !AlreadyExists !AlreadyExists
            Start(Any): Create Replace Replace Replace Replace Replace Replace
            Start(Among(StatusSet(18))): Create !AlreadyExists Replace !AlreadyExists !AlreadyExists Replace !AlreadyExists
            RaiseEvent: !NotFound Deliver Deliver Deliver !NotRunning !NotRunning !NotRunning
            Terminate: !NotFound Deliver Deliver Deliver !NotRunning !NotRunning !NotRunning
            Cancel: !NotFound Deliver Deliver Deliver !NotRunning !NotRunning !NotRunning
            Suspend: !NotFound Deliver Deliver Nothing !NotRunning !NotRunning !NotRunning
            Resume: !NotFound Nothing Nothing Deliver !NotRunning !NotRunning !NotRunning
            Rewind: !NotFound !NotFailed !NotFailed !NotFailed !NotFailed Deliver !NotFailed
            Restart: !NotFound !NotTerminal !NotTerminal !NotTerminal NextExecution NextExecution NextExecution
            RestartAs: !NotFound Create Create Create Create Create Create
            Purge: Nothing !NotTerminal !NotTerminal !NotTerminal Delete Delete Delete
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn status_names_are_read_in_any_case() {
        for status in Status::ALL {
            assert_eq!(
                Status::from_name(&status.name().to_uppercase()),
                Some(status)
            );
        }
        assert_eq!(Status::from_name("Gone"), None);
    }
}
