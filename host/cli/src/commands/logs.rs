//! `perennial logs`: what an instance has logged, as far as the host keeps it.

use perennial::{LogLevel, LogLine};

use crate::args::Logs;
use crate::error::{CliError, Exit};
use crate::format::time;
use crate::output::{Cell, plain};
use crate::session::Session;

pub(super) async fn logs(args: &Logs, session: &Session) -> anyhow::Result<Exit> {
    let logs = session.client()?.logs(&args.id).await?;
    let output = session.output();
    if logs.since.is_none() {
        let message = "log lines are only in the memory of the host, which is another process";
        let hint = "ask it over HTTP: `perennial --url http://HOST:7071 logs ID`; its own log has them too";
        return Err(CliError::new(Exit::Error, message).hint(hint).into());
    }
    if output.is_json() {
        output.json(&logs)?;
        return Ok(Exit::Ok);
    }
    if logs.partial {
        output.note("the host has dropped older lines to make room");
    }
    let heads = ["TIME (UTC)", "LEVEL", "LINE"];
    output.table(&heads, logs.lines.iter().map(row).collect())?;
    Ok(Exit::Ok)
}

fn row(line: &LogLine) -> Vec<Cell> {
    let level = match line.level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        _ => "other",
    };
    vec![
        Cell::new(time(line.at)),
        Cell::new(level),
        Cell::new(plain(&line.message)),
    ]
}
