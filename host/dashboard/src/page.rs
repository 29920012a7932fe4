//! What each page is made for: the hub, the visitor, and the paths of other pages.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use perennial::Client;
use perennial::http::{Permission, Visitor};

use crate::fields::Fields;
use crate::link;
use crate::notice::Notice;
use crate::visit::base;

/// A page of a hub, for a visitor who may read it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) visitor: Visitor,
    pub(crate) client: Client,
    /// The query.
    pub(crate) query: Fields,
    /// What a change that led here has to tell.
    pub(crate) notice: Option<Notice>,
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

    /// The stream that tells when a page is to be read again, for its `data-live`: at most once in so many seconds, after changes of the
    /// instances that the query selects.
    pub(crate) fn live(&self, seconds: u32, query: &[(&str, &str)]) -> String {
        let every = seconds.to_string();
        let query = query.iter().copied().chain([("every", &*every)]);
        self.api(&format!("/live/changed{}", link::query(query)))
    }

    /// Whether the visitor may change something.
    pub(crate) fn may_change(&self) -> bool {
        self.visitor.may_change()
    }

    /// Whether the visitor may decide what modules can access.
    pub(crate) fn may_grant(&self) -> bool {
        self.visitor.may(Permission::Grant)
    }

    /// The hidden field that each form must have.
    pub(crate) fn token_field(&self) -> Markup {
        html! { input type="hidden" name="token" value=(self.visitor.form_token()); }
    }
}

/// An answer for a script: a text, which is not kept.
pub(crate) fn data(kind: &'static str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, text).into_response()
}
