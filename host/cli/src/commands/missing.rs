//! The error for an instance that does not exist.

use crate::error::{CliError, Exit};
use crate::session::Session;

/// The error of a command that found no instance.
pub(super) fn missing(id: &str, session: &Session) -> CliError {
    let said = CliError::new(Exit::NotFound, format!("there is no instance {id:?}"));
    said.hint(format!(
        "`perennial list` shows the instances of this task hub, {}",
        session.place()
    ))
}
