//! `perennial export` and `perennial replay`: recorded histories as files, and whether code fits them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use perennial::{CheckOutcome, Quarantine, RECORDED_BYTES_MAX, RecordedHistory, Replayer};
use serde::Serialize;

use super::deploy::open_here;
use super::missing::missing;
use crate::args::replay::{Export, Replay};
use crate::error::{CliError, Exit};
use crate::format::count;
use crate::output::plain;
use crate::session::Session;

/// Directories within directories are searched to this depth.
const DEPTH_MAX: usize = 16;

pub(super) async fn export(args: Export, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let history = client.export(&args.id).await?;
    let history = history.ok_or_else(|| missing(&args.id, session))?;
    if history.is_empty() {
        session.output().note(&format!(
            "nothing has happened yet: instance {:?} is {}",
            args.id, history.runtime_status
        ));
    }
    session.output().json(&history)?;
    Ok(Exit::Ok)
}

/// What came of one file.
struct Replayed {
    file: PathBuf,
    history: Option<RecordedHistory>,
    outcome: Result<CheckOutcome, String>,
}

pub(super) async fn replay(args: Replay, session: &Session) -> anyhow::Result<Exit> {
    let files = files_of(&args.histories)?;
    let module = open_here(args.file, session).await?;
    let (name, digest) = (module.name().to_owned(), module.digest());
    let replayed = tokio::task::spawn_blocking(move || -> perennial::Result<Vec<Replayed>> {
        let replayer = Replayer::new(module)?;
        Ok(files.into_iter().map(|file| one(&replayer, file)).collect())
    });
    let replayed = replayed.await??;
    let report = ReplayJson::of(&name, digest.to_string(), &replayed);
    let output = session.output();
    if output.is_json() {
        output.json(&report)?;
    } else {
        output.line(&format!(
            "{name} {}  (replayed, not deployed)",
            digest.short()
        ))?;
        for one in &replayed {
            output.line(&format!("  {}", line_of(one)))?;
        }
        output.line(&format!("  {}", summary(&report)))?;
    }
    Ok(match (report.differs, report.unreadable) {
        (0, 0) => Exit::Ok,
        (0, _) => Exit::Error,
        _ => Exit::Differs,
    })
}

fn one(replayer: &Replayer, file: PathBuf) -> Replayed {
    let read = read(&file);
    let (history, outcome) = match read {
        Ok(history) => {
            let outcome = replayer.replay(&history).map_err(|error| error.to_string());
            (Some(history), outcome)
        }
        Err(why) => (None, Err(why)),
    };
    Replayed {
        file,
        history,
        outcome,
    }
}

/// Reads a file, which may be anything and of any size.
fn read(path: &Path) -> Result<RecordedHistory, String> {
    let cannot = |error: std::io::Error| format!("it cannot be read: {error}");
    let found = std::fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(RECORDED_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > RECORDED_BYTES_MAX {
        return Err(format!(
            "it has more than {RECORDED_BYTES_MAX} bytes, which no file of a recorded history has"
        ));
    }
    RecordedHistory::from_json(&text).map_err(|error| error.to_string())
}

/// The files that were named, with those of directories in their place, in the order of their names.
fn files_of(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        let found = std::fs::metadata(path).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            let exit = match error.kind() {
                std::io::ErrorKind::NotFound => Exit::NotFound,
                _ => Exit::Error,
            };
            CliError::new(exit, message)
                .hint("name files that `perennial export ID > FILE` wrote, or directories of them")
        })?;
        if !found.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        gather(path, DEPTH_MAX, &mut files).map_err(|error| {
            let message = format!("cannot read the directory {}: {error}", path.display());
            CliError::new(Exit::Error, message)
        })?;
        if files.len() == before {
            let message = format!("there are no histories in {}: no *.json", path.display());
            let said = CliError::new(Exit::NotFound, message);
            return Err(said
                .hint("`perennial export ID > DIR/ID.json` writes one")
                .into());
        }
    }
    Ok(files)
}

