//! Turns, from the mail of an instance to the commit and its effects.

pub(crate) mod asked;
pub(crate) mod committed;
pub(crate) mod delivery;
pub(crate) mod effects;
pub(crate) mod history_growth;
pub(crate) mod inline;
pub(crate) mod load;
pub(crate) mod quarantine;
pub(in crate::engine) mod receive;
pub(crate) mod replay;
pub(crate) mod step;
pub(crate) mod turn_commit;
pub(crate) mod worker;
