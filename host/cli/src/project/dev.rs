//! `perennial dev`: builds, deploys and runs a project, and repeats that whenever its sources change.
//!
//! It is the host of the hub meanwhile. Where another process is, it deploys to that one, whose log is elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use perennial::{Client, Grants, Host, InstanceStatus, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::args::Dev;
use crate::commands::deploy;
use crate::commands::hosts;
use crate::commands::serve::Signals;
use crate::error::Exit;
use crate::log;
use crate::payload;
use crate::report::report;
use crate::screen;
use crate::session::Session;

use super::build::{Built, compile};

/// An editor writes a file in several steps, and a checkout many files: all of it is one change.
const SETTLES_WITHIN: Duration = Duration::from_millis(200);

/// What `--json` prints, a line each.
#[derive(Serialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum EventJson<'a> {
    Deployed { module: &'a str, digest: String },
    Ended { instance: &'a InstanceStatus },
}

pub(crate) async fn dev(args: &Dev, session: &Session) -> anyhow::Result<Exit> {
    screen::queue_stderr();
    log::start(&args.log, log::Format::Text)?;
    let input = payload::read(args.input.as_ref(), "--input")?;
    let grants = deploy::grants(&args.grants)?;
    let mut signals = Signals::new()?;
    let (mut watched, mut changes) = Watched::new(&args.dir)?;
    let (host, client) = open(session).await?;
    let mut round = Round {
        args,
        client: &client,
        grants,
        input,
        session,
    };
    let exit = loop {
        tokio::select! {
            done = round.go() => {
                // What does not compile or deploy now may do so after the next change.
                if let Err(error) = done {
                    report(&error, None, session);
                }
            }
            () = signals.next() => break Exit::Ok,
        }
        // What a manifest names now may be elsewhere than what it named before.
        watched.dependencies(&args.dir);
        session.output().note("waits for a change; Ctrl-C ends it");
        tokio::select! {
            change = next(&mut changes) => match change {
                Some(file) => session.output().note(&format!("{} has changed", file.display())),
                None => break Exit::Error,
            },
            () = signals.next() => break Exit::Ok,
        }
    };
    if let Some(host) = host {
        host.shut_down().await;
    }
    Ok(exit)
}

/// Starts the host or, if there is one, a client of it.
async fn open(session: &Session) -> anyhow::Result<(Option<Host>, Client)> {
    let builder = Host::builder()
        .store(session.store()?)
        .task_hub(session.task_hub())
        .name("perennial dev");
    match hosts::start(&builder).await {
        Ok(host) => {
            let client = host.client();
            Ok((Some(host), client))
        }
        Err(error) if error.is_owned() => {
            session
                .output()
                .note("another process runs this task hub: modules are deployed to it, and the log is there");
            Ok((None, session.client()?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The work at each change.
struct Round<'a> {
    args: &'a Dev,
    client: &'a Client,
    /// Granted with the first deployment, and kept by the hub.
    grants: Option<Grants>,
    input: Option<Json>,
    session: &'a Session,
}

impl Round<'_> {
    async fn go(&mut self) -> anyhow::Result<()> {
        let dir = self.args.dir.clone();
        let data_dir = self.session.data_dir().to_owned();
        let built = tokio::task::spawn_blocking(move || compile(&dir, &data_dir)).await??;
        for Built { module, .. } in built {
            let deployment = deploy::send(
                self.client,
                module,
                self.grants.clone(),
                self.args.limits,
                false,
            )
            .await?;
            let output = self.session.output();
            if output.is_json() {
                output.json(&EventJson::Deployed {
                    module: &deployment.name,
                    digest: deployment.digest.to_string(),
                })?;
            } else {
                for line in deploy::lines_of(&deployment) {
                    output.line(&line)?;
                }
            }
        }
        match &self.args.start {
            Some(orchestration) => self.run(orchestration).await,
            None => Ok(()),
        }
    }

    /// Starts an instance and tells how it ended, however long it takes: a change does not wait for it.
    async fn run(&self, orchestration: &str) -> anyhow::Result<()> {
        let id = self
            .client
            .start(orchestration)
            .input_json(self.input.clone())
            .await?;
        let output = *self.session.output();
        output.note(&format!("started {orchestration} as {id}"));
        let client = self.client.clone();
        tokio::spawn(async move {
            let Ok(waited) = client.wait_for_completion(&id, Duration::MAX).await else {
                return;
            };
            let status = waited.status();
            let told = if output.is_json() {
                output.json(&EventJson::Ended { instance: status })
            } else {
                output.line(&ended(status))
            };
            if let Err(error) = told {
                output.note(&format!("{error:#}"));
            }
        });
        Ok(())
    }
}

fn ended(status: &InstanceStatus) -> String {
    let result = match (&status.failure, &status.output) {
        (Some(failure), _) => format!(": {failure}"),
        (None, Some(output)) => format!(": {output}"),
        (None, None) => String::new(),
    };
    format!("{} {}{result}", status.instance_id, status.runtime_status)
}

/// The sources that are watched: of a project, what it vendors, and the packages on this disk that it depends on, wherever they are; but not
/// what cargo writes.
struct Watched {
    watcher: RecommendedWatcher,
    places: BTreeSet<PathBuf>,
}

impl Watched {
    fn new(dir: &Path) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<PathBuf>)> {
        let (tell, changes) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            if let (true, Some(path)) = (matters(&event), event.paths.first()) {
                // Nobody listens any more when the program ends.
                let _ = tell.send(path.clone());
            }
        });
        let mut watched = Self {
            watcher: watcher.context("could not watch files")?,
            places: BTreeSet::new(),
        };
        let cannot = || format!("could not watch {}", dir.display());
        watched.package(dir).with_context(cannot)?;
        let vendored = dir.join("vendor");
        if vendored.is_dir() {
            watched
                .place(&vendored, RecursiveMode::Recursive)
                .with_context(cannot)?;
        }
        Ok((watched, changes))
    }

    /// Watches the packages that the one in `dir` depends on by path. Where cargo cannot say which, what was watched before has to do.
    fn dependencies(&mut self, dir: &Path) {
        for package in packages_of(dir).unwrap_or_default() {
            if let Err(error) = self.package(&package) {
                tracing::warn!(%error, package = %package.display(), "could not watch a dependency");
            }
        }
    }

    fn package(&mut self, dir: &Path) -> notify::Result<()> {
        self.place(dir, RecursiveMode::NonRecursive)?;
        let sources = dir.join("src");
        if sources.is_dir() {
            self.place(&sources, RecursiveMode::Recursive)?;
        }
        Ok(())
    }

    fn place(&mut self, place: &Path, mode: RecursiveMode) -> notify::Result<()> {
        let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
        if self.places.insert(place.clone()) {
            self.watcher.watch(&place, mode)?;
        }
        Ok(())
    }
}

/// The parts of `cargo metadata` that are read.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    /// Where it was downloaded from; `None` where it is on this disk.
    source: Option<String>,
}

