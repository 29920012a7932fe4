//! `perennial doctor`: checks the toolchain, the hub and its host, and says how to fix what is wrong.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use comfy_table::Color;
use perennial::{DatabaseAdvice, HubHosts, HubOwner, Hubs, OwnerState, Severity, Workers};
use serde::Serialize;

use crate::error::Exit;
use crate::format::count;
use crate::output::Cell;
use crate::session::Session;

use super::toolchain::{self, tell};

/// A lease that was not renewed for so long is warned of. It is renewed every second at the latest, and runs out after five.
const LEASE_AGE_MAX: Duration = Duration::from_secs(3);

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Level {
    /// As it should be.
    Ok,
    /// Some commands do not work until it is fixed.
    Warning,
    /// Nothing on this hub works.
    Failure,
}

/// One check.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            found: found.into(),
            fix: None,
        }
    }

    fn bad(
        check: &'static str,
        level: Level,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            level,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }
}

pub(crate) async fn doctor(session: &Session) -> anyhow::Result<Exit> {
    let mut findings = vec![Finding::ok(
        "perennial",
        format!("version {}", env!("CARGO_PKG_VERSION")),
    )];
    findings.extend(tokio::task::spawn_blocking(building).await?);
    findings.extend(hub(session).await);
    let output = session.output();
    let failed = findings
        .iter()
        .any(|finding| finding.level == Level::Failure);
    if output.is_json() {
        output.json(&findings)?;
    } else {
        output.table(&["CHECK", "", "FOUND"], findings.iter().map(row).collect())?;
        for finding in &findings {
            if let Some(fix) = &finding.fix {
                output.line(&format!("\n{}: {fix}", finding.check))?;
            }
        }
    }
    Ok(if failed { Exit::Error } else { Exit::Ok })
}

fn row(finding: &Finding) -> Vec<Cell> {
    let (word, color) = match finding.level {
        Level::Ok => ("ok", Color::Green),
        Level::Warning => ("warning", Color::Yellow),
        Level::Failure => ("failure", Color::Red),
    };
    vec![
        Cell::new(finding.check),
        Cell::new(word).fg(color),
        Cell::new(&finding.found),
    ]
}

/// Checks the tools to build guests, which a machine that only runs them does not need.
fn building() -> Vec<Finding> {
    let cargo = match tell(Command::new("cargo").arg("--version")) {
        Some(version) => Finding::ok("cargo", version),
        None => Finding::bad(
            "cargo",
            Level::Warning,
            "not found; `perennial build` needs it",
            "install https://rustup.rs, or on Debian: apt-get install cargo",
        ),
    };
    let target = match toolchain::find(Path::new(".")) {
        Ok(toolchain) => Finding::ok(
            "WebAssembly",
            format!("{} with {}", toolchain.target, toolchain.version),
        ),
        Err(missing) => {
            let fix = missing.hint_text().unwrap_or_default().to_owned();
            Finding::bad("WebAssembly", Level::Warning, missing.to_string(), fix)
        }
    };
    vec![cargo, target]
}

async fn hub(session: &Session) -> Vec<Finding> {
    let dir = session.data_dir();
    let mut findings = vec![data_dir(dir)];
    let hubs = session.store().map(Hubs::new);
    let has_database = session.has_database();
    let mut looked_at = None;
    if let (true, Ok(hubs)) = (has_database, &hubs) {
        looked_at = Some(hubs.look_at_database(session.task_hub()).await);
    }
    let is_there = match hubs {
        Ok(hubs) => hubs.exists(session.task_hub()).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    match (looked_at, &is_there) {
        (Some(Ok(advice)), _) => findings.extend(database(advice, session.output().is_json())),
        (Some(Err(error)), Ok(_)) => {
            let error = error.into();
            let fix = fix(&error, has_database);
            let found = format!("its settings cannot be looked at: {error}");
            findings.push(Finding::bad("database", Level::Warning, found, fix));
        }
        // What keeps it from being asked at all is said of the hub.
        (Some(Err(_)), Err(_)) | (None, _) => {}
    }
    if matches!(is_there, Ok(false)) {
        findings.push(Finding::bad(
            "task hub",
            Level::Warning,
            format!("{} is not there yet", session.place()),
            "`perennial deploy FILE.wasm` or `perennial serve` makes it; --data-dir and --task-hub say where it is",
        ));
        return findings;
    }
    let looked = match is_there {
        Ok(_) => look(session).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::bad(
            "task hub",
            Level::Failure,
            // Errors of the library say all of their causes themselves.
            error.to_string(),
            fix(&error, has_database),
        )),
    }
    findings
}

