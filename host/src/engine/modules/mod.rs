//! Names, grants and limits of deployed modules.

pub(crate) mod grants;
pub(crate) mod limits;
pub(crate) mod names;
