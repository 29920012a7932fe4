//! The rules of a change: what it decides from the rows, and what it writes. Each runs in one transaction.
//!
//! They are written once, on the [rows](crate::store::rows) of any store.

pub(crate) mod apply;
mod attempts;
mod children;
mod commit;
mod control;
mod create;
mod epilogue;
mod family;
mod inbox;
mod misplaced;
mod modules;
mod parents;
mod purge;
mod receive;
mod request;
mod requests;
mod rewind;
mod run;
mod send;
mod settings;
mod tags;
mod tasks;

pub(crate) use commit::summary;
pub(crate) use control::termination;
pub(crate) use requests::not_answered;
pub(crate) use rewind::RestartCommit;
pub(crate) use run::Run;
