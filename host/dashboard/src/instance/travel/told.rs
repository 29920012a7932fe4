//! What a replay showed, in words, and what is recorded beside what was answered instead.

use maud::{Markup, html};
use perennial::{InstanceStatus, Quarantine};

use super::lab::Verdict;
use super::view;
use super::walk::{Asked, walk};
use super::which::Which;
use crate::page::Page;
use crate::refused::Refused;
use crate::show;
use crate::show::cut;

/// What a replay showed, in words.
pub(super) struct Told<'a> {
    pub(super) page: &'a Page,
    pub(super) status: &'a InstanceStatus,
    /// The name of the module that was replayed on.
    pub(super) module: &'a str,
    /// The event that was changed; `None` without a change.
    pub(super) event: Option<&'a str>,
}

impl Told<'_> {
    pub(super) async fn show(&self, verdict: &Verdict) -> Result<Markup, Refused> {
        let with =
            html! { @if let Some(event) = self.event { " with the change of event " (event) } };
        let inner = match verdict {
            Verdict::Same { turns } => html! {
                p.done role="status" {
                    strong { "Nothing would differ." } " The module " (self.module) " answers as recorded in "
                    (Self::turns_text(*turns)) (with) "."
                }
                @if !self.status.is_ended() { p.hint { "The instance has not ended: what it does from here on may still differ." } }
            },
            Verdict::NotDefined => html! {
                p.error role="status" { "The module " (self.module) " does not define the orchestration " (cut(&self.status.name, 120)) "." }
            },
            Verdict::Unfit(why) => html! {
                p.error role="status" {
                    strong { "The module does not fit." } " " (self.module)
                    " is not the module that the instance runs on, and it answers differently already without the change. Choose the module of the instance."
                }
                (self.difference(why).await?)
            },
            Verdict::Differs(why) => html! {
                p.warning role="status" {
                    strong {
                        @match why.turn {
                            Some(turn) => { "It would differ from turn " (turn) " on" },
                            None => "It would differ",
                        }
                    }
                    (with) "."
                }
                (self.difference(why).await?)
            },
        };
        Ok(html! {
            section.card.result aria-labelledby="result-title" {
                h2 #result-title { "The replay" }
                (inner)
            }
        })
    }

    pub(super) fn turns_text(turns: u32) -> Markup {
        html! { @if turns == 1 { "its only turn" } @else { "all " (show::count(u64::from(turns))) " turns" } }
    }

    /// What is recorded and what was answered instead, side by side.
    pub(super) async fn difference(&self, why: &Quarantine) -> Result<Markup, Refused> {
        let id = &self.status.instance_id;
        let walked = match why.turn {
            Some(turn) => {
                let history = self.page.client.history(id);
                walk(history, Asked::Turn(turn)).await?.chosen
            }
            None => None,
        };
        let mut room = view::Room::default();
        let to = |turn: u32| self.page.instance(id, &format!("/turns?turn={turn}"));
        Ok(html! {
            div.sides {
                div {
                    h3 { "Recorded" @if let Some(event) = why.event { " (event " (event) ")" } }
                    p.told { (why.recorded.as_deref().unwrap_or("–")) }
                }
                div {
                    h3 { "Answered in the replay" }
                    p.told { (why.asked.as_deref().unwrap_or("–")) }
                }
            }
            p.hint { (cut(&why.reason, 2_000)) }
            p.hint { "A replay ends at the first difference: what would follow depends on results that were never recorded." }
            @if let Some(turn) = &walked {
                details {
                    summary { "All that turn " (turn.number) " recorded" }
                    (view::events(self.page, Which::now(id), &turn.events, &turn.lines, &mut room))
                    p { a href=(to(turn.number)) { "See this turn" } }
                }
            }
        })
    }
}
