//! `perennial list`.

use std::collections::BTreeMap;

use perennial::{Client, InstanceStatus, Order, Page};

use crate::args::{FilterArgs, List};
use crate::error::Exit;
use crate::output::{Cell, Output, status_cell};
use crate::session::Session;
use crate::suggest;

use super::wait::text_of;

pub(super) async fn list(args: List, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    if args.counts {
        return counts(&client, &args.filter, session).await;
    }
    let filter = args.filter.clone();
    let page = read(args, &client, session.output().is_json()).await?;
    show(page.as_ref(), session)?;
    if page.is_none_or(|page| page.instances.is_empty()) {
        suggest::tell_unknown(&filter, session).await;
    }
    Ok(Exit::Ok)
}

/// Prints a page.
pub(super) fn show(page: Option<&Page>, session: &Session) -> anyhow::Result<()> {
    show_at_most(page, usize::MAX, session)
}

/// Prints what fits into `lines` lines, and how many instances do not.
pub(super) fn show_at_most(
    page: Option<&Page>,
    lines: usize,
    session: &Session,
) -> anyhow::Result<()> {
    let output = session.output();
    if output.is_json() {
        match page {
            Some(page) => output.json(page)?,
            None => output.json(&serde_json::json!({ "instances": [] }))?,
        }
        return Ok(());
    }
    let Some(page) = page.filter(|page| !page.instances.is_empty()) else {
        output.note("no instances");
        return Ok(());
    };
    let created = output.when_head("CREATED");
    let header = ["ID", "ORCHESTRATION", "STATUS", &created, "RESULT"];
    // Beside the header, and a line that says how many are missing where there are any.
    let room = lines.saturating_sub(1);
    let is_all =
        page.instances.len() <= room && (lines == usize::MAX || page.continuation_token.is_none());
    let shown = if is_all { room } else { room.saturating_sub(1) };
    let rows = page.instances.iter().take(shown);
    output.table(
        &header,
        rows.map(|instance| row(instance, output)).collect(),
    )?;
    if lines != usize::MAX {
        if !is_all {
            output.line(&unseen(page, shown))?;
        }
    } else if let Some(token) = &page.continuation_token {
        output.note(&format!("there are more: add --continuation-token {token}"));
    }
    Ok(())
}

/// The line about instances that do not fit.
fn unseen(page: &Page, shown: usize) -> String {
    let more = page.instances.len().saturating_sub(shown);
    match (more, &page.continuation_token) {
        (more, None) => format!("... and {more} more"),
        (0, Some(_)) => "... and more".to_owned(),
        (more, Some(_)) => format!("... and more than {more} more"),
    }
}

/// `None` where only statuses are asked for that no instance ever has.
pub(super) async fn read(
    args: List,
    client: &Client,
    is_json: bool,
) -> anyhow::Result<Option<Page>> {
    let Some(filter) = args.filter.filter() else {
        return Ok(None);
    };
    let mut list = client.list().filter(filter).limit(args.limit);
    if args.oldest_first {
        list = list.order(Order::OldestFirst);
    }
    if args.input {
        list = list.show_input();
    }
    if args.output || !is_json {
        list = list.show_output();
    }
    if let Some(token) = args.continuation_token {
        list = list.continuation_token(token);
    }
    loop {
        let page = list.clone().await?;
        match &page.continuation_token {
            // So many were looked at for nothing that the page ended.
            Some(token) if page.instances.is_empty() => list = list.continuation_token(token),
            _ => return Ok(Some(page)),
        }
    }
}

fn row(instance: &InstanceStatus, output: &Output) -> Vec<Cell> {
    let shows = match (&instance.failure, &instance.custom_status, &instance.output) {
        (Some(failure), _, _) => failure.to_string(),
        (None, _, Some(output)) if instance.is_ended() => output.to_string(),
        (None, _, Some(reason)) => text_of(reason),
        (None, Some(shown), None) => shown.to_string(),
        (None, None, None) => String::new(),
    };
    vec![
        Cell::new(&instance.instance_id),
        Cell::new(&instance.name),
        status_cell(instance.runtime_status),
        Cell::new(output.when(instance.created_at)),
        Cell::new(output.cell(&shows)),
    ]
}

async fn counts(client: &Client, filter: &FilterArgs, session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let counts = match filter.filter() {
        Some(filter) => client.list().filter(filter).counts().await?,
        None => Vec::new(),
    };
    if output.is_json() {
        let by_name: BTreeMap<&str, u64> = counts
            .iter()
            .map(|(status, count)| (status.name(), *count))
            .collect();
        output.json(&by_name)?;
    } else if counts.is_empty() {
        output.note("no instances");
    } else {
        let rows = counts
            .iter()
            .map(|(status, count)| vec![status_cell(*status), Cell::new(count)]);
        output.table(&["STATUS", "INSTANCES"], rows.collect())?;
    }
    if counts.is_empty() {
        suggest::tell_unknown(filter, session).await;
    }
    Ok(Exit::Ok)
}
