//! The frame of all pages.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use perennial::http::Visitor;

use crate::page::Page;
use crate::visit::{SIGN_OUT, base};
use crate::{assets, link, show, visible};

/// The pages in the bar on top: the name, the path below the hub, and the key that goes there after `g`.
const PLACES: [(&str, &str, &str); 5] = [
    ("Overview", "/", "o"),
    ("Instances", "/instances", "i"),
    ("Start", "/start", "s"),
    ("Modules", "/modules", "m"),
    ("Workers", "/workers", "w"),
];

/// Scripts that pages do not load as modules: one runs before anything is painted, the other one in a worker.
const APART: [&str; 2] = ["theme.js", "live.js"];

/// A page of a hub. `place` is the name of the place in the bar on top that it belongs to.
pub(crate) fn page(
    page: &Page,
    status: StatusCode,
    title: &str,
    place: &str,
    body: &Markup,
) -> Response {
    let frame = html! {
        a.skip href="#main" { "Skip to the content" }
        header.top {
            (brand(&page.path("/")))
            (hub_choice(page))
            nav aria-label="Main" {
                @for (name, path, key) in PLACES {
                    @if name != "Start" || page.may_change() {
                        a href=(page.path(path)) data-key=(key) aria-current=[(name == place).then_some("page")] { (name) }
                    }
                }
            }
            form.find role="search" method="get" action=(page.path("/instances")) {
                input #find type="search" name="idPrefix" placeholder="Find an id  (press /)" aria-label="Find instances by the beginning of their id" autocomplete="off" spellcheck="false";
            }
            (signed_in(page))
            button.quiet.theme type="button" hidden aria-label="Switch between light and dark" title="Light or dark" { "◐" }
            button.quiet.help type="button" hidden aria-label="Keys of the keyboard" title="Keys (?)" { "?" }
        }
        main #main tabindex="-1" { (body) }
        (help())
    };
    document(
        &page.visitor,
        status,
        &format!("{title} · {}", page.hub()),
        &frame,
    )
}

/// A page without a hub: for signing in, and for what cannot be shown.
pub(crate) fn bare(status: StatusCode, visitor: &Visitor, title: &str, body: Markup) -> Response {
    let frame = html! {
        header.top { (brand(&format!("{}/", base(visitor)))) }
        main #main { h1 { (title) } (body) }
    };
    document(visitor, status, title, &frame)
}

fn brand(to: &str) -> Markup {
    html! {
        a.brand href=(to) {
            svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true" {
                rect width="32" height="32" rx="7" fill="#0b6b4f" {}
                path d="M16 27V14M16 17c-5 0-8-3-8-8 5 0 8 3 8 8Zm0 4c4.500 0 7.500-2.500 8-7-4.500 0-8 2.500-8 7Z" fill="none" stroke="#fff" stroke-width="2.400" stroke-linejoin="round" stroke-linecap="round" {}
            }
            span { "Perennial" }
        }
    }
}

fn hub_choice(page: &Page) -> Markup {
    let hubs: Vec<&str> = page.visitor.hubs().collect();
    let base = base(&page.visitor);
    html! {
        @if hubs.len() == 1 {
            span.hub title="Task hub" { (page.hub()) }
        } @else {
            details.hub.menu {
                summary title="Task hub" { (page.hub()) }
                ul { @for hub in hubs { li { a href=(format!("{base}/{}/", link::part(hub))) aria-current=[(hub == page.hub()).then_some("true")] { (hub) } } } }
            }
        }
    }
}

fn signed_in(page: &Page) -> Markup {
    html! {
        @if !page.may_change() { span.chip title="This key may only read" { "read-only" } }
        @if page.visitor.needs_key() || page.visitor.is_signed_in() {
            form method="post" action=(page.path(SIGN_OUT)) { (page.token_field()) button.quiet type="submit" { "Sign out" } }
        }
    }
}

fn help() -> Markup {
    let keys = [
        ("/", "find an instance by its id"),
        ("j, k", "next, previous row"),
        ("Enter", "open the row"),
        ("x", "select the row"),
        (
            "g o, g i, g s, g m, g w",
            "overview, instances, start, modules, workers",
        ),
        ("l", "live updates on or off"),
        ("?", "this help"),
    ];
    html! {
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keys" }
            dl.keys { @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } } }
            form method="dialog" { button { "Close" } }
        }
    }
}

fn document(visitor: &Visitor, status: StatusCode, title: &str, frame: &Markup) -> Response {
    let base = base(visitor);
    let asset = |name: &str| format!("{base}{}", assets::path(name));
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // The clock of the host, from which scripts count.
                meta name="now" content=(show::now().0);
                meta name="form-token" content=(visitor.form_token());
                meta name="live-worker" content=(asset("live.js"));
                title { (title) " · Perennial" }
                link rel="icon" type="image/svg+xml" href=(asset("icon.svg"));
                @for name in assets::ending(".css") { link rel="stylesheet" href=(asset(name)); }
                // Before anything is painted, so that a dark page does not flash.
                script src=(asset("theme.js")) {}
                @for name in assets::ending(".js").filter(|name| !APART.contains(name)) { script type="module" src=(asset(name)) {} }
            }
            body { (frame) }
        }
    };
    (status, Html(visible::document(document.into_string()))).into_response()
}
