//! `perennial backup` and `perennial restore`.

use std::path::Path;

use perennial::{Client, CopyProgress};
use serde::Serialize;

use crate::args::{Backup, Restore};
use crate::error::Exit;
use crate::format::bytes;
use crate::progress::Bar;
use crate::session::Session;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CopiedJson<'a> {
    task_hub: &'a str,
    file: &'a Path,
    bytes: u64,
}

pub(super) async fn backup(args: Backup, session: &Session) -> anyhow::Result<Exit> {
    session
        .client()?
        .backup(&args.file, progress(session, "copying"))
        .await?;
    copied(session, &args.file, "is a backup of task hub")
}

pub(super) async fn restore(args: Restore, session: &Session) -> anyhow::Result<Exit> {
    let progress = progress(session, "restoring");
    let from = args.file.clone();
    Client::restore(session.store()?, session.task_hub(), from, progress).await?;
    if session.has_database() {
        return copied(session, &args.file, "was restored as task hub");
    }
    copied(session, &session.hub_file(), "is now task hub")
}

fn progress(session: &Session, what: &'static str) -> impl FnMut(CopyProgress) + Send + 'static {
    let bar = Bar::new(session.output(), what);
    move |copy| bar.show(copy.done, copy.total)
}

fn copied(session: &Session, file: &Path, said: &str) -> anyhow::Result<Exit> {
    let (output, size) = (session.output(), std::fs::metadata(file)?.len());
    let hub = session.task_hub();
    output.note(&format!(
        "{} {said} {hub:?} ({})",
        file.display(),
        bytes(size)
    ));
    if output.is_json() {
        output.json(&CopiedJson {
            task_hub: hub,
            file,
            bytes: size,
        })?;
    }
    Ok(Exit::Ok)
}