/// Links to directories are not followed, since they may lead in circles.
fn gather(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                gather(&path, depth - 1, files)?;
            }
        } else if path.extension().is_some_and(|found| found == "json") {
            files.push(path);
        }
    }
    Ok(())
}

fn line_of(one: &Replayed) -> String {
    let file = plain(&one.file.display().to_string());
    let Some(history) = &one.history else {
        let why = one.outcome.as_ref().err().map_or("", String::as_str);
        return format!("{file}  cannot be replayed: {}", plain(why));
    };
    let id = plain(&history.instance_id);
    let outcome = match &one.outcome {
        Ok(CheckOutcome::Compatible { turns }) => format!(
            "fits ({}, {})",
            count(u64::from(*turns), "turn"),
            history.runtime_status
        ),
        Ok(CheckOutcome::Differs(why)) => format!("differs: {}", plain(&why.reason)),
        Ok(CheckOutcome::NotDefined) => {
            format!("differs: the module does not define {:?}", history.name)
        }
        Ok(_) => "cannot be replayed".to_owned(),
        Err(why) => format!("cannot be replayed: {}", plain(why)),
    };
    format!("{file}  {id}  {outcome}")
}

fn summary(report: &ReplayJson<'_>) -> String {
    let all = match report.histories.len() {
        1 => "1 history".to_owned(),
        many => format!("{many} histories"),
    };
    let mut parts = Vec::new();
    if report.differs > 0 {
        parts.push(format!("not fitting: {} of {all}", report.differs));
    }
    if report.unreadable > 0 {
        parts.push(format!("not replayed: {} of {all}", report.unreadable));
    }
    match parts.is_empty() {
        true => format!("all of {all} fit"),
        false => parts.join("; "),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplayJson<'a> {
    module: &'a str,
    digest: String,
    fits: usize,
    differs: usize,
    unreadable: usize,
    histories: Vec<HistoryJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryJson<'a> {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<usize>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<&'a str>,
}

impl<'a> ReplayJson<'a> {
    fn of(module: &'a str, digest: String, replayed: &'a [Replayed]) -> Self {
        let histories: Vec<HistoryJson<'_>> = replayed.iter().map(HistoryJson::from).collect();
        let of = |outcomes: &[&str]| {
            let found = histories
                .iter()
                .filter(|one| outcomes.contains(&one.outcome));
            found.count()
        };
        Self {
            module,
            digest,
            fits: of(&["compatible"]),
            differs: of(&["differs", "notDefined"]),
            unreadable: of(&["unreadable"]),
            histories,
        }
    }
}

impl<'a> From<&'a Replayed> for HistoryJson<'a> {
    fn from(one: &'a Replayed) -> Self {
        let why: Option<&Quarantine> = match &one.outcome {
            Ok(CheckOutcome::Differs(why)) => Some(why),
            _ => None,
        };
        let history = one.history.as_ref();
        let unreadable = one.outcome.as_ref().err().map(String::as_str);
        Self {
            file: one.file.display().to_string(),
            instance_id: history.map(|history| history.instance_id.as_str()),
            name: history.map(|history| history.name.as_str()),
            runtime_status: history.map(|history| history.runtime_status.name()),
            turns: history.map(RecordedHistory::len),
            outcome: match &one.outcome {
                Ok(CheckOutcome::Compatible { .. }) => "compatible",
                Ok(CheckOutcome::Differs(_)) => "differs",
                Ok(CheckOutcome::NotDefined) => "notDefined",
                Ok(_) | Err(_) => "unreadable",
            },
            reason: why.map(|why| why.reason.as_str()).or(unreadable),
            turn: why.and_then(|why| why.turn),
            event: why.and_then(|why| why.event),
            recorded: why.and_then(|why| why.recorded.as_deref()),
            asked: why.and_then(|why| why.asked.as_deref()),
        }
    }
}
