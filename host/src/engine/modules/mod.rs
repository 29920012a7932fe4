//! Names, grants and limits of deployed modules.

mod current;
pub(crate) mod grants;
pub(crate) mod limits;
pub(crate) mod names;
