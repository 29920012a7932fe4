//! Grants: what the activities of a module may access. They belong to the name of the module.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the activities of a module may touch, beside clocks and random numbers. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Grants {
    /// Directories of the host.
    pub dirs: Vec<DirGrant>,
    /// Environment variables, as name and value.
    pub env: Vec<(String, String)>,
    /// Hosts that the activity `http` may send requests to for the module's orchestrations, as `HOST` or `HOST:PORT`. Without a port it
    /// is those of http and https, 80 and 443. `*.example.com` is every host below that domain.
    pub http_hosts: Vec<String>,
}

/// A directory that activities see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DirGrant {
    /// The directory on the host.
    pub host: PathBuf,
    /// Its path for the activity, such as `/data`.
    pub guest: String,
    /// Whether files in it may be made, changed and removed.
    #[serde(default)]
    pub writable: bool,
}

impl DirGrant {
    /// A read-only grant of the host's directory `host`, under the path `guest`.
    pub fn new(host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            guest: guest.into(),
            writable: false,
        }
    }

    /// Also allows files in the directory to be created, changed and removed.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.writable = true;
        self
    }
}

impl Grants {
    /// No grants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(mut self, dir: DirGrant) -> Self {
        self.dirs.push(dir);
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Adds a host for the activity `http`, as `HOST` or `HOST:PORT`.
    #[must_use]
    pub fn http_host(mut self, host: impl Into<String>) -> Self {
        self.http_hosts.push(host.into());
        self
    }

    /// Merges two sets of grants. If both have the same directory or variable, `others` wins.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        for dir in others.dirs {
            self.dirs.retain(|before| before.guest != dir.guest);
            self.dirs.push(dir);
        }
        for (name, value) in others.env {
            self.env.retain(|(before, _)| *before != name);
            self.env.push((name, value));
        }
        for host in others.http_hosts {
            if !self.http_hosts.contains(&host) {
                self.http_hosts.push(host);
            }
        }
        self
    }

    /// Whether requests may go to this host and port. `is_default_port` says whether the port is the default one of the URL's scheme.
    pub(crate) fn allows_http(&self, host: &str, port: u16, is_default_port: bool) -> bool {
        self.http_hosts.iter().any(|granted| {
            let (name, granted_port) = split(granted);
            let ports = match granted_port {
                Some(granted_port) => granted_port == port,
                None => is_default_port,
            };
            ports && names(name, host)
        })
    }

    /// The first problem of the grants, if any: an invalid host, an invalid name of a variable, or a guest path or variable that is granted
    /// twice.
    pub(crate) fn problem(&self) -> Option<String> {
        let host = self
            .http_hosts
            .iter()
            .find_map(|host| http_host_problem(host));
        host.or_else(|| {
            let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
            let wrong = self.env.iter().find(|(name, _)| !is_name(name))?;
            Some(format!("{:?} cannot be the name of a variable", wrong.0))
        })
        .or_else(|| {
            let name = twice(self.env.iter().map(|(name, _)| name.as_str()))?;
            Some(format!(
                "the variable {name} is granted twice: only one value can be meant"
            ))
        })
        .or_else(|| {
            let guest = |dir: &'_ DirGrant| dir.guest.trim_end_matches('/').to_owned();
            let paths: Vec<String> = self.dirs.iter().map(guest).collect();
            let path = twice(paths.iter().map(String::as_str))?;
            Some(format!(
                "two directories are granted as {:?}: only one can be meant",
                if path.is_empty() { "/" } else { path }
            ))
        })
    }
}

/// The first text that occurs a second time.
fn twice<'a>(texts: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    let mut texts = texts;
    texts.find(|text| !seen.insert(*text))
}

/// Why a text is not a valid `HOST` or `HOST:PORT`; `None` if it is valid.
pub fn http_host_problem(text: &str) -> Option<String> {
    let (name, _) = split(text);
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let is_v6 = bare
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = !bare.is_empty()
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    (!is_v6 && !is_name).then(|| {
        format!("{text:?} is no host; write it like api.example.com, *.example.com, localhost:8080 or [::1]:8080, without http://")
    })
}

