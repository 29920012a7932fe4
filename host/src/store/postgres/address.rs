//! The address of a hub: a database, and the name of the hub in it.

mod environment;
mod passfile;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::store::StoreError;
use crate::store::postgres::address::environment::Variables;
use crate::store::postgres::address::url::{Parts, Roots};
use crate::store::postgres::error::bad_address;
use crate::store::postgres::tls::Trust;

/// How long it may take to connect, unless the address says it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When a silent connection is asked whether its server is there, and how long what was sent may be unacknowledged: a machine that is gone
/// is noticed within about as much time as a lease lasts.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Names of identifiers have at most 63 bytes; the prefix of a schema takes 10.
const HUB_CHARS_MAX: usize = 53;

/// What the name of a schema begins with that is a hub.
pub(super) const PREFIX: &str = "perennial_";

/// The hub of an address, until another one is named.
const DEFAULT_HUB: &str = "default";

/// Where a hub is. Its text has no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(super) config: Config,
    pub(super) trust: Trust,
    /// A file with the authorities that may issue the server's certificate.
    pub(super) roots: Option<PathBuf>,
    /// A copy of the database, for lists.
    pub(super) replica: Option<Box<Self>>,
    hub: String,
}

impl Address {
    /// Reads `postgres://user:password@host:port/database`, with the parameters of libpq that tokio-postgres knows. A socket is
    /// named by its directory: `postgres:///database?host=/var/run/postgresql`. What the address leaves out comes from the variables of
    /// libpq (`PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE` and so on), and the password also from a
    /// password file: `passfile`, `PGPASSFILE` or `~/.pgpass`.
    ///
    /// `sslmode` is `disable`; `prefer`, which encrypts if the server can, without a look at its certificate, and is the default;
    /// `require`, which always encrypts, and checks who issued the certificate if `sslrootcert` names a file; `verify-ca`, which always
    /// checks that; or `verify-full`, which also checks that the certificate is the server's. Without `sslrootcert`, the authorities are
    /// those of the system and of Mozilla. Over a socket none of this applies.
    ///
    /// # Errors
    /// [`StoreError::Address`] says what is wrong, without the text.
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        Self::parse_with(text, &|name| std::env::var_os(name))
    }

    fn parse_with(text: &str, env: &Variables<'_>) -> Result<Self, StoreError> {
        let Parts {
            mut config,
            mode,
            roots,
            passfile,
        } = url::read(text, env)?;
        let (ssl, trust) = tls_of(mode.as_deref(), &roots)?;
        let is_socket = |host: &Host| matches!(host, Host::Unix(_));
        // No server encrypts what goes over a socket.
        if !config.get_hosts().is_empty() && config.get_hosts().iter().all(is_socket) {
            config.ssl_mode(SslMode::Disable);
        } else {
            config.ssl_mode(ssl);
        }
        complete(&mut config);
        passfile::complete(&mut config, passfile, env)?;
        Ok(Self {
            config,
            trust,
            roots: match roots {
                Roots::File(file) => Some(file),
                Roots::Unset | Roots::System => None,
            },
            replica: None,
            hub: DEFAULT_HUB.to_owned(),
        })
    }

    /// The text without the hub.
    pub(crate) fn of_database(&self) -> String {
        let text = self.to_string();
        let end = text.len() - "#".len() - self.hub.len();
        text[..end].to_owned()
    }

    /// A short text that tells this database from others.
    pub(crate) fn short_digest(&self) -> String {
        {
            use sha2::Digest as _;
            let digest = sha2::Sha256::digest(self.of_database());
            perennial_core::Digest(digest.into()).short()
        }
    }

    /// Another hub of the database.
    pub(crate) fn with_hub(&self, hub: &str) -> Result<Self, StoreError> {
        check_hub(hub)?;
        let replica = self.replica.as_ref().map(|of| of.with_hub(hub));
        Ok(Self {
            hub: hub.to_owned(),
            replica: replica.transpose()?.map(Box::new),
            ..self.clone()
        })
    }

    /// The same database, of which another one is a copy that is kept by streaming.
    pub(crate) fn with_replica(self, replica: Self) -> Self {
        Self {
            replica: Some(Box::new(replica)),
            ..self
        }
    }

    /// The name of the hub's schema.
    pub(super) fn schema(&self) -> String {
        format!("{PREFIX}{}", self.hub)
    }

    /// The same as an identifier of a statement. What it consists of needs no other care than quotes.
    pub(super) fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema())
    }
}

/// The rule for names of hubs: as for files, but shorter.
fn check_hub(hub: &str) -> Result<(), StoreError> {
    let fits = (1..=HUB_CHARS_MAX).contains(&hub.len())
        && hub
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fits {
        return Ok(());
    }
    Err(StoreError::Address(format!(
        "the name of a task hub in PostgreSQL must be 1 to {HUB_CHARS_MAX} letters, digits and dashes"
    )))
}

/// What `sslmode` and `sslrootcert` ask for.
fn tls_of(mode: Option<&str>, roots: &Roots) -> Result<(SslMode, Trust), StoreError> {
    let is_system = *roots == Roots::System;
    Ok(
        match mode.unwrap_or(if is_system { "verify-full" } else { "prefer" }) {
            "verify-full" => (SslMode::Require, Trust::Named),
            // Anybody has a certificate of an authority that all know.
            "disable" | "prefer" | "require" | "verify-ca" if is_system => {
                return Err(bad_address("sslrootcert=system needs sslmode=verify-full"));
            }
            "disable" => (SslMode::Disable, Trust::Anyone),
            "prefer" => (SslMode::Prefer, Trust::Anyone),
            "require" if *roots == Roots::Unset => (SslMode::Require, Trust::Anyone),
            "verify-ca" if *roots == Roots::Unset => {
                return Err(bad_address(
                    "sslmode=verify-ca needs sslrootcert, a file with the authority; verify-full also takes those that all know",
                ));
            }
            "require" | "verify-ca" => (SslMode::Require, Trust::Issued),
            _ => {
                return Err(bad_address(
                    "sslmode must be disable, prefer, require, verify-ca or verify-full",
                ));
            }
        },
    )
}

/// Puts in what neither the address nor a variable says.
fn complete(config: &mut Config) {
    if config.get_hosts().is_empty() {
        let addresses = config.get_hostaddrs().to_vec();
        if addresses.is_empty() {
            config.host("localhost");
        }
        // The name of a server of which only the address is known: TLS needs one.
        for address in addresses {
            config.host(address.to_string());
        }
    }
    if config.get_application_name().is_none() {
        config.application_name("perennial");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
    }
    config.keepalives_idle(KEEPALIVE_IDLE.min(config.get_keepalives_idle()));
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = self.config.get_ports();
        let (hosts, addresses) = (self.config.get_hosts(), self.config.get_hostaddrs());
        for at in 0..hosts.len().max(addresses.len()) {
            if at > 0 {
                f.write_str(",")?;
            }
            match (hosts.get(at), addresses.get(at)) {
                (Some(Host::Tcp(host)), _) => f.write_str(host)?,
                (Some(Host::Unix(dir)), _) => write!(f, "{}", dir.display())?,
                (None, Some(address)) => write!(f, "{address}")?,
                (None, None) => {}
            }
            if let Some(port) = ports
                .get(at)
                .or(ports.first())
                .filter(|port| **port != 5432)
            {
                write!(f, ":{port}")?;
            }
        }
        write!(
            f,
            "/{}#{}",
            self.config.get_dbname().unwrap_or_default(),
            self.hub
        )
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
