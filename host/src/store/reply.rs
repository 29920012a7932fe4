//! The result of a committed change.

use perennial_core::{Failure, Rejection, RemainingFailure, Tags, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::store::types::{CollectedModule, NameTaken, UpdatedName};

/// The result of a committed change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The change was made.
    #[default]
    Done,
    /// The change was already made, or there was nothing to do.
    Nothing,
    /// The core's table rejected the change; nothing was changed.
    Rejected(Rejection),
    /// A module defines a name that another one owns.
    NameTaken(NameTaken),
    /// A module was deployed.
    Deployed(Vec<UpdatedName>),
    /// An instance was rewound.
    Rewound(Box<Rewound>),
    /// Nothing was changed yet: these children, by id, must be rewound first.
    RewindFirst(Vec<String>),
    /// Instances were purged.
    Purged(Purged),
    /// The results of several changes.
    All(Vec<Self>),
    /// Modules were deleted.
    Collected(Vec<CollectedModule>),
    /// This many live instances run the module that was to be removed.
    InUse(u64),
    /// Refused before it reached the store: a kind for programs, and a message.
    Refused { kind: String, message: String },
    /// The remote workers of the hub's owner, as JSON.
    Workers(String),
    /// The tags of an instance after they were changed.
    Tagged(Tags),
    /// Nothing was changed: the instance would have so many tags.
    TooManyTags(u64),
    /// Another request has this id, by this name.
    OtherRequest(String),
    /// The module judged that the request may not be made.
    Declined(Box<Failure>),
    /// Nothing was changed: the change was meant for another run than the one that the instance began then.
    OtherRun(Timestamp),
    /// The log lines of an instance that an owner keeps, as JSON.
    Lines(String),
}

/// The result of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purged {
    /// The number of instances that were deleted.
    pub(crate) deleted: u32,
    /// The number of live instances, which were left alone.
    pub(crate) live: u32,
}

impl Reply {
    /// The answer to a rewind that does not apply to the instance any more. If it has rewound some of the descendants by then, another one has rewound
    /// the instance meanwhile, and this one says what it has done. `below`: those descendants, and the events that they dropped.
    pub(crate) fn rejected_after(
        rejection: Rejection,
        below: (Vec<String>, Vec<(String, perennial_core::DroppedEvent)>),
    ) -> Self {
        let (rewound, dropped_events) = below;
        match rewound.is_empty() {
            true => Self::Rejected(rejection),
            false => Self::Rewound(Box::new(Rewound {
                rewound,
                dropped_events,
                ..Rewound::default()
            })),
        }
    }
}

/// The result of a rewind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rewound {
    /// The activities that run again.
    pub(crate) activities: Vec<(TaskId, String)>,
    /// Children that were rewound first, by id, deepest first.
    pub(crate) rewound: Vec<String>,
    /// Children that were started again, by id.
    pub(crate) started: Vec<String>,
    /// Tasks that were scheduled after the cut, and are forgotten.
    pub(crate) dropped: Vec<perennial_core::DroppedTask>,
    /// Events that were cut off and archived.
    pub(crate) cut_events: u64,
    /// Failures that stay, and those that will fail again at once.
    pub(crate) remaining: Vec<RemainingFailure>,
    /// How many remaining failures the list leaves out.
    pub(crate) more_remaining: u32,
    /// Events that were dropped, each with its instance: this one, or a child that was rewound for it.
    pub(crate) dropped_events: Vec<(String, perennial_core::DroppedEvent)>,
}
