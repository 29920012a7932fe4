//! What becomes of a change: back to where it was made, with a sentence about what happened.
//!
//! The sentence goes with the redirect, in a cookie that the host seals: nobody else can write one, it comes back only with the page that it
//! leads to, and it is told once.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use perennial::http::Visitor;

use crate::fields::Fields;
use crate::notice::Notice;
use crate::page::Page;
use crate::refused::Refused;
use crate::visit::{base, visitor};

/// The kind of the cookie.
const KIND: &str = "told";

/// How long a browser may take to follow a redirect, in seconds.
const SECONDS: u64 = 60;

/// Bytes of the path of a cookie: browsers ignore one of more than 1024, and an id may be longer when it is escaped.
const PATH_BYTES: usize = 1_000;

/// The fields of a form that a page of the visitor sent. Only requests that may change something have them: see [`crate::guard`].
#[derive(Clone, Debug)]
pub(crate) struct Sent(pub(crate) Fields);

impl<S: Send + Sync> FromRequestParts<S> for Sent {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Response> {
        if let Some(fields) = head.extensions.get::<Fields>() {
            return Ok(Self(fields.clone()));
        }
        let page = Page::from_request_parts(head, state).await?;
        Err(Refused::invalid("This needs the fields of a form.").on(&page))
    }
}

/// Leads to a page, which says what was done.
pub(crate) fn done(to: &str, what: &str) -> Response {
    lead(to, Notice::Done(what.to_owned()))
}

/// Leads back to a page, which says why nothing was done.
pub(crate) fn refused(to: &str, why: &Refused) -> Response {
    lead(to, Notice::Refused(why.message.clone()))
}

fn lead(to: &str, notice: Notice) -> Response {
    let mut response = Redirect::to(to).into_response();
    response.extensions_mut().insert(notice);
    response
}

/// Says something on the page to which a script of the page leads.
pub(crate) fn telling(mut response: Response, to: &str, what: &str) -> Response {
    let place = Place(to.to_owned());
    response.extensions_mut().insert(place);
    response
        .extensions_mut()
        .insert(Notice::Done(what.to_owned()));
    response
}

/// Where a script leads.
#[derive(Clone, Debug)]
struct Place(String);

/// What an earlier change told this browser, and the cookies of an answer.
pub(crate) struct Notices {
    visitor: Option<Visitor>,
    /// The path of the page whose cookie is to be removed.
    told_at: Option<String>,
}

impl Notices {
    /// Takes the sentence for a page out of its request.
    pub(crate) fn of(head: &mut Parts) -> Self {
        let visitor = visitor(head).ok();
        let mut told_at = None;
        if let Some(visitor) = &visitor
            && head.method == Method::GET
            && is_looked_at(&head.headers)
            && visitor.has_cookie(&head.headers, KIND)
        {
            // As the browser has it, also behind a proxy.
            let path = format!("{}{}", base(visitor), head.uri.path());
            told_at = Some(within_cookie(&path).to_owned());
            let text = visitor.cookie(&head.headers, KIND);
            if let Some(notice) = text.and_then(|text| Notice::of_text(&text)) {
                head.extensions.insert(notice);
            }
        }
        Self { visitor, told_at }
    }

    /// Adds the cookies to an answer.
    pub(crate) fn on(self, mut response: Response) -> Response {
        let Some(visitor) = self.visitor else {
            return response;
        };
        let removed = self
            .told_at
            .and_then(|path| visitor.remove_cookie(KIND, &path));
        let told = response
            .extensions_mut()
            .remove::<Notice>()
            .and_then(|notice| {
                let place = response.extensions_mut().remove::<Place>();
                let to = match place {
                    Some(Place(to)) => to,
                    None => response
                        .headers()
                        .get(header::LOCATION)?
                        .to_str()
                        .ok()?
                        .to_owned(),
                };
                let path = to.split(['?', '#']).next().unwrap_or_default();
                visitor.set_cookie(KIND, &notice.to_text(), within_cookie(path), SECONDS)
            });
        for cookie in removed.into_iter().chain(told) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// The path of a cookie that comes back with a page: that of the page, or of a page above it if it is longer than browsers take.
fn within_cookie(mut path: &str) -> &str {
    while path.len() > PATH_BYTES
        && let Some((above, _)) = path.rsplit_once('/')
    {
        path = above;
    }
    path
}

/// Whether a person looks at the answer, and not a script of another window that shows the same page.
fn is_looked_at(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-mode")
        .is_none_or(|mode| mode == "navigate")
}

/// What a change that led to this page did, as a text.
pub(crate) fn notice(page: &Page) -> Markup {
    html! {
        @match &page.notice {
            Some(Notice::Done(text)) => p.done role="status" { (text) },
            Some(Notice::Refused(text)) => p.error role="alert" { (text) },
            None => "",
        }
    }
}

/// A page that says that a command was meant for something that has changed since it was shown.
pub(crate) fn outdated(page: &Page, why: Refused, now: &str) -> Response {
    let again = html! { p { a.button href=(now) { "Look at it as it is now" } } };
    Refused::new(StatusCode::CONFLICT, why.message).with(page, &again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_cookie_is_never_too_long() {
        assert_eq!(
            within_cookie("/ui/default/instances/a"),
            "/ui/default/instances/a"
        );
        let long = format!("/ui/default/instances/{}", "%E6%97%A5".repeat(200));
        assert_eq!(within_cookie(&long), "/ui/default/instances");
        assert_eq!(
            within_cookie(&format!("{long}/do/{long}")),
            "/ui/default/instances"
        );
        assert_eq!(within_cookie(&"a".repeat(2_000)).len(), 2_000);
    }
}