/// What was found of the database that the hub is in, or would be.
fn database(advice: Vec<DatabaseAdvice>, is_json: bool) -> Vec<Finding> {
    let (fine, bad): (Vec<DatabaseAdvice>, Vec<_>) = advice
        .into_iter()
        .partition(|advice| advice.severity == Severity::Fine);
    let mut findings: Vec<Finding> = match is_json {
        true => fine
            .into_iter()
            .map(|advice| Finding::ok(advice.check, advice.found))
            .collect(),
        false => in_short(&fine).into_iter().collect(),
    };
    findings.extend(bad.into_iter().map(|advice| {
        let level = match advice.severity {
            Severity::Failure => Level::Failure,
            _ => Level::Warning,
        };
        Finding::bad(
            advice.check,
            level,
            advice.found,
            advice.fix.unwrap_or_default(),
        )
    }));
    findings
}

/// One line about all that is as it should be: which server it is and what was asked for beside it, and of the rest how many they are.
fn in_short(fine: &[DatabaseAdvice]) -> Option<Finding> {
    let said = |check: &str| fine.iter().find(|advice| advice.check == check);
    let (server, replica) = (said("server"), said("read replica"));
    let rest = fine.len() - usize::from(server.is_some()) - usize::from(replica.is_some());
    let mut parts: Vec<String> = server
        .map(|server| server.found.clone())
        .into_iter()
        .collect();
    match rest {
        0 => {}
        1 => parts.push("1 other check found nothing amiss".to_owned()),
        rest => parts.push(format!("{rest} other checks found nothing amiss")),
    }
    parts.extend(replica.map(|replica| format!("read replica: {}", replica.found)));
    (!parts.is_empty()).then(|| Finding::ok("database", parts.join("; ")))
}

/// The fix for an error of the hub.
fn fix(error: &anyhow::Error, has_database: bool) -> &'static str {
    let Some(error) = error.downcast_ref::<perennial::Error>() else {
        return "nothing was changed; name another task hub with --task-hub";
    };
    if error.is_damaged() && has_database {
        "nothing was changed; `perennial check` says what is wrong; `perennial restore` makes another task hub from a backup"
    } else if error.is_damaged() {
        "nothing was changed; `perennial check` says what is wrong; move the file away, with those beside it, and `perennial restore` a backup"
    } else if error.is_of_other_version() {
        "nothing was changed; use the version of Perennial that wrote it, or a newer one"
    } else if error.is_disk_full() && has_database {
        "nothing was changed; make room on the disk of the database server"
    } else if error.is_disk_full() {
        "nothing was changed; make room on the disk that it is on"
    } else if error.is_locked() && !has_database {
        "nothing was changed; end the program that has the file open"
    } else {
        "nothing was changed; mend what is said above, or name another place with --data-dir or --task-hub"
    }
}

fn data_dir(dir: &Path) -> Finding {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() && !found.permissions().readonly() => {
            Finding::ok("data directory", dir.display().to_string())
        }
        Ok(found) if found.is_dir() => Finding::bad(
            "data directory",
            Level::Failure,
            format!("{} cannot be written to", dir.display()),
            "change its permissions, or name another with --data-dir",
        ),
        Ok(_) => Finding::bad(
            "data directory",
            Level::Failure,
            format!("{} is no directory", dir.display()),
            "name another with --data-dir or PERENNIAL_DATA_DIR",
        ),
        Err(_) => Finding::ok(
            "data directory",
            format!("{} is made when it is needed", dir.display()),
        ),
    }
}

