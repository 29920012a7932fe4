//! What each page is made for, and why one cannot be shown.

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use perennial::http::Visitor;
use perennial::{Client, Error};

use crate::fields::Fields;
use crate::{layout, link, sign};

/// A page of a hub, for a visitor who may read it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) visitor: Visitor,
    pub(crate) client: Client,
    /// The path below the hub and the query, as the visitor asked for them.
    pub(crate) uri: Uri,
    /// The query.
    pub(crate) query: Fields,
}

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
        let uri = head.uri.clone();
        Ok(Self {
            visitor,
            client,
            uri,
            query,
        })
    }
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

/// Who asks. It is missing only if the pages were mounted without [`Api::pages`](perennial::http::Api::pages).
pub(crate) fn visitor(head: &Parts) -> Result<Visitor, Response> {
    head.extensions.get::<Visitor>().cloned().ok_or_else(|| {
        let message = "These pages must be mounted with Api::pages.\n";
        (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
    })
}

/// The path of the pages, without a trailing slash.
pub(crate) fn base(visitor: &Visitor) -> String {
    format!("{}/ui", visitor.mount())
}

impl Page {
    /// The name of the hub.
    pub(crate) fn hub(&self) -> &str {
        self.client.task_hub()
    }

    /// A path below that of the hub, such as `/instances`. Its parts must be escaped.
    pub(crate) fn path(&self, below: &str) -> String {
        format!("{}/{}{below}", base(&self.visitor), link::part(self.hub()))
    }

    /// The path of an instance, or of a page below it, such as `/history`.
    pub(crate) fn instance(&self, id: &str, below: &str) -> String {
        self.path(&format!("/instances/{}{below}", link::part(id)))
    }

    /// The path of an operation of the API with this hub selected, such as `/instances/a/live`.
    pub(crate) fn api(&self, below: &str) -> String {
        let join = if below.contains('?') { '&' } else { '?' };
        let (mount, hub) = (self.visitor.mount(), link::part(self.hub()));
        format!("{mount}/api/v1{below}{join}taskHub={hub}")
    }

    /// Whether the visitor may change something.
    pub(crate) fn may_change(&self) -> bool {
        self.visitor.may_change()
    }

    /// The hidden field that each form must have.
    pub(crate) fn token_field(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.visitor.form_token()); }
    }
}

/// Why a page could not be shown, or a change was refused, in the words of the API.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn no_instance(id: &str) -> Self {
        let message = format!("There is no instance {id:?}. It may have been purged.");
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// As a page.
    pub(crate) fn on(self, page: &Page) -> Response {
        let title = match self.status {
            StatusCode::NOT_FOUND => "Not found",
            status if status.is_server_error() => "That did not work",
            _ => "Refused",
        };
        let body = html! { p.error role="alert" { (self.message) } };
        layout::page(page, self.status, title, "", &body)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = if error.is_not_found() || error.is_unknown_request() {
            StatusCode::NOT_FOUND
        } else if error.is_invalid() {
            StatusCode::BAD_REQUEST
        } else if error.is_limit_exceeded() {
            StatusCode::PAYLOAD_TOO_LARGE
        } else if error.is_already_exists()
            || error.is_wrong_state()
            || error.is_in_use()
            || error.is_name_taken()
            || error.would_forget()
        {
            StatusCode::CONFLICT
        } else if error.is_unknown_orchestration() || error.is_unknown_module() {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Self::new(status, error.to_string())
    }
}

/// A page, or why it cannot be shown.
pub(crate) type Shown = Result<Response, Response>;

/// Turns an error into the page that says it.
pub(crate) trait OnPage<T> {
    /// As a page.
    fn on(self, page: &Page) -> Result<T, Response>;
}

impl<T, E: Into<Refused>> OnPage<T> for Result<T, E> {
    fn on(self, page: &Page) -> Result<T, Response> {
        self.map_err(|error| error.into().on(page))
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
    let message = format!("There is no page {}.", uri.path());
    Refused::new(StatusCode::NOT_FOUND, message).on(&page)
}

/// An answer for a script: a text, which is not kept.
pub(crate) fn data(kind: &'static str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, text).into_response()
}
