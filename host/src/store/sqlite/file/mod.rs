//! The files of a hub: opening, ownership, checks, backup, and compaction.

pub(crate) mod backup;
#[cfg(test)]
pub(crate) mod disk;
pub(crate) mod foreign_log;
pub(crate) mod fresh;
pub(crate) mod hubs;
pub(crate) mod identity;
pub(crate) mod lock;
pub(crate) mod log_files;
pub(crate) mod open;
pub(crate) mod paths;
pub(crate) mod settings;
pub(crate) mod space;