async fn look(session: &Session) -> anyhow::Result<Vec<Finding>> {
    let client = session.client()?;
    let counts = client.counts().await?;
    let modules = client.modules().await?.len() as u64;
    let all: u64 = counts.iter().map(|(_, number)| number).sum();
    let live: u64 = counts
        .iter()
        .filter(|(status, _)| !status.is_end())
        .map(|(_, number)| number)
        .sum();
    let found = format!(
        "{}: {}, {}",
        session.place(),
        count(modules, "module"),
        count(all, "instance")
    );
    let owner = client.owner().await?;
    let does_run = owner
        .as_ref()
        .is_some_and(|owner| owner.state == OwnerState::Runs);
    let workers = match does_run {
        true => client.workers().await?,
        false => Workers::default(),
    };
    let hub = if modules == 0 && workers.connected.is_empty() {
        Finding::bad(
            "task hub",
            Level::Warning,
            found,
            "nothing is deployed, and no worker is connected: `perennial deploy FILE.wasm`",
        )
    } else {
        Finding::ok("task hub", found)
    };
    let hosts = client.hosts().await?;
    let is_one = hosts.hosts.len() < 2;
    let mut findings = vec![hub];
    findings.push(match (is_one, owner) {
        (false, Some(owner)) if owner.state == OwnerState::Runs => shared(&hosts, live),
        (_, owner) => host(owner, live),
    });
    findings.extend(partitions(&hosts));
    findings.extend(remote_workers(&workers));
    Ok(findings)
}

/// The remote workers, if there are any or something waits for one.
fn remote_workers(workers: &Workers) -> Option<Finding> {
    let connected = match workers.connected.len() {
        0 => "none is connected".to_owned(),
        1 => "1 is connected".to_owned(),
        many => format!("{many} are connected"),
    };
    let waiting: u64 = workers.waiting.iter().map(|waiting| waiting.count).sum();
    match (workers.connected.len(), waiting) {
        (0, 0) => None,
        (_, 0) => Some(Finding::ok("workers", connected)),
        (_, waiting) => Some(Finding::bad(
            "workers",
            Level::Warning,
            format!("{connected}; turns and activities that wait for one: {waiting}"),
            "`perennial workers` lists the names that wait; start a worker that runs them",
        )),
    }
}

/// Checks that the host's process responds, and not only that it owns the hub.
fn host(owner: Option<HubOwner>, live: u64) -> Finding {
    let Some(owner) = owner else {
        return match live {
            0 => Finding::ok("host", "none runs, and nothing waits for one"),
            live => Finding::bad(
                "host",
                Level::Warning,
                format!(
                    "none runs, and {} for one",
                    match live {
                        1 => "1 instance waits".to_owned(),
                        live => format!("{live} instances wait"),
                    }
                ),
                "`perennial serve` runs the task hub",
            ),
        };
    };
    let process = owner.process;
    let goes_on = |how: &str| format!("{owner} {how}; {} live", count(live, "instance"));
    match owner.state {
        OwnerState::Runs => Finding::ok("host", goes_on("runs")),
        OwnerState::Stopped => Finding::bad(
            "host",
            Level::Failure,
            goes_on("is stopped by a signal, and nothing goes on"),
            format!(
                "`kill -CONT {process}` lets it go on; `kill -KILL {process}` ends it, and loses nothing"
            ),
        ),
        _ => Finding::bad(
            "host",
            Level::Failure,
            goes_on("does not answer"),
            format!(
                "look at its log; if it hangs, `kill -KILL {process}` ends it, and loses nothing"
            ),
        ),
    }
}

