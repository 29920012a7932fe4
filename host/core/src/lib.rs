//! The rules of the Perennial workflow engine, without any IO.
//!
//! An orchestration is a function from events to actions. This crate says what the events and actions are, what an execution's history
//! means, and what a client's command does in each status. It knows neither wasm, nor SQLite, nor what time it is: everything it needs
//! is an argument, and in its tests the guest is a closure.
//!
//! Three functions carry it:
//!
//! - [`State::apply`], one exhaustive match over [`Event`], used both to load a history and to write one;
//! - [`decide`](fn@decide), the table of what a command does in each [`Status`];
//! - [`run_turn`], messages in, one [`Turn`] out. [`replay_turn`] is its counterpart for a turn that is recorded already, and
//!   [`Rewinder`] its undoing.
//!
//! Laws, kept by property tests: replaying a whole history writes nothing; cutting it at any turn and going on writes what was written
//! the first time; a log that could not have been written cannot be read.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm
)]

mod answer;
mod attempt;
pub mod bounds;
mod check;
mod closest;
mod context;
mod convert;
mod corrupt;
mod cut;
mod decide;
mod describe;
mod event;
mod failure;
mod family;
mod guest;
mod limits;
mod message;
mod phase;
mod quarantine;
mod replay;
mod retry;
mod rewind;
mod rewound;
mod stage;
mod state;
mod target;
mod task;
pub mod text;
mod told;
mod trace;
mod turn;
mod turn_builder;
mod unread;
mod unreadable;
mod value;
mod xxh64;

pub use answer::answer_hash;
pub use attempt::{AttemptRun, FailedAttempt};
pub use closest::closest;
pub use context::{Names, Resolved, TurnContext};
pub use convert::OutOfRange;
pub use corrupt::{Corrupt, CorruptReason};
pub use cut::{Cut, CutFinder, FailedKind, RemainingFailure, Scope};
pub use decide::{Command, Decision, Rejection, Reuse, Status, StatusSet, decide};
pub use event::{Event, Start};
pub use failure::{Cause, Failure, kind};
pub use family::{CANCELLATION_GRACE, ChildCommand, ChildPolicy, IdReuse};
pub use guest::{
    Action, ActivityCall, Answer, CallDetails, CallOptions, Cancellation, ChildCall, Ending, Guest,
    GuestEvent, IncomingRequest, InstanceOptions, Mode, OutgoingEvent, OutgoingRequest, Stop,
    TimerDue, Waiting,
};
pub use limits::Limits;
pub use message::{Envelope, Message};
pub use phase::{Begun, End, Phase, Running, Suspension, TurnPart};
pub use quarantine::Quarantine;
pub use replay::{Nondeterminism, ReplayError, replay_turn};
pub use retry::RetryPolicy;
pub use rewind::Rewinder;
pub use rewound::{ArmedActivity, ArmedTimer, DroppedEvent, DroppedKind, DroppedTask, Rewind};
pub use state::State;
pub use target::{Callee, Target};
pub use task::{ChildTask, Task, TaskKind, TaskType};
pub use trace::TraceContext;
pub use turn::{
    AskedTurn, Batch, NoBatch, Turn, TurnError, TurnStep, begin_turn, run_turn, take_batch,
};
pub use unread::Unread;
pub use unreadable::{Unreadable, check_readable};
pub use value::{
    Digest, InvalidId, InvalidName, Json, Millis, Parent, Tags, TaskId, TaskRef, Timestamp,
    check_instance_id, check_known_id, check_name, set_tag,
};
pub use xxh64::xxh64;

/// The version of the rules in this crate, recorded in every [`Start`], so that a later fix never changes what a running execution does.
///
/// - 2: until the first turn a guest's clock stands at the time of the start, and no longer at 0; the custom status of the execution before
///   may stand right after the start, and after the end that an instance was not started.
pub const SEMANTICS_VERSION: u32 = 2;