/// The directories of the packages on this disk that a project consists of, its own among them.
fn packages_of(dir: &Path) -> Option<Vec<PathBuf>> {
    let said = Command::new("cargo")
        // What is not downloaded by now was not built either.
        .args(["metadata", "--format-version", "1", "--offline", "--quiet"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let metadata: Metadata = serde_json::from_slice(&said.stdout).ok()?;
    let here = metadata.packages.into_iter();
    let here = here.filter(|package| package.source.is_none());
    Some(
        here.filter_map(|package| Some(package.manifest_path.parent()?.to_owned()))
            .collect(),
    )
}

fn matters(event: &Event) -> bool {
    let is_source = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name == "Cargo.toml"
            || path
                .extension()
                .is_some_and(|found| found == "rs" || found == "wit")
    };
    !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(is_source)
}

/// Waits until a change has settled; `None` if the watcher has ended.
async fn next(changes: &mut mpsc::UnboundedReceiver<PathBuf>) -> Option<PathBuf> {
    let first = changes.recv().await?;
    while let Ok(Some(_)) = tokio::time::timeout(SETTLES_WITHIN, changes.recv()).await {}
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, CreateKind, ModifyKind};

    #[test]
    fn only_sources_that_change_matter() {
        let seen = |kind, path: &str| matters(&Event::new(kind).add_path(path.into()));
        let modify = EventKind::Modify(ModifyKind::Any);
        assert!(seen(modify, "/p/src/lib.rs"));
        assert!(seen(
            EventKind::Create(CreateKind::File),
            "/p/vendor/perennial-sdk/wit/0.2/types.wit"
        ));
        assert!(seen(modify, "/p/Cargo.toml"));
        assert!(!seen(EventKind::Access(AccessKind::Any), "/p/src/lib.rs"));
        assert!(!seen(modify, "/p/Cargo.lock"));
        assert!(!seen(modify, "/p/src/.lib.rs.swp"));
    }

    #[test]
    fn packages_that_a_project_depends_on_are_watched_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let package = |name: &str, dependencies: &str| {
            let root = dir.path().canonicalize().unwrap().join(name);
            std::fs::create_dir_all(root.join("src")).unwrap();
            std::fs::write(root.join("src/lib.rs"), "").unwrap();
            let manifest =
                format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\n{dependencies}");
            std::fs::write(root.join("Cargo.toml"), manifest).unwrap();
            root
        };
        let shared = package("shared", "");
        let near = package("near", "[dependencies]\nshared = { path = \"../shared\" }");
        let flow = package("flow", "[dependencies]\nnear = { path = \"../near\" }");
        let (mut watched, _changes) = Watched::new(&flow).unwrap();
        watched.dependencies(&flow);
        for root in [flow, near, shared] {
            let sources = root.join("src");
            assert!(
                watched.places.contains(&root) && watched.places.contains(&sources),
                "{} is not watched",
                root.display()
            );
        }
    }
}
