//! The changes to the rows of a hub; each runs in one transaction.

pub(crate) mod children;
pub(crate) mod collect;
pub(crate) mod commit;
pub(crate) mod control;
pub(crate) mod create;
pub(crate) mod cuts;
pub(crate) mod purge;
pub(crate) mod request;
pub(crate) mod rewind;
pub(crate) mod run;
pub(crate) mod send;
