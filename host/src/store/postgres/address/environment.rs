//! The environment variables of libpq.

use std::ffi::OsString;

use crate::store::StoreError;
use crate::store::postgres::error::bad_address;

/// Looks up an environment variable.
pub(super) type Variables<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Parameters of an address, and the variables that give them if the address does not. Those of hosts, ports and the password are not here:
/// they depend on more than whether there is a parameter.
pub(super) const OF_PARAMETERS: [(&str, &str); 10] = [
    ("user", "PGUSER"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
];

/// The text of a variable that is set and not empty.
pub(super) fn text(env: &Variables<'_>, name: &str) -> Result<Option<String>, StoreError> {
    let Some(value) = env(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = value.into_string();
    text.map(Some)
        .map_err(|_| bad_address(format!("the environment variable {name} is not UTF-8")))
}
