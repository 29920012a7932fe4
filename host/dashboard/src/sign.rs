//! Signing in with a key, and out.

use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::html;
use perennial::http::Visitor;

use crate::fields::Fields;
use crate::visit::{SIGN_IN, SIGN_OUT, base, is_at, visitor};
use crate::{layout, link};

/// A page, or why it cannot be shown.
type Shown = Result<Response, Response>;

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/{hub}/sign-in", get(form).post(sign_in))
        .route("/{hub}/sign-out", post(sign_out))
}

/// The page that asks for a key. `path` is what the visitor wanted, below the pages.
pub(crate) fn asked(visitor: &Visitor, path: &Uri, problem: Option<&str>) -> Response {
    let hub = path.path().trim_start_matches('/').split('/').next();
    let hub = hub.unwrap_or_default();
    let wanted = path.path_and_query().map_or("/", |path| path.as_str());
    let wanted = if is_at(path.path(), SIGN_IN) || is_at(path.path(), SIGN_OUT) {
        ""
    } else {
        wanted
    };
    let to = format!("{}/{hub}{SIGN_IN}", base(visitor));
    let body = html! {
        form.card.narrow method="post" action=(to) {
            input type="hidden" name="token" value=(visitor.form_token());
            input type="hidden" name="then" value=(wanted);
            @if visitor.needs_key() {
                p { "This host asks for a key of the task hub " strong { (hub) } "." }
            } @else {
                p { "Without a key everything is open here but what modules can access. To change that needs an admin key of the task hub "
                    strong { (hub) } "." }
            }
            @if let Some(problem) = problem { p.error role="alert" { (problem) } }
            label for="key" { "Key" }
            input #key type="password" name="key" autocomplete="current-password" required autofocus;
            p.hint { code { "perennial keys create NAME" } " makes an admin key on the host's machine, and " code { "perennial keys create NAME --read-only" }
                " one that may only read." }
            p.hint { "The browser keeps a session, not the key. It ends when the key is revoked, or after twelve hours without being used." }
            button.primary type="submit" { "Sign in" }
        }
    };
    layout::bare(StatusCode::UNAUTHORIZED, visitor, "Sign in", body)
}

async fn form(head: Parts) -> Shown {
    let visitor = visitor(&head)?;
    let mut response = asked(&visitor, &head.uri, None);
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

async fn sign_in(head: Parts, Extension(fields): Extension<Fields>) -> Shown {
    let visitor = visitor(&head)?;
    let wanted = fields.text("then").unwrap_or_default();
    let refused = |problem: &str| {
        let uri = wanted.parse::<Uri>().ok();
        let uri = uri.filter(|uri| hub_of(uri.path()) == hub_of(head.uri.path()));
        asked(&visitor, uri.as_ref().unwrap_or(&head.uri), Some(problem))
    };
    let Some(key) = fields.text("key") else {
        return Err(refused("Give a key."));
    };
    match visitor.sign_in(key).await {
        Ok(Some(cookie)) => {
            let response = Redirect::to(&after(&visitor, &head, wanted)).into_response();
            Ok(([(header::SET_COOKIE, cookie)], response).into_response())
        }
        Ok(None) => Err(refused("This is no key of this task hub.")),
        Err(error) => {
            tracing::error!(%error, "the keys of the task hub could not be read");
            let message = "The keys of the task hub cannot be read right now; try again.";
            Err(refused(message))
        }
    }
}

fn hub_of(path: &str) -> &str {
    let below = path.trim_start_matches('/');
    below.split('/').next().unwrap_or_default()
}

/// Where to go on: only below the pages of the same hub.
fn after(visitor: &Visitor, head: &Parts, wanted: &str) -> String {
    let hub = hub_of(head.uri.path());
    let base = base(visitor);
    let prefix = format!("/{hub}/");
    let fits = wanted.starts_with(&prefix) && !wanted.contains(['\\', '\r', '\n']);
    match fits {
        true => format!("{base}{wanted}"),
        false => format!("{base}/{}/", link::part(hub)),
    }
}

async fn sign_out(head: Parts) -> Shown {
    let visitor = visitor(&head)?;
    let hub = hub_of(head.uri.path());
    let place = if visitor.needs_key() { SIGN_IN } else { "/" };
    let to = format!("{}/{}{place}", base(&visitor), link::part(hub));
    let response = Redirect::to(&to).into_response();
    Ok(match visitor.sign_out() {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], response).into_response(),
        None => response,
    })
}
