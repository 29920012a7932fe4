//! Commands that can be given to many instances, and how one is carried out on one instance.

use perennial::{Bulk, Client, Error, Filter, Json, Status, Timestamp, parse_json};

use crate::fields::Fields;
use crate::show;

const LIVE: &[Status] = &[Status::Pending, Status::Running, Status::Suspended];
const ENDED: &[Status] = &[Status::Completed, Status::Failed, Status::Terminated];

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Cancel,
    Terminate,
    Suspend,
    Resume,
    Rewind,
    Restart,
    Purge,
    Event,
}

impl Action {
    pub(super) const ALL: [Self; 8] = [
        Self::Suspend,
        Self::Resume,
        Self::Event,
        Self::Cancel,
        Self::Terminate,
        Self::Rewind,
        Self::Restart,
        Self::Purge,
    ];

    /// The name in forms.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Rewind => "rewind",
            Self::Restart => "restart",
            Self::Purge => "purge",
            Self::Event => "event",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Cancel => "Cancel",
            Self::Terminate => "Terminate",
            Self::Suspend => "Suspend",
            Self::Resume => "Resume",
            Self::Rewind => "Rewind",
            Self::Restart => "Restart",
            Self::Purge => "Purge",
            Self::Event => "Raise an event",
        }
    }

    /// What it does, for the person who confirms it.
    pub(super) fn explanation(self) -> &'static str {
        match self {
            Self::Cancel => concat!(
                "Asks each instance to end in good order. ",
                perennial::cancel_explained!()
            ),
            Self::Terminate => concat!(
                "Ends each instance at once, without compensation or clean-up. ",
                perennial::terminated_children_explained!(),
                ", unless descendants are included. This cannot be undone, but an ended instance can be restarted."
            ),
            Self::Suspend => {
                "Holds each instance until it is resumed. Activities that run now finish, and their results and all events are kept."
            }
            Self::Resume => {
                "Lets each suspended instance go on. What arrived meanwhile is delivered in order."
            }
            Self::Rewind => {
                "Goes back to before the failure of each failed instance and continues from there: failed activities and children run \
                 again, and what had succeeded before does not. Work that completed after the failure is kept from being \
                 forgotten: such an instance is left alone unless you permit it below."
            }
            Self::Restart => {
                "Runs each ended instance again from its beginning under the same id: the newest deployed version, with the same \
                 input and tags. Its history so far is deleted, and all its activities run again."
            }
            Self::Purge => "Deletes each ended instance with its history. This cannot be undone.",
            Self::Event => {
                "Sends an external event to each live instance. An instance keeps it until its orchestration awaits an event with \
                 this name."
            }
        }
    }

    /// The statuses in which it has an effect.
    pub(super) fn statuses(self) -> &'static [Status] {
        match self {
            Self::Cancel | Self::Terminate | Self::Event => LIVE,
            Self::Suspend => &[Status::Pending, Status::Running],
            Self::Resume => &[Status::Suspended],
            Self::Rewind => &[Status::Failed],
            Self::Restart | Self::Purge => ENDED,
        }
    }

    /// Whether it is for instances that do not change any more by themselves.
    pub(super) fn is_for_ended(self) -> bool {
        matches!(self, Self::Rewind | Self::Restart | Self::Purge)
    }

    /// What was done to an instance.
    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Cancel => "asked to end",
            Self::Terminate => "terminated",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Rewind => "rewound",
            Self::Restart => "restarted",
            Self::Purge => "deleted",
            Self::Event => "sent the event",
        }
    }

    /// Whether a reason is recorded with it.
    pub(super) fn takes_reason(self) -> bool {
        match self {
            Self::Cancel | Self::Terminate | Self::Suspend | Self::Resume | Self::Rewind => true,
            Self::Restart | Self::Purge | Self::Event => false,
        }
    }

    /// Whether descendants can be included.
    pub(super) fn takes_recursive(self) -> bool {
        match self {
            Self::Cancel | Self::Terminate | Self::Suspend | Self::Resume | Self::Purge => true,
            Self::Rewind | Self::Restart | Self::Event => false,
        }
    }

    /// Whether it takes something away.
    pub(super) fn is_harsh(self) -> bool {
        matches!(
            self,
            Self::Cancel | Self::Terminate | Self::Restart | Self::Purge
        )
    }
}

/// An action with its options.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) action: Action,
    reason: Option<String>,
    recursive: bool,
    forget_completed: bool,
    all_failures: bool,
    event: Option<(String, Option<Json>)>,
}

/// What a command did to one instance.
pub(super) enum Effect {
    /// It changed so many instances: more than one if descendants are counted.
    Changed(u64),
    /// It changed nothing, and why.
    Nothing(&'static str),
}

impl Command {
    /// Reads the options of an action.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(super) fn parse(action: Action, sent: &Fields) -> Result<Self, String> {
        let event = match action {
            Action::Event => {
                let name = sent.text("event").ok_or("The event needs a name.")?;
                let data = sent.text("data").map(parse_json).transpose();
                let data =
                    data.map_err(|error| format!("The data of the event is refused: {error}"))?;
                Some((name.to_owned(), data))
            }
            _ => None,
        };
        let reason = sent.text("reason").filter(|_| action.takes_reason());
        Ok(Self {
            action,
            reason: reason.map(str::to_owned),
            recursive: action.takes_recursive() && sent.is_set("recursive"),
            forget_completed: sent.is_set("forgetCompleted"),
            all_failures: sent.is_set("allFailures"),
            event,
        })
    }

