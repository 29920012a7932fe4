//! Why a page cannot be shown, and why nothing was changed.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use perennial::Error;

use crate::layout;
use crate::page::Page;

/// Why a page could not be shown, or a change was refused, in the words of the API.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// Whether a command was meant for another run of the instance.
    pub(crate) is_outdated: bool,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            message,
            is_outdated: false,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn no_instance(id: &str) -> Self {
        let message = format!("There is no instance {id:?}. It may have been purged.");
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn no_page(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no page {path}."))
    }

    /// As a page.
    pub(crate) fn on(self, page: &Page) -> Response {
        self.with(page, &html! {})
    }

    /// As a page that has more on it.
    pub(crate) fn with(self, page: &Page, more: &Markup) -> Response {
        let title = match self.status {
            StatusCode::NOT_FOUND => "Not found",
            status if status.is_server_error() => "That did not work",
            _ => "Refused",
        };
        let body = html! { (self.alert()) (more) };
        layout::page(page, self.status, title, "", &body)
    }

    /// As a part of a page.
    pub(crate) fn alert(&self) -> Markup {
        html! { p.error role="alert" { (self.message) } }
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
            || error.is_other_run()
        {
            StatusCode::CONFLICT
        } else if error.is_unauthorized() {
            StatusCode::FORBIDDEN
        } else if error.is_unknown_orchestration() || error.is_unknown_module() {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let text = error.to_string();
        let message = match error.would_forget() {
            true => would_forget(&text),
            false => text,
        };
        Self {
            is_outdated: error.is_other_run(),
            ..Self::new(status, message)
        }
    }
}

/// Why a rewind was refused that would forget completed work, with the ways that a page offers in place of the commands.
fn would_forget(text: &str) -> String {
    let why = text.split_once(" `perennial ").map_or(text, |(why, _)| why);
    format!(
        "{why} Restart runs all of it again from its beginning. To rewind it all the same, permit in the form of the rewind that work is \
         discarded that completed after the failure."
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_speaks_of_its_own_forms() {
        let text = "instance \"a\" was not rewound: it is not undone. `perennial restart` runs it; `perennial rewind` too";
        let told = would_forget(text);
        assert!(told.starts_with("instance \"a\" was not rewound: it is not undone. Restart runs"));
        assert!(!told.contains("perennial"));
    }
}
