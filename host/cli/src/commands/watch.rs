//! `perennial list --watch`: reprints the list until Ctrl-C.

use std::time::Duration;

use crate::args::List;
use crate::error::Exit;
use crate::session::Session;

use super::list::{read, show, show_at_most};
use super::serve::Signals;

pub(super) async fn watch(args: List, every: Duration, session: &Session) -> anyhow::Result<Exit> {
    let (client, output) = (session.client()?, session.output());
    let mut signals = Signals::new()?;
    let mut shown = None;
    loop {
        let page = read(args.clone(), &client, output.is_json()).await?;
        let text = serde_json::to_string(&page)?;
        // A terminal shows how long ago things were, which changes by itself; elsewhere only news is worth a line.
        if output.is_terminal() && !output.is_json() {
            output.clear()?;
            output.note(&format!(
                "every {}; Ctrl-C ends it",
                crate::format::span(every.as_millis() as u64)
            ));
            // One line is taken by the note above, and one by the cursor: with it at the end the first one would go.
            let lines = output.lines().map_or(usize::MAX, usize::from);
            let taken = if output.is_quiet() { 1 } else { 2 };
            show_at_most(page.as_ref(), lines.saturating_sub(taken).max(2), session)?;
        } else if shown.as_ref() != Some(&text) {
            show(page.as_ref(), session)?;
        }
        shown = Some(text);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = signals.next() => return Ok(Exit::Ok),
        }
    }
}
