//! Lets those visitors to a page who may read it, and leads the others to where they can sign in.

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use perennial::http::Visitor;
use serde::de::DeserializeOwned;

use crate::fields::Fields;
use crate::notice::Notice;
use crate::page::Page;
use crate::refused::{Refused, Shown};
use crate::visit::{base, visitor};
use crate::{layout, link, sign};

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Response> {
        let visitor = visitor(head)?;
        let Some(client) = visitor.client().cloned() else {
            // To a visitor without a key, an unknown hub looks like any other.
            return Err(match visitor.needs_key() {
                true => sign::asked(&visitor, &head.uri, None),
                false => layout::bare(
                    StatusCode::NOT_FOUND,
                    &visitor,
                    "No such task hub",
                    html! { p { "This host does not serve a task hub of that name. It serves: " (hubs(&visitor)) } },
                ),
            });
        };
        if visitor.role().is_none() {
            return Err(sign::asked(&visitor, &head.uri, None));
        }
        let query = Fields::parse(head.uri.query().unwrap_or_default().as_bytes());
        let notice = head.extensions.get::<Notice>().cloned();
        Ok(Self {
            visitor,
            client,
            query,
            notice,
        })
    }
}

/// The parts of a path that name something, decoded and read.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Response> {
        if let Ok(axum::extract::Path(parts)) =
            axum::extract::Path::from_request_parts(head, state).await
        {
            return Ok(Self(parts));
        }
        // Such as a number that is none, or what is no text.
        let page = Page::from_request_parts(head, state).await?;
        Err(Refused::no_page(asked_path(head)).on(&page))
    }
}

/// The path that was asked for, as the browser has it.
fn asked_path(head: &Parts) -> &str {
    let original = head.extensions.get::<OriginalUri>();
    original.map_or(head.uri.path(), |OriginalUri(uri)| uri.path())
}

fn hubs(visitor: &Visitor) -> Markup {
    let base = base(visitor);
    html! {
        @for (at, hub) in visitor.hubs().enumerate() {
            @if at > 0 { ", " }
            a href=(format!("{base}/{}/", link::part(hub))) { (hub) }
        }
    }
}

pub(crate) async fn to_default_hub(head: Parts) -> Shown {
    let visitor = visitor(&head)?;
    let hub = visitor.hubs().next().unwrap_or_default();
    let to = format!("{}/{}/", base(&visitor), link::part(hub));
    Ok(Redirect::to(&to).into_response())
}

pub(crate) async fn to_overview(page: Page) -> Response {
    Redirect::to(&page.path("/")).into_response()
}

pub(crate) async fn nothing_there(page: Page, OriginalUri(uri): OriginalUri) -> Response {
    Refused::no_page(uri.path()).on(&page)
}

pub(crate) async fn other_method(page: Page, head: Parts) -> Response {
    let message = format!("{} {} does nothing here.", head.method, asked_path(&head));
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, message).on(&page)
}