/// The hosts that share the hub. What of them is amiss is said by [`partitions`].
fn shared(found: &HubHosts, live: u64) -> Finding {
    let hosts: Vec<String> = found
        .hosts
        .iter()
        .map(|host| format!("{host} with {}", host.partitions))
        .collect();
    Finding::ok(
        "host",
        format!(
            "{} hosts share the {} partitions: {}; {} live",
            hosts.len(),
            found.partitions,
            hosts.join(", "),
            count(live, "instance")
        ),
    )
}

/// What hosts do not look after of a divided hub: partitions that nobody has, and those of a host that is not heard of.
fn partitions(found: &HubHosts) -> Vec<Finding> {
    // Without a host, or with one owner, that says all.
    if found.hosts.is_empty() || found.partitions < 2 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if found.free_partitions > 0 {
        findings.push(Finding::bad(
            "partitions",
            Level::Warning,
            format!(
                "no host has {} of {}, whose instances wait",
                found.free_partitions, found.partitions
            ),
            "a host takes them within a second, also after another one has died; if they stay free, look at the logs of the hosts",
        ));
    }
    for host in &found.hosts {
        if let Some(lacks) = &host.lacks {
            findings.push(Finding::bad(
                "shortage",
                Level::Warning,
                format!("{host} has been lacking {lacks} for a while, so that its partitions go to other hosts"),
                "give it more, or end it: it takes its share again a minute after it has what it needs",
            ));
        }
        let Some(age) = host.lease_age.filter(|age| *age > LEASE_AGE_MAX) else {
            continue;
        };
        findings.push(Finding::bad(
            "lease",
            Level::Warning,
            format!(
                "{host}, which has {}, has not renewed its lease for {} ms",
                count(u64::from(host.partitions), "partition"),
                age.as_millis()
            ),
            "it is stopped, or does not reach the database: look at its log; others take its partitions when the lease has run out",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts with the ages of their leases, in milliseconds.
    fn hosts(partitions: u16, free: u16, ages: &[u64]) -> HubHosts {
        let host = |age: &u64| {
            serde_json::json!({
                "name": "a test", "processId": 7, "version": "0", "partitions": 32, "leaseAgeMillis": age, "isThis": false
            })
        };
        let found = serde_json::json!({
            "partitions": partitions, "freePartitions": free, "waitingMessages": 0,
            "hosts": ages.iter().map(host).collect::<Vec<_>>(),
        });
        serde_json::from_value(found).unwrap()
    }

    fn said(found: &HubHosts) -> Vec<(&'static str, String)> {
        let findings = partitions(found).into_iter();
        findings.map(|one| (one.check, one.found)).collect()
    }

    #[test]
    fn partitions_that_nobody_looks_after_are_warned_of() {
        assert_eq!(said(&hosts(64, 0, &[100, 3_000])), []);
        assert_eq!(said(&hosts(64, 64, &[])), [], "there is no host");
        assert_eq!(said(&hosts(1, 0, &[9_000])), [], "it has one owner");
        let found = said(&hosts(64, 2, &[10, 3_001]));
        let [(_, free), (lease, silent)] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(free.contains("no host has 2 of 64"), "{free}");
        assert_eq!(*lease, "lease");
        assert!(silent.contains("for 3001 ms"), "{silent}");
    }

    #[test]
    fn a_host_that_lacks_something_is_warned_of() {
        let mut found = hosts(64, 0, &[10, 10]);
        found.hosts[1].lacks = Some("memory".to_owned());
        let said = said(&found);
        assert_eq!(said.len(), 1);
        assert!(said[0].1.contains("lacking memory"), "{said:?}");
    }

    #[test]
    fn hosts_that_share_a_hub_are_named_with_what_they_have() {
        let found = shared(&hosts(64, 0, &[1, 1]), 3).found;
        let each = "a test (process 7) with 32";
        let all = format!("2 hosts share the 64 partitions: {each}, {each}; 3 instances live");
        assert_eq!(found, all);
    }
}
