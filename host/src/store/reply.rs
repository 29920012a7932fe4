//! What came of a change that was committed.

use perennial_core::{Rejection, RemainingFailure, TaskId};
use serde::{Deserialize, Serialize};

use crate::store::changes::purge::Purged;
use crate::store::rows::modules::NameTaken;
use crate::store::types::{CollectedModule, UpdatedName};

/// What came of a change that was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It was done.
    #[default]
    Done,
    /// It was done already, or there was nothing to do.
    Nothing,
    /// It was refused, by the core's table, and nothing was changed.
    Rejected(Rejection),
    /// A module defines a name that another one owns.
    NameTaken(NameTaken),
    /// A module was deployed.
    Deployed(Vec<UpdatedName>),
    /// An instance was rewound.
    Rewound(Box<Rewound>),
    /// Nothing was done yet: these children, by id, must be rewound first.
    RewindFirst(Vec<String>),
    /// Instances were purged.
    Purged(Purged),
    /// What came of each of several changes.
    All(Vec<Self>),
    /// Modules were deleted.
    Collected(Vec<CollectedModule>),
    /// So many live instances run what was to be removed.
    InUse(u64),
    /// It was refused before it came to the store: a kind that code can match on, and a message.
    Refused { kind: String, message: String },
}

/// What a rewind did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rewound {
    /// The activities that run again.
    pub(crate) activities: Vec<(TaskId, String)>,
    /// Children that were rewound first, by id, deepest first.
    pub(crate) rewound: Vec<String>,
    /// Children that were started again, by id.
    pub(crate) started: Vec<String>,
    /// What is forgotten.
    pub(crate) dropped: Vec<perennial_core::DroppedTask>,
    /// Events that were cut off and archived.
    pub(crate) cut_events: u64,
    /// Failures that stay, and those that come back at once.
    pub(crate) remaining: Vec<RemainingFailure>,
    /// How many more there are.
    pub(crate) more_remaining: u32,
    /// Events that were put aside, each with its instance: this one, or one that was rewound for it.
    pub(crate) dropped_events: Vec<(String, perennial_core::DroppedEvent)>,
}