/// Splits a text into host and port. A port that is not a number stays part of the host.
fn split(text: &str) -> (&str, Option<u16>) {
    text.rsplit_once(':')
        .and_then(|(name, port)| Some((name, Some(port.parse().ok()?))))
        .unwrap_or((text, None))
}

fn names(granted: &str, host: &str) -> bool {
    match granted.strip_prefix('*') {
        Some(domain) => {
            let host = host.to_ascii_lowercase();
            host.len() > domain.len() && host.ends_with(&domain.to_ascii_lowercase())
        }
        None => granted.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(granted: &str, host: &str, port: u16) -> bool {
        let grants = Grants {
            http_hosts: vec![granted.to_owned()],
            ..Grants::default()
        };
        grants.allows_http(host, port, [80, 443].contains(&port))
    }

    #[test]
    fn a_host_is_granted_as_it_is_written() {
        assert!(allows("api.example.com", "API.example.com", 443));
        assert!(!allows("api.example.com", "api.example.com", 8080));
        assert!(allows("api.example.com:8080", "api.example.com", 8080));
        assert!(!allows("api.example.com:8080", "api.example.com", 443));
        assert!(!allows("example.com", "api.example.com", 443));
        assert!(!allows("example.com", "example.com.evil.org", 443));
        assert!(allows("*.example.com", "a.b.example.com", 443));
        assert!(!allows("*.example.com", "example.com", 443));
        assert!(!allows("*.example.com", "badexample.com", 443));
        assert!(allows("[::1]:80", "[::1]", 80));
        assert!(!allows("127.0.0.1", "localhost", 80));
    }

    #[test]
    fn what_is_no_host_is_said() {
        for host in [
            "a.b",
            "*.a.b:8080",
            "localhost",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:80",
            "a_b",
        ] {
            assert_eq!(http_host_problem(host), None);
        }
        for text in [
            "",
            "http://a.b",
            "a.b/c",
            "a:b",
            "*",
            "*.",
            "a b",
            "[::1",
            "::1",
            "a:99999",
        ] {
            assert!(http_host_problem(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_given_is_added_and_wins() {
        let grants = |env: &[(&str, &str)], hosts: &[&str]| Grants {
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            http_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..Grants::default()
        };
        let before = grants(&[("A", "1"), ("B", "2")], &["a.b"]);
        let given = grants(&[("A", "3")], &["a.b", "c.d"]);
        let after = grants(&[("B", "2"), ("A", "3")], &["a.b", "c.d"]);
        assert_eq!(before.and(given), after);
    }

    #[test]
    fn what_is_granted_twice_is_said() {
        let dir = |guest: &str| DirGrant {
            host: "/tmp".into(),
            guest: guest.to_owned(),
            writable: false,
        };
        let env = |name: &str| (name.to_owned(), "1".to_owned());
        let problem = |dirs: &[&str], names: &[&str]| {
            let grants = Grants {
                dirs: dirs.iter().map(|guest| dir(guest)).collect(),
                env: names.iter().map(|name| env(name)).collect(),
                ..Grants::default()
            };
            grants.problem()
        };
        assert_eq!(problem(&["/a", "/b", "."], &["A", "B"]), None);
        for (dirs, names, said) in [
            (&["/a", "/b", "/a/"][..], &[][..], "\"/a\""),
            (&["/", "/"], &[], "\"/\""),
            (&[], &["A", "B", "A"], "variable A is granted twice"),
            (&[], &["A=B"], "cannot be the name"),
            (&[], &[""], "cannot be the name"),
        ] {
            let why = problem(dirs, names).unwrap_or_default();
            assert!(why.contains(said), "{dirs:?} {names:?}: {why}");
        }
    }
}
