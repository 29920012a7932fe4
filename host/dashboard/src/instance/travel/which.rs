//! Which history of an instance is shown: as it is, or as it was before a rewind. The store keeps what a rewind cuts off as long as the
//! execution; histories of earlier executions are deleted.

use maud::{Markup, html};
use perennial::{Client, HistoryQuery, InstanceStatus};

use crate::page::Page;
use crate::show::cut;
use crate::{link, show};

/// Rewinds that are listed, the latest ones.
const LISTED: usize = 20;

/// A history of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Which<'a> {
    pub(super) id: &'a str,
    /// The place of the rewind before which it was so, counted from 0.
    pub(super) before: Option<u32>,
}

impl<'a> Which<'a> {
    /// The history as it is.
    pub(super) fn now(id: &'a str) -> Self {
        Self { id, before: None }
    }

    pub(super) fn is_now(self) -> bool {
        self.before.is_none()
    }

    pub(super) fn read(self, client: &Client) -> HistoryQuery {
        let query = client.history(self.id);
        match self.before {
            Some(rewind) => query.before_rewind(rewind),
            None => query,
        }
    }

    /// The path of a turn, which is a number or `last`.
    pub(super) fn turn(self, page: &Page, turn: &str) -> String {
        let before = self.before.map(|rewind| rewind.to_string());
        let before = before.as_deref().unwrap_or_default();
        let query = link::query([("turn", turn), ("before", before)]);
        page.instance(self.id, &format!("/turns{query}"))
    }

    /// The path of an event; only those that are in the history now have one.
    pub(super) fn event(self, page: &Page, number: u64) -> Option<String> {
        let path = || page.instance(self.id, &format!("/history/{number}"));
        self.is_now().then(path)
    }
}

/// The rewinds, with the way to what each cut off, and what there is of earlier executions.
pub(super) fn others(
    page: &Page,
    status: &InstanceStatus,
    which: Which<'_>,
    execution: Option<u32>,
) -> Markup {
    let id = which.id;
    let first = status.rewinds.len().saturating_sub(LISTED);
    html! {
        @if let Some(earlier) = execution.filter(|number| *number > 0) {
            p.hint data-part="executions" {
                "This is execution " (u64::from(earlier) + 1) " of the instance. "
                @if earlier == 1 { "The history of the one before is" }
                @else { "The histories of the " (show::count(u64::from(earlier))) " before are" }
                " not kept."
            }
        }
        @if !status.rewinds.is_empty() {
            section.card aria-labelledby="rewound-title" data-part="rewound" {
                h2 #rewound-title { "Rewound" }
                p.hint { "A rewind cuts turns off. They are kept, and can be looked at here, until the instance begins another execution." }
                ul.plain {
                    li {
                        @let is_shown = which.is_now();
                        a href=(Which::now(id).turn(page, "last")) aria-current=[is_shown.then_some("true")] { "The history as it is" }
                    }
                    @for (at, rewind) in status.rewinds.iter().enumerate().skip(first).rev() {
                        @let before = u32::try_from(at).ok();
                        @let turn = rewind.turn.map_or_else(|| "last".to_owned(), |turn| turn.to_string());
                        @let to = Which { id, before }.turn(page, &turn);
                        @let is_shown = which.before == before;
                        li {
                            a href=(to) aria-current=[is_shown.then_some("true")] { "Before rewind " (at + 1) }
                            span.hint {
                                ", " (show::time(rewind.at))
                                @if let Some(turn) = rewind.turn { ", which cut off what follows from turn " (turn) " on" }
                                @if let Some(reason) = &rewind.reason { ": " (cut(reason, 500)) }
                            }
                        }
                    }
                }
                @if first > 0 { p.hint { "And " (first) " earlier ones." } }
            }
        }
    }
}

/// What is said above a history that is not the one that there is now.
pub(super) fn warning(page: &Page, status: &InstanceStatus, which: Which<'_>) -> Markup {
    let rewind = which
        .before
        .and_then(|rewind| status.rewinds.get(rewind as usize));
    html! {
        @if let (Some(before), Some(rewind)) = (which.before, rewind) {
            p.warning data-part="before" {
                "This is the history before rewind " (u64::from(before) + 1) ", " (show::time(rewind.at)) "."
                @if let Some(turn) = rewind.turn { " What is shown from turn " (turn) " on was cut off by it." }
                " " a href=(Which::now(which.id).turn(page, "last")) { "The history as it is" }
            }
        }
    }
}
