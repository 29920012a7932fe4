//! What is said of an instance that is not there.

use crate::error::{Exit, Said};
use crate::session::Session;

/// The error of a command that found no instance.
pub(super) fn missing(id: &str, session: &Session) -> Said {
    let said = Said::new(Exit::NotFound, format!("there is no instance {id:?}"));
    said.hint(format!(
        "`perennial list` shows the instances of this task hub, {}",
        session.place()
    ))
}
