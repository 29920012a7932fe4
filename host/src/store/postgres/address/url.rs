//! The text of an address.

use std::path::PathBuf;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::Config;

use crate::store::StoreError;
use crate::store::postgres::address::environment::{OF_PARAMETERS, Variables, text};
use crate::store::postgres::error::bad_address;

/// Whether a text is an address of PostgreSQL, right or wrong.
pub(super) fn is_one(text: &str) -> bool {
    ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// What an address and the variables say.
pub(super) struct Parts {
    /// All that tokio-postgres knows.
    pub(super) config: Config,
    pub(super) mode: Option<String>,
    pub(super) roots: Roots,
    pub(super) passfile: Option<PathBuf>,
}

/// The authorities that `sslrootcert` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Roots {
    Unset,
    System,
    File(PathBuf),
}

/// Parameters, as they are written.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decoded(name), value.to_owned()))
                .collect(),
        )
    }

    /// Names each of several hosts by a parameter of its own, as tokio-postgres wants them. libpq takes them in one.
    fn with_each_host(self) -> Self {
        let each = self.0.into_iter().flat_map(|(name, value)| {
            let value = match name == "host" {
                true => value.replace("%2C", ",").replace("%2c", ","),
                false => return vec![(name, value)],
            };
            let hosts = value.split(',').map(|host| (name.clone(), host.to_owned()));
            hosts.collect()
        });
        Self(each.collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn add(&mut self, name: &str, value: &str) {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        self.0.push((name.to_owned(), value));
    }

    /// Removes a parameter; the last one counts.
    fn take(&mut self, name: &str) -> Option<String> {
        let mut found = None;
        self.0.retain(|(known, value)| {
            let is_it = known == name;
            if is_it {
                found = Some(percent_decode_str(value).decode_utf8_lossy().into_owned());
            }
            !is_it
        });
        found
    }

    fn text(&self) -> String {
        let pairs = self.0.iter().map(|(name, value)| {
            let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
            format!("{name}={value}")
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// Reads an address, with the variables for what it leaves out.
pub(super) fn read(text: &str, env: &Variables<'_>) -> Result<Parts, StoreError> {
    let (place, query) = text.split_once('?').unwrap_or((text, ""));
    let Some((scheme, rest)) = place.split_once("://").filter(|_| is_one(text)) else {
        return Err(bad_address("it must begin with postgres://"));
    };
    // A part of a password could be taken for something else, and shown.
    if rest.matches('@').count() > 1 || query.contains('@') {
        return Err(bad_address(
            "in a user, a password or a parameter, write @ as %40, ? as %3F and & as %26",
        ));
    }
    let (credentials, rest) = match rest.split_once('@') {
        Some((credentials, rest)) => (format!("{credentials}@"), rest),
        None => (String::new(), rest),
    };
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.contains('#') || query.contains('#') {
        return Err(bad_address(
            "what messages say after # is the name of a task hub: leave it out, and name the hub by --task-hub; in a value, write # as %23",
        ));
    }
    let mut parameters = Parameters::read(query).with_each_host();
    let has_user = credentials
        .strip_suffix('@')
        .is_some_and(|user| !user.is_empty() && !user.starts_with(':'));
    let given = [("user", has_user), ("dbname", !database.is_empty())];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    let given: Vec<&str> = given.map(|(name, _)| name).collect();
    complete(&mut parameters, &given, env)?;
    let hosts = with_ports(hosts, &mut parameters, env)?;
    if parameters.has("hub") {
        return Err(bad_address(
            "its task hub is named apart from it, as by --task-hub",
        ));
    }
    let mode = parameters.take("sslmode");
    let roots = match parameters.take("sslrootcert") {
        None => Roots::Unset,
        Some(name) if name == "system" => Roots::System,
        Some(file) => Roots::File(file.into()),
    };
    let passfile = parameters.take("passfile").map(PathBuf::from);
    let url = format!(
        "{scheme}://{credentials}{hosts}/{database}?{}",
        parameters.text()
    );
    Ok(Parts {
        config: config(&url, env)?,
        mode,
        roots,
        passfile,
    })
}

fn config(url: &str, env: &Variables<'_>) -> Result<Config, StoreError> {
    url.parse().map_err(|error: tokio_postgres::Error| {
        // Its causes name parameters, and never a value.
        let cause = std::error::Error::source(&error);
        let mut why = cause.map_or_else(|| error.to_string(), ToString::to_string);
        for (parameter, variable) in OF_PARAMETERS
            .iter()
            .chain(&[("port", "PGPORT"), ("hostaddr", "PGHOSTADDR")])
        {
            if why.contains(&format!("`{parameter}`")) && env(variable).is_some() {
                why += &format!(" (it may come from the environment variable {variable})");
            }
        }
        bad_address(why)
    })
}

/// Adds parameters from variables. `given` are those that the address has elsewhere.
fn complete(
    parameters: &mut Parameters,
    given: &[&str],
    env: &Variables<'_>,
) -> Result<(), StoreError> {
    for (name, variable) in OF_PARAMETERS {
        if !parameters.has(name)
            && !given.contains(&name)
            && let Some(value) = text(env, variable)?
        {
            parameters.add(name, &value);
        }
    }
    Ok(())
}

/// The hosts of an address with their ports. Those that come from variables become parameters, as far as they can.
fn with_ports(
    hosts: &str,
    parameters: &mut Parameters,
    env: &Variables<'_>,
) -> Result<String, StoreError> {
    let is_placed = !hosts.is_empty() || parameters.has("host") || parameters.has("hostaddr");
    if !is_placed {
        for name in text(env, "PGHOST")?.iter().flat_map(|all| all.split(',')) {
            parameters.add("host", name);
        }
        if let Some(addresses) = text(env, "PGHOSTADDR")? {
            parameters.add("hostaddr", &addresses);
        }
    }
    let chunks: Vec<&str> = hosts.split(',').collect();
    let has_port = |chunk: &str| {
        chunk
            .rsplit(']')
            .next()
            .is_some_and(|rest| rest.contains(':'))
    };
    if chunks.iter().any(|chunk| has_port(chunk)) {
        return match parameters.has("port") {
            true => Err(bad_address("the port is named twice")),
            false => Ok(hosts.to_owned()),
        };
    }
    if hosts.is_empty() {
        if !parameters.has("port")
            && let Some(ports) = text(env, "PGPORT")?
        {
            parameters.add("port", &ports);
        }
        return Ok(String::new());
    }
    let ports = match parameters.take("port") {
        None => text(env, "PGPORT")?,
        named => named,
    };
    let Some(ports) = ports else {
        return Ok(hosts.to_owned());
    };
    let ports: Vec<&str> = ports.split(',').collect();
    if ports.len() != 1 && ports.len() != chunks.len() {
        return Err(bad_address(format!(
            "there are {} ports for {} hosts",
            ports.len(),
            chunks.len()
        )));
    }
    let with_port = chunks.iter().zip(ports.iter().cycle()).map(|(host, port)| {
        let port = if port.is_empty() { "5432" } else { port };
        format!("{host}:{port}")
    });
    Ok(with_port.collect::<Vec<_>>().join(","))
}
