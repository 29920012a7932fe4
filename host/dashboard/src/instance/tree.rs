//! The family of an instance: its parents, its children and theirs, as nested lists and as a graph.
//!
//! Invariant: at most [`MEMBERS`] instances are read below it, and [`PARENTS`] above.

use maud::{Markup, html};
use perennial::{InstanceFamily, InstanceStatus};

use super::{Tab, found, frame};
use crate::admit::Path;
use crate::page::Page;
use crate::refused::{OnPage, Refused, Shown};
use crate::show;
use crate::show::cut;

/// Instances that are shown.
const MEMBERS: usize = 500;

/// Ancestors that are shown.
const PARENTS: usize = 20;

/// Children of one instance that the graph draws; the list has all.
const DRAWN: usize = 12;

/// Generations that the graph draws, and that lists are nested.
const DEPTH: usize = 12;

/// Characters of an id that a box has room for.
const DRAWN_ID: usize = 17;

/// The sizes of a box of the graph and of the gaps around it.
const BOX: (usize, usize) = (170, 38);
const GAP: (usize, usize) = (18, 34);

pub(super) async fn page(page: Page, Path((_, id)): Path<(String, String)>) -> Shown {
    let status = found(&page, &id).await?;
    let family = page.client.family(&id, MEMBERS).await.on(&page)?;
    let family = family.ok_or_else(|| Refused::no_instance(&id).on(&page))?;
    let (parents, more_parents) = parents(&page, &status).await;
    let is_alone =
        parents.is_empty() && family.children.is_empty() && family.left_behind.is_empty();
    let body = html! {
        div data-part="tree" {
            @if is_alone {
                div.card.empty {
                    strong { "No parent and no children" }
                    "Instances appear here when an orchestration calls another one, or starts it as a child."
                }
            } @else {
                (graph(&page, &parents, &family))
                section.card aria-labelledby="list" {
                    h2 #list { "Family" }
                    @if more_parents { p.hint { "Only the nearest " (PARENTS) " ancestors are shown." } }
                    ul.tree { (above(&page, &parents, &family)) }
                    @if !family.left_behind.is_empty() {
                        h3 { "Still running, of an earlier instance with this id" }
                        ul.tree { @for stray in &family.left_behind { (below(&page, stray, false, 1)) } }
                    }
                    @if family.more { p.hint { "The family is larger: these are the first " (show::count(members(&family))) " of it that were read." } }
                }
            }
        }
    };
    Ok(frame(&page, &status, Tab::Tree, &body))
}

/// The ancestors, the oldest first, and whether there are more. One that was purged is missing with those before it.
async fn parents(page: &Page, status: &InstanceStatus) -> (Vec<InstanceStatus>, bool) {
    let mut parents: Vec<InstanceStatus> = Vec::new();
    let mut next = status.parent_instance_id.clone();
    while let Some(id) = next.take() {
        if parents.len() == PARENTS {
            return (reversed(parents), true);
        }
        if let Ok(Some(parent)) = page.client.status(&id).await {
            next.clone_from(&parent.parent_instance_id);
            parents.push(parent);
        }
    }
    (reversed(parents), false)
}

fn reversed(mut parents: Vec<InstanceStatus>) -> Vec<InstanceStatus> {
    parents.reverse();
    parents
}

/// The ancestors, each within the one before, and the family within the last.
fn above(page: &Page, parents: &[InstanceStatus], family: &InstanceFamily) -> Markup {
    match parents {
        [] => below(page, family, true, 1),
        [first, rest @ ..] => {
            html! { li { (member(page, first, false)) ul { (above(page, rest, family)) } } }
        }
    }
}

fn below(page: &Page, family: &InstanceFamily, is_here: bool, depth: usize) -> Markup {
    html! {
        li {
            (member(page, &family.instance, is_here))
            @if depth >= DEPTH && !family.children.is_empty() {
                span.hint { " with " a href=(page.instance(&family.instance.instance_id, "/tree")) { "children of its own" } }
            } @else if !family.children.is_empty() {
                ul {
                    @for child in &family.children { (below(page, child, false, depth + 1)) }
                    @if family.more { li.hint { "and perhaps more" } }
                }
            }
        }
    }
}

/// How many instances of a family were read.
fn members(family: &InstanceFamily) -> u64 {
    1 + family.children.iter().map(members).sum::<u64>()
}

fn member(page: &Page, instance: &InstanceStatus, is_here: bool) -> Markup {
    html! {
        a href=(page.instance(&instance.instance_id, "/tree")) aria-current=[is_here.then_some("true")] { (show::cut_middle(&instance.instance_id, 80)) }
        " " span.hint { (cut(&instance.name, 60)) } " "
        (show::status(instance.runtime_status))
        @if let Some(started) = instance.started_at.filter(|_| instance.is_ended()) {
            " " span.hint { (show::span(instance.last_updated_at.since(started).0)) }
        }
        @if let Some(failure) = &instance.failure { " " span.bad { (cut(&failure.to_string(), 120)) } }
    }
}

/// A box of the graph, with its place in units of boxes.
#[derive(Debug)]
struct Placed<'a> {
    instance: Option<&'a InstanceStatus>,
    /// What it says instead of an instance.
    note: String,
    /// Twice the column of its middle, and its row.
    at: (usize, usize),
    parent: Option<usize>,
}

