//! The address of a hub: a database, and the name of the hub in it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::store::StoreError;
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
    hub: String,
}

impl Address {
    /// Whether a text is an address of PostgreSQL, right or wrong.
    pub(crate) fn is_one(text: &str) -> bool {
        ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
    }

    /// Reads `postgres://user:password@host:port/database`, with the parameters of libpq that tokio-postgres knows. A socket is
    /// named by its directory: `postgres:///database?host=/var/run/postgresql`. Without a password, `PGPASSWORD` is it.
    ///
    /// `sslmode` is `disable`; `prefer`, which encrypts if the server can, without a look at its certificate, and is the default;
    /// `require`, which always encrypts, and checks who issued the certificate if `sslrootcert` names a file; `verify-ca`, which always
    /// checks that; or `verify-full`, which also checks that the certificate is the server's. Without `sslrootcert`, the authorities are
    /// those of the system and of Mozilla.
    ///
    /// # Errors
    /// [`StoreError::Address`] says what is wrong, without the text.
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        Self::parse_with(
            text,
            std::env::var_os("PGPASSWORD").map(|password| password.into_encoded_bytes()),
        )
    }

    fn parse_with(text: &str, password: Option<Vec<u8>>) -> Result<Self, StoreError> {
        let bad = |why: String| {
            StoreError::Address(format!(
                "the address of the PostgreSQL database cannot be used: {why}"
            ))
        };
        if !Self::is_one(text) {
            return Err(bad("it must begin with postgres://".to_owned()));
        }
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots) = ("prefer".to_owned(), None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "hub" => {
                    return Err(bad(
                        "its task hub is named apart from it, as by --task-hub".to_owned()
                    ));
                }
                "sslmode" => mode = decoded,
                "sslrootcert" => {
                    roots = Some(PathBuf::from(decoded)).filter(|file| file.as_os_str() != "system")
                }
                _ => rest.push(pair),
            }
        }
        let (ssl, trust) = match mode.as_str() {
            "disable" => (SslMode::Disable, Trust::Anyone),
            "prefer" => (SslMode::Prefer, Trust::Anyone),
            "require" if roots.is_none() => (SslMode::Require, Trust::Anyone),
            "require" | "verify-ca" => (SslMode::Require, Trust::Issued),
            "verify-full" => (SslMode::Require, Trust::Named),
            _ => {
                let known = "disable, prefer, require, verify-ca or verify-full";
                return Err(bad(format!("sslmode must be {known}")));
            }
        };
        let mut config: Config = match rest.is_empty() {
            true => place.parse(),
            false => format!("{place}?{}", rest.join("&")).parse(),
        }
        // Its causes name parameters, and never a value.
        .map_err(|error: tokio_postgres::Error| {
            bad(std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        config.ssl_mode(ssl);
        complete(&mut config, password);
        Ok(Self {
            config,
            trust,
            roots,
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
        Ok(Self {
            hub: hub.to_owned(),
            ..self.clone()
        })
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

/// Puts in what the address leaves out.
fn complete(config: &mut Config, password: Option<Vec<u8>>) {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host("localhost");
    }
    if let Some(password) = password.filter(|_| config.get_password().is_none()) {
        config.password(password);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, StoreError> {
        Address::parse_with(text, None)
    }

    #[test]
    fn the_text_of_an_address_has_no_password() {
        for (given, shown) in [
            (
                "postgres://me:s3cret@db.example.com:5433/app?application_name=a",
                "postgres://me@db.example.com:5433/app#default",
            ),
            (
                "postgresql://me@db/app?password=s3cret",
                "postgres://me@db/app#default",
            ),
            (
                "postgres:///app?host=/var/run/postgresql",
                "postgres:///var/run/postgresql/app#default",
            ),
            (
                "postgres://me@a,b:5433/app",
                "postgres://me@a,b:5433/app#default",
            ),
            ("postgres:///app", "postgres://localhost/app#default"),
        ] {
            let address = parse(given).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(format!("{address:?}"), shown);
            let other = address.with_hub("other").unwrap();
            assert_eq!(other.of_database(), address.of_database());
            assert_eq!(other.short_digest(), address.short_digest());
        }
        let of_environment =
            Address::parse_with("postgres://me@db/app", Some(b"s3cret".to_vec())).unwrap();
        assert_eq!(of_environment.config.get_password(), Some(&b"s3cret"[..]));
        assert!(!format!("{of_environment:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        for bad in [
            "mysql://me:s3cret@db",
            "postgres://me:s3cret@db/app?hub=s3cret",
            "postgres://me:s3cret@db/app?sslmode=maybe",
            "postgres://me:s3cret@db/app?passwort=s3cret",
            "postgres://me:s3cret@db:many/app",
        ] {
            let Err(StoreError::Address(error)) = parse(bad) else {
                panic!("{bad} was read")
            };
            assert!(!error.contains("s3cret"), "{error}");
        }
        let address = parse("postgres://db/app").unwrap();
        for bad in ["", "a\"b", "a_b", &"a".repeat(HUB_CHARS_MAX + 1)] {
            assert!(address.with_hub(bad).is_err());
        }
    }

    #[test]
    fn the_modes_of_tls_are_those_of_libpq() {
        for (query, ssl, trust) in [
            ("", SslMode::Prefer, Trust::Anyone),
            ("?sslmode=disable", SslMode::Disable, Trust::Anyone),
            ("?sslmode=require", SslMode::Require, Trust::Anyone),
            (
                "?sslmode=require&sslrootcert=/ca.pem",
                SslMode::Require,
                Trust::Issued,
            ),
            ("?sslmode=verify-ca", SslMode::Require, Trust::Issued),
            (
                "?sslmode=verify-full&sslrootcert=%2Fca.pem",
                SslMode::Require,
                Trust::Named,
            ),
        ] {
            let address = parse(&format!("postgres://db/app{query}")).unwrap();
            assert_eq!((address.config.get_ssl_mode(), address.trust), (ssl, trust));
            assert_eq!(address.roots.is_some(), query.contains("sslrootcert"));
        }
    }
}
