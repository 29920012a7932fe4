//! Why an instance is quarantined: what is recorded beside what was asked for instead, with the differing lines marked.

use maud::{Markup, html};
use perennial::Quarantine;

use crate::page::Page;
use crate::show;
use crate::show::cut;

/// Lines of each side that are shown.
const LINES: usize = 200;

/// Characters of a line that are shown.
const LINE: usize = 2_000;

pub(super) fn card(page: &Page, why: &Quarantine) -> Markup {
    html! {
        section.card.error aria-labelledby="quarantine" {
            h2 #quarantine { "Quarantined" }
            p { (cut(&why.reason, 4_000)) }
            dl.facts {
                @if let Some(turn) = why.turn { dt { "Turn" } dd { (turn) } }
                @if let Some(event) = why.event { dt { "Event" } dd { (event) } }
                @if let Some(module) = &why.module {
                    dt { "Module" }
                    dd { a href=(page.path(&format!("/stored/{module}"))) { code { (module.short()) } } }
                }
                dt { "Noticed" } dd { (show::time(why.at)) " by " (cut(&why.host, 200)) }
            }
            @if why.recorded.is_some() || why.asked.is_some() {
                (sides(why.recorded.as_deref().unwrap_or_default(), why.asked.as_deref().unwrap_or_default()))
            }
            p.hint {
                "Nothing was lost: the instance goes on when it is resumed, for example on a corrected module, and its replay matches."
            }
        }
    }
}

fn sides(recorded: &str, asked: &str) -> Markup {
    let (left, right) = (lines(recorded), lines(asked));
    let (from, to) = differing(&left, &right);
    html! {
        div.sides {
            (side("Recorded", &left, from, left.len() - to))
            (side("Asked for now", &right, from, right.len() - to))
        }
    }
}

/// The lines of one side; those from `from` up to `to` differ from the other.
fn side(title: &str, lines: &[String], from: usize, to: usize) -> Markup {
    html! {
        div {
            h3 { (title) }
            @if lines.is_empty() { p.none { "nothing" } }
            pre.diff {
                @for (at, line) in lines.iter().take(LINES).enumerate() {
                    @if (from..to).contains(&at) { mark { "≠ " (line) } } @else { span { "  " (line) } }
                    "\n"
                }
                @if lines.len() > LINES { "…" }
            }
        }
    }
}

/// A text in lines: a value with fields is broken after each of them, so that only what differs is marked.
fn lines(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut in_string, mut escaped) = (false, false);
    for char in text.chars() {
        let full = lines.len() > LINES;
        let Some(line) = lines.last_mut() else { break };
        match char {
            '\n' if full => break,
            '\n' => {
                lines.push(String::new());
                continue;
            }
            _ if line.len() < LINE => line.push(char),
            _ => {}
        }
        if in_string {
            in_string = escaped || char != '"';
            escaped = !escaped && char == '\\';
        } else if char == '"' {
            in_string = true;
        } else if matches!(char, ',' | '{' | '[') && !full {
            lines.push(String::new());
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// How many lines are the same at the beginning, and at the end.
fn differing(left: &[String], right: &[String]) -> (usize, usize) {
    let same = |(a, b): &(&String, &String)| a == b;
    let from = left.iter().zip(right).take_while(same).count();
    let rest = left.len().min(right.len()) - from;
    let to = left.iter().rev().zip(right.iter().rev()).take(rest);
    (from, to.take_while(same).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differing_lines_are_marked() {
        let shown = sides(
            r#"activity "Charge" (input {"a": 1, "b": "x, <y>"})"#,
            r#"activity "Charge" (input {"a": 2, "b": "x, <y>"})"#,
        );
        let shown = shown.into_string();
        assert_eq!(shown.matches("<mark>").count(), 2, "{shown}");
        assert!(shown.contains("x, &lt;y&gt;"), "{shown}");
    }

    #[test]
    fn sides_of_different_length_have_a_common_end() {
        let of = |text: &str| lines(text);
        assert_eq!(differing(&of("a\nb\nc"), &of("a\nc")), (1, 1));
        assert_eq!(differing(&of("a"), &of("")), (0, 0));
        assert_eq!(differing(&of("a\na"), &of("a")), (1, 0));
    }

    #[test]
    fn a_huge_side_is_cut() {
        let shown = sides(&"[1,".repeat(1_000_000), "x").into_string();
        assert!(shown.len() < 100_000, "{}", shown.len());
    }
}