/// Places a family: leaves side by side, and parents over the middle of their children.
fn place<'a>(
    family: &'a InstanceFamily,
    row: usize,
    parent: Option<usize>,
    next: &mut usize,
    boxes: &mut Vec<Placed<'a>>,
) -> usize {
    let own = boxes.len();
    boxes.push(Placed {
        instance: Some(&family.instance),
        note: String::new(),
        at: (0, row),
        parent,
    });
    let mut columns = Vec::new();
    let is_cut = row >= DEPTH;
    for child in family.children.iter().take(if is_cut { 0 } else { DRAWN }) {
        columns.push(place(child, row + 1, Some(own), next, boxes));
    }
    let left = family.children.len() - columns.len();
    if left > 0 || (family.more && !is_cut) {
        // Of a larger family only a part was read, so that there may be more than what is left.
        let note = match (left, family.more) {
            (0, _) => "perhaps more".to_owned(),
            (left, false) => format!("and {} more", show::count(left as u64)),
            (left, true) => format!("and at least {} more", show::count(left as u64)),
        };
        boxes.push(Placed {
            instance: None,
            note,
            at: (*next, row + 1),
            parent: Some(own),
        });
        columns.push(*next);
        *next += 2;
    }
    let middle = match (columns.first(), columns.last()) {
        (Some(first), Some(last)) => first.midpoint(*last),
        _ => {
            *next += 2;
            *next - 2
        }
    };
    if let Some(placed) = boxes.get_mut(own) {
        placed.at.0 = middle;
    }
    middle
}

fn graph(page: &Page, parents: &[InstanceStatus], family: &InstanceFamily) -> Markup {
    let mut boxes = Vec::new();
    let mut next = 0;
    let first = parents.len();
    let middle = place(family, first, first.checked_sub(1), &mut next, &mut boxes);
    // Ancestors come before the family, so what points into the family moves by their number.
    for (at, placed) in boxes.iter_mut().enumerate() {
        placed.parent = match at {
            0 => first.checked_sub(1),
            _ => placed.parent.map(|parent| parent + first),
        };
    }
    let ancestors = parents.iter().enumerate().map(|(row, parent)| Placed {
        instance: Some(parent),
        note: String::new(),
        at: (middle, row),
        parent: row.checked_sub(1),
    });
    let boxes: Vec<Placed<'_>> = ancestors.chain(boxes).collect();
    let rows = boxes.iter().map(|placed| placed.at.1).max().unwrap_or(0) + 1;
    let width = (next / 2).max(1) * (BOX.0 + GAP.0) + GAP.0;
    let height = rows * (BOX.1 + GAP.1) + 4;
    html! {
        section.card.graph aria-label="Graph of the family; the list below has the same in words" {
            div.scroll tabindex="0" role="group" aria-label="Graph" {
                svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) aria-hidden="true" {
                    @for placed in &boxes {
                        @if let Some(parent) = placed.parent.and_then(|parent| boxes.get(parent)) { (edge(parent, placed)) }
                    }
                    @for (at, placed) in boxes.iter().enumerate() { (node(page, placed, at == first)) }
                }
            }
        }
    }
}

/// The upper left corner of a box.
fn corner(placed: &Placed<'_>) -> (usize, usize) {
    (
        GAP.0 + placed.at.0 * (BOX.0 + GAP.0) / 2,
        2 + placed.at.1 * (BOX.1 + GAP.1),
    )
}

fn edge(parent: &Placed<'_>, child: &Placed<'_>) -> Markup {
    let ((x1, y1), (x2, y2)) = (corner(parent), corner(child));
    let (x1, x2, y1) = (x1 + BOX.0 / 2, x2 + BOX.0 / 2, y1 + BOX.1);
    let half = y1.midpoint(y2);
    html! { path.edge d=(format!("M{x1} {y1}C{x1} {half} {x2} {half} {x2} {y2}")) fill="none" {} }
}

fn node(page: &Page, placed: &Placed<'_>, is_here: bool) -> Markup {
    let (x, y) = corner(placed);
    let class = if is_here { "node here" } else { "node" };
    html! {
        @if let Some(instance) = placed.instance {
            // The list has these links for the keyboard and for screen readers.
            a href=(page.instance(&instance.instance_id, "/tree")) tabindex="-1" {
                title { (cut(&instance.instance_id, 300)) ": " (instance.runtime_status) }
                rect class=(class) x=(x) y=(y) width=(BOX.0) height=(BOX.1) rx="6" {}
                circle class=(instance.runtime_status.to_string().to_ascii_lowercase()) cx=(x + 13) cy=(y + 19) r="5" {}
                // A picture within the picture cuts off what is too wide.
                svg x=(x + 25) y=(y) width=(BOX.0 - 29) height=(BOX.1) {
                    text y="16" { (show::cut_middle(&instance.instance_id, DRAWN_ID)) }
                    text.soft y="31" { (instance.runtime_status) " · " (cut(&instance.name, 40)) }
                }
            }
        } @else {
            text.soft x=(x + 25) y=(y + 23) { (placed.note) }
        }
    }
}
