//! `perennial list`.

use std::collections::BTreeMap;

use comfy_table::Cell;
use perennial::{Client, InstanceStatus, Page};

use crate::cli::args::List;
use crate::cli::error::Exit;
use crate::cli::output::{plain, status_cell, time};
use crate::cli::session::Session;

use super::wait::text_of;

pub(super) async fn list(args: List, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    if args.counts {
        return counts(&client, session).await;
    }
    let output = session.output();
    let page = read(args, &client).await?;
    if output.is_json() {
        match &page {
            Some(page) => output.json(page)?,
            None => output.json(&serde_json::json!({ "instances": [] }))?,
        }
        return Ok(Exit::Ok);
    }
    let Some(page) = page.filter(|page| !page.instances.is_empty()) else {
        output.note("no instances");
        return Ok(Exit::Ok);
    };
    let header = ["ID", "ORCHESTRATION", "STATUS", "CREATED (UTC)", "SHOWS"];
    output.table(&header, page.instances.iter().map(row).collect())?;
    if let Some(token) = &page.continuation_token {
        output.note(&format!("there are more: add --continuation-token {token}"));
    }
    Ok(Exit::Ok)
}

/// `None` where only statuses are asked for that no instance ever has.
async fn read(args: List, client: &Client) -> anyhow::Result<Option<Page>> {
    let statuses: Vec<_> = args.statuses.iter().filter_map(|filter| filter.0).collect();
    if statuses.is_empty() && !args.statuses.is_empty() {
        return Ok(None);
    }
    let mut list = client.list().limit(args.limit);
    for status in statuses {
        list = list.status(status);
    }
    if let Some(prefix) = args.prefix {
        list = list.id_prefix(prefix);
    }
    if let Some(name) = args.name {
        list = list.name(name);
    }
    if let Some(from) = args.created_from {
        list = list.created_from(from);
    }
    if let Some(to) = args.created_to {
        list = list.created_to(to);
    }
    if let Some(token) = args.continuation_token {
        list = list.continuation_token(token);
    }
    Ok(Some(list.await?))
}

fn row(instance: &InstanceStatus) -> Vec<Cell> {
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
        Cell::new(time(instance.created_at)),
        Cell::new(plain(&shows)),
    ]
}

async fn counts(client: &Client, session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let counts = client.counts().await?;
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
    Ok(Exit::Ok)
}
