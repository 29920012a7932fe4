//! The password file of libpq: a line `host:port:database:user:password` for each server, where `*` matches all, and a backslash makes the
//! next character an ordinary one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::store::StoreError;
use crate::store::postgres::address::environment::Variables;
use crate::store::postgres::error::bad_address;

/// Directories of sockets that servers have unless told otherwise: a line for localhost is also meant for them.
const USUAL_SOCKETS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// What a line must match.
struct Server {
    /// The names of the host, of which one must match.
    names: Vec<String>,
    port: u16,
}

/// Puts in the password, if the address has none: `PGPASSWORD`, or that of the password file.
pub(super) fn complete(
    config: &mut Config,
    named: Option<PathBuf>,
    env: &Variables<'_>,
) -> Result<(), StoreError> {
    let is_set = |password: &&[u8]| !password.is_empty();
    if config.get_password().filter(is_set).is_some() {
        return Ok(());
    }
    if let Some(password) = env("PGPASSWORD").filter(|password| !password.is_empty()) {
        config.password(password.into_encoded_bytes());
        return Ok(());
    }
    let variable = |name: &str| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let file = named
        .or_else(|| variable("PGPASSFILE"))
        .or_else(|| Some(variable("HOME")?.join(".pgpass")));
    let Some(path) = file else {
        return Ok(());
    };
    let text = read(&path).unwrap_or_else(|why| {
        if is_first(&path) {
            let path = path.display();
            tracing::warn!("the password file {path} is ignored: {why}");
        }
        Vec::new()
    });
    let Some(user) = config
        .get_user()
        .map(str::to_owned)
        .or_else(|| whoami::username().ok())
    else {
        return Ok(());
    };
    let database = config.get_dbname().unwrap_or(&user);
    let found: Vec<_> = servers(config)
        .iter()
        .map(|server| password(&text, server, database, &user))
        .collect();
    // One password is sent to all hosts, so it must be meant for each of them.
    if found.windows(2).any(|two| two[0] != two[1]) {
        return Err(bad_address(format!(
            "{} does not have the same password for all of its hosts; write the same one for each, or set PGPASSWORD",
            path.display()
        )));
    }
    if let Some(password) = found.into_iter().next().flatten() {
        config.password(password);
    }
    Ok(())
}

/// Whether a file has not been warned of yet: an address is read several times in one command.
pub(super) fn is_first(path: &Path) -> bool {
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    warned.insert(path.to_owned())
}

/// The text of a password file; empty if there is none.
///
/// # Errors
/// Why it cannot be used, for example because others can read it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    if !metadata.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!(
                "its mode is {mode:04o}, so that its group or others may use it; chmod it to 0600, give the secret of a container the mode 0400, or set \
                 PGPASSWORD instead"
            ));
        }
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

/// The servers of an address.
fn servers(config: &Config) -> Vec<Server> {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate();
    hosts
        .map(|(at, host)| Server {
            names: match host {
                Host::Tcp(name) => vec![name.clone()],
                #[cfg(unix)]
                Host::Unix(dir) => {
                    let name = dir.display().to_string();
                    match USUAL_SOCKETS.contains(&&*name) {
                        true => vec!["localhost".to_owned(), name],
                        false => vec![name],
                    }
                }
            },
            port: *ports.get(at).or(ports.first()).unwrap_or(&5432),
        })
        .collect()
}

/// The password of the first line that matches.
fn password(text: &[u8], server: &Server, database: &str, user: &str) -> Option<Vec<u8>> {
    let port = server.port.to_string();
    text.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.starts_with(b"#"))
        .find_map(|line| {
            let mut fields = Fields(line);
            let host = fields.next()?;
            let is_host = server.names.iter().any(|name| host.matches(name));
            let is_it = is_host
                && fields.next()?.matches(&port)
                && fields.next()?.matches(database)
                && fields.next()?.matches(user);
            let password = is_it.then(|| fields.next()).flatten()?;
            Some(password.text).filter(|password| !password.is_empty())
        })
}

/// A field of a line.
struct Field {
    text: Vec<u8>,
    matches_all: bool,
}

impl Field {
    fn matches(&self, text: &str) -> bool {
        self.matches_all || self.text == text.as_bytes()
    }
}

/// The fields that are left of a line.
struct Fields<'a>(&'a [u8]);

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        if self.0.is_empty() {
            return None;
        }
        let (mut text, mut at) = (Vec::new(), 0);
        while let Some(byte) = self.0.get(at).filter(|byte| **byte != b':') {
            let escaped = self.0.get(at + 1).filter(|_| *byte == b'\\');
            text.push(*escaped.unwrap_or(byte));
            at += 1 + usize::from(escaped.is_some());
        }
        let matches_all = &self.0[..at] == b"*";
        self.0 = self.0.get(at + 1..).unwrap_or_default();
        Some(Field { text, matches_all })
    }
}