    /// Carries it out on one instance.
    pub(super) async fn apply(&self, client: &Client, id: &str) -> Result<Effect, Error> {
        let reason = self.reason.as_deref();
        let command = match self.action {
            Action::Cancel => client.cancel(id, reason),
            Action::Terminate => client.terminate(id, reason),
            Action::Suspend => client.suspend(id, reason),
            Action::Resume => client.resume(id, reason),
            Action::Rewind => {
                let mut rewind = client.rewind(id);
                if let Some(reason) = reason {
                    rewind = rewind.reason(reason);
                }
                if self.forget_completed {
                    rewind = rewind.forget_completed();
                }
                if self.all_failures {
                    rewind = rewind.all_failures();
                }
                return rewind.await.map(|_| Effect::Changed(1));
            }
            Action::Restart => return client.restart(id).await.map(|_| Effect::Changed(1)),
            Action::Purge => {
                let purge = client.purge(id);
                let purge = if self.recursive {
                    purge.recursive()
                } else {
                    purge
                };
                return purge.await.map(|deleted| match deleted {
                    0 => Effect::Nothing("It does not exist any more."),
                    deleted => Effect::Changed(deleted),
                });
            }
            Action::Event => {
                if let Some((name, data)) = &self.event {
                    client.raise_event_json(id, name, data.clone()).await?;
                }
                return Ok(Effect::Changed(1));
            }
        };
        let outcome = command.recursive_if(self.recursive).await?;
        Ok(match (outcome.is_changed(), self.recursive) {
            (true, _) => Effect::Changed(1),
            (false, true) => {
                Effect::Nothing("It was in that state already; its descendants were told.")
            }
            (false, false) => Effect::Nothing("It was in that state already."),
        })
    }

    /// As an operation of the hub on all that match, if there is one: it takes many instances into one transaction.
    pub(super) fn bulk(&self, client: &Client, filter: Filter) -> Option<Bulk> {
        let mut bulk = bulk(self.action, client, filter)?;
        if let Some(reason) = &self.reason {
            bulk = bulk.reason(reason);
        }
        Some(if self.recursive {
            bulk.recursive()
        } else {
            bulk
        })
    }
}

fn bulk(action: Action, client: &Client, filter: Filter) -> Option<Bulk> {
    match action {
        Action::Cancel => Some(client.cancel_where(filter)),
        Action::Terminate => Some(client.terminate_where(filter)),
        Action::Suspend => Some(client.suspend_where(filter)),
        Action::Resume => Some(client.resume_where(filter)),
        Action::Restart => Some(client.restart_where(filter)),
        Action::Purge => Some(client.purge_where(filter)),
        Action::Rewind | Action::Event => None,
    }
}

/// The number of instances that match a filter which selects only statuses in which the action has an effect, and when they were counted.
pub(super) async fn count(
    action: Action,
    client: &Client,
    filter: Filter,
) -> Result<(u64, Timestamp), Error> {
    let now = show::now();
    if let Some(bulk) = bulk(action, client, filter.clone()) {
        let counted = bulk.dry_run().await?;
        return Ok((counted.matched, counted.as_of.unwrap_or(now)));
    }
    let counts = client.list().filter(filter).counts().await?;
    Ok((counts.iter().map(|(_, count)| count).sum(), now))
}

/// Whether an error concerns one instance, so that a command may go on with the next.
pub(super) fn is_of_one(error: &Error) -> bool {
    is_gone(error)
        || error.is_invalid()
        || error.is_limit_exceeded()
        || error.is_already_exists()
        || error.would_forget()
        || error.is_unknown_orchestration()
        || error.is_unknown_module()
}

/// Whether an error says that there was nothing to do: the instance has another status by now, or is gone.
pub(super) fn is_gone(error: &Error) -> bool {
    error.is_wrong_state()
        || error.is_other_run()
        || error.is_not_found() && !error.is_unknown_hub()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_a_name_of_its_own() {
        for action in Action::ALL {
            assert_eq!(Action::of(action.name()), Some(action));
        }
        assert_eq!(Action::of("explode"), None);
    }

    #[test]
    fn only_options_that_an_action_knows_are_taken() {
        let sent = Fields::parse(b"reason=because&recursive=yes&event=Go&data=%7B");
        let purge = Command::parse(Action::Purge, &sent).unwrap();
        assert!(purge.reason.is_none() && purge.recursive && purge.event.is_none());
        let rewind = Command::parse(Action::Rewind, &sent).unwrap();
        assert!(rewind.reason.is_some() && !rewind.recursive);
        assert!(Command::parse(Action::Event, &sent).is_err());
        assert!(Command::parse(Action::Event, &Fields::parse(b"data=1")).is_err());
        let event = Command::parse(Action::Event, &Fields::parse(b"event=Go")).unwrap();
        assert_eq!(event.event, Some(("Go".to_owned(), None)));
    }
}
