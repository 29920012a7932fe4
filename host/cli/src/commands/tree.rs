//! `perennial status --tree`: an instance, its children and theirs.

use perennial::InstanceFamily;

use crate::error::Exit;
use crate::format::span;
use crate::output::{Output, plain};
use crate::session::Session;

use super::missing::missing;

/// Instances shown: more than that is no picture any more.
const SHOWN_MAX: usize = 1_000;

pub(super) async fn tree(id: &str, session: &Session) -> anyhow::Result<Exit> {
    let family = session.client()?.family(id, SHOWN_MAX).await?;
    let family = family.ok_or_else(|| missing(id, session))?;
    let output = session.output();
    if output.is_json() {
        output.json(&family)?;
    } else {
        let mut lines = vec![line(&family, output)];
        below(&family, "", &mut lines, output);
        if !family.left_behind.is_empty() {
            lines.push("still running, of an earlier instance with this id:".to_owned());
        }
        for stray in &family.left_behind {
            lines.push(line(stray, output));
            below(stray, "", &mut lines, output);
        }
        output.line(&lines.join("\n"))?;
    }
    Ok(Exit::Ok)
}

fn below(family: &InstanceFamily, indent: &str, lines: &mut Vec<String>, output: &Output) {
    let last = family.children.len().saturating_sub(1);
    for (i, child) in family.children.iter().enumerate() {
        let is_last = i == last && !family.more;
        let (branch, trunk) = if is_last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        lines.push(format!(
            "{}{}",
            output.dim(&format!("{indent}{branch}")),
            line(child, output)
        ));
        below(child, &format!("{indent}{trunk}"), lines, output);
    }
    if family.more {
        lines.push(format!("{}and more", output.dim(&format!("{indent}└─ "))));
    }
}

fn line(family: &InstanceFamily, output: &Output) -> String {
    let instance = &family.instance;
    let took = match (instance.started_at, instance.is_ended()) {
        (Some(started), true) => format!("  {}", span(instance.last_updated_at.since(started).0)),
        _ => String::new(),
    };
    let why = match &instance.failure {
        Some(failure) => format!("  {}", plain(&failure.to_string())),
        None => String::new(),
    };
    format!(
        "{}  {}  {}{}{why}",
        output.bold(&instance.instance_id),
        instance.name,
        output.status(instance.runtime_status),
        output.dim(&took)
    )
}
